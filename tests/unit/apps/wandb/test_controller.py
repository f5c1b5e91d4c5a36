"""What is read out of the notes of the W&B controller."""

from __future__ import annotations

import base64
import datetime as dt
import json
from typing import Any

import pytest

from installer.apps.wandb.controller import verdict
from tests.parts.fake_cluster import FakeCluster
from tests.parts.fake_helm import FakeHelm
from tests.parts.wandb_cluster import DEFINITION, resource

PROXIES = {"global": {"extraEnv": {"HTTP_PROXY": "http://p:3128", "http_proxy": "http://p:3128"}}}
OWN = {"apiVersion": "apps.wandb.com/v1", "namespace": "o"}
CHART = {"path": "/charts/a"}
BEFORE, CHANGED, LATER = "2026-01-31T00:00:00Z", "2026-01-31T00:00:01Z", "2026-01-31T00:00:02Z"


def noted(values: Any, chart: Any = None) -> dict[str, str]:
    """A specification as the controller keeps it."""
    parts = {"chart": chart or CHART, "values": values, "metadata": None}
    return {key: base64.b64encode(json.dumps(part).encode()).decode() for key, part in parts.items()}


class Notes:
    """A cluster with the custom resource `spec`, its deployed release, and what the controller has noted, and when."""

    def __init__(
        self,
        spec: dict[str, Any],
        applied: dict[str, str],
        time: str = CHANGED,
        console: dict[str, str] | None = None,
    ) -> None:
        self.spec, self.applied, self.time, self.console = spec, applied, time, console or {}

    @property
    def cluster(self) -> FakeCluster:
        """The cluster as it is with them."""
        now = dt.datetime.fromisoformat(self.time)
        found = FakeCluster(DEFINITION, now=lambda: now)
        found.given(resource("a", "n", self.spec, phase="Completed"))
        FakeHelm(found).given("a", "n")
        for name, data in (("a-spec-active", self.applied), ("a-spec-user", self.console)):
            metadata = {"name": name, "namespace": "n"}
            if data:
                found.given(
                    {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}, manager="manager"
                )
        return found


def installed(notes: Notes, values: Any) -> bool:
    """Whether the change to `values` at CHANGED is done."""
    changed = {"metadata": {"name": "a", "namespace": "n"}, "spec": {"chart": CHART, "values": values}}
    return verdict(notes.cluster, changed, CHANGED).installed


@pytest.mark.parametrize(
    ("applied", "done"),
    [
        (PROXIES, True),
        ({**PROXIES, "console": {"added": True}}, True),
        ({"global": {"extraEnv": {"HTTP_PROXY": "http://p:3128"}}}, False),
        ([], False),
    ],
)
def test_a_specification_is_active_if_all_of_it_was_applied_afterwards(applied: Any, done: bool) -> None:
    assert installed(Notes({"chart": CHART, "values": PROXIES}, noted(applied), LATER), PROXIES) is done


ENV = {"global": {"env": {"A": "1"}, "operator": OWN}, "hosts": ["a", "b"], "debug": {"on": True}}


@pytest.mark.parametrize(
    "values",
    [
        {"global": {"env": {}}, "hosts": ["a", "b"], "debug": {"on": True}},
        {"global": {}, "hosts": ["a", "b"], "debug": {"on": True}},
        {"global": {"env": {"A": "1"}}, "hosts": ["a"], "debug": {"on": True}},
        {"global": {"env": {"A": "1"}}, "hosts": ["a", "b"]},
    ],
    ids=("an entry", "a map", "the last element", "a value that was added and is taken back"),
)
def test_what_was_only_removed_is_not_done_before_the_controller_has_acted(values: dict[str, Any]) -> None:
    spec = {"chart": CHART, "values": {**values, "global": {**values["global"], "operator": OWN}}}
    assert not installed(Notes(spec, noted(ENV)), values)
    assert installed(Notes(spec, noted(spec["values"]), LATER), values)
    # In the very second of the change: only what the note says counts.
    assert installed(Notes(spec, noted(spec["values"]), CHANGED), values)


def test_a_change_back_to_what_was_applied_before_leaves_the_note_as_it_is() -> None:
    values = {"global": {"env": {"A": "1"}}, "hosts": ["a"]}
    applied = {"global": {"env": {"A": "1"}, "operator": OWN, "banner": "x"}, "hosts": ["a", "c"]}
    console = noted({"global": {"banner": "x", "env": {"A": "2"}}, "hosts": ["c"]})
    # The controller spells out the keys of a chart that are not used.
    notes = Notes(
        {"chart": CHART, "values": values},
        noted(applied, {**CHART, "url": "", "credentialSecret": {"name": ""}}),
        BEFORE,
        console,
    )
    assert installed(notes, values)
    notes.console = {}
    assert not installed(notes, values)
    # Former versions of the controller write their settings into the resource itself.
    notes.spec = {"chart": CHART, "values": applied}
    assert installed(notes, values)
    notes.applied = noted(applied, {**CHART, "plainHTTP": True})
    assert not installed(notes, values)


def test_a_note_that_cannot_be_read_proves_nothing() -> None:
    changed = {"metadata": {"name": "a", "namespace": "n"}, "spec": {"chart": {}, "values": {}}}
    notes = Notes({"chart": {}, "values": {}}, {"chart": "e30=", "values": base64.b64encode(b"{").decode()}, LATER)
    assert not verdict(notes.cluster, changed, CHANGED).installed

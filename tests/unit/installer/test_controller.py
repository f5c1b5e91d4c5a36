"""What is read out of the notes of the W&B controller."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from installer.cluster.controller import verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from installer.cluster.kube import Cluster, Kind

PROXIES = {"global": {"extraEnv": {"HTTP_PROXY": "http://p:3128", "http_proxy": "http://p:3128"}}}


class Notes:
    """A cluster with a custom resource, its deployed release, and `values` as the controller last applied them."""

    def __init__(self, values: bytes) -> None:
        self._values = base64.b64encode(values).decode()

    def get(self, _kind: Kind, name: str, _namespace: str) -> dict[str, Any]:
        chart = base64.b64encode(b'{"path": "/charts/a"}').decode()
        data = {"chart": chart, "values": self._values}
        return {"metadata": {"name": name}, "status": {"phase": "Completed"}, "data": data}

    def find(self, *_args: Any, **_selection: Any) -> list[dict[str, Any]]:
        return [{"metadata": {"name": "r", "labels": {"version": "1", "status": "deployed"}}}]


@pytest.mark.parametrize(
    ("noted", "installed"),
    [
        (PROXIES, True),
        ({**PROXIES, "console": {"added": True}}, True),
        ({"global": {"extraEnv": {"HTTP_PROXY": "http://p:3128"}}}, False),
        ([], False),
    ],
)
def test_a_specification_is_active_if_all_of_it_was_applied(noted: Any, installed: bool) -> None:
    spec: Mapping[str, Any] = {"chart": {"path": "/charts/a"}, "values": PROXIES}
    resource = {"metadata": {"name": "a", "namespace": "n"}, "spec": spec}
    notes = cast("Cluster", Notes(json.dumps(noted).encode()))
    assert verdict(notes, resource, "").installed is installed


def test_a_note_that_cannot_be_read_proves_nothing() -> None:
    resource = {"metadata": {"name": "a", "namespace": "n"}, "spec": {"chart": {}, "values": {}}}
    assert not verdict(cast("Cluster", Notes(b"{")), resource, "9999").installed

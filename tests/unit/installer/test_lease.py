"""One installer at a time, whatever the clocks of two hosts say."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from installer.cluster.kinds import LEASE
from installer.diagnosis.wait import POLL_SECONDS, Patience
from installer.errors import ClusterError
from installer.report import Silent
from installer.workflows.lease import DURATION_SECONDS, Holder, Means, has_ended, held
from tests.parts.fake_cluster import FakeCluster

if TYPE_CHECKING:
    from collections.abc import Callable

    from installer.cluster.cluster import Object

ELSEWHERE = "another-machine pid:[1] 7 7"


class Turns:
    """A cluster in which installers take turns, and a clock; `meanwhile` happens whenever somebody waits."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.meanwhile: Callable[[], None] = lambda: None
        self.cluster = FakeCluster(namespaces=["home"], now=self.now)

    def now(self) -> dt.datetime:
        return dt.datetime(2026, 1, 1, 8, tzinfo=dt.UTC) + dt.timedelta(seconds=self.seconds)

    @property
    def lease(self) -> Object | None:
        return self.cluster.get(LEASE, "airferry-app", "home")

    @property
    def holder(self) -> str:
        return str((self.lease or {"spec": {}})["spec"].get("holderIdentity"))

    def renewed_by_another(self) -> None:
        """Somebody else's lease, renewed now; his clock is an hour behind."""
        stamp = f"renewed at {self.seconds}"
        content: Object = {
            "metadata": {"annotations": {"airferry/process": ELSEWHERE}},
            "spec": {"holderIdentity": "anna@far", "acquireTime": "2026-01-01T07:00:00.000000Z", "renewTime": stamp},
        }
        if self.lease:
            self.cluster.merge(LEASE, "airferry-app", "home", content)
        else:
            metadata = {**content["metadata"], "name": "airferry-app", "namespace": "home"}
            head = {"apiVersion": LEASE.api_version, "kind": LEASE.name}
            self.cluster.create({**head, **content, "metadata": metadata})

    def means(self) -> Means:
        def sleep(seconds: float) -> None:
            self.seconds += seconds
            self.meanwhile()

        def no_releases(_namespace: str) -> Any:
            raise AssertionError("not asked for")

        patience = Patience(600, Silent(), sleep=sleep, clock=lambda: self.seconds)
        return Means(self.cluster, no_releases, patience, Holder("bob@here", "here pid:[1] 1 1"), self.now)


def test_it_is_held_renewed_and_given_up() -> None:
    turns = Turns()
    with held(turns.means(), "app", "home") as means:
        assert turns.holder == "bob@here"
        for _ in range(int(40 / POLL_SECONDS)):
            means.patience.rest()
        assert turns.lease
        assert turns.lease["spec"]["renewTime"] > "2026-01-01T08:00:25"
    assert turns.lease is None


def test_who_renews_it_is_not_disturbed() -> None:
    turns = Turns()
    turns.renewed_by_another()
    turns.meanwhile = lambda: turns.renewed_by_another() if turns.seconds % 10 == 0 else None
    said = "anna@far has been changing this installation since 2026-01-01T07:00:00Z"
    with pytest.raises(ClusterError, match=said), held(turns.means(), "app", "home"):
        raise AssertionError("not ours")
    assert turns.seconds <= 20
    assert turns.holder == "anna@far"


def test_what_nobody_renews_is_taken_over_after_its_duration() -> None:
    turns = Turns()
    turns.renewed_by_another()
    with held(turns.means(), "app", "home"):
        assert turns.holder == "bob@here"
    assert DURATION_SECONDS <= turns.seconds <= DURATION_SECONDS + 5


def test_who_lost_it_stops() -> None:
    turns = Turns()

    def work() -> None:
        with held(turns.means(), "app", "home") as means:
            turns.renewed_by_another()
            for _ in range(int(40 / POLL_SECONDS)):
                means.patience.rest()

    with pytest.raises(ClusterError, match="anna@far has been changing"):
        work()
    assert turns.holder == "anna@far"


def test_a_process_knows_whether_another_of_this_machine_has_ended() -> None:
    own = Holder.this_process().mark
    *machine, pid, start = own.split(" ")
    assert not has_ended(own)
    assert has_ended(" ".join([*machine, pid, str(int(start) + 1)])), "the number was given to another one"
    assert not has_ended(ELSEWHERE), "nothing is known of other machines"

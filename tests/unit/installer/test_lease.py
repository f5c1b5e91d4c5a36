"""One installer at a time, whatever the clocks of two hosts say."""

from __future__ import annotations

import copy
import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from installer.cluster.cluster import Cluster, ConflictError
from installer.diagnosis.wait import POLL_SECONDS, Patience
from installer.errors import ClusterError
from installer.report import Silent
from installer.workflows.lease import DURATION_SECONDS, Means, held
from installer.workflows.lock_owner import Holder, has_ended

if TYPE_CHECKING:
    from collections.abc import Callable

    from installer.cluster.kinds import Kind

ELSEWHERE = "another-machine pid:[1] 7 7"


@dataclass
class World:
    """A cluster that holds one Lease, and a clock; `meanwhile` happens whenever somebody waits."""

    seconds: float = 0.0
    lease: dict[str, Any] | None = None
    version: int = 0
    meanwhile: Callable[[], None] = field(default=lambda: None)

    def get(self, _kind: Kind, _name: str, _namespace: str) -> dict[str, Any] | None:
        return copy.deepcopy(self.lease)

    def create(self, obj: dict[str, Any]) -> dict[str, Any]:
        if self.lease:
            raise ConflictError("it exists")
        return self._store(obj)

    def merge(self, _kind: Kind, _name: str, _namespace: str, change: dict[str, Any]) -> dict[str, Any]:
        assert self.lease
        if change["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ConflictError("it was changed")
        metadata = {**self.lease["metadata"], **change["metadata"]}
        return self._store({**self.lease, "metadata": metadata, "spec": {**self.lease["spec"], **change["spec"]}})

    def delete(self, _kind: Kind, _name: str, _namespace: str) -> bool:
        self.lease = None
        return True

    def renewed_by_another(self) -> None:
        """Somebody else's lease, renewed now; his clock is an hour behind."""
        metadata = {"name": "airferry-app", "annotations": {"airferry/process": ELSEWHERE}}
        stamp = f"renewed at {self.seconds}"
        spec = {"holderIdentity": "anna@far", "acquireTime": "2026-01-01T07:00:00.000000Z", "renewTime": stamp}
        self._store({"metadata": metadata, "spec": spec})

    def means(self) -> Means:
        def sleep(seconds: float) -> None:
            self.seconds += seconds
            self.meanwhile()

        def now() -> dt.datetime:
            return dt.datetime(2026, 1, 1, 8, tzinfo=dt.UTC) + dt.timedelta(seconds=self.seconds)

        def no_releases(_namespace: str) -> Any:
            raise AssertionError("not asked for")

        patience = Patience(600, Silent(), sleep=sleep, clock=lambda: self.seconds)
        return Means(cast("Cluster", self), no_releases, patience, Holder("bob@here", "here pid:[1] 1 1"), now)

    def _store(self, obj: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        self.lease = copy.deepcopy({**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}})
        return copy.deepcopy(self.lease)


def test_it_is_held_renewed_and_given_up() -> None:
    world = World()
    with held(world.means(), "app", "home") as means:
        assert world.lease
        assert world.lease["spec"]["holderIdentity"] == "bob@here"
        for _ in range(int(40 / POLL_SECONDS)):
            means.patience.rest()
        assert world.lease["spec"]["renewTime"] > "2026-01-01T08:00:25"
    assert world.lease is None


def test_who_renews_it_is_not_disturbed() -> None:
    world = World()
    world.renewed_by_another()
    world.meanwhile = lambda: world.renewed_by_another() if world.seconds % 10 == 0 else None
    said = "anna@far has been changing this installation since 2026-01-01T07:00:00Z"
    with pytest.raises(ClusterError, match=said), held(world.means(), "app", "home"):
        raise AssertionError("not ours")
    assert world.seconds <= 20
    assert world.lease
    assert world.lease["spec"]["holderIdentity"] == "anna@far"


def test_what_nobody_renews_is_taken_over_after_its_duration() -> None:
    world = World()
    world.renewed_by_another()
    with held(world.means(), "app", "home"):
        assert world.lease
        assert world.lease["spec"]["holderIdentity"] == "bob@here"
    assert DURATION_SECONDS <= world.seconds <= DURATION_SECONDS + 5


def test_who_lost_it_stops() -> None:
    world = World()

    def work() -> None:
        with held(world.means(), "app", "home") as means:
            world.renewed_by_another()
            for _ in range(int(40 / POLL_SECONDS)):
                means.patience.rest()

    with pytest.raises(ClusterError, match="anna@far has been changing"):
        work()
    assert world.lease
    assert world.lease["spec"]["holderIdentity"] == "anna@far"


def test_a_process_knows_whether_another_of_this_machine_has_ended() -> None:
    own = Holder.this_process().mark
    *machine, pid, start = own.split(" ")
    assert not has_ended(own)
    assert has_ended(" ".join([*machine, pid, str(int(start) + 1)])), "the number was given to another one"
    assert not has_ended(ELSEWHERE), "nothing is known of other machines"

"""What a rollback goes back to, and how much of the past is kept."""

from __future__ import annotations

import base64
import json

import pytest

from installer.cluster.kinds import SECRET
from installer.cluster.readiness import Readiness
from installer.errors import ClusterError
from installer.value import replace
from installer.workflows import history, rollback
from installer.workflows.history import KEPT, MAX_SECRET, Access, History, ReleaseState, Revision
from installer.workflows.record import FORMAT, InstalledObject, InstalledStep, Record
from tests.parts.fake_cluster import FakeCluster

CHART = InstalledStep("chart", "app", "here", "app", "1.0.0", "sha256:1", ("job",), ("kinds.example.com",))
THING = InstalledStep(
    "resource",
    "thing",
    "here",
    objects=(InstalledObject("example.com/v1", "Thing", "here", "thing"),),
    ready=Readiness("Ready"),
    controller="here/app",
)
NOTE = Record(FORMAT, "app", "1", 1, "sha256:2", "2026-01-01T00:00:00Z", "here", "wandb", (CHART, THING), ())


def revision(number: int, version: str, *, finished: bool = True, origin: int = 0, size: int = 0) -> Revision:
    note = replace(NOTE, version=version, time=f"2026-01-{number:02}T00:00:00Z")
    objects = {"thing": ({"spec": {"values": {"HTTP_PROXY": "p", "http_proxy": "x" * size}}},)}
    pods = {"thing": ({"images": ["r:5000/a:1"]},)}
    releases = (ReleaseState("app", "here", "sha256:3", number),)
    access = Access("r:5000", plain_http=True, token_hosts=("login.example",))
    images = {"r:5000/a:1": "sha256:4"}
    return Revision(number, note, finished, origin, releases, access, objects, images, pods, ("here/data",))


@pytest.mark.parametrize(
    ("past", "goal"),
    [
        ([], 0),
        ([revision(1, "a")], 0),
        ([revision(1, "a", finished=False)], 0),
        ([revision(1, "a"), revision(2, "b")], 1),
        # An upgrade that failed: back to what was reached last.
        ([revision(1, "a"), revision(2, "b"), revision(3, "c", finished=False)], 2),
        # A rollback is taken back like any change, and one that was interrupted goes on.
        ([revision(1, "a"), revision(2, "b"), revision(3, "a", origin=1)], 2),
        ([revision(1, "a"), revision(2, "b"), revision(3, "a", origin=1, finished=False)], 1),
        # The same state, brought about once more, is nothing to go back to.
        ([revision(1, "a"), revision(2, "b"), revision(3, "b")], 1),
    ],
)
def test_what_ran_before(past: list[Revision], goal: int) -> None:
    found = History(tuple(past)).before()
    assert (found.number if found else 0) == goal


@pytest.mark.parametrize("name", ["airferry-registry", "regcred"])
def test_a_rollback_logs_in_with_the_pull_secret(name: str) -> None:
    cluster = FakeCluster(namespaces=["here"])
    config = json.dumps({"auths": {"r:5000": {"username": "robot", "password": "pw"}}}).encode()
    data = {".dockerconfigjson": base64.b64encode(config).decode()}
    cluster.given({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}, namespace="here")
    goal = revision(1, "a")
    assert rollback.credentials(cluster, goal) is None, "pods pull without one"
    found = rollback.credentials(cluster, replace(goal, access=replace(goal.access, pull_secret=name)))
    assert found is not None
    assert (found.username, found.password) == ("robot", "pw")


def test_it_is_read_as_it_was_written_and_the_oldest_make_room() -> None:
    cluster = FakeCluster(namespaces=["here"])
    past = History(())
    for number in range(1, KEPT + 4):
        past = history.keep(cluster, past, revision(number, str(number), finished=number != KEPT))
    assert [item.number for item in past.revisions] == [*range(3, KEPT), *range(KEPT + 1, KEPT + 4)][-KEPT:]
    assert history.read(cluster, NOTE) == past
    large = history.keep(cluster, past, revision(20, "large", size=MAX_SECRET))
    assert [item.number for item in large.revisions] == [20]


def test_a_damaged_revision_is_named() -> None:
    cluster = FakeCluster(namespaces=["here"])
    history.keep(cluster, History(()), revision(1, "a"))
    cluster.merge(SECRET, "airferry-app-revisions", "here", {"data": {"revision-1.json": "e30="}}, manager="others")
    with pytest.raises(ClusterError, match=r"airferry-app-revisions, revision-1\.json: damaged") as caught:
        history.read(cluster, NOTE)
    assert "delete this Secret" in caught.value.hint

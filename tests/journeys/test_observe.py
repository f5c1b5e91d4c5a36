"""A release engineer looks at a staging cluster, and adds to the recipe what the lock does not carry."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.fake_cluster import FakeCluster
from tests.parts.process import wait_until
from tests.parts.programs import assert_refused
from tests.parts.served_cluster import ServedCluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.journeys.conftest import Carried
    from tests.parts.programs import Program

WEB, FOREIGN = "docker.io/demo/httpd:1.0", "docker.io/demo/data:1.0"
OPERATOR = {"kind": "Cluster", "name": "shop", "controller": True}
DATABASE = {"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "metadata": {"name": "shop"}, "spec": {}}
RECIPE = """\
name: shop
version: "1.0"
manifests: [web.yaml, database.yaml]
kubernetes: {{api_versions: [postgresql.cnpg.io/v1]}}
registries:
  docker.io: {{mirror: "{upstream}"}}
"""


def pod(name: str, image: str, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", **metadata},
        "spec": {"containers": [{"name": "main", "image": image}]},
    }


@pytest.fixture
def shop(carried: Carried, airferry: Program) -> Path:
    """The folder of a release whose lock knows the web server alone; its database is made by an operator."""
    (airferry.folder / "recipe.yaml").write_text(RECIPE.format(upstream=carried.upstream.url))
    (airferry.folder / "web.yaml").write_text(json.dumps(pod("web", WEB)))
    (airferry.folder / "database.yaml").write_text(json.dumps(DATABASE))
    airferry.result("lock")
    return airferry.folder


@pytest.fixture
def staging(shop: Path) -> Iterator[ServedCluster]:
    """A cluster in which it runs, and an operator that has made a pod of its own."""
    running = [pod("web", "demo/httpd:1.0"), pod("shop-1", FOREIGN, ownerReferences=[OPERATOR])]
    with ServedCluster(FakeCluster(*running, namespaces=["closed"])) as served:
        served.write_kubeconfig(shop)
        yield served
        assert served.changes == [], "looking changes nothing"


def test_what_an_operator_asks_for_is_told_found_added_and_carried(
    airferry: Program, staging: ServedCluster, shop: Path
) -> None:
    note = "note: Cluster shop (postgresql.cnpg.io): an operator brings what rendering does not show: PostgreSQL "
    assert note in airferry.run("lock").stderr
    for source in ([], ["--recipe"]):
        (brought,) = airferry.result("list", *source)["brought"]
        assert brought["asking"] == "Cluster shop (postgresql.cnpg.io)"
    assert "brought by operators" in airferry.run("list").stdout
    done = airferry.run("observe", "--kubeconfig", "kubeconfig")
    assert done.returncode == 41, done.stderr
    assert "does not carry 1 image that this cluster asks for" in done.stderr
    assert "Pod default/shop-1 of Cluster shop, container main" in done.stdout
    recipe = shop / "recipe.yaml"
    recipe.write_text(recipe.read_text() + done.stdout)
    airferry.result("lock")
    found = airferry.result("observe", "--kubeconfig", "kubeconfig", ".")
    assert [item["image"] for item in found["carried"]] == [FOREIGN, WEB]
    assert found["missing"] == []
    assert staging.lists > 10


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["-n", "closed"], 31, "the pods of closed may not be listed"),
        (["-n", "nowhere"], 42, "nothing runs in nowhere"),
        (["-n", "default", "--all-namespaces"], 2, "--all-namespaces covers every --namespace"),
        (["--watch", "25h"], 2, "no duration like 90s"),
        (["elsewhere.lock"], 41, "there is no elsewhere.lock"),
    ],
)
def test_what_cannot_be_looked_at(
    airferry: Program, staging: ServedCluster, arguments: list[str], code: int, text: str
) -> None:
    staging.closed.add("closed")
    done = airferry.run("observe", "--kubeconfig", "kubeconfig", *arguments)
    if code == 31:
        # The rest was looked at, and is told first.
        assert "may not be listed, so not looked at: " in done.stderr
        assert done.returncode == code
        assert text in done.stderr
    elif code == 2 and "--watch" in arguments:
        assert (done.returncode, done.stdout) == (2, "")
        assert text in done.stderr
    else:
        assert_refused(done, code, text)


def test_watching_ends_with_ctrl_c_and_tells_what_was_seen(airferry: Program, staging: ServedCluster) -> None:
    running = airferry.start("observe", "--kubeconfig", "kubeconfig", "--watch", "10m", "-n", "default")
    try:
        assert wait_until(lambda: staging.lists > 7, 30)
        with staging.lock:
            staging.cluster.given(pod("short", "docker.io/demo/short:1"))
        before = staging.lists
        assert wait_until(lambda: staging.lists > before + 14, 30)
        running.send_signal(signal.SIGINT)
        said, talk = running.communicate(timeout=30)
    finally:
        running.kill()
    assert running.returncode == 41, talk
    assert "watching pods for 600 s" in talk
    assert "  - docker.io/demo/short:1" in said

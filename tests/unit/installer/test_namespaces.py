"""Objects that name no namespace are in that of their step, whoever looks at them."""

from __future__ import annotations

from typing import Any

import pytest

from installer.chart.helm import Chart
from installer.cluster.cluster import ConflictError
from installer.cluster.kinds import CONFIG_MAP
from installer.cluster.workload import ReleaseName
from installer.objects.desired import ChartRelease, Desired, Manifests
from installer.objects.pull_secret import accounts
from installer.workflows.upgrade import claimed_by_others
from tests.parts.bundles import packed_chart
from tests.parts.fake_cluster import FakeCluster

PLACE = ReleaseName("base", "there")


def settings(said: str, **metadata: str) -> dict[str, Any]:
    kind = {"apiVersion": "v1", "kind": CONFIG_MAP.name}
    return {**kind, "metadata": {"name": "settings", **metadata}, "data": {"said": said}}


@pytest.mark.parametrize(("namespace", "conflict"), [("there", True), ("default", False)])
def test_what_others_have_set_is_looked_for_in_the_namespace_of_the_step(namespace: str, *, conflict: bool) -> None:
    cluster = FakeCluster(namespaces=["there"])
    cluster.given(settings("theirs", namespace=namespace))
    step = Manifests(PLACE, (settings("ours"),))
    wanted = Desired(home="there", namespaces={}, secrets=(), steps=(step,), images={})
    if conflict:
        with pytest.raises(ConflictError):
            claimed_by_others(cluster, wanted, take_over=False)
    assert bool(claimed_by_others(cluster, wanted, take_over=True)) == conflict


def test_an_account_that_another_step_makes_is_not_made_beforehand() -> None:
    chart = Chart.load(packed_chart("app", "1.0.0"))
    pod = {"serviceAccountName": "worker", "containers": [{"name": "main", "image": "a"}]}
    user = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": pod}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "worker"}}
    one, other = (
        ChartRelease(chart, ReleaseName(name, "there"), {}, (item,), (), frozenset())
        for name, item in (("one", user), ("other", account))
    )
    made, lacking = accounts([one, other], "secret")
    assert made == []
    assert [text.split(" (")[0] for text in lacking] == ["Pod there/p"]

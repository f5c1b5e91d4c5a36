"""Objects that name no namespace are in that of their step, whoever looks at them."""

from __future__ import annotations

from installer.chart.helm import Chart
from installer.cluster.workload import ReleaseName
from installer.objects.desired import ChartRelease
from installer.objects.pull_secret import accounts
from tests.parts.bundles import packed_chart


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

"""What the checks before an installation compute by themselves; what they find in a cluster is tested on a real one."""

from __future__ import annotations

import pytest

from installer.chart.helm import Chart
from installer.errors import ClusterError, ClusterForbiddenError, SiteError
from installer.preflight import Preflight
from installer.prerequisites import Finding
from installer.report import Silent
from installer.scheduling import quantity
from tests.parts.bundles import packed_chart


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("500m", 0.5), ("1.5", 1.5), ("2Ki", 2048), ("1Gi", 2**30), ("3M", 3e6), (None, 0), ("x", 0), (2, 2)],
)
def test_quantities(text: object, number: float) -> None:
    assert quantity(text) == number


@pytest.mark.parametrize(
    ("wanted", "version", "accepted"),
    [
        ("", "v1.35.4", True),
        (">=1.28.0-0", "v1.35.4-eks-1", True),
        (">=1.28.0-0 <1.33.0-0", "v1.35.4", False),
        ("^1.36", "v1.35.4", False),
        ("no constraint", "v1.35.4", True),
    ],
)
def test_a_chart_says_which_kubernetes_it_is_for(wanted: str, version: str, *, accepted: bool) -> None:
    metadata = f"apiVersion: v2\nname: x\nversion: 1.0.0\nkubeVersion: '{wanted}'\n"
    assert Chart.load(packed_chart("x", "1.0.0", {"Chart.yaml": metadata})).accepts(version) is accepted


def test_of_several_refusals_the_lowest_exit_code_counts_and_all_are_told() -> None:
    found = Preflight(
        None,
        (
            Finding("a", "do a.", SiteError),
            Finding("b", "do b.", None),
            Finding("c", "do c.", ClusterForbiddenError),
            Finding("d", "do d.", ClusterError),
        ),
    )
    with pytest.raises(ClusterForbiddenError) as caught:
        found.require(Silent())
    assert caught.value.message.splitlines()[1:] == ["  c; next: do c.", "  d; next: do d.", "  a; next: do a."]
    assert [item["what"] for item in found.document()["warnings"]] == ["b"]
    assert found.text().splitlines()[-1] == "not possible yet"

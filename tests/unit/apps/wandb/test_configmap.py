"""The platform chart as a ConfigMap: what fits, what is packed again, what stays beside it."""

from __future__ import annotations

import base64
import random
import re
from typing import TYPE_CHECKING

import pytest

from installer.apps.wandb.chart_source import configmap
from installer.apps.wandb.chart_source.configmap import ChartFile, chart_file, config_map, repacked
from installer.chart.archive import unpacked
from installer.chart.helm import Chart
from installer.errors import BundleError, ClusterError, SiteError
from tests.parts.application import CHARTS, packed
from tests.parts.bundles import packed_chart
from tests.parts.kubectl import tools

if TYPE_CHECKING:
    from pathlib import Path


def big_chart(folder: Path, noise: int, *, inside: str = "docs/guide.txt") -> bytes:
    """The demonstration platform with `noise` bytes that cannot be compressed in the file `inside`."""
    generator = random.Random(7)
    text = base64.b85encode(generator.randbytes(noise)).decode()
    return packed(CHARTS / "demo-platform", {inside: text, "README.md": "# hello\n"})


def test_a_chart_that_fits_stays_as_it_is() -> None:
    chart = Chart.load(packed(CHARTS / "demo-platform"))
    assert chart_file(chart).archive == chart.archive


def test_a_chart_is_packed_again_without_what_no_template_reads(tmp_path: Path) -> None:
    chart = Chart.load(big_chart(tmp_path, 1_200_000))
    assert len(chart.archive) > configmap.MAX_CONFIG_MAP
    found = chart_file(chart)
    assert len(found.archive) < 10_000
    assert found == chart_file(chart)
    again = Chart.load(found.archive)
    rendered = [each.render({}, release="wandb", namespace="wandb").objects for each in (again, chart)]
    assert rendered[0] == rendered[1]
    assert again.metadata == chart.metadata
    # Helm itself agrees that it is a chart.
    (tmp_path / "again.tgz").write_bytes(found.archive)
    assert "name: demo-platform" in tools().run_helm("show", "chart", tmp_path / "again.tgz", home=tmp_path)


def test_packed_copies_of_unpacked_subcharts_go() -> None:
    base = CHARTS / "demo-platform" / "charts" / "base"
    text = "hello"
    whole = packed(CHARTS / "demo-platform", {"docs/a": text})
    names = set(unpacked(repacked(whole), "chart", BundleError))
    assert "demo-platform/charts/base/Chart.yaml" in names
    assert "demo-platform/docs/a" not in names
    files = unpacked(whole, "chart", BundleError)
    assert configmap._unpacked_too(packed(base), "demo-platform/charts/", files)
    changed = packed(base, {"Chart.yaml": "apiVersion: v2\nname: base\nversion: 9.9.9\n"})
    assert not configmap._unpacked_too(changed, "demo-platform/charts/", files)


def test_a_chart_that_cannot_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="a ConfigMap holds"):
        chart_file(Chart.load(big_chart(tmp_path, 1_400_000, inside="files/data.txt")))


def test_a_plus_sign_in_a_version_is_no_key() -> None:
    found = chart_file(Chart.load(packed_chart("x", "1.0.0+build.7")))
    assert re.fullmatch(r"[-._a-zA-Z0-9]+", found.key)


def test_earlier_charts_stay_while_there_is_room() -> None:
    def chart(number: int, size: int) -> ChartFile:
        return ChartFile(f"x-{number}.tgz", bytes([number]) * size)

    current = config_map(chart(1, 300_000), "ns", None)
    current = config_map(chart(2, 300_000), "ns", current)
    assert set(current["binaryData"]) == {"x-1.tgz", "x-2.tgz"}
    assert config_map(chart(2, 300_000), "ns", current) == current
    assert set(config_map(chart(3, 700_000), "ns", current)["binaryData"]) == {"x-3.tgz", "x-1.tgz"}
    # What the custom resource names stays before all others.
    assert set(config_map(chart(3, 700_000), "ns", current, "/charts/x-2.tgz")["binaryData"]) == {"x-3.tgz", "x-2.tgz"}
    assert set(config_map(chart(3, 1_000_000), "ns", current)["binaryData"]) == {"x-3.tgz"}
    texts = {**current, "data": {"other": "x" * 500_000}}
    assert set(config_map(chart(3, 300_000), "ns", texts)["binaryData"]) == {"x-3.tgz"}
    with pytest.raises(ClusterError, match="leaves no room"):
        config_map(chart(3, 700_000), "ns", texts)


@pytest.mark.parametrize("data", [b"", b"no archive", b"\x1f\x8b\x08", packed_chart("x", "1")[:150]])
def test_a_broken_archive_is_a_broken_bundle(data: bytes) -> None:
    with pytest.raises(BundleError):
        repacked(data)

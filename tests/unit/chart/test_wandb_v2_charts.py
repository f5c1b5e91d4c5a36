"""The charts of W&B's operator v2: airferry misses none of the images that others find in what `helm` makes of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from installer.chart.helm import Chart
from installer.chart.images import references
from installer.chart.spelling.text import as_reference
from tests.parts.helm_program import helm
from tests.parts.image_texts import Images

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.wandb_v2

NOT_INSTALLED: dict[str, Any] = {"wandb": {"install": False}}
TELEMETRY: dict[str, Any] = {
    "telemetry": {"mode": "full", "scrape": {"kubeStateMetrics": True}},
    "victoria-metrics-operator": {"enabled": True},
    "grafana-operator": {"enabled": True},
}


@pytest.mark.parametrize(
    ("name", "values", "least"),
    [
        ("operator", NOT_INSTALLED, 9),
        ("operator", NOT_INSTALLED | TELEMETRY, 12),
        ("moco", {}, 4),
        ("redis-operator", {}, 1),
        ("seaweedfs-operator", {}, 1),
        ("grafana-operator", {}, 1),
        ("nginx-gateway-fabric", {}, 2),
    ],
)
def test_no_image_is_missed(wandb_v2: Path, tmp_path: Path, name: str, values: dict[str, Any], least: int) -> None:
    [archive] = (wandb_v2 / "charts").glob(f"{name}-[0-9]*.tgz")
    (tmp_path / "values.json").write_text(json.dumps(values))
    options = ("--kube-version", "1.34.0", "--api-versions", "cert-manager.io/v1", "--values", tmp_path / "values.json")
    seen = Images()
    seen.read(helm(tmp_path, "template", "it", archive, *options))
    chart = Chart.load(archive.read_bytes(), source=name)
    made = chart.render(
        values, release="it", namespace="default", kube_version="1.34.0", api_versions=["cert-manager.io/v1"]
    )
    found = {str(reference) for item in references(made.objects) if (reference := as_reference(item.text))}
    assert seen.all - found == set()
    assert len(seen.all) >= least

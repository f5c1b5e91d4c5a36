"""The real W&B charts, with many parts switched on: every image is found and pointed into the enclave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from installer.chart.helm import Chart
from installer.chart.images import references
from installer.chart.retarget import Relocation, merged, overrides, stray, suspects

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.controller

REGISTRY = "r.enclave:5000"
HOOK_IMAGE = "alpine/k8s:1.31.12"
BUCKET = {"provider": "s3", "name": "s3:9000", "path": "b", "region": "r", "accessKey": "a", "secretKey": "s"}
SWITCHED_ON = (
    *("anaconda2", "bufstream", "clickhouse", "clickhouseMigrationJob", "executor", "filemeta", "filestream"),
    *("flat-run-fields-updater", "frontend", "history-updater", "kafka", "lumen-agent", "mcp-server"),
    *("metric-observer", "mysql", "nginx", "parquet-metadata-cache", "reloader", "settingsMigrationJob"),
    *("stackdriver", "weave-evaluate-model-worker", "weave-trace", "weave-trace-agent-scoring-worker"),
    *("weave-trace-worker", "yace"),
)
EVERYTHING: dict[str, Any] = {
    **{name: {"install": True} for name in SWITCHED_ON},
    "bufstream": {"install": True, "storage": {"s3": {"region": "r"}}},
    "yace": {"install": True, "regions": ["r"], "searchTags": {"k": "v"}},
    "global": {
        "api": {"enabled": True},
        "glue": {"enabled": True},
        "localService": {"bypass": True},
        "bucket": BUCKET,
    },
}


def chart(assets: Path, name: str) -> Chart:
    return Chart.load((assets / f"{name}.tgz").read_bytes(), source=name)


@pytest.mark.parametrize("platform", ["operator-wandb-0.41.4", "operator-wandb-0.43.8"])
@pytest.mark.parametrize(("values", "least"), [({}, 7), (EVERYTHING, 20)], ids=["default", "everything"])
def test_no_image_of_the_platform_escapes(assets: Path, platform: str, values: dict[str, Any], least: int) -> None:
    loaded = chart(assets, platform)

    def render(values: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            item
            for upgrade in (False, True)
            for item in loaded.render(values, release="wandb", namespace="default", upgrade=upgrade)
        ]

    found = references(render(values))
    needed = {item.reference() for item in found if item.certain and not item.test_only}
    assert len(needed) >= least
    assert HOOK_IMAGE in {item.text for item in found if item.hooks == ("pre-upgrade",)}
    assert [item for item in found if not item.certain] == []
    bundle = Relocation(REGISTRY, "airferry", frozenset(needed))
    values = merged(values, overrides(loaded, values, bundle))
    objects = render(values)
    assert stray(objects, bundle) == []
    assert suspects(objects, bundle) == []
    assert overrides(loaded, values, bundle) == {}


def test_the_operator_is_pointed_into_the_enclave_and_brings_its_definition(assets: Path) -> None:
    loaded = chart(assets, "operator-1.4.8")
    bundle = Relocation(
        REGISTRY, "airferry", frozenset(item.reference() for item in references(render_operator(loaded)))
    )
    objects = render_operator(loaded, overrides(loaded, {}, bundle))
    assert stray(objects, bundle) == []
    assert [item.text for item in references(objects)] == [f"{REGISTRY}/airferry/docker.io/wandb/controller:latest"]
    assert [item["metadata"]["name"] for item in loaded.crds()] == ["weightsandbiases.apps.wandb.com"]


def render_operator(loaded: Chart, values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    return loaded.render({"airgapped": True, **(values or {})}, release="operator", namespace="wandb")

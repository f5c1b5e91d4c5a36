"""Releases of the W&B platform as a release engineer makes them: the real charts and templates, stand-ins as images."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from installer.chart.helm import Chart
from tests.parts import runnable
from tests.parts.application import CONTROLLER_IMAGE, KEY, OPERATOR_CHART
from tests.parts.bundles import KEYS
from tests.parts.images import Image, push, write_layout
from tests.parts.programs import from_source
from tests.parts.stand_ins import stand_ins

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.parts.registry import Registry

TEMPLATE_SERVER = "0.82.2"
"""The tag of W&B's server components in the templates, and so the version of the release."""
SMALL = {"requests": {"cpu": "5m", "memory": "8Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}}


@dataclass(frozen=True)
class Edition:
    """A release of the platform: the version of the chart `operator-wandb`, and the tag of the server's components."""

    chart: str
    server: str


EARLIER = Edition("0.41.4", "0.79.1")
LATER = Edition("0.43.8", TEMPLATE_SERVER)


@dataclass(frozen=True)
class PlatformRelease:
    """A finished release: the signed bundle, the frozen file, and the names of the images in it."""

    edition: Edition
    bundle: Path
    frozen: Path
    images: frozenset[str]


def release(folder: Path, assets: Path, upstream: Registry, edition: Edition, *, sequence: int = 1) -> PlatformRelease:
    """Make the release in `folder` with the commands of the connected side; its images are pushed to `upstream`."""
    airferry = from_source("builder", folder)
    folder.mkdir()
    airferry.result("init", ".")
    for path in folder.glob("*.yaml"):
        path.write_text(path.read_text().replace(TEMPLATE_SERVER, edition.server))
    platform = f"operator-wandb-{edition.chart}.tgz"
    for name in (OPERATOR_CHART, platform):
        shutil.copy2(assets / name, folder)
    images = _images(folder, assets, platform)
    _push(folder.parent / f"{folder.name}-images", images, upstream)
    hosts = {name.partition("/")[0] for name in images}
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    for chart, name in zip(recipe["charts"], (OPERATOR_CHART, platform), strict=True):
        del chart["repository"]
        chart.update(path=name, version=Chart.load((folder / name).read_bytes(), source=name).version)
    recipe["sequence"] = sequence
    recipe["registries"] = {host: {"mirror": f"{upstream.url}/{host}"} for host in hosts}
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    airferry.result("lock")
    built = airferry.result("build")
    bundle = folder / built["file"]
    airferry.result("sign", bundle, "--key", KEYS / "test-only.key")
    frozen = folder / "wandb-installer"
    airferry.result("freeze", bundle, "--key", KEY, "--file", frozen)
    return PlatformRelease(edition, bundle, frozen, frozenset(images))


def small_values() -> dict[str, Any]:
    """Values for site.yaml with which the platform's default profile fits a machine of two cores."""
    parts: dict[str, Any] = {name: {"resources": SMALL} for name in ("app", "parquet", "weave")}
    parts["weave"]["containers"] = {"weave-cache-clear": {"resources": SMALL}}
    parts["console"] = {"containers": {"console": {"resources": SMALL}}}
    return {**parts, "otel": {"daemonset": {"resources": SMALL}}}


def _images(folder: Path, assets: Path, platform: str) -> dict[str, Image]:
    """By full name: stand-ins for what the platform will ask for at first and at every change, and the controller."""
    chart = Chart.load((folder / platform).read_bytes(), source=platform)
    resource = yaml.safe_load((folder / "wandb.yaml").read_text())
    values: Mapping[str, Any] = resource["spec"]["values"]
    objects = [
        item
        for upgrade in (False, True)
        for item in chart.render(values, release="wandb", namespace="wandb", upgrade=upgrade)
    ]
    return {CONTROLLER_IMAGE: runnable.controller(assets), **stand_ins(objects)}


def _push(folder: Path, images: Mapping[str, Image], upstream: Registry) -> None:
    for number, (name, image) in enumerate(images.items()):
        push(write_layout(folder / str(number), image), f"{upstream.address}/{name}")
    shutil.rmtree(folder)

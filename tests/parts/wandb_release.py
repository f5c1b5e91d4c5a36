"""Releases of the W&B platform as a release engineer makes them: the real charts and templates, stand-ins as images."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.charts.fetch import ChartFetcher
from builder.images.connect import connect
from builder.images.engine import Engine
from builder.recipe.recipe import Recipe
from builder.resolve.documents import Documents
from builder.resolve.steps import resolved, written
from installer.errors import RecipeError
from installer.registry.credentials import CredentialStore
from installer.strict_yaml import load_yaml
from tests.parts import runnable
from tests.parts.application import CONTROLLER_IMAGE, KEY
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
    """A finished release: the signed bundle, the frozen file, and the digests of its images by name."""

    edition: Edition
    bundle: Path
    frozen: Path
    images: Mapping[str, str]

    def name_of(self, asked: str) -> str:
        """The image that is asked for, by tag or by digest, without the place in the enclave's registry.

        Raises KeyError if it is none of this release.
        """
        repository, _, digest = asked.partition("@")
        names = {f"{name.rpartition(':')[0]}@{digest}": name for name, digest in self.images.items()}
        return names[f"{repository}@{digest}"] if digest else {name: name for name in self.images}[asked]


def release(
    folder: Path, assets: Path, controller: Path, upstream: Registry, edition: Edition, *, sequence: int = 1
) -> PlatformRelease:
    """Make the release in `folder` with the commands of the connected side; its images are pushed to `upstream`.

    `controller` is the program of the W&B controller.
    """
    airferry = from_source("builder", folder)
    folder.mkdir()
    airferry.result("init", "--profile", "wandb", ".")
    recipe = load_yaml((folder / "recipe.yaml").read_bytes(), "recipe.yaml", RecipeError)
    del recipe["chart_repository"]
    for chart, version in zip(recipe["charts"], ("1.4.8", edition.chart), strict=True):
        chart.update(version=version, path=f"{chart['name']}-{version}.tgz")
        shutil.copy2(assets / chart["path"], folder)
    recipe["versions"]["server"] = edition.server
    recipe["sequence"] = sequence
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    images = {CONTROLLER_IMAGE: runnable.controller(controller), **_stand_ins(folder)}
    digests = _push(folder.parent / f"{folder.name}-images", images, upstream)
    hosts = {name.partition("/")[0] for name in images}
    recipe["registries"] = {host: {"mirror": f"{upstream.url}/{host}"} for host in hosts}
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    airferry.result("lock")
    bundle = folder / airferry.result("build")["file"]
    airferry.result("sign", bundle, "--key", KEYS / "test-only.key")
    frozen = folder / "wandb-installer"
    airferry.result("freeze", bundle, "--key", KEY, "--file", frozen)
    return PlatformRelease(edition, bundle, frozen, digests)


def small_values() -> dict[str, Any]:
    """Values for site.yaml with which the platform's default profile fits a machine of two cores.

    The chart's probes begin when real programs can be ready, after half a minute; stand-ins are so at once.
    """
    probe = {"initialDelaySeconds": 1, "periodSeconds": 2}
    probes = {"startupProbe": probe, "readinessProbe": probe}
    parquet = {"readinessProbe": probe}
    return {
        "app": {"resources": SMALL, "containers": {"app": probes}},
        "console": {"containers": {"console": {"resources": SMALL, **probes}}},
        "parquet": {"resources": SMALL, "containers": {"parquet": parquet}},
        "weave": {"resources": SMALL, "containers": {"weave-cache-clear": {"resources": SMALL}}},
        "redis": {"master": {"readinessProbe": probe}},
        "otel": {"daemonset": {"resources": SMALL}},
    }


def _stand_ins(folder: Path) -> dict[str, Image]:
    """By full name: stand-ins for what the platform will ask for at first and at every change."""
    recipe = Recipe.load(folder / "recipe.yaml")
    places = connect((), folder, Engine(folder), credentials=CredentialStore(), proxies={})
    documents = Documents(places)
    profile = written(recipe, "recipe.yaml", documents)
    assert profile
    fetched = [ChartFetcher(places).fetch(entry) for entry in recipe.charts]
    platform = resolved(recipe, profile, fetched, documents).releases[-1]
    return stand_ins(
        item
        for upgrade in (False, True)
        for item in platform.fetched.chart.render(
            platform.values, release=platform.name, namespace=platform.namespace, upgrade=upgrade
        ).objects
    )


def _push(folder: Path, images: Mapping[str, Image], upstream: Registry) -> dict[str, str]:
    """Push `images` under their full names below the registry; their digests."""
    digests = {
        name: push(write_layout(folder / str(number), image), f"{upstream.address}/{name}")
        for number, (name, image) in enumerate(images.items())
    }
    shutil.rmtree(folder)
    return digests

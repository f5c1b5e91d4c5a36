"""Charts of others go all the way, and what airferry finds and moves is compared with what `helm` shows.

Each chart in the folders that AIRFERRY_TEST_CHARTS and AIRFERRY_TEST_ASSETS name, and a few of our own that name their
images in the same ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.parts.charts import package
from tests.parts.foreign_charts import FOREIGN
from tests.parts.foreign_journey import journey, step_of, steps_to
from tests.parts.programs import from_source

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Like:
    """What one of our own charts asks for, and by which values and edits its images move."""

    needed: frozenset[str]
    suspected: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    edits: tuple[str, ...] = ()


OURS = {
    "like-cert-manager": Like(
        frozenset({"quay.io/demo/controller:v1.19.0", "quay.io/demo/startupapicheck:v1.19.0"}),
        suspected=frozenset({"quay.io/demo/acmesolver:v1.19.0"}),
        prefixes=("imageRegistry",),
    ),
    "like-gpu-operator": Like(
        frozenset(
            {"nvcr.io/demo/driver:550.90", "nvcr.io/demo/k8s/container-toolkit", "nvcr.io/demo/operator:v26.3.0"}
        ),
        prefixes=("driver.repository", "operator.repository", "toolkit.repository"),
    ),
    "like-ingress-nginx": Like(
        frozenset({"registry.k8s.io/demo/certgen:v1.6.9", "registry.k8s.io/demo/controller:v1.15.1"}),
        prefixes=("global.image.registry",),
    ),
    "like-istio": Like(
        frozenset({"docker.io/demo/pilot:1.0"}),
        suspected=frozenset({"docker.io/demo/proxy:1.0"}),
        prefixes=("global.hub",),
    ),
    "like-sentry": Like(
        frozenset({"docker.io/demo/web:25.11.0", "docker.io/library/busybox:1.36", "ghcr.io/demo/tools:1.0"}),
        edits=("like-sentry/templates/upgrade.yaml", "like-sentry/templates/web.yaml"),
    ),
    "like-strimzi": Like(
        frozenset({"quay.io/demo/operator:0.50.0"}),
        suspected=frozenset(
            {
                "quay.io/demo/bridge:1.1.0",
                "quay.io/demo/kafka:0.50.0-kafka-4.2.0",
                "quay.io/demo/kafka:0.50.0-kafka-4.3.0",
            }
        ),
        prefixes=("defaultImageRegistry",),
    ),
    "like-traefik": Like(frozenset({"docker.io/library/traefik:v3.7.8"})),
}


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key to sign with."""
    folder = tmp_path_factory.mktemp("key")
    from_source("builder", folder).result("keygen", "release", "--no-passphrase")
    return folder / "release.key"


@pytest.mark.parametrize("name", [*OURS, *FOREIGN])
def test_what_helm_renders_is_locked_and_moved_inside(name: str, key: Path, tmp_path: Path) -> None:
    steps = [step_of(package(name))] if name in OURS else steps_to(name)
    found = journey(steps, tmp_path, key)
    assert bool(found.refused) == bool(found.refused_by_helm), found.refused or found.refused_by_helm
    assert found.missed == set()
    assert found.doubtful == set()
    assert found.refused_inside == ""
    assert found.outside == set()
    if name in OURS:
        assert found.decided == found.suspected
        # The digests are those of the test's images.
        needed = frozenset(name.partition("@")[0] for name in found.needed)
        assert Like(needed, found.suspected, found.prefixes, found.edits) == OURS[name]

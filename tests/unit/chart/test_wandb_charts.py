"""The real W&B charts, with many parts switched on: every image is found and pointed into the enclave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from installer.apps.wandb.operator_rights import operator_rights
from installer.chart.helm import Chart, Rendering
from installer.chart.images import references
from installer.chart.relocation import Relocation
from installer.chart.retarget import merged, overrides, stray, suspects
from installer.cluster.kinds import CLUSTER_ROLE, DEPLOYMENT, POD, ROLE
from installer.cluster.workload import ReleaseName
from installer.moving.pinning import pins
from installer.objects.desired import ChartRelease
from installer.oci.digest import Digest
from installer.oci.reference import DigestRef
from tests.parts.charts import package
from tests.parts.wandb_values import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from installer.oci.reference import Reference

pytestmark = pytest.mark.charts

REGISTRY = "r.enclave:5000"
HOOK_IMAGE = "alpine/k8s:1.31.12"
# Charts that cannot take a digest.
OTEL = "docker.io/otel/opentelemetry-collector-contrib"
NO_DIGEST = (
    "docker.io/library/mysql",
    "docker.io/prometheuscommunity/stackdriver-exporter",
    "ghcr.io/nerdswords/yet-another-cloudwatch-exporter",
    "us-docker.pkg.dev/buf-images-1/bufstream-public/images/bufstream",
)


def relocation(images: Iterable[Reference]) -> Relocation:
    """A bundle with `images`, each with a digest of its own."""
    return Relocation.of([(str(image), Digest.of(str(image).encode())) for image in images], REGISTRY, "airferry")


def chart(assets: Path, name: str) -> Chart:
    return Chart.load((assets / f"{name}.tgz").read_bytes(), source=name)


@pytest.mark.parametrize("platform", ["operator-wandb-0.41.4", "operator-wandb-0.43.8"])
@pytest.mark.parametrize(
    ("values", "least", "by_tag"),
    [({}, 7, {OTEL}), (EVERYTHING, 20, {OTEL, *NO_DIGEST})],
    ids=["default", "everything"],
)
def test_no_image_of_the_platform_escapes(
    assets: Path, platform: str, values: dict[str, Any], least: int, by_tag: set[str]
) -> None:
    loaded = chart(assets, platform)

    def render(values: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [
            item
            for upgrade in (False, True)
            for item in loaded.render(values, release="wandb", namespace="default", upgrade=upgrade).objects
        ]

    def upgraded(values: Mapping[str, Any]) -> Rendering:
        return loaded.render(values, release="wandb", namespace="default", upgrade=True)

    found = references(render(values))
    needed = {item.reference() for item in found if item.certain and not item.test_only}
    assert len(needed) >= least
    assert HOOK_IMAGE in {item.text for item in found if item.hooks == ("pre-upgrade",)}
    assert [item for item in found if not item.certain] == []
    bundle = relocation(needed)
    # As guides tell people to do, although it reaches some of the images only.
    values = merged(values, {"global": {"imageRegistry": "mirror.example", "repositoryPrefix": "mirror.example/x"}})
    values = merged(values, overrides(loaded, values, bundle))
    values = merged(values, pins(upgraded(values), values, bundle, upgraded))
    objects = render(values)
    assert stray(objects, bundle) == []
    assert suspects(objects, bundle) == []
    assert overrides(loaded, values, bundle) == {}
    final = {item.reference() for item in references(objects) if item.certain and not item.test_only}
    kept = {item.repository.path.partition("/")[2] for item in final if not isinstance(item, DigestRef)}
    assert kept == by_tag


def test_the_operator_is_pointed_into_the_enclave_and_brings_its_definition(assets: Path) -> None:
    loaded = chart(assets, "operator-1.4.8")
    bundle = relocation({item.reference() for item in references(render_operator(loaded).objects)})
    values = overrides(loaded, {}, bundle)
    before = render_operator(loaded, values)
    values = merged(values, pins(before, values, bundle, lambda values: render_operator(loaded, dict(values))))
    rendering = render_operator(loaded, values)
    objects = rendering.objects
    assert stray(objects, bundle) == []
    digest = Digest.of(b"docker.io/wandb/controller:latest")
    assert [item.text for item in references(objects)] == [f"{REGISTRY}/airferry/docker.io/wandb/controller@{digest}"]
    assert [item["metadata"]["name"] for item in rendering.crds] == ["weightsandbiases.apps.wandb.com"]


def render_operator(loaded: Chart, values: dict[str, Any] | None = None) -> Rendering:
    return loaded.render({"airgapped": True, **(values or {})}, release="operator", namespace="wandb")


def test_what_the_operator_may_not_make_or_grant_is_told(assets: Path) -> None:
    """The roles of operator 1.4.8 suffice for all parts of the platform; without leases, `glue` cannot elect."""
    operator, platform = chart(assets, "operator-1.4.8"), chart(assets, "operator-wandb-0.43.8")
    kinds = {(kind.api_version, kind.name): kind for kind in (DEPLOYMENT, ROLE, CLUSTER_ROLE, POD)}

    def release(loaded: Chart, values: Mapping[str, Any], name: ReleaseName) -> ChartRelease:
        objects = loaded.render(values, release=name.name, namespace=name.namespace).objects
        return ChartRelease(loaded, name, {}, tuple(objects), (), frozenset())

    def told(values: Mapping[str, Any]) -> list[str]:
        own = release(operator, values, ReleaseName("operator", "wandb-operator"))
        made = release(platform, EVERYTHING, ReleaseName("wandb", "wandb"))
        return [item.what for item in operator_rights(own, made, kinds)]

    assert told({}) == []
    rules = [rule for rule in operator.coalesced({})["role"]["rules"] if "leases" not in rule["resources"]]
    [lack] = told({"role": {"rules": rules}})
    assert lack.startswith("the operator may not grant get, list, watch, create, update, patch, delete leases.coord")


def test_our_operator_chart_is_to_the_installer_what_that_of_wandb_is(assets: Path) -> None:
    """Tests of a controller take ours where there is no other."""
    authorities = {"customCACerts": ["-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----"]}

    def shape(loaded: Chart) -> tuple[set[str], Any, Any]:
        rendering = render_operator(loaded, authorities)
        items = rendering.objects
        [pod] = [item["spec"]["template"]["spec"] for item in items if item["kind"] == "Deployment"]
        [container] = pod["containers"]
        told = {key: container[key] for key in ("name", "command", "args", "image", "resources")}
        told["mounts"] = [mount["mountPath"] for mount in container["volumeMounts"]]
        [crd] = rendering.crds
        return {f"{item['kind']} {item['metadata']['name']}" for item in items}, told, crd["spec"]["names"]

    ours, theirs = shape(Chart.load(package("operator"))), shape(chart(assets, "operator-1.4.8"))
    assert ours == theirs

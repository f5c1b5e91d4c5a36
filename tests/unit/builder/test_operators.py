"""What operators are known to bring without being rendered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from builder.charts.operators import BRINGERS, brought, sighted

if TYPE_CHECKING:
    from installer.chart.helm import Object


def of(kind: str, version: str, name: str = "x", **spec: Any) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def definition(kind: str, group: str) -> Object:
    return of("CustomResourceDefinition", "apiextensions.k8s.io/v1", "x", group=group, names={"kind": kind})


def told(*objects: Object) -> list[str]:
    return [item.asking for item in brought(sighted(objects))]


def cluster(name: str, **spec: Any) -> Object:
    return of("Cluster", "postgresql.cnpg.io/v1", name, **spec)


CNPG = definition("Cluster", "postgresql.cnpg.io")
IMAGE = "ghcr.io/cloudnative-pg/postgresql:16"
CATALOG = {"apiGroup": "postgresql.cnpg.io", "kind": "ImageCatalog", "name": "ours", "major": 16}
ISTIO = {"sidecar.istio.io/inject": "true"}
PODS: dict[str, Any] = {"template": {"metadata": {"labels": ISTIO}, "spec": {"containers": []}}}


@pytest.mark.parametrize(
    ("objects", "asking"),
    [
        ([cluster("db")], ["Cluster db (postgresql.cnpg.io)"]),
        ([cluster("a"), cluster("b"), CNPG], ["Cluster a, Cluster b (postgresql.cnpg.io)"]),
        ([CNPG, CNPG], ["kind Cluster (postgresql.cnpg.io)"]),
        (
            [definition(kind, "kafka.strimzi.io") for kind in ("KafkaBridge", "Kafka", "KafkaTopic")],
            ["kinds Kafka, KafkaBridge (kafka.strimzi.io)"],
        ),
        ([cluster("db", imageName=IMAGE), CNPG], []),
        ([cluster("db", imageCatalogRef=CATALOG)], []),
        ([cluster("a", imageName=IMAGE), cluster("b")], ["Cluster b (postgresql.cnpg.io)"]),
        # Of another group.
        ([of("Cluster", "cluster.x-k8s.io/v1")], []),
        ([of("Service", "v1"), of("Service", "serving.knative.dev/v1", "web")], ["Service web (serving.knative.dev)"]),
        # A sidecar comes along, whatever the resource says.
        ([of("Tenant", "minio.min.io/v2", image="quay.io/minio/minio:1")], ["Tenant x (minio.min.io)"]),
        # An image is there, in a place that rendering finds.
        ([of("Prometheus", "monitoring.coreos.com/v1", image="quay.io/prometheus/prometheus:v3")], []),
        ([of("Prometheus", "monitoring.coreos.com/v1", replicas=1)], ["Prometheus x (monitoring.coreos.com)"]),
        # Only issuers of this kind run pods.
        ([of("Issuer", "cert-manager.io/v1", ca={"secretName": "x"})], []),
        ([of("Issuer", "cert-manager.io/v1", acme={"solvers": []})], ["Issuer x (cert-manager.io)"]),
        ([of("Deployment", "apps/v1", "web", **PODS)], ["Deployment web (sidecar.istio.io/inject=true)"]),
        (
            [
                {
                    "apiVersion": "v1",
                    "kind": "Namespace",
                    "metadata": {"name": "n", "labels": {"istio-injection": "enabled"}},
                }
            ],
            ["Namespace n (istio-injection=enabled)"],
        ),
        ([of("Deployment", "apps/v1", template={"metadata": {"labels": {"sidecar.istio.io/inject": "false"}}})], []),
        # Malformed objects are somebody else's matter.
        ([{"kind": "CustomResourceDefinition", "spec": []}, {"kind": "Cluster"}, {"metadata": []}], []),
    ],
)
def test_what_brings_images(objects: list[Object], asking: list[str]) -> None:
    assert told(*objects) == asking


def test_many_are_not_all_named() -> None:
    (line,) = told(*(cluster(f"db-{number}") for number in range(8)))
    assert line == "Cluster db-0, Cluster db-1, Cluster db-2, Cluster db-3, Cluster db-4, 3 more (postgresql.cnpg.io)"


def test_the_table_is_well_formed() -> None:
    """Each sign stands once, and the texts can be carried: a proof is ASCII."""
    signs = [sign for bringer in BRINGERS for sign in bringer.signs.split()]
    assert len(signs) == len(set(signs))
    assert all("=" in sign or sign.partition(".")[2] for sign in signs)
    assert all(f"{bringer.images}{bringer.said}{bringer.signs}".isascii() for bringer in BRINGERS)

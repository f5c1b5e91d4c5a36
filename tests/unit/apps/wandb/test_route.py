"""OpenShift's Route: a step beside the platform, to the one Service that has all paths behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from installer.apps.wandb.driver import DRIVER
from installer.apps.wandb.route import route
from installer.apps.wandb.site.answers import own_answers
from installer.chart.helm import Chart, documents
from installer.cluster.workload import ReleaseName
from installer.errors import ClusterError
from installer.objects.desired import Resource
from installer.objects.render import files
from installer.workflows.record import installed_step
from tests.parts.demo_site import platform, wanted
from tests.parts.wandb_site import PLATFORM, load_site, values_of

if TYPE_CHECKING:
    from pathlib import Path

SITE = "registry: {host: r}\nhost: https://w.example\nexpose: route\n"
NAME = ReleaseName("wandb", "ml")


def test_it_is_a_step_after_the_platform_and_noted_with_it(tmp_path: Path) -> None:
    answers: dict[str, Any] = {
        "host": "https://w.example",
        "expose": "route",
        "route": {"annotations": {"haproxy.router.openshift.io/timeout": "10m"}},
    }
    found = wanted(platform(tmp_path / "b"), tmp_path, **answers)
    before, last = found.steps[-2:]
    assert isinstance(before, Resource)
    assert found.manifests == (last,)
    [noted] = installed_step(last).objects
    assert str(noted) == f"Route {before.name}"
    written = files(found, DRIVER)
    [name] = [name for name, text in written.items() if b"kind: Route" in text]
    (item,) = documents(written[name].decode(), name, ClusterError)
    assert item["metadata"]["annotations"] == {"haproxy.router.openshift.io/timeout": "10m"}
    assert item["spec"]["host"] == "w.example"
    assert item["spec"]["tls"] == {"termination": "edge", "insecureEdgeTerminationPolicy": "Redirect"}


def test_without_https_the_router_has_no_tls_and_otherwise_there_is_no_route(tmp_path: Path) -> None:
    plain = route(own_answers(load_site(SITE.replace("https", "http"), tmp_path).answers), NAME)
    assert plain is not None
    assert "tls" not in plain.objects[0]["spec"]
    assert route(own_answers(load_site(SITE.replace("route", "none"), tmp_path).answers), NAME) is None


@pytest.mark.charts
@pytest.mark.parametrize("version", ["0.18.0", "0.41.4", "0.43.8"])
def test_it_leads_to_a_service_of_the_chart(assets: Path, tmp_path: Path, version: str) -> None:
    site = load_site(SITE, tmp_path)
    chart = Chart.load((assets / f"operator-wandb-{version}.tgz").read_bytes())
    base = {"global": {"bucket": {"name": "b", "region": "r"}}}
    values = {**base, **values_of(PLATFORM, site), "global": {**base["global"], "host": "https://w.example"}}
    objects = chart.render(values, release=NAME.name, namespace=NAME.namespace).objects
    step = route(own_answers(site.answers), NAME)
    assert step is not None
    spec = step.objects[0]["spec"]
    named = [item for item in objects if item["metadata"]["name"] == spec["to"]["name"]]
    service, deployment = ([item for item in named if item["kind"] == kind] for kind in ("Service", "Deployment"))
    [port] = service[0]["spec"]["ports"]
    assert port.get("targetPort", port["port"]) == spec["port"]["targetPort"]
    [container] = deployment[0]["spec"]["template"]["spec"]["containers"]
    assert spec["port"]["targetPort"] in [port["containerPort"] for port in container["ports"]]
    assert not [item for item in objects if item["kind"] == "Ingress"]

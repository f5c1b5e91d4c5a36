"""Answers about pods reach every pod of the real charts, hooks included, or are refused with the names of the rest."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, get_args

import pytest

from installer.apps.wandb.pod_security import violations
from installer.apps.wandb.pods import check_pods
from installer.apps.wandb.site.answers import own_answers
from installer.apps.wandb.site.pod_answers import SINGLE, Component
from installer.chart.helm import Chart, hook_events
from installer.chart.retarget import merged
from installer.cluster.workload import ReleaseName, pod_specs
from installer.errors import SiteError
from installer.objects.desired import ChartRelease
from tests.parts.pod_security import CONTROLS, broken
from tests.parts.wandb_site import OPERATOR, PLATFORM, load_site, values_of
from tests.parts.wandb_values import EVERY_PART

if TYPE_CHECKING:
    from pathlib import Path

    from installer.site.site import Site

RECENT = ("0.41.4", "0.43.8")
# What 0.18.0 has, and what W&B's own guide for it switches on.
OLD: dict[str, Any] = {"nginx": {"install": True}, "global": {"bucket": {"name": "b", "region": "r"}}}
# The charts of these parts have no such value, in either version.
NO_SECURITY = {
    *("DaemonSet wandb-otel-daemonset", "Deployment wandb-otel-deployment", "Deployment wandb-stackdriver"),
    *("Deployment wandb-prometheus-mysql-exporter", "Deployment wandb-prometheus-redis-exporter"),
    *("StatefulSet bufstream", "StatefulSet wandb-mysql"),
}
NO_PRIORITY = {"Deployment wandb-stackdriver", "StatefulSet bufstream"}
NO_ANNOTATIONS = {"StatefulSet wandb-mysql"}
MARKS = "pod_labels: {team: ml}\npod_annotations: {example.com/note: of the site}\npriority_class: high\n"


@pytest.fixture
def answered(tmp_path: Path) -> Any:
    return lambda text: load_site(f"registry: {{host: r}}\n{text}", tmp_path)


@cache
def chart(assets: Path, name: str) -> Chart:
    return Chart.load((assets / f"{name}.tgz").read_bytes())


def release(made: Chart, values: dict[str, Any], name: str) -> ChartRelease:
    """As the maker puts it together: what is installed, and the hooks of both occasions."""
    both = [made.render(values, release=name, namespace="wandb", upgrade=upgrade).objects for upgrade in (False, True)]
    hooks = {item["metadata"]["name"]: item for objects in both for item in objects if hook_events(item)}
    return ChartRelease(made, ReleaseName(name, "wandb"), values, tuple(both[0]), tuple(hooks.values()), frozenset())


def releases(assets: Path, version: str, site: Site, base: dict[str, Any]) -> tuple[ChartRelease, ChartRelease]:
    platform = chart(assets, f"operator-wandb-{version}")
    operator = chart(assets, "operator-1.4.8")
    return (
        release(platform, merged(base, values_of(PLATFORM, site)), "wandb"),
        release(operator, values_of(OPERATOR, site), "operator"),
    )


def refused(site: Site, made: tuple[ChartRelease, ChartRelease]) -> dict[str, str]:
    """What is said of each answer."""
    with pytest.raises(SiteError) as caught:
        check_pods(own_answers(site.answers), *made)
    assert "such as otel: {install: false}" in caught.value.hint
    lines = str(caught.value).removeprefix("site.yaml: ").split("\n  ")
    found: dict[str, str] = {}
    for line in lines if len(lines) == 1 else lines[1:]:
        key, _, text = line.partition(": ")
        found[key] = f"{found.get(key, '')}\n{text}"
    return found


def named(text: str) -> set[str]:
    """The workloads in a message that lists them."""
    return set(text.partition("to the pods of ")[2].split(", "))


def unconfined(text: str) -> set[str]:
    return {line.partition("cannot make ")[2].rpartition(" restricted: ")[0] for line in text.split("\n")[1:]}


@pytest.mark.charts
@pytest.mark.parametrize("version", RECENT)
def test_every_pod_is_marked_and_confined_or_named(assets: Path, version: str, answered: Any) -> None:
    site = answered(f"{MARKS}security: restricted\n")
    made = releases(assets, version, site, EVERY_PART)
    pods = {
        f"{item['kind']} {item['metadata']['name']}": (item, spec)
        for item in made[0].applied
        for spec in pod_specs(item)
    }
    assert len(pods) > 35
    assert {"Job wandb-app-rename-pre-hook", "Job wandb-app-rename-post-hook"} <= pods.keys()
    assert {name for name, (_, spec) in pods.items() if broken(dict(spec))} == NO_SECURITY
    without = {name for name, (_, spec) in pods.items() if spec.get("priorityClassName") != "high"}
    assert without == NO_PRIORITY
    for mark, lacking in (('"team": "ml"', set()), ('"example.com/note": "of the site"', NO_ANNOTATIONS)):
        assert {name for name, (item, _) in pods.items() if mark not in _template(item)} == lacking

    found = refused(site, made)
    assert found.keys() == {"pod_annotations", "priority_class", "security"}
    assert named(found["pod_annotations"]) == NO_ANNOTATIONS
    assert named(found["priority_class"]) == NO_PRIORITY
    assert unconfined(found["security"]) == NO_SECURITY
    assert f"chart operator-wandb {version} has no way to give it" in found["priority_class"]


def _template(item: dict[str, Any]) -> str:
    """The template of the pods of a workload as JSON, without what the workload says of itself."""
    return json.dumps({key: value for key, value in item.items() if key != "metadata"})


@pytest.mark.charts
@pytest.mark.parametrize("version", RECENT)
def test_what_the_profile_installs_is_confined_without_the_collector(assets: Path, version: str, answered: Any) -> None:
    off = "values: {otel: {install: false}}\n"
    for security in ("restricted", "openshift"):
        site = answered(f"{MARKS}security: {security}\n{off}redis: {{internal: true}}\n")
        made = releases(assets, version, site, {})
        check_pods(own_answers(site.answers), *made)
        pods = [dict(spec) for one in made for item in one.applied for spec in pod_specs(item)]
        assert len(pods) > 6
        if security == "restricted":
            assert not [found for pod in pods if (found := broken(pod))]


@pytest.mark.charts
@pytest.mark.parametrize("version", RECENT)
def test_on_openshift_no_pod_asks_for_a_user_or_a_group(assets: Path, version: str, answered: Any) -> None:
    site = answered("security: openshift\n")
    made = releases(assets, version, site, EVERY_PART)
    asking = {
        item["metadata"]["name"]
        for item in made[0].applied
        for spec in pod_specs(item)
        for part in (spec, *_containers(spec))
        for key in ("runAsUser", "runAsGroup", "fsGroup")
        if (part.get("securityContext") or {}).get(key) is not None
    }
    assert asking == {"wandb-otel-daemonset"}
    # It is the node's files and ports that it wants.
    [(key, text)] = refused(site, made).items()
    assert key == "security"
    assert "\nthe chart cannot make DaemonSet wandb-otel-daemonset openshift: volume hostPath, " in text
    assert "hostPort (daemonset)" in text


def _containers(spec: Any) -> list[dict[str, Any]]:
    return [*(spec.get("initContainers") or []), *spec["containers"]]


@pytest.mark.charts
def test_the_chart_of_the_guide_is_told_what_it_can_and_refused_the_rest(assets: Path, answered: Any) -> None:
    site = answered(f"{MARKS}security: restricted\n")
    made = releases(assets, "0.18.0", site, OLD)
    found = refused(site, made)
    assert named(found["pod_labels"]) == named(found["priority_class"]) == {"Deployment wandb-nginx"}
    assert "Deployment wandb-app" in named(found["pod_annotations"])
    assert "Deployment wandb-app" in unconfined(found["security"])
    labelled = answered("pod_labels: {team: ml}\npriority_class: high\n")
    check_pods(own_answers(labelled.answers), *releases(assets, "0.18.0", labelled, {**OLD, "nginx": {}}))


@pytest.mark.charts
@pytest.mark.parametrize("version", RECENT)
def test_components_have_as_many_replicas_as_the_site_wants(assets: Path, version: str, answered: Any) -> None:
    several = [name for name in get_args(Component) if name not in SINGLE]
    assert len(several) > 15
    counts = {name: number for number, name in enumerate(several, 11)}
    site = answered(f"size: large\nreplicas: {counts}\n".replace("'", ""))
    values = merged(EVERY_PART, values_of(PLATFORM, site))
    objects = chart(assets, f"operator-wandb-{version}").render(values, release="wandb", namespace="wandb").objects
    deployments = [item for item in objects if item["kind"] == "Deployment"]
    found = {
        item["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"]: item
        for item in deployments
        if "app.kubernetes.io/name" in item["spec"]["template"]["metadata"]["labels"]
    }
    absent = {name for name in counts if name not in found}
    assert absent == ({"mcp-server", "weave-trace-agent-scoring-worker"} if version == "0.41.4" else set())
    assert {name: found[name]["spec"]["replicas"] for name in counts if name in found} == {
        name: count for name, count in counts.items() if name not in absent
    }
    scaled = {item["spec"]["scaleTargetRef"]["name"] for item in objects if item["kind"] == "HorizontalPodAutoscaler"}
    assert not scaled & {item["metadata"]["name"] for name, item in found.items() if name in counts}


CONFINED: dict[str, Any] = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "secret": {"secretName": "s"}}],
    "containers": [
        {"name": "c", "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
    ],
}
# What is changed in a confined pod, and the control of the documentation that it breaks.
BREAKS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"hostNetwork": True}, {}, "Host Namespaces"),
    ({"hostPID": True}, {}, "Host Namespaces"),
    ({"securityContext": {"windowsOptions": {"hostProcess": True}}}, {}, "HostProcess"),
    ({}, {"privileged": True}, "Privileged Containers"),
    ({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}, {}, "AppArmor"),
    ({}, {"seLinuxOptions": {"type": "spc_t"}}, "SELinux"),
    ({}, {"seLinuxOptions": {"user": "u"}}, "SELinux"),
    ({}, {"procMount": "Unmasked"}, "/proc Mount Type"),
    ({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}]}}, {}, "Sysctls"),
    ({"volumes": [{"name": "a", "hostPath": {"path": "/"}}]}, {}, "Volume Types"),
    ({}, {"allowPrivilegeEscalation": True}, "Privilege Escalation"),
    ({"securityContext": {"runAsNonRoot": False}}, {}, "Running as Non-root"),
    ({}, {"runAsNonRoot": False}, "Running as Non-root"),
    ({}, {"runAsUser": 0}, "Running as Non-root user"),
    ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, {}, "Seccomp"),
    ({}, {"seccompProfile": {"type": "Unconfined"}}, "Seccomp"),
    ({}, {"capabilities": {"drop": ["NET_RAW"]}}, "Capabilities"),
    ({}, {"capabilities": {"add": ["NET_ADMIN"]}}, "Capabilities"),
]


@pytest.mark.parametrize(("pod", "container", "control"), BREAKS)
def test_a_pod_that_breaks_a_control_is_found(pod: dict[str, Any], container: dict[str, Any], control: str) -> None:
    assert broken(CONFINED) == []
    assert violations(CONFINED, openshift=False) == []
    changed = merged(CONFINED, pod)
    context = merged(CONFINED["containers"][0]["securityContext"], container)
    for kind in ("containers", "initContainers"):
        spec = {**changed, kind: [{"name": "other", "securityContext": context}]}
        assert control in broken(spec)
        assert violations(spec, openshift=False)


def test_every_control_has_a_pod_that_breaks_it() -> None:
    port = {**CONFINED, "containers": [{**CONFINED["containers"][0], "ports": [{"hostPort": 80}]}]}
    assert broken(port) == ["Host Ports"]
    assert violations(port, openshift=True) == violations(port, openshift=False) == ["hostPort (c)"]
    assert {control for _, _, control in BREAKS} | {"Host Ports"} == CONTROLS.keys()
    allowed = {
        **CONFINED["containers"][0]["securityContext"],
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
    }
    spec = {**CONFINED, "containers": [{"name": "c", "securityContext": allowed}]}
    assert broken(spec) == violations(spec, openshift=False) == []


def test_openshift_gives_the_numbers_and_the_capabilities_itself() -> None:
    assert violations({"containers": [{"name": "c"}]}, openshift=True) == []
    spec = {
        "securityContext": {"fsGroup": 0, "supplementalGroups": []},
        "containers": [{"name": "c", "securityContext": {"runAsUser": 999}}],
    }
    assert violations(spec, openshift=True) == ["fsGroup", "runAsUser (c)"]

"""What the controller's own words mean, and what stands in the way of the platform alone."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from installer.apps.wandb.controller import CUSTOM_RESOURCE, INVALID
from installer.apps.wandb.driver import DRIVER, operator_of, platform_of
from installer.apps.wandb.refusals import UNEXPLAINED, refusal, resource_cause
from installer.apps.wandb.wandb_checks import licence, operators, platforms
from installer.cluster.workload import ReleaseName
from tests.parts.demo_site import platform, wanted
from tests.parts.fake_cluster import FakeCluster
from tests.parts.wandb_cluster import DEFINITION, resource

if TYPE_CHECKING:
    from pathlib import Path

    from installer.cluster.cluster import Object

IMMUTABLE = "field-immutable"
OPERATOR, PLATFORM = ReleaseName("o", "o"), ReleaseName("p", "n")


def deployment(name: str, namespace: str, image: str = "wandb/controller:1", **pod: Any) -> Object:
    """A Deployment of a controller; of release OPERATOR if it has its name."""
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    if name == "o":
        metadata["annotations"] = {"meta.helm.sh/release-name": "o", "meta.helm.sh/release-namespace": "o"}
    spec = {
        "selector": {"matchLabels": {"app": name}},
        "template": {"spec": {"containers": [{"image": image, **pod}]}},
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def controlled(*lines: str) -> FakeCluster:
    """A cluster whose controller has written these lines into its log."""
    owner = {"kind": "ReplicaSet", "name": "o-1", "controller": True}
    metadata = {"name": "o-1-1", "namespace": "o", "labels": {"app": "o"}, "ownerReferences": [owner]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}}
    cluster = FakeCluster(DEFINITION, deployment("o", "o"), pod)
    cluster.said("o", "o-1-1", *lines)
    return cluster


def error(text: str) -> str:
    return json.dumps({"level": "error", "msg": "Failed to apply config changes.", "error": text, "name": "p"})


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ('pods "w" is forbidden: exceeded quota: none, requested: pods=1', "quota"),
        ('pods "w" is forbidden: failed quota: none: must specify limits.cpu', "quota"),
        ('roles "r" is forbidden: User "system:serviceaccount:o:c" cannot create resource', "controller-forbidden"),
        (
            "StatefulSet w: Forbidden: updates to statefulset spec for fields other than 'replicas' are forbidden",
            IMMUTABLE,
        ),
        ("spec.template: Invalid value: field is immutable", IMMUTABLE),
        ('pods "w" is forbidden: unable to create content because it is being terminated', "namespace-terminating"),
        ("pods are forbidden by policy", "controller-refuses"),
        ("another operation (install/upgrade/rollback) is in progress", "release-pending"),
        ("chart refuses: this platform is closed on Mondays", "controller-refuses"),
    ],
)
def test_what_the_controller_says_has_a_cause(said: str, cause: str) -> None:
    """The API server calls much forbidden that no permission helps against."""
    found = refusal(controlled("no JSON", error(said), json.dumps({"level": "info", "msg": "p"})), OPERATOR, PLATFORM)
    assert (found.cause, found.object) == (cause, "WeightsAndBiases n/p")
    assert said in found.detail


def test_a_chart_that_is_not_in_the_pod_is_that_pod_s_matter() -> None:
    found = refusal(controlled(error("stat /charts/a.tgz: no such file or directory")), OPERATOR, PLATFORM)
    assert (found.cause, found.object) == ("chart-file-missing", "pod o/o-1-1")
    assert "has no chart at /charts/a.tgz" in found.detail


def test_a_resource_is_to_blame_only_if_it_was_refused() -> None:
    cluster = controlled()
    missing = resource_cause(cluster, PLATFORM, OPERATOR)
    assert missing
    assert missing.cause == "resource-missing"
    cluster.given(resource("p", "n", phase="Completed"))
    assert resource_cause(cluster, PLATFORM, OPERATOR) is None
    cluster.set_status(CUSTOM_RESOURCE, "p", "n", {"phase": INVALID})
    refused = resource_cause(cluster, PLATFORM, OPERATOR)
    assert refused
    assert refused.cause == UNEXPLAINED
    newer = {**DEFINITION, "spec": {**DEFINITION["spec"], "versions": [{"name": "v2", "served": True}]}}
    foreign = resource_cause(FakeCluster(newer), PLATFORM, OPERATOR)
    assert foreign
    assert foreign.cause == "custom-kind-foreign"


@pytest.mark.parametrize(
    ("other", "rival"),
    [
        (deployment("x", "x"), True),
        (deployment("x", "x", "registry/wandb/controller@sha256:0"), True),
        (deployment("x", "x", "wandb/controller-docs:1"), False),
        (deployment("x", "x", args=["--isolation-namespaces=a,here"]), True),
        (deployment("x", "x", args=["--isolation-namespaces=a,b"]), False),
        (deployment("x", "x", env=[{"name": "ISOLATION_NAMESPACES", "value": "a"}]), False),
    ],
)
def test_another_operator_that_sees_the_same_namespace_is_a_rival(tmp_path: Path, other: Object, rival: bool) -> None:
    found = wanted(platform(tmp_path), tmp_path, namespace="here", operator_namespace="o")
    cluster = FakeCluster(other)
    ours = operator_of(found.steps)
    told = list(operators(cluster, platform_of(found.steps), ours))
    assert [item.what.partition(" is ")[0] for item in told] == (["Deployment x/x"] if rival else [])
    # Our own is none, whoever has applied it.
    for name in ("o", "manager"):
        made = replace(ours, objects=(deployment(name, "o"),))
        assert not list(operators(FakeCluster(deployment(name, "o")), platform_of(found.steps), made))


@pytest.mark.parametrize(("there", "told"), [((), 0), (("p",), 0), (("x", "p"), 0), (("x",), 1)])
def test_another_platform_may_be_the_one_that_is_meant(there: tuple[str, ...], told: int) -> None:
    cluster = controlled()
    for name in there:
        cluster.given(resource(name, "n"))
    assert ["n/x" in item.what for item in platforms(cluster, PLATFORM)] == [True] * told


def test_secrets_in_a_resource_are_told_with_the_answer_for_each() -> None:
    everywhere = {"license": "x", "mysql": {"password": "p"}, "extraEnv": {"GORILLA_SINK": "https://u:word@h"}}
    held = resource("p", "n", {"values": {"global": everywhere, "app": {"proxy": "http://u:word@h"}}})
    assert dict(DRIVER.in_clear(held)) == {
        "spec.values.global.license": "license",
        "spec.values.global.mysql.password": "mysql.password",
        "spec.values.global.extraEnv.GORILLA_SINK": "secret_env.GORILLA_SINK",
        "spec.values.app.proxy": "secret_env",
    }


@pytest.mark.parametrize(("text", "told"), [("aa.bb.cc", 0), ("aa.bb", 1), ("aa.bb.cc\n", 1), ("a licence", 1)])
def test_a_licence_that_is_none_is_told(tmp_path: Path, text: str, told: int) -> None:
    found = wanted(platform(tmp_path), tmp_path, license={"prompt": "?"})
    (secret,) = found.secrets
    secret["data"]["license"] = base64.b64encode(text.encode()).decode()
    assert [item.error for item in licence(found)] == [None] * told

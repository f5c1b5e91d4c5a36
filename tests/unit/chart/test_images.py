"""Every place that names an image is found, whatever it is called; what only looks like one is told apart."""

from __future__ import annotations

from typing import Any

import pytest

from installer.chart.helm import Chart
from installer.chart.images import Found, references
from installer.errors import UsageError
from tests.parts.charts import package

DIGEST = "sha256:" + "a" * 64


def of_traps(**options: Any) -> list[Found]:
    values = {"token": "x", "optional": {"enabled": True}}
    api_versions = ["demo.example/v1/Proxy"]
    chart = Chart.load(package("traps"))
    return references(chart.render(values, release="r", namespace="n", api_versions=api_versions, **options).objects)


def pod(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"}, "spec": spec}


def container(**fields: Any) -> dict[str, Any]:
    return pod(containers=[{"name": "c", **fields}])


def texts(objects: list[dict[str, Any]], certainty: str) -> list[str]:
    return [found.text for found in references(objects) if found.certainty == certainty]


def test_everything_that_a_cluster_would_pull_is_found() -> None:
    found = {(item.text, item.place) for item in of_traps() if item.certain}
    assert found == {
        ("busybox:1.36", "Deployment web, container debug"),
        ("busybox:1.36.1", "Pod test (hook test), container test"),
        ("demo-namespace/tool:1.0", "Pod namespaced, container main"),
        ("demo/install:1.0", "Job before-install (hook pre-install, pre-upgrade), container hook"),
        ("demo/optional:1.0", "Pod optional, container optional"),
        ("demo/sidecar:1.0", "Deployment web, container first"),
        ("demo/sidecar:2.0", "Deployment web, container second"),
        ("demo/untagged", "Deployment web, container untagged"),
        ("docker.io/demo/backup:1.0", "Proxy proxy, spec.backupImage"),
        ("docker.io/demo/extra:1.0", "Deployment web, spec.template.spec.volumes[0].image.reference"),
        ("docker.io/demo/extra:1.0", "Pod listed, container listed"),
        ("docker.io/demo/in-custom:1.0", "Proxy proxy, container main"),
        ("docker.io/demo/legacy:1.0", "Pod legacy, container main"),
        ("docker.io/demo/pinned:1.0", "Pod pinned, container main"),
        ("docker.io/demo/proxy:1.0", "Proxy proxy, spec.kubernetes.deployment.container.image"),
        ("docker.io/demo/store:1.0", "Pod store, container store"),
        (f"ghcr.io/demo/hard-coded@{DIGEST}", "CronJob suspended, container suspended"),
        ("quay.io/demo/web:v3.1", "Deployment web, container web"),
        ("registry.example:5000/demo/with-port:1.0", "Pod with-port, container main"),
    }


def test_an_upgrade_asks_for_an_image_of_its_own() -> None:
    changed = {item.text for item in of_traps(upgrade=True)} ^ {item.text for item in of_traps()}
    assert changed == {"demo/upgrade:1.0", "demo/install:1.0"}


def test_only_the_test_hook_is_for_tests_only() -> None:
    assert [item.text for item in of_traps() if item.test_only] == ["busybox:1.36.1"]


def test_what_only_looks_like_an_image_is_suspected() -> None:
    place = "Deployment web, spec.template.spec.containers[0]"
    assert {(item.text, item.place) for item in of_traps() if not item.certain} == {
        ("docker.io/demo/solver:1.0", f"{place}.args[0]"),
        ("docker.io/demo/agent:1.0", f"{place}.args[2]"),
        ("demo/operator:1.0", f"{place}.env[0].value"),
        ("quay.io/demo/from-env:1.0", f"{place}.env[1].value"),
        ("quay.io/demo/injected:1.0", "ConfigMap injected, data.pod.yaml"),
        ("quay.io/demo/json:1.0", "ConfigMap injected, data.settings.json"),
        ("quay.io/demo/scalar:1.0", "ConfigMap injected, data.image"),
    }


def test_a_place_knows_its_object() -> None:
    [found] = references([container(image="a/b:1")])
    assert (found.kind, found.namespace, found.name, found.container) == ("Pod", "n", "p", "c")
    assert found.path == "spec.containers[0].image"
    assert found.place == "Pod n/p, container c"
    assert str(found.reference()) == "docker.io/a/b:1"


def test_a_malformed_image_is_found_all_the_same() -> None:
    [found] = references([container(image="{{ .Values.image }}")])
    assert found.certain
    with pytest.raises(UsageError):
        found.reference()


@pytest.mark.parametrize(
    ("custom", "expected"),
    [
        ({"image": "quay.io/a/b:1"}, [("quay.io/a/b:1", "found")]),
        ({"image": {"repository": "a/b", "tag": "1"}}, [("a/b:1", "found")]),
        ({"image": {"registry": "quay.io", "repository": "a/b", "tag": 1}}, [("quay.io/a/b:1", "found")]),
        ({"image": {"repository": "a/b", "tag": "1", "digest": DIGEST}}, [(f"a/b@{DIGEST}", "found")]),
        ({"images": {"repository": "a/b"}}, [("a/b", "suspected")]),
        ({"engine": {"sidecarImage": "a/b:1"}}, [("a/b:1", "found")]),
        ({"initContainers": [{"name": "x", "image": "a/b:1"}]}, [("a/b:1", "found")]),
        ({"image": {"pullPolicy": "Always"}}, []),
        ({"image": "Not An Image"}, []),
        ({"imagePullPolicy": "always"}, []),
        ({"pilgrimage": "a/b:1"}, []),
        ({"repository": "a/b", "tag": "1"}, []),
    ],
)
def test_custom_resources(custom: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    objects = [{"apiVersion": "demo.example/v1", "kind": "Demo", "metadata": {"name": "d"}, "spec": custom}]
    assert [(item.text, item.certainty) for item in references(objects)] == expected


def test_keys_of_built_in_kinds_are_no_images() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "image"}, "spec": {"image": "a/b:1"}}
    ingress = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"annotations": {"image": "a/b:1"}}}
    assert references([service, ingress]) == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"args": ["--image=a/b:1"]}, ["a/b:1"]),
        ({"args": ["-sidecar-image", "a/b:1"]}, ["a/b:1"]),
        ({"command": ["run", "--image-repository=quay.io/a/b"]}, ["quay.io/a/b"]),
        ({"args": ["--image"]}, []),
        ({"args": ["--image=busybox"]}, []),
        ({"args": ["--image-gc-high-threshold=85", "--image-pull-policy=Always"]}, []),
        ({"args": "not a list"}, []),
        ({"args": [1, None, {"a": 1}]}, []),
        ({"env": [{"name": "IMAGE", "value": "a/b"}]}, ["a/b"]),
        ({"env": [{"name": "ANY", "value": "quay.io/a/b:1"}]}, ["quay.io/a/b:1"]),
        ({"env": [{"name": "ANY", "value": "a/b:1"}]}, []),
        ({"env": [{"name": "ANY", "value": "http://quay.io/a:1"}]}, []),
        ({"env": [{"name": "ANY", "value": "quay.io/a/b"}]}, []),
        ({"env": [{"name": "IMAGE", "valueFrom": {}}, "text", None, {"value": "quay.io/a/b:1"}]}, []),
        ({"env": {"IMAGE": "a/b:1"}}, []),
    ],
)
def test_suspicions_in_containers(fields: dict[str, Any], expected: list[str]) -> None:
    assert texts([container(**fields)], "suspected") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("quay.io/a/b:1", ["quay.io/a/b:1"]),
        ("x:\n  - image: quay.io/a/b:1 \n", ["quay.io/a/b:1"]),
        ('{\n  "proxyImage" : "quay.io/a/b:1",\n}', ["quay.io/a/b:1"]),
        ("IMAGE=quay.io/a/b:1\n", ["quay.io/a/b:1"]),
        ("image: a/b:1", []),
        ("image: ''", []),
        ("see quay.io/a/b:1", []),
        ("image: " + "x" * 5000, []),
        ("\n" * 100_000 + "-" * 100_000 + " " * 100_000, []),
    ],
)
def test_suspicions_in_config_maps(text: str, expected: list[str]) -> None:
    assert texts([{"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": text}}], "suspected") == expected


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"kind": None, "apiVersion": None, "metadata": None},
        {"kind": "Pod", "metadata": [], "spec": {"containers": [None, "text", [], {"image": None}, {"image": 5}]}},
        {"kind": "Pod", "spec": {"containers": {"image": "a/b:1"}, "volumes": [None, {"image": "a"}, {"image": {}}]}},
        {"kind": "ConfigMap", "data": None},
        {"kind": "ConfigMap", "data": {"a": 1, "b": None}},
        {"kind": "List", "items": [None, "text"]},
    ],
)
def test_odd_objects_are_walked_without_harm(odd: dict[str, Any]) -> None:
    assert references([odd]) == []


def test_endless_nesting_ends() -> None:
    node: dict[str, Any] = {}
    for _ in range(5000):
        node = {"spec": node, "list": [node]} if _ % 500 == 0 else {"spec": node}
    assert references([{"apiVersion": "demo.example/v1", "kind": "Demo", "spec": node}]) == []

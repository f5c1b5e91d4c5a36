"""Every place that names an image is found, whatever it is called; what only looks like one is told apart."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest

from installer.chart.helm import Chart
from installer.chart.images import Found, references
from installer.errors import ContentError, UsageError
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


def custom(spec: Any, api_version: str = "demo.example/v1") -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": "Demo", "metadata": {"name": "d"}, "spec": spec}


def config_map(text: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": text}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"image": "quay.io/a/b:1"}, [("quay.io/a/b:1", "found")]),
        ({"imageName": "ghcr.io/demo/postgresql:16.4"}, [("ghcr.io/demo/postgresql:16.4", "found")]),
        ({"proxy": {"imageRef": "docker.io/demo/proxy:1"}}, [("docker.io/demo/proxy:1", "found")]),
        ({"image": "postgres:16"}, [("postgres:16", "found")]),
        ({"image": "a/b"}, [("a/b", "suspected")]),
        ({"image": "busybox"}, [("busybox", "suspected")]),
        ({"image": {"repository": "a/b", "tag": "1"}}, [("a/b:1", "found")]),
        ({"image": {"registry": "quay.io", "repository": "a/b", "tag": 1}}, [("quay.io/a/b:1", "found")]),
        ({"image": {"registry": "quay.io", "repository": "quay.io/a/b", "tag": 1}}, [("quay.io/a/b:1", "found")]),
        ({"image": {"repository": "a/b", "tag": "1", "digest": DIGEST}}, [(f"a/b@{DIGEST}", "found")]),
        ({"image": {"repository": "a/b", "sha": "a" * 64}}, [(f"a/b@{DIGEST}", "found")]),
        ({"image": {"name": "a/b", "tag": "1"}}, [("a/b:1", "found")]),
        ({"images": {"repository": "a/b"}}, [("a/b", "suspected")]),
        ({"images": {"web": "docker.io/demo/httpd:1.0"}}, [("docker.io/demo/httpd:1.0", "found")]),
        ({"images": ["docker.io/demo/httpd:1.0"]}, [("docker.io/demo/httpd:1.0", "found")]),
        ({"engine": {"sidecarImage": "a/b:1"}}, [("a/b:1", "found")]),
        ({"initContainers": [{"name": "x", "image": "a/b:1"}]}, [("a/b:1", "found")]),
        ({"split": {"imageRepo": "quay.io/a/b", "imageTag": "3"}}, [("quay.io/a/b:3", "found")]),
        ({"proxyImage": "quay.io/a/b", "proxyTag": "3"}, [("quay.io/a/b:3", "found")]),
        ({"kafkaImageRepository": "quay.io/a/b", "kafkaImageTag": "3"}, [("quay.io/a/b:3", "found")]),
        ({"x": {"registry": "quay.io", "name": "a/b", "tag": "3"}}, [("quay.io/a/b:3", "found")]),
        ({"hub": "docker.io/demo", "image": "pilot", "tag": "1"}, [("docker.io/demo/pilot:1", "found")]),
        ({"hub": "docker.io/demo", "tag": "1", "proxy": {"image": "p"}}, [("docker.io/demo/p:1", "suspected")]),
        ({"repository": "quay.io/a/b", "tag": "1"}, [("quay.io/a/b:1", "suspected")]),
        (
            {"image": {"repository": "quay.io/a", "name": "b", "tag": "1"}},
            [("quay.io/a:1", "suspected"), ("quay.io/a/b:1", "suspected")],
        ),
        (
            {"driver": {"repository": "nvcr.io/nvidia", "image": "driver", "version": "550.90"}},
            [("nvcr.io/nvidia/driver:550.90", "found")],
        ),
        ({"driver": {"repository": "nvcr.io/nvidia", "image": "driver"}}, [("nvcr.io/nvidia/driver", "suspected")]),
        ({"driver": {"repository": "", "image": "driver", "version": "550.90"}}, []),
        ({"text": "pulls quay.io/a/b:1"}, [("quay.io/a/b:1", "suspected")]),
        ({"image": {}, "images": {}, "repository": {}, "tag": {}}, []),
        ({"image": {"pullPolicy": "Always"}}, []),
        ({"image": "Not An Image"}, []),
        ({"imagePullPolicy": "always"}, []),
        ({"imagePullSecrets": [{"name": "a/b"}], "imageRegistry": "quay.io/a"}, []),
        ({"pilgrimage": "a/b:1"}, []),
        ({"repository": "a/b", "tag": "1"}, []),
        ({"chart": "x", "repo": "https://charts.demo.example/x", "version": "1.0"}, []),
    ],
)
def test_custom_resources(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert [(item.text, item.certainty) for item in references([custom(spec)])] == expected


@pytest.mark.parametrize(
    ("group", "certainty"),
    [
        ("sparkoperator.k8s.io/v1beta2", "found"),
        ("gateway.networking.k8s.io/v1", "found"),
        ("networking.k8s.io/v1", "suspected"),
        ("apps/v1", "suspected"),
        ("v1", "suspected"),
    ],
)
def test_only_the_groups_of_kubernetes_itself_are_built_in(group: str, certainty: str) -> None:
    """A key of a kind that has no images is no image for sure."""
    assert [item.certainty for item in references([custom({"image": "quay.io/a/b:1"}, group)])] == [certainty]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"args": ["--image=a/b:1"]}, ["a/b:1"]),
        ({"args": ["-sidecar-image", "a/b:1"]}, ["a/b:1"]),
        ({"command": ["run", "--image-repository=quay.io/a/b"]}, ["quay.io/a/b"]),
        ({"args": ["--prometheus-config-reloader=quay.io/a/b:v0.78.2"]}, ["quay.io/a/b:v0.78.2"]),
        ({"args": ["--sidecars=web=quay.io/a/b:1,log=quay.io/a/c:1"]}, ["quay.io/a/b:1", "quay.io/a/c:1"]),
        ({"args": ["exec run --image busybox:1.37 --rm"]}, ["busybox:1.37"]),
        ({"args": ["--image"]}, []),
        ({"args": ["--image=busybox"]}, []),
        ({"args": ["--image-gc-high-threshold=85", "--image-pull-policy=Always"]}, []),
        ({"args": [1, None, {"a": 1}]}, []),
        ({"env": [{"name": "IMAGE", "value": "a/b"}]}, ["a/b"]),
        ({"env": [{"name": "IMAGES", "value": "busybox:1.37,demo/x"}]}, ["busybox:1.37", "demo/x"]),
        ({"env": [{"name": "ANY", "value": "quay.io/a/b:1"}]}, ["quay.io/a/b:1"]),
        (
            {"env": [{"name": "ANY", "value": "4.2=quay.io/a/b:1\n4.3=quay.io/a/b:2\n"}]},
            ["quay.io/a/b:1", "quay.io/a/b:2"],
        ),
        (
            {"env": [{"name": "ANY", "value": '{"a":"quay.io/a/b:1","b":"quay.io/a/b:2"}'}]},
            ["quay.io/a/b:1", "quay.io/a/b:2"],
        ),
        (
            {"env": [{"name": "X_IMAGE", "value": "quay.io/a/b"}, {"name": "X_TAG", "value": "3"}]},
            ["quay.io/a/b", "quay.io/a/b:3"],
        ),
        ({"env": [{"name": "ANY", "value": "a/b:1"}]}, []),
        ({"env": [{"name": "ANY", "value": "http://quay.io/a:1"}]}, []),
        ({"env": [{"name": "ANY", "value": "quay.io/a/b"}]}, []),
        ({"env": [{"name": "IMAGE", "valueFrom": {}}, "text", None]}, []),
    ],
)
def test_suspicions_in_containers(fields: dict[str, Any], expected: list[str]) -> None:
    assert texts([container(**fields)], "suspected") == expected


def test_variables_of_the_operator_framework_are_images_for_sure() -> None:
    env = [{"name": "RELATED_IMAGE_CACHE", "value": "quay.io/demo/cache:1"}]
    assert texts([container(env=env)], "found") == ["quay.io/demo/cache:1"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("quay.io/a/b:1", ["quay.io/a/b:1"]),
        (f"quay.io/a/b@{DIGEST}", [f"quay.io/a/b@{DIGEST}"]),
        (f"run busybox@{DIGEST}", [f"busybox@{DIGEST}"]),
        (f"a/b:1@{DIGEST}, a@{DIGEST}", [f"a/b:1@{DIGEST}", f"a@{DIGEST}"]),
        (f"{DIGEST} /a@{DIGEST} a@{DIGEST[:-1]} https://b.example/a@{DIGEST}", []),
        ("localhost:5000/a:1", ["localhost:5000/a:1"]),
        ("10.0.0.1/a:1", ["10.0.0.1/a:1"]),
        ("x:\n  - image: quay.io/a/b:1 \n", ["quay.io/a/b:1"]),
        ('{\n  "proxyImage" : "quay.io/a/b:1",\n}', ["quay.io/a/b:1"]),
        ("IMAGE=quay.io/a/b:1\n", ["quay.io/a/b:1"]),
        ("image: a/b:1", ["a/b:1"]),
        ("kaniko-image: docker.io/demo/kaniko:v1", ["docker.io/demo/kaniko:v1"]),
        ('{"image" : "kserve/agent:v0.20.0"}', ["kserve/agent:v0.20.0"]),
        ("imageUrl: quay.io/a/b:1", ["quay.io/a/b:1"]),
        ("see quay.io/a/b:1, or quay.io/a/c:2.", ["quay.io/a/b:1", "quay.io/a/c:2"]),
        ('text: "{\\"image\\":\\"a/b:1\\"}\\nquay.io\\/a\\/c:1"', ["quay.io/a/c:1", "a/b:1"]),
        ("docker://quay.io/a/b:1 oci://quay.io/a/c:1", ["quay.io/a/b:1", "quay.io/a/c:1"]),
        ("run ${IMAGE:-quay.io/a/b:1}", ["quay.io/a/b:1"]),
        ("images:\n- busybox:1.37\n- a/b\n", ["busybox:1.37", "a/b"]),
        ("driver:\n  repository: nvcr.io/a\n  image: driver\n  version: 1\n", ["nvcr.io/a/driver:1"]),
        ("a: 1\n---\nimage: {repository: quay.io/a/b, tag: v1}\n", ["quay.io/a/b:v1"]),
        ('{"global": {"hub": "docker.io/a", "tag": "1", "proxy": {"image": "p"}}}', ["docker.io/a/p:1"]),
        ("image: ''", []),
        ("image: a/{{ b }}:1", []),
        ("image: " + "x" * 5000, []),
        ("https://quay.io/a/b:1 s3://b.example/c:1 git+https://b.example/c:1?x=quay.io/a/b:1", []),
        ("git@github.com/a/b:1", []),
        ("github.com/demo/app/main.go:120", []),
        ("k8s.io/api/core/v1:x", []),
        ("app.kubernetes.io/name: web", []),
        ("node-role.kubernetes.io/control-plane:NoSchedule demo.example/gpu:NoExecute", []),
        ("prometheus.monitoring.svc:9090/metrics", []),
        ("at 10.0.0.0/8:1 and 2024.01.02/03:04 or 1.2/3:4 in /etc/demo.d/x:ro", []),
    ],
)
def test_suspicions_in_config_maps(text: str, expected: list[str]) -> None:
    assert texts([config_map(text)], "suspected") == expected


def test_secrets_are_searched_as_they_will_be_read() -> None:
    encoded = base64.b64encode(b"image: quay.io/demo/encoded:1").decode()
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "data": {"a": encoded, "b": "no base64", "c": "/w==", "d": None},
        "stringData": {"e": "use quay.io/demo/plain:1"},
    }
    assert [(item.text, item.path) for item in references([secret])] == [
        ("quay.io/demo/encoded:1", "data.a"),
        ("quay.io/demo/plain:1", "stringData.e"),
    ]


def test_annotations_and_keys_are_texts_and_labels_are_not() -> None:
    metadata = {
        "annotations": {"artifacthub.io/images": "- name: x\n  image: demo/x:1\n", "image": "a/b:1"},
        "labels": {"image": "a/b", "version": "2"},
    }
    item = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"quay.io/a/b:1": True}}
    assert texts([item], "suspected") == ["demo/x:1", "a/b:1", "quay.io/a/b:1"]


def test_a_reference_is_told_once_for_a_field() -> None:
    assert texts([custom({"image": "quay.io/a/b:1", "text": "quay.io/a/b:1 quay.io/a/b:1"})], "suspected") == [
        "quay.io/a/b:1"
    ]


def test_an_object_has_a_bounded_number_of_images() -> None:
    with pytest.raises(ContentError, match="names more than 10000 images"):
        references([config_map(" ".join(f"quay.io/a/b:{number}" for number in range(10_001)))])


@pytest.mark.parametrize(
    "run",
    [
        "a",
        "a:",
        "a/",
        "image",
        "image:",
        "-",
        "--image ",
        "a.",
        "x=",
        "\\",
        '\\"',
        "://",
        "a://",
        "[",
        "{image:",
        "\n",
        " ",
    ],
)
def test_the_search_is_linear(run: str) -> None:
    """A quadratic pattern would take minutes for a megabyte."""
    text = run * (1_000_000 // len(run))
    started = time.monotonic()
    references([config_map(f"{text} quay.io/a/b:1"), config_map(text)])
    assert time.monotonic() - started < 10


def test_a_document_that_repeats_itself_ends() -> None:
    """Each level stands nine times in the one above it."""
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 12)]
    text = "\n".join(["l0: &l0 [image]", *levels, "image: quay.io/a/b:1"])
    assert texts([config_map(text)], "suspected") == ["quay.io/a/b:1"]


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"kind": None, "apiVersion": None, "metadata": None},
        {"kind": "Pod", "metadata": [], "spec": {"containers": [None, "text", [], {"image": None}, {"image": 5}]}},
        {"kind": "Pod", "spec": {"containers": {"image": 1}, "volumes": [None, {"image": "a"}, {"image": {}}]}},
        {"kind": "ConfigMap", "data": None, "binaryData": []},
        {"kind": "ConfigMap", "data": {"a": "metadata: image\nitems: [1]\nkind: List\n"}},
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

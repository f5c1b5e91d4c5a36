"""Images come from the enclave however a chart puts their names together: each means is proven by rendering."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from builder.recipe.chart_edit import edited
from builder.recipe.lock import TemplateEdit
from installer.chart.archive import packed
from installer.chart.helm import Chart, Rendering
from installer.chart.images import references
from installer.chart.relocation import Relocation
from installer.chart.retarget import Stray, stray
from installer.moving.means import into_enclave, moved_object
from installer.moving.operations import Operations
from installer.moving.rewriting import rewrite, rewritten
from installer.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Mapping

ENCLAVE = "r.enclave:5000/airferry"
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: it}\nspec: {containers: [{name: a, image: %s}]}\n"
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: it}\n"


def chart(values: Mapping[str, Any], *templates: str, **files: str) -> Chart:
    content = {"Chart.yaml": "apiVersion: v2\nname: it\nversion: 1.0.0\n", "values.yaml": json.dumps(values), **files}
    content |= {f"templates/{number}.yaml": text for number, text in enumerate(templates)}
    return Chart.load(packed({f"it/{name}": text.encode() for name, text in content.items()}, level=0))


def relocation(*images: str, **more: Any) -> Relocation:
    return Relocation.of([(image, Digest.of(image.encode())) for image in images], "r.enclave:5000", "airferry", **more)


def rendered(made: Chart, values: Mapping[str, Any]) -> Rendering:
    return made.render(values, release="r", namespace="n")


class Entered(NamedTuple):
    """What became of a chart: the strays and the rendering of its installation."""

    strays: list[Stray]
    rendering: Rendering


def into(made: Chart, bundle: Relocation) -> Entered:
    operations = Operations(made, "r", "n")
    rendering = operations.install(into_enclave(operations, {}, bundle).values)
    return Entered(stray(rendering.objects, bundle), rendering)


def images(rendering: Rendering) -> list[str]:
    return [item.text for item in references(rendering.objects)]


SPELLINGS: dict[str, tuple[dict[str, Any], str, str]] = {
    "a hub and a tag for all (istio)": (
        {"global": {"hub": "docker.io/demo", "tag": "1"}, "image": "httpd"},
        "{{ .Values.global.hub }}/{{ .Values.image }}:{{ .Values.global.tag }}",
        "docker.io/demo/httpd:1",
    ),
    "a registry and an organisation (cert-manager)": (
        {"imageRegistry": "quay.io", "imageNamespace": "jetstack", "image": {"name": "webhook", "tag": None}},
        "{{ .Values.imageRegistry }}/{{ .Values.imageNamespace }}/{{ .Values.image.name }}:v1",
        "quay.io/jetstack/webhook:v1",
    ),
    "an organisation with its registry (strimzi)": (
        {"defaultImageRegistry": "quay.io", "image": {"registry": None, "repository": "strimzi"}},
        "{{ with .Values }}{{ .image.registry | default .defaultImageRegistry }}/{{ .image.repository }}/op:1{{ end }}",
        "quay.io/strimzi/op:1",
    ),
    "a nested global with nulls beside it (ingress-nginx)": (
        {"global": {"image": {"registry": "registry.k8s.io"}}, "web": {"image": {"registry": None, "image": "a/b"}}},
        "{{ .Values.web.image.registry | default .Values.global.image.registry }}/{{ .Values.web.image.image }}:1",
        "registry.k8s.io/a/b:1",
    ),
    "the beginning of the last word (cilium)": (
        {"operator": {"image": {"repository": "quay.io/cilium/operator"}}},
        "{{ .Values.operator.image.repository }}-generic:1",
        "quay.io/cilium/operator-generic:1",
    ),
    "a key that nobody knows": ({"proxy": {"imageRef": "docker.io/demo/p:1"}}, "{{ .Values.proxy.imageRef }}", ""),
    "two keys that nobody knows": (
        {"split": {"imageRepo": "docker.io/demo/split", "imageTag": "3"}},
        "{{ .Values.split.imageRepo }}:{{ .Values.split.imageTag }}",
        "docker.io/demo/split:3",
    ),
    "a map of images": ({"images": {"web": "docker.io/demo/httpd:1.0"}}, "{{ .Values.images.web }}", ""),
    "a map of images without hosts": ({"images": {"web": "demo/httpd:1.0"}}, "{{ .Values.images.web }}", ""),
    "a repository that is none (gpu-operator)": (
        {"driver": {"repository": "nvcr.io/nvidia", "image": "driver", "version": "550.90"}},
        "{{ .Values.driver.repository }}/{{ .Values.driver.image }}:{{ .Values.driver.version }}",
        "nvcr.io/nvidia/driver:550.90",
    ),
    "a registry with its slash": ({"registry": "quay.io/"}, "{{ .Values.registry }}a/b:1", "quay.io/a/b:1"),
    "a registry with a port": ({"registry": "host:5000"}, "{{ .Values.registry }}/a/b:1", "host:5000/a/b:1"),
    "a list": (
        {"tools": [{"what": "other"}, {"what": "quay.io/a/b:1", "kept": "x"}]},
        "{{ (index .Values.tools 1).what }}",
        "quay.io/a/b:1",
    ),
    "a prefix that is empty": (
        {"registryPrefix": ""},
        "{{ with .Values.registryPrefix }}{{ . }}/{{ end }}demo/httpd:1",
        "demo/httpd:1",
    ),
    "a digest": ({"hub": "quay.io/a"}, f"{{{{ .Values.hub }}}}/b@sha256:{'a' * 64}", f"quay.io/a/b@sha256:{'a' * 64}"),
}


@pytest.mark.parametrize("case", SPELLINGS)
def test_values_that_begin_a_name_are_found_and_moved(case: str) -> None:
    values, template, name = SPELLINGS[case]
    made = chart(values, POD % template)
    (found,) = images(rendered(made, {}))
    assert found == (name or found)
    bundle = relocation(found)
    moved = into(made, bundle)
    assert not moved.strays, moved.strays
    (at,) = images(moved.rendering)
    assert at.startswith(f"{ENCLAVE}/")
    assert at == str(bundle.target(next(iter(references(rendered(made, {}).objects))).reference()))


def test_a_text_that_names_other_things_too_is_left_alone() -> None:
    """`nginx` is the name of the pod as well: no such object would be made any more."""
    made = chart({"app": "nginx"}, (POD % "{{ .Values.app }}:1").replace("name: it", "name: {{ .Values.app }}"))
    moved = into(made, relocation("nginx:1"))
    assert [item.found.text for item in moved.strays] == ["nginx:1"]
    assert moved.rendering.objects[0]["metadata"]["name"] == "nginx"


UNYIELDING = {
    "a tag split off at the first colon": "{{ $x := splitList `:` .Values.image }}{{ index $x 0 }}:{{ index $x 1 }}",
    "the text before the first colon": "{{ first (splitList `:` .Values.image) }}:1",
    "a name of three parts": "{{ with .Values }}{{ if gt (len (splitList `/` .image)) 3 }}{{ fail `` }}{{ end }}"
    "{{ .image }}{{ end }}",
    "a name that the schema has": "{{ .Values.image }}",
}


@pytest.mark.parametrize("case", UNYIELDING)
def test_a_chart_that_bears_no_other_name_is_left_to_be_edited(case: str) -> None:
    schema = json.dumps({"properties": {"image": {"enum": ["quay.io/a/b:1"]}}})
    files = {"values.schema.json": schema} if "schema" in case else {}
    made = chart({"image": "quay.io/a/b:1"}, POD % f'"{UNYIELDING[case]}"', **files)
    bundle = relocation("quay.io/a/b:1")
    moved = into(made, bundle)
    assert [item.found.text for item in moved.strays] == ["quay.io/a/b:1"]
    again = Chart.load(edited(made, [TemplateEdit("it/templates/0.yaml", (rewrite("quay.io/a/b:1"),))]))
    moved = into(again, bundle)
    assert (moved.strays, images(moved.rendering)) == ([], [f"{ENCLAVE}/quay.io/a/b:1"])


def test_several_images_in_one_text_are_moved_together() -> None:
    text = "4.1={{ .Values.hub }}/s/kafka:4.1\\n4.2={{ .Values.hub }}/s/kafka:4.2"
    made = chart({"hub": "quay.io"}, f'{CONFIG}data: {{images: "{text}"}}\n')
    bundle = relocation("quay.io/s/kafka:4.1", "quay.io/s/kafka:4.2")
    moved = into(made, bundle)
    assert not moved.strays
    assert moved.rendering.objects[0]["data"]["images"].count(f"{ENCLAVE}/quay.io/s/kafka:4.") == 2


def test_names_stay_where_the_nodes_know_the_mirror() -> None:
    made = chart({}, POD % "docker.io/demo/fixed:1")
    bundle = relocation("docker.io/demo/fixed:1", names_stay=True)
    moved = into(made, bundle)
    assert (moved.strays, images(moved.rendering)) == ([], ["docker.io/demo/fixed:1"])


FIXED = {
    "a whole name": ("docker.io/demo/web:1", {}),
    "half a name": ("docker.io/library/nginx:{{ .Values.tag }}", {"tag": "1.2"}),
    "a name without a host": ("demo/web:1", {}),
    "a word": ("nginx:1", {}),
    "a word without a tag": ("nginx", {}),
    "a name without a tag": ("demo/web", {}),
    "a name with a host and without a tag": ("quay.io/demo/web", {}),
    "a digest": (f"quay.io/demo/web:1@sha256:{'b' * 64}", {}),
}


@pytest.mark.parametrize("case", FIXED)
def test_an_edited_chart_moves_what_its_templates_have_fixed(case: str) -> None:
    text, values = FIXED[case]
    others = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: nginx}\ndata: {nginx: 'nginx:8080', web: demo/website:1}\n"
    )
    made = chart(values, POD % text, others)
    (name, *_) = images(rendered(made, {}))
    again = Chart.load(edited(made, [TemplateEdit("it/templates/0.yaml", (rewrite(name),))]))
    assert rendered(again, {}).objects == rendered(made, {}).objects, "without a value nothing changes"
    bundle = relocation(name)
    moved = into(again, bundle)
    assert not moved.strays
    pod, other = sorted(moved.rendering.objects, key=lambda item: str(item["kind"]), reverse=True)
    target = bundle.target(next(iter(references(rendered(made, {}).objects))).reference())
    assert pod["spec"]["containers"][0]["image"].removesuffix(":latest") == str(target).removesuffix(":latest")
    assert other == rendered(made, {}).objects[1], "what others have is theirs"


def test_an_edit_reaches_subcharts_and_passes_their_schemas() -> None:
    closed = json.dumps({"type": "object", "properties": {}, "additionalProperties": False})
    about = {"apiVersion": "v2", "name": "it", "version": "1.0.0"}
    below = {
        "it/charts/sub/Chart.yaml": "apiVersion: v2\nname: sub\nversion: 1.0.0\n",
        "it/charts/sub/values.yaml": "{}",
        "it/charts/sub/values.schema.json": json.dumps({"properties": {"global": {}}, "additionalProperties": False}),
        "it/charts/sub/templates/deep/pod.yaml": POD % "quay.io/demo/sub:1",
        "it/Chart.yaml": json.dumps({**about, "dependencies": [{"name": "sub", "version": "1.0.0", "alias": "b"}]}),
        "it/values.yaml": "{}",
        "it/values.schema.json": closed.replace('"properties": {}', '"properties": {"b": {}}'),
    }
    made = Chart.load(packed({name: text.encode() for name, text in below.items()}, level=0))
    edit = TemplateEdit("it/charts/sub/templates/deep/pod.yaml", (rewrite("quay.io/demo/sub:1"),))
    again = Chart.load(edited(made, [edit]))
    bundle = relocation("quay.io/demo/sub:1")
    moved = into(again, bundle)
    assert (moved.strays, images(moved.rendering)) == ([], [f"{ENCLAVE}/quay.io/demo/sub:1"])


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("quay.io/a/b:1", "x=quay.io/a/b:1,quay.io/a/b:2", "x=P/quay.io/a/b:1,P/quay.io/a/b:2"),
        (
            "quay.io/a/b:1",
            "quay.io/a/b:1 quay.io/a/bc:1 my.quay.io/a/b:1",
            "P/quay.io/a/b:1 quay.io/a/bc:1 my.quay.io/a/b:1",
        ),
        ("a/b:1", "see a/b, take a/b:2; https://a/b:1", "see a/b, take P/docker.io/a/b:2; https://a/b:1"),
        (
            "nginx:1",
            "nginx:1 nginx:12 nginx: 1 http://nginx:1",
            "P/docker.io/library/nginx:1 nginx:12 nginx: 1 http://nginx:1",
        ),
        ("quay.io/a/b", "quay.io/a/b,quay.io/a/b quay.io/a/b/c", "P/quay.io/a/b,P/quay.io/a/b quay.io/a/b/c"),
    ],
)
def test_only_the_name_itself_is_replaced_in_a_text(text: str, place: str, expected: str) -> None:
    once = rewritten(place, [rewrite(text)], "P/")
    assert once == expected
    assert rewritten(once, [rewrite(text)], "P/") == expected, "a second time changes nothing"


def test_an_object_of_a_manifest_is_moved_wherever_it_names_images() -> None:
    item = {
        "apiVersion": "demo.example/v1",
        "kind": "Thing",
        "metadata": {"name": "it"},
        "spec": {
            "image": "quay.io/a/b:1",
            "driver": {"repository": "nvcr.io/nvidia", "image": "driver", "version": "550.90"},
            "config": "agent: quay.io/a/agent:1\nother: x\n",
        },
    }
    bundle = relocation("quay.io/a/b:1", "nvcr.io/nvidia/driver:550.90", "quay.io/a/agent:1")
    moved = moved_object(item, bundle)
    assert not stray([moved], bundle)
    assert moved["spec"] == {
        "image": f"{ENCLAVE}/quay.io/a/b:1",
        "driver": {"repository": f"{ENCLAVE}/nvcr.io/nvidia", "image": "driver", "version": "550.90"},
        "config": f"agent: {ENCLAVE}/quay.io/a/agent:1\nother: x\n",
    }

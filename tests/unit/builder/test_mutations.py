"""Mutations of a sound application, one at a time: `lock` finds each of them.

An image that something will pull is `carried`. One that a text names is `asked` about, and carried when the recipe has
decided so. What only `helm test` or further values want is `left` behind and listed. What an enclave would refuse is
`refused`, and what is merely worth knowing is `noted`.

Whatever is carried has moved: that shows in a plain search through all that the enclave would apply.
"""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pytest

from installer.errors import AirferryError
from tests.parts.shop import CHART, IMAGES, MANIFEST, PROFILE, RESOURCE, Shop, moved
from tests.parts.willing_registry import WillingRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

HIDDEN = "up.example/ops/hidden:1.0"
WEB = IMAGES[3]
DIGEST = f"sha256:{'d' * 64}"
PLACE = "templates/added.yaml"
THING = "shop.example/v1"
RANGE = {"kubernetes": {"from": "1.32", "to": "1.34"}}


class Mutation(NamedTuple):
    """What is changed, and what `lock` makes of it.

    `files` are files of the chart, or `../` beside it; `values` go over the chart's own, `recipe` and `profile` replace
    keys there. `words` begin the image that is asked for, or are words of what `lock` says.
    """

    outcome: Literal["carried", "asked", "left", "refused", "noted"]
    words: str
    files: Mapping[str, str]
    values: Mapping[str, Any] = {}
    recipe: Mapping[str, Any] = {}
    profile: Mapping[str, Any] = {}


def carried(
    text: str, image: str = HIDDEN, *, at: str = PLACE, files: Mapping[str, str] | None = None, **more: Any
) -> Mutation:
    return Mutation("carried", image, {at: text, **(files or {})}, **more)


def asked(text: str, *, at: str = PLACE, **more: Any) -> Mutation:
    return Mutation("asked", HIDDEN, {at: text}, **more)


def left(text: str, **more: Any) -> Mutation:
    return Mutation("left", HIDDEN, {PLACE: text}, **more)


def refused(words: str, text: str = "", *, at: str = PLACE, **more: Any) -> Mutation:
    return Mutation("refused", words, {at: text}, **more)


def noted(words: str, text: str = "", **more: Any) -> Mutation:
    return Mutation("noted", words, {PLACE: text}, **more)


def item(kind: str, *, version: str = "v1", name: str = "added", about: str = "", **content: Any) -> str:
    """A document of YAML; templates in it must hold no quotes."""
    told = "".join(f"{key}: {json.dumps(value)}\n" for key, value in content.items())
    return f"---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}{about}}}\n{told}"


def pod(image: str = HIDDEN, **about: str) -> str:
    return item("Pod", spec={"containers": [{"name": "a", "image": "~"}]}, **about).replace('"~"', image)


def web(*, spec: Mapping[str, Any] | None = None, **container: Any) -> str:
    """A pod with one of the application's own images, and more."""
    return item("Pod", spec={**(spec or {}), "containers": [{"name": "a", "image": WEB, **container}]})


def config(text: str) -> str:
    return item("ConfigMap", data={"x": text})


def hook(events: str) -> str:
    return pod(about=f', annotations: {{helm.sh/hook: "{events}"}}')


def thing(**spec: Any) -> str:
    return item("Thing", version=THING, spec=spec)


def when(condition: str, text: str) -> str:
    return f"{{{{ if {condition} }}}}\n{text}{{{{ end }}}}\n"


def more_of(file: str, line: str) -> str:
    return f"{CHART[file]}{line}\n"


def of_chart(annotation: str) -> str:
    return more_of("Chart.yaml", f"annotations: {{{annotation}: '- {{name: x, image: \"{HIDDEN}\"}}'}}")


def steps(*others: Mapping[str, Any]) -> dict[str, Any]:
    return {"steps": list(others)}


def questions(**others: Any) -> dict[str, Any]:
    return {"questions": {**PROFILE["questions"], **others}}


def helper(text: str) -> dict[str, str]:
    return {"templates/_tool.tpl": f'{{{{ define "tool" }}}}{text}{{{{ end }}}}'}


POD = {"metadata": {"name": "inner"}, "spec": {"containers": [{"name": "a", "image": HIDDEN}]}}
CHART_STEP, RESOURCE_STEP, MANIFESTS_STEP = PROFILE["steps"]
RESOURCE_WITH = RESOURCE.rstrip()[:-1]

HIDDEN_IN: dict[str, Mutation] = {
    "an argument --x=ref": asked(web(args=["run", f"--sidecar={HIDDEN}"])),
    "an argument --x ref": asked(web(args=["run", "--sidecar", HIDDEN])),
    "a list in an argument": asked(web(args=[f"--images={IMAGES[0]},{HIDDEN}"])),
    "a command in a shell line": asked(web(command=["sh", "-c", f"set -e\nexec ctr run {HIDDEN} x"])),
    "a variable": asked(web(env=[{"name": "SIDECAR", "value": HIDDEN}])),
    "lines of a variable": asked(web(env=[{"name": "VERSIONS", "value": f"4.1={IMAGES[0]}\n4.2={HIDDEN}\n"}])),
    "a variable of an operator": carried(web(env=[{"name": "RELATED_IMAGE_X", "value": HIDDEN}])),
    "YAML in a ConfigMap": asked(config(f"agent:\n  image: {HIDDEN}\n  port: 1\n")),
    "JSON on one line in a ConfigMap": asked(config(json.dumps({"a": [{"b": HIDDEN}]}))),
    "plain lines in a ConfigMap": asked(config(f"first\n{HIDDEN}\nlast\n")),
    "a dockerfile in a ConfigMap": asked(config(f"FROM {HIDDEN} AS base\nRUN true\n")),
    "a pod in a ConfigMap": asked(config(pod())),
    "a Secret's plain text": asked(item("Secret", stringData={"x": f"image={HIDDEN}"})),
    "a Secret's data": asked(
        "{{ $x := print `image: ` .Values.tool | b64enc }}" + item("Secret", data={"x": "{{ $x }}"}),
        values={"tool": HIDDEN},
    ),
    "an annotation": asked(item("ServiceAccount", about=f", annotations: {{inject/image: '{HIDDEN}'}}")),
    "an annotation of a pod": asked(
        CHART["templates/web.yaml"].replace(
            "labels: {app: web}}\n", f"labels: {{app: web}}, annotations: {{x: '{HIDDEN}'}}}}\n"
        ),
        at="templates/web.yaml",
    ),
    "artifacthub.io/images of a chart": asked(of_chart("artifacthub.io/images"), at="Chart.yaml"),
    "images of a chart": asked(of_chart("images"), at="Chart.yaml"),
    "a text of a custom resource": asked(thing(base=HIDDEN)),
    "the image of a custom resource": carried(thing(image=HIDDEN)),
    "repository, image and version": carried(
        thing(driver={"repository": "{{ .Values.from }}", "image": "hidden", "version": "1.0"}),
        values={"from": "up.example/ops"},
    ),
    "registry, name and tag": carried(
        thing(x={"registry": "{{ .Values.from }}", "name": "ops/hidden", "tag": "1.0"}), values={"from": "up.example"}
    ),
    "hub and image": carried(
        thing(x={"hub": "{{ .Values.from }}", "image": "hidden", "tag": "1.0"}), values={"from": "up.example/ops"}
    ),
    "a group that looks like one of Kubernetes": carried(
        item("Backup", version="ops.k8s.io/v1", spec={"image": HIDDEN}),
        recipe={"kubernetes": {"api_versions": ["ops.k8s.io/v1"]}},
    ),
    "an image volume": carried(web(spec={"volumes": [{"name": "v", "image": {"reference": HIDDEN}}]})),
    "an init container": carried(web(spec={"initContainers": [{"name": "i", "image": HIDDEN}]})),
    "an ephemeral container": carried(web(spec={"ephemeralContainers": [{"name": "i", "image": HIDDEN}]})),
    "a CronJob that is suspended": carried(
        item(
            "CronJob",
            version="batch/v1",
            spec={
                "suspend": True,
                "jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "a", "image": HIDDEN}]}}}},
            },
        )
    ),
    "a hook of upgrades": carried(hook("post-upgrade")),
    "a hook of rollbacks": carried(hook("pre-rollback")),
    "a hook of removal": carried(hook("post-delete")),
    "a test that is an upgrade hook too": carried(hook("test,pre-upgrade")),
    "a test": left(hook("test")),
    "a hook with another name each time": carried(
        item(
            "Job",
            version="batch/v1",
            name="added-{{ randAlphaNum 5 | lower }}",
            about=", annotations: {helm.sh/hook: pre-upgrade}",
            spec={"template": {"spec": {"containers": [{"name": "a", "image": "{{ .Values.from }}/hidden:1.0"}]}}},
        ),
        values={"from": "up.example/ops"},
    ),
    "what is there when lookup finds something": carried(when('lookup "v1" "Secret" .Release.Namespace "x"', pod())),
    "what is there when lookup finds nothing": carried(
        when('not (lookup "v1" "Secret" .Release.Namespace "x")', pod())
    ),
    "a value that counts when lookup finds something": carried(
        when('lookup "v1" "Secret" .Release.Namespace "x"', pod("{{ .Values.from }}/hidden:1.0")),
        values={"from": "up.example/ops"},
    ),
    "an upgrade": carried(when(".Release.IsUpgrade", pod())),
    "an installation": carried(when(".Release.IsInstall", pod())),
    "an API of the cluster": carried(
        when('.Capabilities.APIVersions.Has "ops.example/v1"', pod()),
        recipe={"kubernetes": {"api_versions": ["ops.example/v1"]}},
    ),
    "the oldest version of Kubernetes": carried(
        when('semverCompare "<1.33.0-0" .Capabilities.KubeVersion.Version', pod()), recipe=RANGE
    ),
    "one version of Kubernetes in the middle": carried(
        when('semverCompare "~1.33.0-0" .Capabilities.KubeVersion.Version', pod()), recipe=RANGE
    ),
    "a name with the minor version of Kubernetes": carried(
        pod("up.example/ops/hidden:1.{{ .Capabilities.KubeVersion.Minor }}"), "up.example/ops/hidden:1.33", recipe=RANGE
    ),
    "a subchart under an alias": carried(pod(), at="charts/store/templates/added.yaml"),
    "a list": carried(item("List", items=[{"apiVersion": "v1", "kind": "Pod", **POD}])),
    "a list of one kind": carried(item("PodList", items=[POD])),
    "a manifest": carried(MANIFEST + pod(), at="../extra.yaml"),
    "a text of a manifest": asked(MANIFEST + config(f"image: {HIDDEN}"), at="../extra.yaml"),
    "the image of a resource": carried(f"{RESOURCE_WITH}, sidecarImage: '{HIDDEN}'}}", at="../thing.yaml"),
    "a text of a resource": asked(f"{RESOURCE_WITH}, base: '{HIDDEN}'}}", at="../thing.yaml"),
    "a switch that is off": left(
        when(".Values.extra.enabled", pod("{{ .Values.extra.image }}")),
        values={"extra": {"enabled": False, "image": HIDDEN}},
    ),
    "an answer": noted(
        f"that answers extra may ask for images that are not carried: {HIDDEN}",
        when(".Values.extra.enabled", pod()),
        values={"extra": {"enabled": False}},
        profile=questions(
            extra={
                "type": "boolean",
                "help": "More.",
                "default": False,
                "to": [{"step": "shop", "path": "extra.enabled"}],
            }
        ),
    ),
}

# Each spells HIDDEN in a way of its own. Where no value moves it, the template is edited.
SPELT: dict[str, Mutation] = {
    "two values in the middle": carried(
        pod("up.example/{{ .Values.team }}/{{ .Values.tool }}:1.0"), values={"team": "ops", "tool": "hidden"}
    ),
    "printf": carried(
        pod('{{ printf "%s/%s:%s" .Values.from .Values.tool "1.0" }}'),
        values={"from": "up.example", "tool": "ops/hidden"},
    ),
    "a template in a value": carried(
        pod("{{ tpl .Values.tool . }}"), values={"tool": "{{ .Values.from }}/ops/hidden:1.0", "from": "up.example"}
    ),
    "a template in a value behind the host": carried(
        pod("{{ tpl .Values.tool . }}"),
        values={"tool": "up.example/ops/hidden:{{ .Values.version }}", "version": "1.0"},
    ),
    "index": carried(pod('{{ index .Values "tool-image" "at" }}'), values={"tool-image": {"at": HIDDEN}}),
    "index of a list": carried(
        pod("{{ (index .Values.tools 0).what }}:1.0"), values={"tools": [{"what": HIDDEN[:-4]}]}
    ),
    "a file of the chart": carried(pod('{{ .Files.Get "files/image" | trim }}'), files={"files/image": f"{HIDDEN}\n"}),
    "YAML in a file of the chart": carried(
        pod('{{ (.Files.Get "files/images.yaml" | fromYaml).hidden }}'),
        files={"files/images.yaml": f"hidden: {HIDDEN}\n"},
    ),
    "a helper with a default host": carried(
        pod('{{ include "tool" . }}'), files=helper('{{ .Values.from | default "up.example" }}/ops/hidden:1.0')
    ),
    "a helper with a default name": carried(
        pod('{{ include "tool" . }}'),
        files=helper(f'{{{{ .Values.toolImage | default "{HIDDEN}" }}}}'),
        values={"toolImage": ""},
    ),
    "a host in capitals": carried(pod("Up.Example/ops/hidden:1.0"), "Up.Example/ops/hidden:1.0"),
    "a host in capitals in a value": carried(
        pod("{{ .Values.from }}/ops/hidden:1.0"), "Up.Example/ops/hidden:1.0", values={"from": "Up.Example"}
    ),
    "a host with a port": carried(pod("up.example:5000/ops/hidden:1.0"), "up.example:5000/ops/hidden:1.0"),
    "host and port in two values": carried(
        pod("{{ .Values.host }}:{{ .Values.port }}/ops/hidden:1.0"),
        "up.example:5000/ops/hidden:1.0",
        values={"host": "up.example", "port": 5000},
    ),
    "a digest behind the tag": carried(pod(f"{HIDDEN}@{DIGEST}"), f"{HIDDEN}@sha256:"),
    "tag and digest in two values": carried(
        pod("{{ .Values.tool }}@{{ .Values.sum }}"), f"{HIDDEN}@sha256:", values={"tool": HIDDEN, "sum": DIGEST}
    ),
    "a digest in the place of the tag": carried(
        pod("{{ .Values.tool }}@{{ .Values.sum }}"),
        "up.example/ops/hidden@sha256:",
        values={"tool": HIDDEN[:-4], "sum": DIGEST},
    ),
    "texts joined by commas": asked(
        web(args=["--images={{ join `,` .Values.tools }}"]), values={"tools": [IMAGES[0], HIDDEN]}
    ),
    "names as keys": carried(
        "{{ range $name, $tag := .Values.tools }}\n" + pod("{{ $name }}:{{ $tag }}") + "{{ end }}",
        values={"tools": {"up.example/ops/hidden": "1.0"}},
    ),
    "the reverse of a text": carried(
        pod('{{ join "" (reverse (splitList "" .Values.tool)) }}'), values={"tool": HIDDEN[::-1]}
    ),
    "a global value": carried(
        pod("{{ .Values.global.from }}/ops/hidden:1.0"),
        at="charts/store/templates/added.yaml",
        values={"global": {"from": "up.example"}},
    ),
    "a value that the chart gives to its subchart": carried(
        pod("{{ .Values.from }}/ops/hidden:1.0"),
        at="charts/store/templates/added.yaml",
        values={"cache": {"from": "up.example"}},
    ),
    "the beginning of two names": carried(
        pod("{{ .Values.tool }}:1.0") + pod("{{ .Values.tool }}-more:1.0", name="more"),
        values={"tool": "up.example/ops/hidden"},
    ),
    "a value that is the name of the pod too": carried(
        pod("up.example/ops/{{ .Values.tool }}:1.0", name="{{ .Values.tool }}"), values={"tool": "hidden"}
    ),
    # What no means moves is refused with its name: in base64, escapes or parts, where templates have them fixed.
    "escapes in a template": refused(HIDDEN, pod('"up.example\\u002fops/hidden:1.0"')),
    "base64 in a template": refused(
        HIDDEN,
        item("Secret", data={"x": base64.b64encode(HIDDEN.encode()).decode()}),
        recipe={"accept_suspected": [HIDDEN]},
    ),
    "parts in a template": refused(
        HIDDEN,
        thing(driver={"repository": "up.example/ops", "image": "hidden", "version": "1"}).replace('"1"', '"1.0"'),
    ),
}

DEFECTS: dict[str, Mutation] = {
    **{
        f"a schema that refers to {what}": refused(target, json.dumps({"$ref": target}), at="values.schema.json")
        for what, target in {
            "an address": "https://up.example/schema.json",
            "a file": "file:///etc/passwd",
            "a file beside it": "other.json",
        }.items()
    },
    "a subchart's schema that refers to an address": refused(
        "http://up.example/x.json", '{"$ref": "http://up.example/x.json"}', at="charts/store/values.schema.json"
    ),
    "a kind without a definition": refused(
        "Backup (ops.example/v1) added", item("Backup", version="ops.example/v1", spec={})
    ),
    "a definition in the templates": Mutation(
        "refused",
        "Thing (shop.example/v1) added (chart shop): nothing brings this kind before",
        {"templates/thing.yaml": CHART["crds/thing.yaml"], "crds/thing.yaml": "", PLACE: thing()},
    ),
    "a definition that is away": refused("Thing (shop.example/v1) thing (resource thing)", at="crds/thing.yaml"),
    "a definition of another version": refused(
        "Thing (shop.example/v1) thing", CHART["crds/thing.yaml"].replace("name: v1", "name: v2"), at="crds/thing.yaml"
    ),
    "steps in another order": refused(
        "nothing brings this kind before", profile=steps(RESOURCE_STEP, CHART_STEP, MANIFESTS_STEP)
    ),
    "a large ConfigMap": refused("has at most 1048576", config("x" * 1_100_000)),
    "a large ConfigMap in a manifest": refused(
        "has at most 1048576", MANIFEST + config("x" * 1_100_000), at="../extra.yaml"
    ),
    "a large Secret": refused("has at most 1048576", item("Secret", data={"x": "eHh4" * 370_000})),
    "a large object": refused("an object has at most", thing(x="x" * 1_600_000)),
    "a large annotation": refused(
        "bytes of annotations", item("ConfigMap", about=f", annotations: {{x: {'x' * 300_000}}}")
    ),
    "a large chart": refused("Helm's record of it has about", os.urandom(700_000).hex(), at="files/large"),
    "a namespace that nobody makes": noted(
        "nothing makes the namespace elsewhere",
        item(
            "RoleBinding",
            version="rbac.authorization.k8s.io/v1",
            roleRef={"kind": "Role", "name": "x", "apiGroup": "rbac.authorization.k8s.io"},
            subjects=[{"kind": "ServiceAccount", "name": "x", "namespace": "elsewhere"}],
        ),
    ),
    "a value that is misspelt": noted(
        "replcias: chart shop 1.0.0 has no such value; did you mean replicas?",
        profile=steps({**CHART_STEP, "values": {"replcias": 2}}, RESOURCE_STEP, MANIFESTS_STEP),
    ),
    "a value that nothing reads": noted(
        "colour: chart shop 1.0.0 reads no such value",
        profile=steps({**CHART_STEP, "values": {"colour": "red"}}, RESOURCE_STEP, MANIFESTS_STEP),
    ),
    "a subchart that is missing": refused(
        "lacks the subcharts queue",
        CHART["Chart.yaml"].replace("dependencies: [", "dependencies: [{name: queue, version: 1.0.0}, "),
        at="Chart.yaml",
    ),
    "an upgrade that fails": refused("no upgrades", when(".Release.IsUpgrade", '{{ fail "no upgrades" }}')),
    "an installation that fails": refused("no beginning", when(".Release.IsInstall", '{{ fail "no beginning" }}')),
    "an installation that needs what is not there": refused(
        "no Secret x", when('not (lookup "v1" "Secret" .Release.Namespace "x")', '{{ fail "no Secret x" }}')
    ),
    "a failure on one version of Kubernetes": refused(
        "for Kubernetes 1.33.0",
        when('semverCompare "~1.33.0-0" .Capabilities.KubeVersion.Version', '{{ fail "not here" }}'),
        recipe=RANGE,
    ),
    "a chart for newer versions of Kubernetes": refused(
        "Kubernetes 1.32.0: chart shop 1.0.0 is for Kubernetes >=1.33.0-0",
        CHART["Chart.yaml"].replace(">=1.25.0-0", ">=1.33.0-0"),
        at="Chart.yaml",
        recipe=RANGE,
    ),
    "an image by the patch of Kubernetes": refused(
        "which image it needs is not known before the cluster is",
        pod("up.example/ops/hidden:{{ .Capabilities.KubeVersion.Version }}"),
        recipe=RANGE,
    ),
    "an endless template": refused(
        "templates/added.yaml", '{{ define "a" }}{{ include "a" . }}{{ end }}{{ include "a" . }}'
    ),
    "a type that the schema refuses": refused(
        "replicas",
        '{"properties": {"replicas": {"type": "integer"}}}',
        at="values.schema.json",
        profile=steps({**CHART_STEP, "values": {"replicas": "two"}}, RESOURCE_STEP, MANIFESTS_STEP),
    ),
    "an answer that the schema refuses": refused(
        "questions.replicas",
        '{"properties": {"replicas": {"type": "string"}}}',
        at="values.schema.json",
        values={"replicas": "1"},
    ),
    "a Secret that nothing reads": refused(
        "nothing here names its Secret shop-mail",
        profile=questions(
            mail={
                "type": "secret",
                "help": "The password of mail.",
                "secret": {"name": "shop-mail", "key": "password", "step": "shop"},
            }
        ),
    ),
    "an answer that nothing reads": refused(
        "questions.title (step shop): chart shop 1.0.0 does not read it",
        profile=questions(title={"type": "text", "help": "A title.", "to": [{"step": "shop", "path": "title"}]}),
    ),
    "an image that is no reference": refused("up.example/OPS/hidden", pod("up.example/OPS/hidden:1.0")),
    "an image of nothing": refused("container a", pod("'{{ .Values.nothing }}:1.0'")),
    "broken YAML": refused("templates/added.yaml: not YAML", "a: b: c"),
    "an object without a name": refused(
        "templates/added.yaml: makes something that is no object with a kind and a name",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {labels: {a: b}}\n",
    ),
    "an object without a kind": refused(
        "templates/added.yaml: makes something that is no object", "apiVersion: v1\nmetadata: {name: added}\n"
    ),
}
MUTATIONS = {**HIDDEN_IN, **SPELT, **DEFECTS}


@pytest.fixture(scope="module")
def registry() -> Iterator[WillingRegistry]:
    with WillingRegistry(lambda name: name.startswith(("up.example", "Up.Example"))) as made:
        yield made


@pytest.mark.parametrize("name", MUTATIONS)
def test_lock_finds_it(name: str, tmp_path: Path, registry: WillingRegistry) -> None:
    mutation = MUTATIONS[name]
    shop = Shop(tmp_path, registry, mutation.files, mutation.values)
    profile, recipe = {**PROFILE, **mutation.profile}, dict(mutation.recipe)
    if mutation.outcome in ("asked", "refused"):
        with pytest.raises(AirferryError) as caught:
            shop.locked(profile, **recipe)
        assert mutation.words in caught.value.message
        recipe |= {"accept_suspected": [mutation.words]}
    if mutation.outcome == "refused":
        return
    lock = shop.locked(profile, **recipe)
    images = {image.source for image in lock.images}
    assert images >= set(IMAGES)
    if mutation.outcome == "noted":
        assert [note for note in shop.notes if note.startswith("note: ") and mutation.words in note]
    elif mutation.outcome == "left":
        assert mutation.words not in images
        assert mutation.words in {*(item.image for item in lock.optional), *(item.text for item in lock.suspected)}
    else:
        assert any(image.startswith(mutation.words) for image in images)
    # What a chart only says of itself stands in no object.
    unnamed = {moved(HIDDEN)} if mutation.outcome == "asked" and "Chart.yaml" in mutation.files else set()
    assert shop.misplaced(lock, mutation.recipe.get("kubernetes")) == unnamed


def test_the_sound_application_is_locked_without_a_finding(tmp_path: Path, registry: WillingRegistry) -> None:
    shop = Shop(tmp_path, registry, {}, {})
    lock = shop.locked()
    assert [note for note in shop.notes if note.startswith("note: ")] == [
        "note: a site is asked for database_password: The password of the database."
    ]
    assert {image.source for image in lock.images} == set(IMAGES)
    assert not shop.misplaced(lock)
    assert (lock.optional, lock.suspected, lock.failures) == ((), (), ())
    assert (lock.charts[0].edits, lock.charts[0].prefixes) == ((), ())

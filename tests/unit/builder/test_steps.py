"""From a profile or a recipe's charts to the steps in the bundle, with real charts and without a network."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from builder.resolve.make_lock import make_lock
from installer.apps.profile import Installs, Step
from installer.chart.retarget import merged
from installer.errors import RecipeError
from installer.report import Silent
from installer.strict_yaml import load_yaml
from tests.parts.charts import CHARTS
from tests.parts.images import Image, Layer, write_layout
from tests.parts.workshop import Workshop

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.recipe.lock import Lock

RESOURCE = """
apiVersion: demo.example/v1
kind: Platform
metadata: {name: platform, namespace: prod}
spec: {image: "docker.io/demo/agent:1.0", values: {web: {port: 9090}}}
"""
POLICY = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: policy}\n"
POD = """
apiVersion: v1
kind: Pod
metadata: {name: tool}
spec: {containers: [{name: tool, image: "docker.io/demo/tool:1.0"}]}
"""


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def texts(lock: Lock) -> dict[str, tuple[str, bytes]]:
    """Kind and content of the documents that are made here, by name."""
    blobs = lock.blobs_by_digest()
    return {
        item.name: (item.kind, blobs[item.digest].content) for item in lock.documents if item.origin.kind == "inline"
    }


def kinds(lock: Lock) -> dict[str, str]:
    return {item.name: item.kind for item in lock.documents}


def test_without_a_profile_each_chart_is_a_step_in_the_order_of_the_recipe(workshop: Workshop) -> None:
    workshop.chart("demo-platform", values={"web": {"port": 9090}}, release="site", namespace="prod")
    workshop.chart("demo-app")
    workshop.file("extra.yaml", POLICY)
    lock = workshop.lock(manifests=["extra.yaml"])
    kind, content = texts(lock)["profile.json"]
    steps = json.loads(content)["steps"]
    assert kind == "profile"
    assert steps == [
        {
            "chart": "demo-platform",
            "name": "site",
            "namespace": "prod",
            "version": "1.0.0",
            "values": "site-values.json",
        },
        {"chart": "demo-app", "version": "1.0.0"},
        {"manifests": ["extra.yaml"], "name": "manifests"},
    ]
    assert kinds(lock)["extra.yaml"] == "manifests"
    assert texts(lock)["site-values.json"] == ("values", b'{"web": {"port": 9090}}')
    assert [(chart.name, chart.version, chart.asked) for chart in lock.charts] == [
        ("demo-app", "1.0.0", ""),
        ("demo-platform", "1.0.0", ""),
    ]


def test_images_alone_have_no_profile(workshop: Workshop) -> None:
    assert workshop.needs(images=["busybox:1.36"]).application is None
    (workshop.folder / "layout").mkdir()
    layout = write_layout(workshop.folder / "layout", Image((Layer({}),)), tag="x")
    entry = {"layout": "layout", "entry": "x", "name": "demo.example/x:1"}
    assert layout.tag == "x"
    recipe = workshop.recipe(None, {"images": [entry]})
    lock = make_lock(recipe, "recipe.yaml", workshop.places, Silent(), now="2026-01-01T00:00:00Z")
    assert "profile" not in kinds(lock).values()


def test_a_default_that_versions_of_helm_take_away_or_keep_is_noted_where_a_controller_installs(
    workshop: Workshop,
) -> None:
    given = load_yaml((CHARTS / "demo-platform/values.yaml").read_bytes(), "values.yaml", RecipeError)
    values = merged(given, {"worker": {"replicas": None}, "web": {"replicas": None}})
    shown = "kind: ConfigMap\nmetadata: {name: shown}\ndata: {replicas: {{ .Values.replicas | toJson }}}\n"
    files = {"values.yaml": json.dumps(values), "charts/base/templates/shown.yaml": shown}
    workshop.chart("demo-app")
    workshop.chart("demo-platform", files=files)
    workshop.file("platform.yaml", RESOURCE)
    steps = [{"chart": "demo-app"}, {"resource": "platform.yaml", "installs": {"chart": "demo-platform"}}]
    found = workshop.needs({"steps": steps})
    noted = [note for note in found.notes if "to null" in note]
    assert [note.partition(";")[0] for note in noted] == ["chart demo-platform sets worker.replicas to null"]
    # What is said of the Helm at hand.
    assert found.steps
    [_, release] = found.steps.releases
    made = release.fetched.chart.render(release.values, release="r", namespace="n").manifests
    replicas = {path.split("/")[2]: item["data"]["replicas"] for path, item in made if path.endswith("shown.yaml")}
    assert (replicas["worker"], replicas["web"]) == (1, None)
    direct = workshop.needs({"steps": [{"chart": "demo-app"}, {"chart": "demo-platform"}]})
    assert not [note for note in direct.notes if "to null" in note]


def test_a_resource_is_called_what_it_says_and_whoever_named_its_file_follows(workshop: Workshop) -> None:
    workshop.chart("demo-app")
    workshop.chart("demo-platform")
    workshop.file("platform.yaml", RESOURCE)
    profile = {
        "namespace": "demo",
        "steps": [
            {"chart": "demo-app", "name": "operator"},
            {"resource": "platform.yaml", "controller": "operator", "installs": {"chart": "demo-platform"}},
        ],
        "questions": {
            "port": {
                "type": "integer",
                "help": "The port.",
                "to": [{"step": "platform.yaml", "path": "spec.values.web.port"}],
            },
            "password": {
                "type": "secret",
                "help": "The password.",
                "secret": {"name": "password", "key": "password", "step": "platform.yaml"},
            },
        },
        "pull_secret": {"values": {"platform.yaml": ["global.imagePullSecrets"]}},
        "smoke": [{"step": "platform.yaml", "service": "web", "port": 8080}],
    }
    found = workshop.needs(profile)
    assert found.steps
    steps = found.steps.profile
    assert steps.steps[1] == Step(
        resource="platform.yaml",
        name="platform",
        namespace="prod",
        controller="operator",
        installs=Installs(chart="demo-platform", version="1.0.0"),
    )
    assert steps.questions["port"].to[0].step == "platform"
    assert steps.questions["password"].secret
    assert steps.questions["password"].secret.step == "platform"
    assert list(steps.pull_secret.values) == ["platform"]
    assert steps.smoke[0].step == "platform"
    release = found.steps.releases[1]
    assert (release.name, release.namespace, release.values) == ("platform", "prod", {"web": {"port": 9090}})
    # The resource asks for an image of its own; those in the values of the chart are the chart's.
    (reason,) = found.images["docker.io/demo/agent:1.0"]
    assert str(reason) == "platform.yaml: Platform platform: spec.image"


def test_rules_of_the_profile_say_where_resources_and_objects_of_charts_name_images(workshop: Workshop) -> None:
    engine = "{apiVersion: demo.example/v1, kind: Engine, metadata: {name: e}, spec: {flavor: %s, release: 2}}"
    workshop.chart("demo-app", files={"templates/engine.yaml": engine % "of-chart"})
    workshop.file("engine.yaml", engine % "of-resource")
    profile = {
        "images": {"Engine": ["quay.io/demo/{spec.flavor}:{spec.release}"]},
        "steps": [{"chart": "demo-app"}, {"resource": "engine.yaml"}],
    }
    found = workshop.needs(profile)
    assert {"quay.io/demo/of-chart:2", "quay.io/demo/of-resource:2"} <= found.images.keys()


def test_a_resource_without_a_namespace_stays_where_the_application_is(workshop: Workshop) -> None:
    workshop.file("platform.yaml", RESOURCE.replace(", namespace: prod", ""))
    steps = workshop.steps({"namespace": "demo", "steps": [{"resource": "platform.yaml"}]}).steps
    assert (steps[0].name, steps[0].namespace) == ("platform", None)
    workshop.file("platform.yaml", RESOURCE)
    assert workshop.steps({"namespace": "prod", "steps": [{"resource": "platform.yaml"}]}).steps[0].namespace is None


def test_manifests_are_files_and_folders_and_their_images_are_found(workshop: Workshop) -> None:
    workshop.file("policies/web/policy.yaml", POLICY)
    workshop.file("policies/db/policy.yml", f"{POLICY}---\n{POD}")
    workshop.file("policies/README.md", "text")
    workshop.file("policy.yaml", POLICY)
    found = workshop.needs({"steps": [{"name": "all", "manifests": ["./policies", "policy.yaml"]}]})
    assert found.steps
    names = ["policies-db-policy.yml", "policies-web-policy.yaml", "policy.yaml"]
    assert found.steps.profile.steps[0].manifests == names
    (reason,) = found.images["docker.io/demo/tool:1.0"]
    assert str(reason) == "policies-db-policy.yml: Pod tool, container tool: spec.containers[0].image"
    assert {document.kind for document, _ in found.documents.found() if document.name in names} == {"manifests"}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"m/kustomization.yaml": "{}", "m/x.yaml": POLICY}, "kubectl kustomize m > m.yaml"),
        ({"m/readme.txt": ""}, "m: 0 files of manifests"),
        ({"m/x.yaml": "kind: ConfigMap\n"}, "m/x.yaml: object 1 lacks"),
        ({"m/x.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {generateName: x-}\n"}, "object 1 lacks"),
        ({"m/x.yaml": "a: [\n"}, "m/x.yaml: not YAML"),
        ({"m/x.yaml": POD.replace("demo/tool:1.0", "UP:1")}, "m-x.yaml: Pod tool, container tool: "),
        ({"m/größe.yaml": POLICY}, "not a document name"),
    ],
)
def test_manifests_that_cannot_be_applied_are_refused(workshop: Workshop, files: Mapping[str, str], words: str) -> None:
    for name, text in files.items():
        workshop.file(name, text)
    assert words in workshop.refusal({"steps": [{"name": "all", "manifests": ["m"]}]})


def test_values_come_from_several_places_in_their_order(workshop: Workshop) -> None:
    workshop.chart("demo-app")
    workshop.file("values/a.yaml", "replicas: 2\ngreeting: a\nresources: {limits: {cpu: 1}}\n")
    workshop.file("values/b.yaml", "greeting: b\n")
    values = ["values/a.yaml", {"replicas": 3}, "values/b.yaml"]
    lock = workshop.lock({"steps": [{"chart": "demo-app", "values": values}]})
    expected = {"replicas": 3, "greeting": "b", "resources": {"limits": {"cpu": 1}}}
    assert json.loads(texts(lock)["demo-app-values.json"][1]) == expected
    assert (kinds(lock)["a.yaml"], kinds(lock)["b.yaml"]) == ("other", "other")
    one = workshop.lock({"steps": [{"chart": "demo-app", "values": "values/b.yaml"}]})
    assert kinds(one)["b.yaml"] == "values"
    assert json.loads(texts(one)["profile.json"][1])["steps"][0]["values"] == "b.yaml"


def test_one_chart_several_times_and_several_versions_of_one(workshop: Workshop) -> None:
    workshop.chart("demo-app", version="1.2.0")
    workshop.chart("demo-app", version="2.0.1")
    steps = [
        {"chart": "demo-app", "name": "blue", "version": "1", "values": {"replicas": 1}},
        {"chart": "demo-app", "name": "green", "version": "2.0.1", "values": {"replicas": 2}},
        {"chart": "demo-app", "name": "red", "version": "1.2.0"},
    ]
    lock = workshop.lock({"steps": steps})
    resolved = json.loads(texts(lock)["profile.json"][1])["steps"]
    assert [(step["name"], step["version"]) for step in resolved] == [
        ("blue", "1.2.0"),
        ("green", "2.0.1"),
        ("red", "1.2.0"),
    ]
    assert [chart.version for chart in lock.charts] == ["1.2.0", "2.0.1"]
    proven = json.loads(texts(lock)["proof.json"][1])
    assert [(chart["release"], chart["document"]) for chart in proven["charts"]] == [
        ("blue", "blue-values.json"),
        ("green", "green-values.json"),
        ("red", ""),
    ]
    assert "step blue: the recipe has chart demo-app as 1.2.0, 2.0.1; give the step a `version`" in workshop.refusal(
        {"steps": [{"chart": "demo-app", "name": "blue"}]}
    )
    assert "not as 3" in workshop.refusal({"steps": [{"chart": "demo-app", "version": "3"}]})


def test_versions_become_tags_and_name_the_bundle(workshop: Workshop) -> None:
    workshop.chart("demo-platform")
    profile = {
        "versions": {"tools": ["demo/tools"], "server": ["demo/spare", "demo/cache"]},
        "version_from": "server",
        "steps": [{"chart": "demo-platform"}],
    }
    resolved = workshop.needs(profile, versions={"server": "4.0", "tools": "1.0"}).steps
    assert resolved
    assert resolved.releases[0].values == {
        "spare": {"image": {"tag": "4.0"}},
        "cache": {"image": {"tag": "4.0"}},
        "backup": {"image": {"tag": "1.0"}},
    }
    assert workshop.lock(profile, versions={"server": "4.0"}).version == "1.0"
    assert workshop.lock(profile, versions={"server": "4.0"}, version=None).version == "4.0"
    del profile["version_from"]
    with pytest.raises(RecipeError, match=r"needs `version`, or `versions\.tools`"):
        workshop.lock(profile, versions={"server": "4.0"}, version=None)
    assert "versions: the profile has no sever; it has: tools, server" in workshop.refusal(
        profile, versions={"sever": "4.0"}
    )


@pytest.mark.parametrize(
    ("steps", "more", "words"),
    [
        ([{"chart": "demo-ap"}], {}, "step demo-ap: the recipe has no chart demo-ap; it has: demo-app"),
        ([{"resource": "platform.yaml"}], {}, "no step names the charts demo-app"),
        (
            [{"chart": "demo-app"}, {"resource": "platform.yaml", "name": "other"}],
            {},
            "platform.yaml: is platform in namespace prod; its step in profile.yaml says otherwise",
        ),
        ([{"chart": "demo-app"}, {"resource": "platform.yaml", "namespace": "x"}], {}, "says otherwise"),
        ([{"chart": "demo-app"}, {"resource": "two.yaml"}], {}, "two.yaml"),
        ([{"chart": "demo-app"}, {"resource": "nameless.yaml"}], {}, "not one resource with apiVersion, kind and"),
        (
            [{"resource": "platform.yaml", "installs": {"chart": "demo-app", "values": "spec.image"}}],
            {},
            "spec.image: no values of a chart",
        ),
        ([{"chart": "demo-app", "name": "platform"}, {"resource": "platform.yaml"}], {}, "steps of the same name"),
        ([{"chart": "demo-app"}], {"driver": "nothing"}, "needs the driver 'nothing'"),
    ],
)
def test_steps_that_do_not_fit_are_refused(
    workshop: Workshop, steps: list[dict[str, Any]], more: Mapping[str, Any], words: str
) -> None:
    workshop.chart("demo-app")
    workshop.file("platform.yaml", RESOURCE)
    workshop.file("two.yaml", f"{RESOURCE}---{RESOURCE}")
    workshop.file("nameless.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {}\n")
    assert words in workshop.refusal({"steps": steps, **more})


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (
            {"step": "demo-app", "path": "greeting.text"},
            "nothing can stand at greeting.text of step demo-app: greeting",
        ),
        ({"step": "policies", "path": "x"}, "step policies has manifests, which take no answers"),
        ({"step": "platform.yaml", "path": "metadata.name"}, "metadata.name says which resource it is"),
        ({"step": "platform.yaml", "path": "spec.image.tag"}, "spec.image is no mapping"),
        ({"step": "nowhere", "path": "x"}, "there is no step 'nowhere'"),
    ],
)
def test_answers_that_have_no_place_are_refused(workshop: Workshop, target: Mapping[str, str], words: str) -> None:
    workshop.chart("demo-app")
    workshop.file("platform.yaml", RESOURCE)
    workshop.file("policy.yaml", POLICY)
    steps = [{"chart": "demo-app"}, {"resource": "platform.yaml"}, {"name": "policies", "manifests": ["policy.yaml"]}]
    questions = {"answer": {"type": "text", "help": "An answer.", "to": [target]}}
    assert words in workshop.refusal({"steps": steps, "questions": questions})


def test_a_profile_in_another_folder_names_files_beside_it(workshop: Workshop) -> None:
    workshop.chart("demo-app")
    workshop.file("profiles/values.yaml", "replicas: 2\n")
    workshop.file("profiles/profile.yaml", json.dumps({"steps": [{"chart": "demo-app", "values": "values.yaml"}]}))
    found = {
        item.name: item.origin.location
        for item, _ in workshop.needs(profile_at="profiles/profile.yaml").documents.found()
    }
    assert found["values.yaml"] == "profiles/values.yaml"


def test_large_files_travel_along(workshop: Workshop) -> None:
    workshop.chart("demo-app")
    workshop.file("data/weights.bin", "weights")
    lock = workshop.lock(files=["data/weights.bin"])
    (document,) = (item for item in lock.documents if item.kind == "file")
    assert (document.name, document.origin.location) == ("weights.bin", "data/weights.bin")
    assert "is a folder" in workshop.refusal(files=["data"])

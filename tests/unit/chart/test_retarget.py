"""Values are pointed into the enclave's registry however an image is spelt, and what escapes is reported."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from installer.chart.helm import Chart
from installer.chart.images import references
from installer.chart.relocation import Relocation, target
from installer.chart.retarget import merged, overrides, sources, stray, suspects
from installer.errors import RecipeError, UsageError
from installer.moving.means import moved_object
from installer.oci.digest import Digest
from installer.oci.reference import parse_reference, parse_repository
from tests.parts.charts import PLATFORM_IMAGES, package

REGISTRY = "r.enclave:5000"
TOKEN = {"token": "x"}
DIGEST = Digest("sha256:" + "a" * 64)


def relocation(*images: str, project: str = "airferry") -> Relocation:
    return Relocation(REGISTRY, project, frozenset(parse_reference(image) for image in images))


def traps() -> tuple[Chart, Relocation]:
    """The chart with all the traps, and a bundle that has every image that it is sure to ask for."""
    chart = Chart.load(package("traps"))
    objects = [item for upgrade in (False, True) for item in render(chart, TOKEN, upgrade=upgrade)]
    found = [item for item in references(objects) if item.certain and not item.test_only]
    return chart, Relocation(REGISTRY, "airferry", frozenset(item.reference() for item in found))


def render(chart: Chart, values: dict[str, Any], *, upgrade: bool = False) -> list[dict[str, Any]]:
    api_versions = ["demo.example/v1/Proxy"]
    return chart.render(values, release="r", namespace="n", api_versions=api_versions, upgrade=upgrade).objects


@pytest.mark.parametrize(
    ("name", "project", "expected"),
    [
        ("redis", "airferry", "airferry/docker.io/library/redis"),
        ("wandb/local", "airferry", "airferry/docker.io/wandb/local"),
        ("quay.io/a/b/c", "team/ferry", "team/ferry/quay.io/a/b/c"),
        ("quay.io/a/b", "", "quay.io/a/b"),
        ("localhost:5000/a", "p", "p/localhost__5000/a"),
        ("[FD00::a1]:5000/a", "p", "p/ipv6__fd00-0-0-0-0-0-0-a1__5000/a"),
        ("[::]/a", "p", "p/ipv6__0-0-0-0-0-0-0-0/a"),
        ("Registry.EXAMPLE/a", "p", "p/registry.example/a"),
    ],
)
def test_a_repository_keeps_its_host_in_the_enclave(name: str, project: str, expected: str) -> None:
    assert str(target(parse_repository(name), REGISTRY, project)) == f"{REGISTRY}/{expected}"


def test_a_second_name_is_what_stands_behind_a_prefix() -> None:
    assert str(target(parse_repository("nowhere.invalid/a/b"), REGISTRY, "p")) == f"{REGISTRY}/p/a/b"


def test_two_repositories_never_meet() -> None:
    names = ["a/b", "quay.io/a/b", "docker.io/quay.io/a/b", "quay.io:443/a/b", "a.b/c", "a.b:1/c", "localhost/a.b/c"]
    names += ["[::1]/c", "[::1:1]/c", "[::1]:1/c", "ipv6:1/c"]
    assert len({target(parse_repository(name), REGISTRY, "p") for name in names}) == len(names)


@pytest.mark.parametrize("name", ["[::1:5000/a", "[:::]/a", "[1]/a", "quay.io/" + "a/" * 125 + "a"])
def test_what_has_no_place_in_a_registry_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        relocation(f"{name}:1")


def test_tags_and_digests_stay() -> None:
    bundle = relocation()
    for suffix in (":1.0", f"@{DIGEST}", f":1.0@{DIGEST}"):
        moved = bundle.target(parse_reference(f"quay.io/a/b{suffix}"))
        assert str(moved) == f"{REGISTRY}/airferry/quay.io/a/b{suffix}"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"image": {"repository": "a/b", "tag": "1"}}, {"image": {"repository": "R/docker.io/a/b"}}),
        (
            {"image": {"registry": "docker.io", "repository": "a/b", "tag": "1"}},
            {"image": {"registry": "R/docker.io", "repository": "a/b"}},
        ),
        (
            {"image": {"registry": "", "repository": "quay.io/c/d"}},
            {"image": {"registry": "R/quay.io", "repository": "c/d"}},
        ),
        (
            {"image": {"registry": "a", "repository": "b", "tag": "1"}},
            {"image": {"registry": "R/docker.io", "repository": "a/b"}},
        ),
        (
            {"image": {"name": "quay.io/c/d", "base": "c/d", "tag": "1"}},
            {"image": {"name": "R/quay.io/c/d"}},
        ),
        ({"image": "a/b:1"}, {"image": "R/docker.io/a/b:1"}),
        ({"image": "a/b"}, {"image": "R/docker.io/a/b"}),
        ({"image": f"a/b:1@{DIGEST}"}, {"image": f"R/docker.io/a/b:1@{DIGEST}"}),
        ({"image": "redis"}, {"image": "R/docker.io/library/redis"}),
        (
            {"toolImage": "a/b:1", "imageName": "a/b"},
            {"toolImage": "R/docker.io/a/b:1", "imageName": "R/docker.io/a/b"},
        ),
        ({"deep": {"er": {"repository": "a/b"}}}, {"deep": {"er": {"repository": "R/docker.io/a/b"}}}),
        ({"global": {"image": {"repository": "a/b"}}}, {"global": {"image": {"repository": "R/docker.io/a/b"}}}),
        (
            {"list": [{"keep": 1}, {"repository": "a/b", "tag": "1"}, "text"]},
            {"list": [{"keep": 1}, {"repository": "R/docker.io/a/b", "tag": "1"}, "text"]},
        ),
        ({"images": ["a/b:1", "unknown/x:1"]}, {"images": ["R/docker.io/a/b:1", "unknown/x:1"]}),
        ({"image": "unknown/x:1", "other": {"repository": "unknown/x"}}, {}),
        ({"image": "R/docker.io/a/b:1", "other": {"repository": "R/docker.io/a/b"}}, {}),
        ({"person": {"name": "a/b"}, "url": "a/b:1"}, {}),
        ({"image": {"repository": ""}, "a": None, "b": 1, "c": []}, {}),
        ({"image": {"repository": "Not/Valid"}, "x": {"repository": 5}}, {}),
    ],
)
def test_spellings_of_an_image_in_values(values: dict[str, Any], expected: dict[str, Any]) -> None:
    def spelt(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: spelt(value) for key, value in node.items()}
        if isinstance(node, list):
            return [spelt(value) for value in node]
        return node.replace("R/", f"{REGISTRY}/airferry/") if isinstance(node, str) else node

    chart = Chart.load(package("demo-app", files={"values.yaml": "{}", "templates/deployment.yaml": ""}))
    # An empty chart under test: its own values would stand among the results.
    bundle = relocation("a/b:1", "quay.io/c/d:1", "redis:7")
    assert overrides(chart, spelt(values), bundle) == spelt(expected)


def test_all_traps_that_values_can_spring_are_disarmed() -> None:
    chart, bundle = traps()
    values = merged(TOKEN, overrides(chart, TOKEN, bundle))
    left = {
        item.found.text for upgrade in (False, True) for item in stray(render(chart, values, upgrade=upgrade), bundle)
    }
    # What is written into a template no value can change; that is said, not passed over.
    assert left == {
        "demo/install:1.0",
        "demo/upgrade:1.0",
        "docker.io/demo/backup:1.0",
        "docker.io/demo/extra:1.0",
        "docker.io/demo/in-custom:1.0",
        f"ghcr.io/demo/hard-coded@{DIGEST}",
    }


def test_a_chart_that_guards_its_registries_is_told_to_accept_this_one() -> None:
    chart, bundle = traps()
    found = overrides(chart, TOKEN, bundle)
    assert found["global"] == {"security": {"allowInsecureImages": True}}
    # The template fails for a foreign registry unless that is set.
    unguarded = merged(TOKEN, {key: value for key, value in found.items() if key != "global"})
    with pytest.raises(RecipeError, match="unrecognized image"):
        render(chart, unguarded)


def test_a_list_is_copied_whole_with_all_that_stands_in_it() -> None:
    chart, bundle = traps()
    first, second = overrides(chart, TOKEN, bundle)["sidecars"]
    assert first == {
        "name": "first",
        "image": {"repository": f"{REGISTRY}/airferry/docker.io/demo/sidecar", "tag": "1.0"},
    }
    assert second["args"] == ["keep-me"]


def test_values_that_point_into_the_enclave_already_are_left_alone() -> None:
    chart, bundle = traps()
    values = merged(TOKEN, overrides(chart, TOKEN, bundle))
    assert overrides(chart, values, bundle) == {}


def test_an_image_that_the_bundle_lacks_is_neither_moved_nor_forgotten() -> None:
    chart = Chart.load(package("demo-platform"))
    bundle = relocation(*(image for image in PLATFORM_IMAGES if "cache" not in image))
    found = overrides(chart, {}, bundle)
    assert "cache" not in found
    [left] = stray(chart.render(found, release="r", namespace="n").objects, bundle)
    assert str(left) == (
        f"docker.io/demo/cache:1.0: points outside, not to {REGISTRY} (StatefulSet r-cache, container cache)"
    )


def test_another_tag_of_a_known_repository_is_reported() -> None:
    chart = Chart.load(package("demo-platform"))
    bundle = relocation(*PLATFORM_IMAGES)
    values = {"web": {"image": {"tag": "2.0"}}, "cache": {"image": {"tag": "-bad"}}}
    objects = chart.render(merged(values, overrides(chart, values, bundle)), release="r", namespace="n").objects
    reasons = {item.found.text: item.reason for item in stray(objects, bundle)}
    assert reasons == {
        f"{REGISTRY}/airferry/docker.io/demo/httpd:2.0": "is not among the images of the bundle, which has 1.0",
        f"{REGISTRY}/airferry/docker.io/demo/cache:-bad": "is no image reference",
    }


def test_a_project_of_another_name_is_not_ours() -> None:
    chart = Chart.load(package("demo-app"))
    values = {"image": {"registry": f"{REGISTRY}/other/docker.io"}, "toolsImage": f"{REGISTRY}/airferry/x:1"}
    left = stray(
        chart.render(values, release="r", namespace="n").objects, relocation("demo/httpd:1.0", "demo/tools:1.0")
    )
    assert {item.reason for item in left} == {"is not among the images of the bundle"}


def test_an_image_by_digest_is_accepted_by_the_digest_it_has_in_the_bundle() -> None:
    chart = Chart.load(package("demo-platform"))
    other = Digest.of(b"other")
    bundle = Relocation.of([(image, DIGEST) for image in PLATFORM_IMAGES], REGISTRY, "airferry")
    for digest, accepted in ((DIGEST, True), (other, False)):
        values = {"worker": {"image": {"digest": str(digest)}}}
        values = merged(values, overrides(chart, values, bundle))
        left = stray(chart.render(values, release="r", namespace="n").objects, bundle)
        assert [item.found.container for item in left] == ([] if accepted else ["worker"])


def test_images_of_tests_count_only_when_asked_for() -> None:
    chart = Chart.load(package("demo-platform"))
    bundle = relocation(*PLATFORM_IMAGES)
    objects = chart.render(overrides(chart, {}, bundle), release="r", namespace="n").objects
    assert stray(objects, bundle) == []
    assert [item.found.text for item in stray(objects, bundle, tests=True)] == ["docker.io/demo/hard-coded-test:1.0"]


def test_suspicions_follow_the_values_too() -> None:
    chart, bundle = traps()
    known = Relocation(REGISTRY, "airferry", bundle.images | relocation("demo/solver:1.0", "demo/agent:1.0").images)
    values = merged(TOKEN, overrides(chart, TOKEN, known))
    left = {item.found.text for item in suspects(render(chart, values), known)}
    assert not {text for text in left if "solver" in text or "agent" in text}
    assert "quay.io/demo/from-env:1.0" in left


def test_what_a_rule_of_the_profile_names_must_not_lead_out() -> None:
    engine = {"apiVersion": "demo.example/v1", "kind": "Engine", "metadata": {"name": "e"}, "spec": {"flavor": "x"}}
    known = Relocation(REGISTRY, "", frozenset(), rules={"Engine": ["quay.io/demo/{spec.flavor}:1"]})
    [left] = stray([engine], known)
    assert (left.found.text, left.found.path) == ("quay.io/demo/x:1", "spec.flavor")
    assert stray([engine], relocation()) == []


def test_a_prefix_for_all_images_is_taken_away() -> None:
    chart = Chart.load(package("demo-app", files={"values.yaml": "{}", "templates/deployment.yaml": ""}))
    values = {"global": {"imageRegistry": "mirror.example", "repositoryPrefix": "r.example/m", "host": "h"}}
    found = overrides(chart, values, relocation())
    assert found == {"global": {"imageRegistry": "", "repositoryPrefix": ""}}
    assert overrides(chart, merged(values, found), relocation()) == {}


@pytest.mark.parametrize(
    ("values", "text", "paths"),
    [
        ({"a": {"image": {"registry": "q.io", "repository": "x", "tag": "1"}}}, "q.io/x:1", ["a.image"]),
        ({"a": {"repository": "q.io/x", "tag": "1"}, "b": {"repository": "q.io/x", "tag": "2"}}, "q.io/x:2", ["b"]),
        ({"a": {"repository": "q.io/x"}, "b": {"name": "q.io/x", "base": "x"}}, "q.io/x:v9", ["a", "b"]),
        ({"a": {"repository": "x", "tag": "1", "digest": DIGEST.text}}, f"docker.io/library/x@{DIGEST}", ["a"]),
        ({"toolImage": "q.io/x:1", "url": "q.io/x:1"}, "q.io/x:1", ["toolImage"]),
        ({"image": {"repository": "x", "tag": "-bad"}}, "x:-bad", ["image"]),
        ({"sub": {"global": {"image": "q.io/x:1"}}, "global": {"image": "q.io/x:1"}}, "q.io/x:1", ["global.image"]),
        ({"image": "q.io/x:1"}, "q.io/y:1", []),
    ],
)
def test_the_values_behind_a_reference_are_found(values: dict[str, Any], text: str, paths: list[str]) -> None:
    assert sources(values, text) == paths


def test_merging_changes_neither_side() -> None:
    below: dict[str, Any] = {"a": {"b": 1, "c": [1]}, "d": {"e": 1}}
    above: dict[str, Any] = {"a": {"c": [2]}, "d": 5, "f": {"g": None}}
    assert merged(below, above) == {"a": {"b": 1, "c": [2]}, "d": 5, "f": {"g": None}}
    assert below == {"a": {"b": 1, "c": [1]}, "d": {"e": 1}}
    result = merged(below, above)
    result["a"]["c"].append(3)
    assert above["a"]["c"] == [2]


def job(image: str, **pod: Any) -> dict[str, Any]:
    spec = {"template": {"spec": {"containers": [{"name": "a", "image": image}], **pod}}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": spec}


def test_an_object_takes_its_images_from_the_enclave_by_digest() -> None:
    bundle = Relocation.of([("quay.io/a/b:1", DIGEST), (f"redis@{DIGEST}", DIGEST)], REGISTRY, "airferry")
    item = job("quay.io/a/b:1", initContainers=[{"name": "i", "image": f"redis@{DIGEST}"}])
    before = copy.deepcopy(item)
    moved = moved_object(item, bundle)
    spec = moved["spec"]["template"]["spec"]
    assert spec["containers"] == [{"name": "a", "image": f"{REGISTRY}/airferry/quay.io/a/b:1@{DIGEST}"}]
    assert spec["initContainers"] == [{"name": "i", "image": f"{REGISTRY}/airferry/docker.io/library/redis@{DIGEST}"}]
    assert item == before, "the object itself is left alone"
    assert stray([moved], bundle) == []
    assert moved_object(moved, bundle) == moved


def test_an_object_keeps_images_that_the_bundle_lacks_and_all_else() -> None:
    bundle = Relocation.of([("quay.io/a/b:1", DIGEST)], REGISTRY, "airferry")
    item = job("quay.io/other/b:1", nodeSelector={"a": "quay.io/a/b"})
    assert moved_object(item, bundle) == item
    assert [each.found.text for each in stray([item], bundle)] == ["quay.io/other/b:1"]
    # Another tag of a repository that the bundle has is moved, and reported.
    (strayed,) = stray([moved_object(job("quay.io/a/b:2"), bundle)], bundle)
    assert strayed.found.text == f"{REGISTRY}/airferry/quay.io/a/b:2"


def test_a_resource_of_any_kind_is_moved_where_it_spells_images() -> None:
    bundle = Relocation.of([("quay.io/a/b:1", DIGEST)], REGISTRY, "airferry")
    spec = {"image": {"repository": "quay.io/a/b", "tag": "1"}, "sidecarImage": "quay.io/a/b:1"}
    moved = moved_object({"kind": "Thing", "spec": spec}, bundle)["spec"]
    assert moved["image"] == {"repository": f"{REGISTRY}/airferry/quay.io/a/b", "tag": "1"}
    assert moved["sidecarImage"] == f"{REGISTRY}/airferry/quay.io/a/b:1"


def test_where_names_stay_an_object_is_only_copied() -> None:
    bundle = Relocation.of([("quay.io/a/b:1", DIGEST)], REGISTRY, "airferry", names_stay=True)
    item = job("quay.io/a/b:1")
    assert moved_object(item, bundle) == item
    assert moved_object(item, bundle) is not item

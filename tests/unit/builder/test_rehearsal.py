"""`lock` installs at home as far as that needs no cluster, and says no where an enclave would."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from builder.recipe.lock import Lock
from builder.resolve.listing import image_list, image_table
from installer.chart.helm import Chart
from installer.chart.images import references
from installer.errors import AirferryError, ContentError, RecipeError
from tests.parts.workshop import Workshop

if TYPE_CHECKING:
    from pathlib import Path

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: it}\nspec: {containers: [{name: a, image: %s}]}\n"
BIG = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: big}}\ndata: {{a: {'x' * 1100000}}}\n"
THING = "apiVersion: demo.example/v1\nkind: Thing\nmetadata: {name: it}\n"
DEFINITION = json.dumps(
    {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.demo.example"},
        "spec": {
            "group": "demo.example",
            "names": {"kind": "Thing", "plural": "things"},
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True}],
        },
    }
)


def greeter(workshop: Workshop, **files: str) -> None:
    about = "apiVersion: v2\nname: greeter\nversion: 1.0.0\n"
    workshop.chart("greeter", files={"Chart.yaml": about, "values.yaml": "tag: '1'\nhub: ''\n", **files})


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def refused(workshop: Workshop, profile: dict[str, Any] | None = None, **recipe: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        workshop.lock(profile, **recipe)
    return caught.value.message


def test_a_chart_with_names_in_its_templates_is_edited_and_the_lock_says_how(workshop: Workshop) -> None:
    greeter(workshop, **{"templates/pod.yaml": POD % "docker.io/library/nginx:{{ .Values.tag }}"})
    lock = workshop.lock()
    (chart,) = lock.charts
    assert [edit.template for edit in chart.edits] == ["greeter/templates/pod.yaml"]
    assert chart.archive != chart.published
    assert Lock.decode(lock.encode()) == lock
    table = image_table(image_list(lock))
    assert "by an edit of greeter/templates/pod.yaml\n      for docker.io/library/nginx" in table
    made = Chart.load(workshop.archive(lock, lock.charts[0]))
    assert made.digest == chart.archive
    moved = made.render({"global": {"airferry": {"images": "r.enclave/p/"}}}, release="r", namespace="n")
    assert "r.enclave/p/docker.io/library/nginx:1" in {item.text for item in references(moved.objects)}


def test_an_edit_is_made_again_only_of_what_was_locked(workshop: Workshop) -> None:
    greeter(workshop, **{"templates/pod.yaml": POD % "docker.io/library/nginx:1"})
    lock = workshop.lock()
    workshop.charts.clear()
    greeter(workshop, **{"templates/pod.yaml": POD % "docker.io/library/nginx:2"})
    with pytest.raises(ContentError):
        workshop.archive(lock, lock.charts[0])


def test_values_that_begin_a_name_need_no_edit(workshop: Workshop) -> None:
    greeter(workshop, **{"templates/pod.yaml": POD % "{{ .Values.hub }}/demo/x:1"})
    lock = workshop.lock(charts=[{**workshop.charts[0], "values": {"hub": "quay.io"}}])
    assert (lock.charts[0].edits, lock.charts[0].prefixes) == ((), ("hub",))
    assert "chart greeter\n      by the values hub" in image_table(image_list(lock))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            {"templates/thing.yaml": THING},
            "Thing (demo.example/v1) it (chart greeter): nothing brings this kind before",
        ),
        ({"templates/thing.yaml": THING, "templates/crd.yaml": DEFINITION}, "nothing brings this kind before"),
        ({"templates/thing.yaml": THING, "crds/crd.yaml": DEFINITION}, ""),
        (
            {"templates/big.yaml": BIG},
            "ConfigMap big (chart greeter): 1100000 bytes of data, and such an object has at most 1048576",
        ),
        ({"files/big": os.urandom(700_000).hex()}, "Helm's record of it has about"),
    ],
)
def test_what_a_cluster_would_refuse_is_refused_at_home(workshop: Workshop, files: dict[str, str], words: str) -> None:
    greeter(workshop, **files)
    if words:
        assert words in refused(workshop)
    else:
        workshop.lock()


def test_a_kind_may_come_with_an_earlier_step_or_with_the_cluster(workshop: Workshop) -> None:
    workshop.file("crd.yaml", DEFINITION)
    workshop.file("thing.yaml", THING)
    assert "Thing" in refused(workshop, manifests=["thing.yaml"])
    workshop.lock(manifests=["thing.yaml"], kubernetes={"api_versions": ["demo.example/v1"]})
    workshop.lock(manifests=["thing.yaml"], kubernetes={"api_versions": ["demo.example/v1/Thing"]})
    first = {"manifests": ["crd.yaml"], "name": "kinds"}
    workshop.lock({"steps": [first, {"manifests": ["thing.yaml"], "name": "things"}]})
    assert "Thing" in refused(workshop, {"steps": [{"manifests": ["thing.yaml"], "name": "things"}, first]})


def test_a_refusal_says_where_and_what_to_do(workshop: Workshop) -> None:
    greeter(workshop, **{"templates/thing.yaml": THING})
    with pytest.raises(AirferryError) as caught:
        workshop.lock()
    assert caught.value.message.startswith("the installer would refuse this in the enclave:\n  ")
    assert "add the chart that does as an earlier step, or name it in `kubernetes.api_versions`" in caught.value.message
    assert "airferry lock" in caught.value.hint


EXTRA = "{{ if .Values.extra }}\n" + (POD % "quay.io/x/extra:1").replace("name: it", "name: extra") + "{{ end }}\n"
ASKED = {
    "steps": [{"chart": "greeter"}],
    "questions": {"extra": {"type": "boolean", "help": "More?", "to": [{"step": "greeter", "path": "extra"}]}},
}


def test_an_answer_that_asks_for_an_image_that_is_not_carried_is_told(workshop: Workshop) -> None:
    greeter(workshop, **{"templates/pod.yaml": POD % "docker.io/library/nginx:1", "templates/extra.yaml": EXTRA})
    workshop.lock(ASKED)
    assert (
        "note: a site that answers extra may ask for images that are not carried: quay.io/x/extra:1" in workshop.notes
    )


def test_an_image_that_only_an_answer_asks_for_moves_if_it_is_carried(workshop: Workshop) -> None:
    greeter(workshop, **{"templates/extra.yaml": EXTRA, "templates/pod.yaml": POD % "docker.io/library/nginx:1"})
    lock = workshop.lock(ASKED, more=("quay.io/x/extra:1",))
    assert {edit.template for edit in lock.charts[0].edits} == {
        "greeter/templates/extra.yaml",
        "greeter/templates/pod.yaml",
    }


def test_what_the_recipe_excludes_on_purpose_is_no_defect(workshop: Workshop) -> None:
    greeter(workshop, **{"templates/pod.yaml": POD % "quay.io/x/cache:1", "templates/web.yaml": EXTRA})
    exclude = [{"image": "quay.io/x/cache:1", "reason": "sites have their own"}]
    lock = workshop.lock(exclude=exclude, more=("quay.io/x/extra:1",))
    assert [item.source for item in lock.images] == ["quay.io/x/extra:1"]
    told = "quay.io/x/cache:1 is excluded, and asked for: a site has to switch off what does (sites have their own)"
    assert f"note: {told}" in workshop.notes

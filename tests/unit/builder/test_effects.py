"""Answers have an effect in the charts at hand, or `lock` says so and a site is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from builder.recipe.recipe import KubernetesEntry
from builder.resolve.effects import heard
from builder.resolve.on_site import on_site
from installer.apps.application import PLACEHOLDER, Application, application
from installer.apps.profile import parse_profile
from installer.errors import BundleError, RecipeError, SiteError
from tests.parts.demo_site import site_of
from tests.parts.workshop import Workshop

if TYPE_CHECKING:
    from pathlib import Path

    from installer.apps.profile import Profile, Step
    from installer.site.site import Site

# What it makes anew with each rendering must not pass for an effect.
RANDOM = """
apiVersion: v1
kind: Secret
metadata: {name: random}
stringData: {made: "{{ randAlphaNum 20 }}", given: "{{ .Values.given }}"}
"""
FAILING = '{{ if eq (.Values.mode | default "") "text" }}{{ fail "no such mode" }}{{ end }}'


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    made = Workshop(tmp_path)
    made.chart("demo-app", files={"templates/random.yaml": RANDOM, "templates/failing.yaml": FAILING})
    return made


def question(path: str, kind: str = "text", **more: Any) -> dict[str, Any]:
    return {"type": kind, "help": "A question.", "to": [{"step": "demo-app", "path": path}], **more}


def proven(workshop: Workshop, **questions: Any) -> Profile:
    found = workshop.needs({"steps": [{"chart": "demo-app"}], "questions": questions})
    assert found.application
    assert found.steps
    return heard(found.application, found.steps, KubernetesEntry()).profile


def refusal(workshop: Workshop, **questions: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        proven(workshop, **questions)
    return f"{caught.value.message}; {caught.value.hint}"


HEARD: dict[str, dict[str, Any]] = {
    "a text": question("greeting"),
    "a text whose example is the chart's own": question("greeting", example="hello"),
    "a text of a pattern": question("greeting", pattern="^(hello|x)$", example="hello", default="x"),
    "a number with one value but the default": question("replicas", "integer", default=1, minimum=1, maximum=2),
    "a choice": question("image.pullPolicy", "choice", choices=["IfNotPresent", "Always"]),
    "a required answer": question("image.tag", required=True),
    "a map": question("resources.limits", "map", example={"memory": "64Mi"}),
    "beside something random": question("given"),
    "a secret": {
        "type": "secret",
        "help": "A secret.",
        "secret": {"name": "database", "key": "password", "step": "demo-app"},
        "to": [{"step": "demo-app", "path": "given", "put": "secret-name"}],
    },
    "the key of a secret": {
        "type": "secret",
        "help": "A secret.",
        "secret": {"name": "database", "key": "password", "step": "demo-app"},
        "to": [{"step": "demo-app", "path": "given", "put": "secret-key"}],
    },
    "a secret that the chart knows by its name": {
        "type": "secret",
        "help": "A secret.",
        "secret": {"name": "random", "key": "password", "step": "demo-app"},
    },
    "one that reaches what it promises": question(
        "replicas", "integer", example=3, reaches={"kind": "Deployment", "name": "demo-app"}
    ),
    "one that reaches a kind": question("greeting", reaches={"kind": "ConfigMap"}),
    "one that reaches every pod": question("toolsImage", example="docker.io/demo/tools:2.0", reaches="every pod"),
}


@pytest.mark.parametrize("case", HEARD)
def test_an_answer_with_an_effect(workshop: Workshop, case: str) -> None:
    assert proven(workshop, answer=HEARD[case]).unheard == {}


def test_an_answer_that_counts_with_others(workshop: Workshop) -> None:
    switch = "{{ if and .Values.on (eq .Values.kind `two`) }}a: {{ .Values.depth }}{{ end }}\nb: {{ .Values.on }}"
    workshop.chart("demo-platform", files={"templates/deep.yaml": f"{switch}\nc: {{{{ .Values.kind }}}}"})
    to = {"type": "text", "help": "A question."}
    steps = [{"chart": "demo-app"}, {"chart": "demo-platform"}]
    questions = {
        "on": {**to, "type": "boolean", "to": [{"step": "demo-platform", "path": "on"}]},
        "kind": {**to, "example": "two", "to": [{"step": "demo-platform", "path": "kind"}]},
        # It says half of what it counts with; the other half is found by answering everything.
        "depth": {**to, "to": [{"step": "demo-platform", "path": "depth"}], "when": {"question": "on", "is": True}},
    }
    found = workshop.needs({"steps": steps, "questions": questions})
    assert found.application
    assert found.steps
    assert heard(found.application, found.steps, KubernetesEntry()).profile.unheard == {}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a path that nothing reads": (
        question("greting"),
        "questions.answer (step demo-app): chart demo-app 1.0.0 does not read it",
    ),
    "a pattern without an example": (question("greeting", pattern="^[0-9]+x$"), "give the question an `example`"),
    "a sample that the chart refuses": (question("mode"), "cannot be rendered with these values"),
    "a default and nothing else": (
        question("replicas", "integer", default=1, minimum=1, maximum=1),
        "the sample is what holds without an answer",
    ),
    "another object than it promises": (
        question("greeting", reaches={"kind": "Deployment", "name": "demo-app"}),
        "questions.answer (step demo-app): reaches ConfigMap demo-app, and not Deployment demo-app",
    ),
    "not every pod": (
        question("image.pullPolicy", "choice", choices=["IfNotPresent", "Always"], reaches="every pod"),
        "reaches Deployment demo-app, and not every pod",
    ),
    "an object with pods, but not these": (
        question("replicas", "integer", example=3, reaches="every pod"),
        "reaches Deployment demo-app, and not every pod",
    ),
    "a secret that nothing names": (
        {"type": "secret", "help": "A secret.", "secret": {"name": "database", "key": "p", "step": "demo-app"}},
        "questions.answer (step demo-app): nothing here names its Secret database",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_question_without_effect_is_a_defect_of_the_profile(workshop: Workshop, case: str) -> None:
    asked, words = WRONG[case]
    assert words in refusal(workshop, answer=asked)


class Controlled(Application):
    """An application whose controller adds something to the values of charts."""

    def controller_values(self, step: Step, site: Site | None) -> dict[str, Any]:
        return {"greeting": "controller", "replicas": "controller", "operator": "controller"}


def test_answers_stand_above_the_values_of_the_chart_and_what_its_controller_adds_below(
    workshop: Workshop, tmp_path: Path
) -> None:
    to = [{"step": "demo-app", "path": "password", "put": "secret-value"}]
    secret = {"name": "demo", "key": "password", "step": "demo-app"}
    asked = {"greeting": question("greeting"), "pw": question("password", "secret", secret=secret, to=to)}
    app = Controlled(workshop.steps({"steps": [{"chart": "demo-app"}], "questions": asked}))
    [step] = app.profile.steps
    given = {"greeting": "profile", "replicas": 2}
    assert on_site(app, step, given, None) == {**given, "operator": "controller"}
    site = site_of(app, tmp_path, greeting="answer", pw={"prompt": "Password"})
    answered = {"greeting": "answer", "replicas": 2, "operator": "controller", "password": PLACEHOLDER}
    assert on_site(app, step, given, site) == answered


def test_a_question_of_another_version_is_noted_and_its_answer_refused(workshop: Workshop, tmp_path: Path) -> None:
    asked = question("newer", optional=True, required=True)
    lock = workshop.lock({"steps": [{"chart": "demo-app"}], "questions": {"answer": asked}})
    why = "chart demo-app 1.0.0 does not read it"
    assert f"note: the answer answer has no effect: {why}" in workshop.notes
    blobs = lock.blobs_by_digest()
    texts = {item.name: blobs[item.digest].content.decode() for item in lock.documents if item.origin.kind == "inline"}
    assert json.loads(texts["profile.json"])["unheard"] == {"answer": why}
    assert f"# answer is not asked here: {why}." in texts["site.yaml"]
    assert "\nanswer:" not in texts["site.yaml"]
    app = application(parse_profile(texts["profile.json"].encode(), "profile.json", BundleError))

    app.check(site_of(app, tmp_path))
    assert app.open_questions(site_of(app, tmp_path)) == []
    with pytest.raises(SiteError, match=f"answer: has no effect here: {why}"):
        app.check(site_of(app, tmp_path, answer="text"))
    profile = {"steps": [{"chart": "demo-app"}], "questions": {"answer": asked}}
    with pytest.raises(SiteError, match=f"answer: has no effect here: {why}"):
        workshop.lock(profile, site=lambda app: site_of(app, tmp_path, answer="text"))


def test_misspelt_values_are_noted(workshop: Workshop) -> None:
    profile = {"steps": [{"chart": "demo-app", "name": "web", "values": {"replcas": 2}}]}
    charts = {"web": {"values": {"image": {"pullPolice": "Always"}}}}
    workshop.lock(profile, site=lambda app: site_of(app, workshop.folder, charts=charts))
    no = "chart demo-app 1.0.0 has no such value; did you mean"
    assert f"note: values of step web: replcas: {no} replicas?" in workshop.notes
    assert f"note: charts.web.values.image.pullPolice: {no} pullPolicy?" in workshop.notes

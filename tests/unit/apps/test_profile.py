"""profile.yaml: what an application is, and what is refused before it could be one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from installer.apps.profile import Profile, Ready, at_path, parse_profile, placed
from installer.errors import RecipeError

CHART: dict[str, Any] = {"chart": "app"}
RESOURCE: dict[str, Any] = {"resource": "thing.yaml"}
MANIFESTS: dict[str, Any] = {"manifests": ["more.yaml"], "name": "more"}
TEXT: dict[str, Any] = {"type": "text", "help": "What?", "to": [{"step": "app", "path": "a.b"}]}
SECRET: dict[str, Any] = {"type": "secret", "help": "What?", "secret": {"name": "app", "key": "k", "step": "app"}}


def profile(**keys: Any) -> Profile:
    """The profile with these keys; without steps, that of one chart."""
    return parse_profile(json.dumps({"steps": [CHART], **keys}).encode(), "profile.yaml", RecipeError)


def asking(**question: Any) -> dict[str, Any]:
    """A profile's keys with one question more."""
    return {"questions": {"size": {**TEXT, **question}}}


def test_the_smallest_profile() -> None:
    found = profile()
    assert (found.driver, found.namespace) == (None, "default")
    assert [step.label for step in found.steps] == ["app"]
    assert list(found.charts) == [("app", "")]


def test_everything_that_a_profile_can_say() -> None:
    steps = [
        {**CHART, "version": "1.2.3+b", "values": {"a": 1}, "namespace": "operators", "name": "first"},
        {"chart": "other", "values": "values.yaml"},
        {**RESOURCE, "controller": "first", "ready": {"condition": "Ready"}, "installs": {"chart": "app"}},
        {**MANIFESTS, "namespace": "here"},
    ]
    found = profile(
        steps=steps,
        driver="wandb",
        namespace="home",
        namespaces={"home": {"labels": {"a": "b"}}},
        questions={"size": {**TEXT, "to": [{"step": "first", "path": "a"}]}},
        pull_secret={"values": {"first": ["global.imagePullSecrets", "pullSecrets[]"]}},
        logs=[{"text": "no licence", "cause": "it has none", "next": "give it one"}],
    )
    assert [step.label for step in found.steps] == ["first", "other", "thing.yaml", "more"]
    assert list(found.charts) == [("app", "1.2.3+b"), ("other", ""), ("app", "")]
    third = found.step("thing.yaml")
    assert third.installs
    assert third.installs.values == "spec.values"
    assert Profile.model_validate(found.model_dump(by_alias=True)) == found
    assert set(Profile.json_schema()["required"]) == {"steps"}


# The keys of a profile → the defect, which names its place.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no steps": ({"steps": []}, "steps: "),
    "an unknown key": ({"stepps": []}, "stepps: unknown key; did you mean steps?"),
    "a step of no kind": ({"steps": [{"name": "a"}]}, "steps[0]: needs one of `chart`, `resource`, `manifests`"),
    "a step of two kinds": ({"steps": [{**CHART, **RESOURCE}]}, "steps[0]: needs one of `chart`, `resource`"),
    "a version of no chart": ({"steps": [{**RESOURCE, "version": "1"}]}, "`version` has no meaning for resource"),
    "values of manifests": ({"steps": [{**MANIFESTS, "values": {}}]}, "`values` has no meaning for manifests"),
    "values that are none": ({"steps": [{**CHART, "values": [1]}]}, "steps[0].values: neither the name of a values"),
    "a chart that installs": (
        {"steps": [{**CHART, "installs": {"chart": "b"}}]},
        "`installs` has no meaning for chart",
    ),
    "a rule for a chart": ({"steps": [{**CHART, "ready": {"condition": "A"}}]}, "`ready` has no meaning for chart"),
    "a chart's controller": ({"steps": [{**CHART, "controller": "app"}]}, "`controller` has no meaning for chart"),
    "manifests without a name": ({"steps": [{"manifests": ["a"]}]}, "steps[0]: manifests need a `name`"),
    "no manifests": ({"steps": [{"manifests": [], "name": "a"}]}, "steps[0].manifests: "),
    "two names alike": ({"steps": [CHART, CHART]}, "steps of the same name: app; give each a `name`"),
    "a controller that is none": ({"steps": [{**RESOURCE, "controller": "x"}]}, "there is no step 'x' (controller)"),
    "a name that Helm refuses": ({"steps": [{**CHART, "name": "A_b"}]}, "steps[0].name: "),
    "a path that is none": (
        {"steps": [{**RESOURCE, "installs": {"chart": "a", "values": "a..b"}}]},
        "not a path of keys",
    ),
    "no rule at all": ({"steps": [{**RESOURCE, "ready": {}}]}, "needs either `condition`, or `path` and `value`"),
    "half a rule": ({"steps": [{**RESOURCE, "ready": {"path": "status.a"}}]}, "needs either `condition`, or `path`"),
    "two rules": (
        {"steps": [{**RESOURCE, "ready": {"condition": "A", "path": "a", "value": "b"}}]},
        "needs either `condition`",
    ),
    "a driver that is no name": ({"driver": "../x"}, "driver: "),
    "a pull secret of no step": ({"pull_secret": {"values": {"b": ["a"]}}}, "pull_secret.values: there is no step 'b'"),
    "a question of every site": ({"questions": {"registry": TEXT}}, "registry is a key of every application"),
    "a question called like nothing": ({"questions": {"Size": TEXT}}, "questions.Size: "),
    "a question of no type": (asking(type="number"), "questions.size.type: "),
    "a question to no step": (asking(to=[{"step": "b", "path": "a"}]), "questions.size: there is no step 'b'; known"),
    "a question to nowhere": (asking(to=[]), "questions.size: goes nowhere: needs `to`"),
    "a condition on nothing": (
        asking(when={"question": "b", "is": True}),
        "questions.size: there is no question 'b'",
    ),
    "choices of a text": (asking(choices=["a"]), "`choices` belong to type choice, and only there"),
    "a choice without choices": (asking(type="choice"), "`choices` belong to type choice, and only there"),
    "a text with a Secret": (asking(secret=SECRET["secret"]), "`secret` (name, key, step) belongs to type secret"),
    "a secret without one": ({"questions": {"key": {**SECRET, "secret": None}}}, "`secret` (name, key, step) belongs"),
    "a Secret of no step": (
        {"questions": {"key": {**SECRET, "secret": {**SECRET["secret"], "step": "b"}}}},
        "questions.key: there is no step 'b'",
    ),
    "a secret by default": ({"questions": {"key": {**SECRET, "default": "x"}}}, "a secret has no default"),
    "a secret among values": (
        {"questions": {"key": {**SECRET, "to": [{"step": "app", "path": "a"}]}}},
        "a secret goes into values by `put: secret-name` or `secret-key`",
    ),
    "a text as a Secret": (asking(to=[{"step": "app", "path": "a", "put": "secret-key"}]), "others by `answer`"),
    "a text around nothing": (
        asking(to=[{"step": "app", "path": "a", "text": "x"}]),
        "`text` needs {} where the answer",
    ),
    "a text around a secret": (
        {"questions": {"key": {**SECRET, "to": [{"step": "app", "path": "a", "put": "secret-name", "text": "{}"}]}}},
        "goes with `put: answer` only",
    ),
    "required and a default": (asking(required=True, default="a"), "either `required` or a `default`"),
    "a pattern of a number": (asking(type="integer", pattern="a"), "`pattern` belongs to type text"),
    "a pattern that is none": (asking(pattern="("), "questions.size: `pattern`"),
    "a default of another type": (asking(type="integer", default="a"), "questions.size: `default`: Input should be"),
    "a default that is no choice": (
        asking(type="choice", choices=["a"], default="b"),
        "`default`: Input should be 'a'",
    ),
    "a default that is too large": (asking(type="integer", maximum=3, default=4), "`default`: Input should be less"),
    "a least text": (asking(minimum=1), "`minimum` and `maximum` belong to type integer"),
    "a log line that says nothing": ({"logs": [{"text": "a", "cause": "b", "next": "c"}]}, "logs[0].text: "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_profile_is_refused_with_its_place(case: str) -> None:
    keys, words = REFUSED[case]
    with pytest.raises(RecipeError) as caught:
        profile(**keys)
    assert words in caught.value.message
    assert caught.value.message.startswith("profile.yaml: ")
    assert "docs/profiles.md" in caught.value.hint


def test_paths_lead_through_mappings_only() -> None:
    document = {"a": {"b": {"c": 1}, "d": [2]}}
    assert [at_path(document, path) for path in ("a.b.c", "a.d", "a.x.y", "a.d.e")] == [1, [2], None, None]
    assert placed("a.b", 1) == {"a": {"b": 1}}
    assert at_path(placed("x.y.z", 3), "x.y.z") == 3


def test_a_rule_tells_itself() -> None:
    assert str(Ready(condition="Ready")) == "condition Ready"
    assert str(Ready(path="status.phase", value="Up")) == "status.phase = Up"

"""The template of site.yaml for an application whose author has written none: what every site says, then each question.

What is commented out shows a default or an example; it is valid as it stands, and so is all of it without comments.
"""

import importlib.resources
import json
import textwrap
from collections.abc import Iterator
from typing import Any

from installer.apps.application import Application
from installer.apps.questions import Question
from installer.site.answers import SiteAnswers

NAME = "site.yaml"
_WIDTH = 118
_SAMPLES: dict[str, Any] = {
    "text": "text",
    "integer": 1,
    "boolean": True,
    "list": ["text"],
    "map": {"key": "text"},
}


def site_template(application: Application | None) -> str:
    """The text of site.yaml; of no application, what a bundle of images needs to know."""
    head = importlib.resources.files("templates").joinpath(NAME).read_text("utf-8")
    if application is None:
        return head
    profile = application.profile
    lines = [*_comment("Where the application goes; the default is shown."), f"# namespace: {profile.namespace}", ""]
    for key, question in profile.questions.items():
        lines += [*_question(key, question, profile.unheard.get(key, "")), ""]
    own = application.answers.model_fields.keys() - SiteAnswers.model_fields.keys() - profile.questions.keys()
    if own:
        lines += [*_comment(f"Further keys of this application: {', '.join(sorted(own))}."), ""]
    if names := [name for step in profile.steps for name in application.names(step)[:1]]:
        lines += _comment("Charts that this cluster does without, since it has what they bring.")
        lines += [
            f"# without: [{names[0]}]",
            "",
            *_comment("Anything else, for one chart and in its words; no secrets."),
        ]
        lines += ["# charts:", *(f"#   {name}: {{namespace: {profile.namespace}, values: {{}}}}" for name in names), ""]
    return "\n".join([head, *lines])


def _question(key: str, question: Question, unheard: str) -> Iterator[str]:
    yield from _comment(question.help)
    if rules := ", ".join(_rules(question)):
        yield from _comment(f"({rules})")
    if unheard:
        yield from _comment(f"{key} is not asked here: {unheard}.")
        return
    shown = f"{key}: {_spelled(_shown(key, question))}"
    yield shown if question.required and not question.when else f"# {shown}"


def _rules(question: Question) -> Iterator[str]:
    if question.required:
        yield "required"
    if question.choices:
        yield f"one of {', '.join(question.choices)}"
    if question.minimum is not None:
        yield f"at least {question.minimum}"
    if question.maximum is not None:
        yield f"at most {question.maximum}"
    if question.pattern is not None:
        yield f"matches {question.pattern}"
    if question.default is not None:
        yield f"default: {_spelled(question.default)}"
    if question.when:
        yield f"counts only with `{question.when.question}: {_spelled(question.when.is_)}`"


def _shown(key: str, question: Question) -> Any:
    if question.type == "secret":
        return {"file": f"{key.replace('_', '-')}.secret"}
    shown = question.default if question.example is None else question.example
    if shown is not None:
        return shown
    return question.choices[0] if question.choices else _SAMPLES[question.type]


def _spelled(value: Any) -> str:
    """`value` as YAML in one line: JSON is YAML."""
    return json.dumps(value, ensure_ascii=False)


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(" ".join(text.split()), _WIDTH)]

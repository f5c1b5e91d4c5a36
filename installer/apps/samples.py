"""Sample answers, by which `airferry lock` proves that each answer has an effect in the charts at hand."""

from collections.abc import Iterator, Mapping
from typing import Any

from installer.apps.question_model import answers_model, is_answer
from installer.apps.questions import Question
from installer.site.answers import SiteAnswers
from installer.value import Value

Fragment = Mapping[str, Any]
"""A part of site.yaml: what it answers besides the registry."""

REGISTRY = {"registry": {"host": "registry.example:5000"}}
"""With a port, which templates that take names to pieces do not expect."""
PLACES = ({"secret": "sample-secret", "key": "sample-key"}, {"secret": "other-secret", "key": "other-key"})
"""Secrets in the cluster: neither name nor key is a default anywhere."""
_MADE_UP: Mapping[str, tuple[Any, ...]] = {
    "text": ("text", "other-text"),
    "integer": (1, 2),
    "boolean": (True, False),
    "list": (["text"], ["other-text"]),
    "map": ({"key": "text"}, {"key": "other-text"}),
    "secret": PLACES,
}


class Sample(Value):
    """The answers of two sites that differ in the answer to `key` alone; inside an answer it is dotted: `mysql.port`.

    One key may have several samples: it has an effect if one of them shows it.
    """

    key: str
    before: SiteAnswers
    after: SiteAnswers


def sampled(model: type[SiteAnswers], key: str, before: Fragment, after: Fragment) -> Sample:
    """The sample of two parts of site.yaml. Raises ValueError for what is no answer."""
    return Sample(key, *(model.model_validate({**REGISTRY, **part}) for part in (before, after)))


def question_samples(questions: Mapping[str, Question]) -> Iterator[Sample]:
    """The samples of each question that goes to values or resources; none of one whose pattern needs an `example`.

    First without any other answer than those that the question counts with, then beside answers to all others.
    """
    # A site that lacks a required answer is what the others are compared with.
    model = answers_model({key: item.model_copy(update={"required": False}) for key, item in questions.items()})
    values = {key: sample_values(item) for key, item in questions.items()}
    everything = {key: found[0] for key, found in values.items() if found}
    for key, question in questions.items():
        if not question.to:
            continue
        for others in ({}, everything):
            before = {name: value for name, value in others.items() if name != key} | _conditions(questions, question)
            for value in values[key]:
                yield sampled(model, key, before, {**before, key: value})


def least(questions: Mapping[str, Question]) -> dict[str, Any]:
    """Made-up answers to those questions that have to be answered."""
    values = {key: sample_values(item) for key, item in questions.items() if item.required}
    return {key: found[0] for key, found in values.items() if found}


def sample_values(question: Question) -> list[Any]:
    """Answers to `question` that differ, first one that is not its default; empty if none can be made up."""
    shown = [item for item in (question.example, question.default) if item is not None]
    varied = [changed for item in shown for changed in _varied(item)]
    bounds = [item for item in (question.minimum, question.maximum) if item is not None]
    found: list[Any] = []
    for item in (*shown, *question.choices, *varied, *bounds, *_MADE_UP.get(question.type, ())):
        if item not in found and is_answer(question, item):
            found.append(item)
    return sorted(found, key=lambda item: item == question.default)[:3]


def _varied(value: Any) -> list[Any]:
    """Values much like `value`, in the hope that they fit a pattern that it fits."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    return [f"{value}{value[-1]}", value[:-1]] if isinstance(value, str) and value else []


def _conditions(questions: Mapping[str, Question], question: Question) -> dict[str, Any]:
    """The answers without which `question` does not count."""
    found: dict[str, Any] = {}
    while question.when and question.when.question not in found:
        found[question.when.question] = question.when.is_
        question = questions[question.when.question]
    return found

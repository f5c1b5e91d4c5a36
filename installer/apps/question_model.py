"""The model of site.yaml for a profile: each question becomes a key, beside the keys of every application."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, create_model
from pydantic_core import SchemaError

from installer.apps.questions import Question
from installer.site.answers import SiteAnswers
from installer.site.secret import SecretSource

_MAX_TEXT = 4000


def answers_model(questions: Mapping[str, Question]) -> type[SiteAnswers]:
    """The keys that every application has, and those of `questions`."""
    fields: dict[str, Any] = {key: _field(question) for key, question in questions.items()}
    return create_model("Answers", __base__=SiteAnswers, __doc__="The keys of site.yaml.", **fields)


def defect(question: Question) -> str:
    """Why no answer can be checked, or default or example are no answer; empty if all is well."""
    try:
        checked = TypeAdapter[Any](_type(question))
    except SchemaError:
        return f"`pattern` is no regular expression: {question.pattern!r}"
    for name, value in (("default", question.default), ("example", question.example)):
        try:
            if value is not None:
                checked.validate_python(value, strict=True)
        except ValidationError as exc:
            return f"`{name}`: {exc.errors()[0]['msg']}"
    return ""


def is_answer(question: Question, value: Any) -> bool:
    """Whether `value` would be an answer to `question`."""
    try:
        TypeAdapter[Any](_type(question)).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def _field(question: Question) -> tuple[Any, Any]:
    """Type and default; a question without an answer is None, since its default is put in where it is used."""
    kind = _type(question)
    if question.required:
        return kind, Field(description=question.help)
    return kind | None, Field(default=None, description=question.help)


def _type(question: Question) -> Any:
    if question.type == "choice":
        return Literal[tuple(question.choices)]
    return {
        "text": Annotated[str, Field(min_length=1, max_length=_MAX_TEXT, pattern=question.pattern)],
        "integer": Annotated[int, Field(ge=question.minimum, le=question.maximum)],
        "boolean": bool,
        "list": list[Annotated[str, Field(max_length=_MAX_TEXT)]],
        "map": dict[str, Annotated[str, Field(max_length=_MAX_TEXT)]],
        "secret": SecretSource,
    }[question.type]

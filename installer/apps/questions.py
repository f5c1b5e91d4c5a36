"""Questions of a profile: what a site is asked, and where each answer goes."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from installer.schema import Strict

Type = Literal["text", "integer", "boolean", "choice", "list", "map", "secret"]
Part = Literal["answer", "secret-name", "secret-key", "secret-value"]
Scalar = str | int | bool


class Target(Strict):
    """A place that an answer goes to: the dotted `path` in the values of step `step`, or in the resource of that step.

    `put` is what goes there: the answer itself, or, of a secret, the name of its Secret or the key in it; the secret
    itself (`secret-value`) only where a chart has no other way, since it then stands in Helm's record. `text` holds
    `{}` where the answer stands in a longer text.
    """

    step: Annotated[str, Field(min_length=1, max_length=4096)]
    path: Annotated[str, Field(pattern=r"^[A-Za-z0-9_/-]+(\.[A-Za-z0-9_/-]+)*$")]
    put: Part = "answer"
    text: Annotated[str, Field(max_length=1000)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.text is not None and (self.put != "answer" or "{}" not in self.text):
            raise ValueError("`text` needs {} where the answer stands, and goes with `put: answer` only")
        return self


class SecretPlace(Strict):
    """The Secret that is made of an answer of type secret, in the namespace of step `step`."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
    key: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,253}$")]
    step: Annotated[str, Field(min_length=1, max_length=4096)]


class When(Strict):
    """A question counts only if the answer to question `question` is `is`."""

    question: str
    is_: Annotated[Scalar, Field(alias="is")]


class Reach(Strict):
    """Objects that an answer has to change: those of this kind, or one of them."""

    kind: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]{0,100}$")]
    name: Annotated[str, Field(min_length=1, max_length=253)] | None = None

    def fits(self, item: str) -> bool:
        """Whether `item`, as `Kind name` or `Kind namespace/name`, is meant."""
        kind, _, name = item.partition(" ")
        return kind == self.kind and self.name in (None, name.rpartition("/")[2])

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" if self.name else f"a {self.kind}"


class Question(Strict):
    """One key of site.yaml. `example` is what a template shows; `default` is what holds without an answer.

    A `secret` is never put into values: it becomes a Secret, whose name and key go there. With `optional`, `lock` takes
    it that the charts at hand do not read the answer; `reaches` says what the answer has to change at least.
    """

    type: Type
    help: Annotated[str, Field(min_length=1, max_length=1000)]
    to: Annotated[list[Target], Field(default_factory=list)]
    choices: list[str] = Field(default_factory=list)
    default: Any = None
    example: Any = None
    pattern: Annotated[str, Field(max_length=500)] | None = None
    minimum: int | None = None
    maximum: int | None = None
    required: bool = False
    optional: bool = False
    reaches: Literal["every pod"] | Reach | None = None
    when: When | None = None
    secret: SecretPlace | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.type == "choice") != bool(self.choices):
            raise ValueError("`choices` belong to type choice, and only there")
        if (self.type == "secret") != (self.secret is not None):
            raise ValueError("`secret` (name, key, step) belongs to type secret, and only there")
        if self.type == "secret" and self.default is not None:
            raise ValueError("a secret has no default")
        for target in self.to:
            if (self.type == "secret") == (target.put == "answer"):
                raise ValueError("a secret goes into values by `put: secret-name` or `secret-key`; others by `answer`")
        if not self.to and self.type != "secret":
            raise ValueError("goes nowhere: needs `to`")
        if self.required and self.default is not None:
            raise ValueError("either `required` or a `default`")
        if self.pattern is not None and self.type != "text":
            raise ValueError("`pattern` belongs to type text")
        if (self.minimum, self.maximum) != (None, None) and self.type != "integer":
            raise ValueError("`minimum` and `maximum` belong to type integer")
        return self

    @model_validator(mode="after")
    def _provable(self) -> Self:
        if self.reaches and not self.to:
            raise ValueError("`reaches` needs `to`")
        return self

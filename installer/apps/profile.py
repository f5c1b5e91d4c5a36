"""The profile: what an application is, as data that travels signed in the bundle.

A profile says which steps make up the application, in the order of their installation, and what a site is asked. Its
author writes YAML; `airferry lock` resolves it (versions of charts, names of documents) into the document
`profile.json` of the bundle, which has the same keys. docs/profiles.md explains them all.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from installer.apps.question_model import defect
from installer.apps.questions import Question
from installer.chart.spelling import rules
from installer.errors import AirferryError
from installer.oci.reference import parse_reference, parse_repository
from installer.schema import Strict, json_schema, validate
from installer.site.answers import SiteAnswers
from installer.strict_yaml import load_yaml

MAX_PROFILE = 4 << 20
DOCUMENT = "profile.json"
"""The name of the resolved profile among the bundle's documents."""
_PATH = re.compile(r"[A-Za-z0-9_/-]+(\.[A-Za-z0-9_/-]+)*", re.ASCII)


def _is_values(value: Any) -> Any:
    parts = value if isinstance(value, list) else [value]
    if value is None or (parts and all(isinstance(part, dict) or (isinstance(part, str) and part) for part in parts)):
        return value
    raise ValueError("neither the name of a values file, nor a mapping of values, nor a list of these")


def is_ascii(text: str) -> str:
    """`text`. Raises ValueError if it is more than printable ASCII."""
    if not (text.isascii() and text.isprintable()):
        raise ValueError("only printable ASCII can be carried: the other side may show nothing else")
    return text


def _is_rule(text: str) -> str:
    if wrong := rules.defect(text):
        raise ValueError(wrong)
    return text


def _is_place(text: str) -> str:
    if "{" in text or rules.defect(text):
        raise ValueError("not a path of keys like redis.*.image")
    return text


def _is_repository(text: str) -> str:
    try:
        full = str(parse_repository(text))
    except AirferryError as exc:
        raise ValueError(exc.message) from None
    if full != text:
        raise ValueError(f"not a full name: write {full}")
    return text


def _is_pattern(text: str) -> str:
    is_ascii(text)
    if "*" not in text and "?" not in text:
        try:
            parse_reference(text)
        except AirferryError as exc:
            raise ValueError(exc.message) from None
    return text


def _is_path(text: str) -> str:
    if not _PATH.fullmatch(text):
        raise ValueError("not a path of keys like spec.values")
    return text


# RFC 1123 labels, as Kubernetes asks of namespaces and Helm of releases.
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?$")]
ChartName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+_-]{0,126}$")]
File = Annotated[str, Field(min_length=1, max_length=4096)]
KeyPath = Annotated[str, AfterValidator(_is_path)]
StepName = Annotated[str, Field(min_length=1, max_length=4096)]
Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,60}$")]
RepositoryEnd = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._/-]{0,250}$")]
Values = Annotated[Any, AfterValidator(_is_values)]
Text = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(is_ascii)]
KindName = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]{0,62}\.v[a-z0-9]{1,30}(\.[a-z0-9-]{1,63})+$")]
"""A kind as kubectl writes it: `Zoo.v1.demo.example`."""
ObjectKind = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]{0,62}$")]
ImageRule = Annotated[str, Field(max_length=1000), AfterValidator(_is_rule)]
Place = Annotated[str, Field(max_length=300), AfterValidator(_is_place)]
FullPath = Annotated[str, Field(max_length=200, pattern=r"^[a-z0-9]+([._/-][a-z0-9]+)*$")]
FullRepository = Annotated[str, Field(max_length=400), AfterValidator(_is_repository)]
ImagePattern = Annotated[str, Field(min_length=1, max_length=600), AfterValidator(_is_pattern)]
"""An image, or a pattern over full names of images (`docker.io/library/redis:7`) in which `*` and `?` stand for any."""


class Exclusion(Strict):
    """Images that charts name and that are left out all the same, with the reason, for those who review it."""

    image: ImagePattern
    reason: Text

    @property
    def full(self) -> str:
        """The full name of the image, or the pattern."""
        return self.image if "*" in self.image or "?" in self.image else str(parse_reference(self.image))


class Ready(Strict):
    """When a resource is ready: its status condition `condition` is True, or the text at `path` equals `value`.

    Either counts for the present generation only, where the status says `observedGeneration`. `matches` are paths in
    the status, each with the path in the resource whose text has to stand there as well.
    """

    condition: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    path: KeyPath | None = None
    value: Annotated[str, Field(max_length=200)] | None = None
    matches: dict[KeyPath, KeyPath] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.condition is None) == (self.path is None) or (self.path is None) != (self.value is None):
            raise ValueError("needs either `condition`, or `path` and `value`")
        return self

    def __str__(self) -> str:
        return f"condition {self.condition}" if self.condition else f"{self.path} = {self.value}"


class Installs(Strict):
    """The chart that a resource's controller installs, as a release of the resource's name, in its namespace, with the
    values that stand at the path `values` of the resource."""

    chart: ChartName
    version: Version | None = None
    values: KeyPath = "spec.values"


class Step(Strict):
    """One step: a `chart` that Helm installs from here, a `resource` that a controller acts upon, or `manifests`.

    `name` is the release of a chart (default: the chart's name), and what manifests are called; a resource has a name
    of its own. Without `namespace` it is that of the profile. `values` is the name of a values file, the values, or a
    list of both that are merged in this order; when resolved it is the name of a document.
    `brings` are kinds that no template of the chart defines and that are there once it is installed: a hook of it, or
    its program, makes them. `manifests` are files, or folders of files, each a stream of YAML documents. `controller`
    names the step whose pods act upon a resource: when it is not ready in time, they are looked at. `succeeds` are
    charts that a former controller has installed for the resource, and whose release ends once it is ready.
    """

    chart: ChartName | None = None
    resource: File | None = None
    manifests: Annotated[list[File], Field(min_length=1)] | None = None
    name: Name | None = None
    namespace: Name | None = None
    version: Version | None = None
    values: Values = None
    brings: list[KindName] = Field(default_factory=list)
    installs: Installs | None = None
    ready: Ready | None = None
    controller: StepName | None = None
    succeeds: list[ChartName] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [kind for kind in ("chart", "resource", "manifests") if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError("needs one of `chart`, `resource`, `manifests`")
        only = {"version": "chart", "values": "chart", "brings": "chart"}
        only |= dict.fromkeys(("installs", "ready", "controller", "succeeds"), "resource")
        for key, kind in only.items():
            if getattr(self, key) not in (None, []) and kind != kinds[0]:
                raise ValueError(f"`{key}` has no meaning for {kinds[0]}")
        if self.manifests and not self.name:
            raise ValueError("manifests need a `name`")
        return self

    @property
    def label(self) -> str:
        """What the step is called: its name, else its chart's name or the resource's file."""
        return self.name or self.chart or self.resource or ""


class NamespaceEntry(Strict):
    """What a namespace gets when it is made; `labels` also set its Pod Security level."""

    labels: dict[str, str] = Field(default_factory=dict)


class PullSecret(Strict):
    """Where pods learn the pull secret's name: at these paths of the values, by step; of all others the service account
    `default` of the namespace gets it. A path that ends in `[]` takes plain names, else maps with `name`."""

    values: dict[StepName, list[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+(\[\])?$")]]] = Field(
        default_factory=dict
    )


class LogPattern(Strict):
    """What an operator's log line means: a text in it, the cause for people, and the next step."""

    text: Annotated[str, Field(min_length=3, max_length=300)]
    cause: Annotated[str, Field(min_length=1, max_length=500)]
    next: Annotated[str, Field(min_length=1, max_length=500)]


class Contract(Strict):
    """The contract of an artifact: the whole number at `key`, which has to be one of `supported`; documents without it
    follow the first of these."""

    key: KeyPath
    supported: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]


class NamedImage(Strict):
    """An image that an artifact names: whether it has to, and the field of the resource that makes it superfluous."""

    required: bool = True
    unless: KeyPath | None = None


class FoundImage(Strict):
    """An image that an artifact was found to name, by its full name; not needed where the resource has `unless`."""

    image: Annotated[str, Field(max_length=600)]
    unless: KeyPath | None = None


class Artifact(Strict):
    """An OCI artifact of YAML documents that a controller fetches by itself, and that names images which it runs.

    It is fetched from `repository` (in an enclave perhaps from the paths `also_at` below its project), with the tag
    that `versions` of the profile gives it, for the resource of `step`, where the tag goes to the field `version_at`.
    `readers` are charts whose controllers read it, with the range of versions that read it as said here. `images` is a
    closed list: what the documents name in any other place is an error. What stands at one of the places `first_file`
    counts in the first file alone that has the map above it.
    """

    repository: FullRepository
    also_at: list[FullPath] = Field(default_factory=list)
    step: StepName
    version_at: KeyPath
    readers: dict[ChartName, Text] = Field(default_factory=dict)
    contract: Contract | None = None
    first_file: list[Place] = Field(default_factory=list)
    images: Annotated[dict[Place, NamedImage], Field(min_length=1)]
    found: dict[str, FoundImage] = Field(default_factory=dict)
    """What its documents name, by the place there; `airferry lock` finds it."""

    @property
    def name(self) -> str:
        """The last part of its repository."""
        return self.repository.rpartition("/")[2]

    def needed(self, resource: Mapping[str, Any]) -> list[str]:
        """The full names of the images that its documents name and `resource` needs, each once, sorted."""
        asked = (item for item in self.found.values() if not item.unless or at_path(resource, item.unless) is None)
        return sorted({item.image for item in asked})


class Smoke(Strict):
    """A Service that has to answer at last: HTTP at `port` for `path`, with any status below 500 but 404.

    It is that of a namespace to which the step `step` goes.
    """

    step: StepName
    service: Name
    port: Annotated[int, Field(ge=1, le=65535)]
    path: Annotated[str, Field(pattern=r"^/[A-Za-z0-9._~/-]{0,200}$")] = "/"


class Profile(Strict):
    """A profile, as written or resolved. Steps have names that differ.

    `versions` says for each version that a recipe states which images it is the tag of, by the end of their
    repository, such as `demo/web`. `version_from` is the one that the bundle is called by, default the first.
    """

    driver: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")] | None = None
    namespace: Name = "default"
    namespaces: dict[Name, NamespaceEntry] = Field(default_factory=dict)
    steps: Annotated[list[Step], Field(min_length=1)]
    questions: dict[Key, Question] = Field(default_factory=dict)
    versions: dict[Key, list[RepositoryEnd]] = Field(default_factory=dict)
    version_from: Key | None = None
    pull_secret: PullSecret = PullSecret()
    logs: list[LogPattern] = Field(default_factory=list)
    images: dict[ObjectKind, list[ImageRule]] = Field(default_factory=dict)
    artifacts: list[Artifact] = Field(default_factory=list)
    smoke: list[Smoke] = Field(default_factory=list)
    accept_suspected: list[ImagePattern] = Field(default_factory=list)
    exclude: list[Exclusion] = Field(default_factory=list)
    settled: list[str] = Field(default_factory=list)
    """Full names of what looks like an image and is none, or is left out on purpose; `airferry lock` finds them."""
    unheard: dict[str, str] = Field(default_factory=dict)
    """Questions without effect in these charts, each with what would know it; `airferry lock` finds them."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [step.label for step in self.steps]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"steps of the same name: {', '.join(twice)}; give each a `name`")
        for step in self.steps:
            if step.controller and step.controller not in names:
                raise ValueError(f"there is no step {step.controller!r} (controller); known are {', '.join(names)}")
        self._check_questions(names)
        if self.version_from and self.version_from not in self.versions:
            raise ValueError(f"version_from: there is no version {self.version_from!r}")
        self._check_artifacts()
        for what, named in (
            ("pull_secret.values", self.pull_secret.values),
            ("smoke", [item.step for item in self.smoke]),
        ):
            for name in named:
                if name not in names:
                    raise ValueError(f"{what}: there is no step {name!r}; known are {', '.join(names)}")
        return self

    def _check_artifacts(self) -> None:
        for artifact in self.artifacts:
            if not any(step.resource and not step.installs for step in self.steps if step.label == artifact.step):
                raise ValueError(
                    f"artifacts: {artifact.name}: step {artifact.step!r} is no resource, or one that installs"
                )

    def _check_questions(self, names: list[str]) -> None:
        if taken := sorted(self.questions.keys() & SiteAnswers.model_fields.keys()):
            raise ValueError(f"questions: {', '.join(taken)} is a key of every application: choose another name")
        for key, question in self.questions.items():
            if wrong := defect(question):
                raise ValueError(f"questions.{key}: {wrong}")
            if question.when and question.when.question not in self.questions:
                raise ValueError(f"questions.{key}: there is no question {question.when.question!r}")
            asked = [target.step for target in question.to] + ([question.secret.step] if question.secret else [])
            for step in asked:
                if step not in names:
                    raise ValueError(f"questions.{key}: there is no step {step!r}; known are {', '.join(names)}")

    @property
    def charts(self) -> Iterator[tuple[str, str]]:
        """Name and version (empty if unresolved) of every chart of the steps, those that controllers install too."""
        for step in self.steps:
            if step.chart:
                yield step.chart, step.version or ""
            elif step.installs:
                yield step.installs.chart, step.installs.version or ""

    def step(self, label: str) -> Step:
        """The step of this name. Raises KeyError."""
        return {step.label: step for step in self.steps}[label]

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """The JSON Schema of a profile, for editors."""
        return json_schema(Profile, "profile.yaml of airferry")


def parse_profile(data: bytes, name: str, error: type[AirferryError]) -> Profile:
    """The profile in the YAML (or JSON) document `data`. Raises `error` naming the file `name` and every defect."""
    return validate(Profile, load_yaml(data, name, error), name, error, hint="docs/profiles.md explains every key.")


def dumped(profile: Profile) -> str:
    """`profile` as a JSON document of one line, keys in the order of its author; `parse_profile` reads it."""
    document = profile.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def at_path(document: Mapping[str, Any], path: str) -> Any:
    """What stands at the dotted `path`; None if nothing does."""
    node: Any = document
    for key in path.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def placed(path: str, value: Any) -> dict[str, Any]:
    """A mapping that holds `value` at the dotted `path` and nothing else."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)

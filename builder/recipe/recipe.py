"""The recipe: what a bundle is made of, as a release engineer writes it.

A recipe is one YAML document. Its reader refuses unknown keys, with the key that was probably meant, and reports
every defect at once. File names in it are relative to the recipe's folder.
"""

import datetime as dt
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from installer.apps.profile import ChartName, Exclusion, ImagePattern, Key, Text, Values, Version, is_ascii
from installer.apps.profile import Name as ReleaseName
from installer.errors import AirferryError, RecipeError
from installer.files import read_bounded
from installer.oci.model import Platform
from installer.oci.reference import Repository, parse_reference
from installer.registry.endpoint import ANSWER_SECONDS, MOST_SECONDS, PAUSE_SECONDS
from installer.schema import Strict, json_schema, validate
from installer.strict_yaml import load_yaml

RECIPE_NAME = "recipe.yaml"
MAX_RECIPE = 4 * 1024 * 1024
MAX_MINORS = 30
"""Minor versions of Kubernetes that a chart is rendered for: ten years of them."""
LATE = 999
"""The patch that stands for the last one of a minor version."""
_STAMP = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", re.ASCII)

Include = Literal["profile", "everything"]
Undecided = Literal["error", "note"]


def stamp(moment: dt.datetime) -> str:
    """`moment` as RFC 3339 in UTC, whole seconds: `2026-11-23T17:00:00Z`."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _stamp_text(value: Any) -> Any:
    """YAML reads an unquoted date or time as such; both become text here, a date meaning its first second."""
    if isinstance(value, dt.datetime):
        return stamp(value if value.tzinfo else value.replace(tzinfo=dt.UTC))
    return f"{value.isoformat()}T00:00:00Z" if isinstance(value, dt.date) else value


def _is_stamp(text: str) -> str:
    try:
        if _STAMP.fullmatch(text):
            dt.datetime.fromisoformat(text)
            return text
    except ValueError:
        pass
    raise ValueError("not a time; write it in UTC like 2027-01-31T00:00:00Z")


def _is_reference(text: str) -> str:
    try:
        parse_reference(text)
    except AirferryError as exc:
        raise ValueError(exc.message) from None
    return text


def _is_platform(text: str) -> str:
    try:
        Platform.parse(text)
    except AirferryError as exc:
        raise ValueError(f"{exc.message}; {exc.hint}") from None
    return text


def _is_host(text: str) -> str:
    try:
        Repository(text, "x")
    except AirferryError as exc:
        raise ValueError(exc.message) from None
    return text


def _is_url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", text, re.ASCII):
        raise ValueError("not an http(s) URL without user name, query and fragment")
    return text.rstrip("/")


def _is_chart_repository(text: str) -> str:
    if not text.startswith("oci://"):
        return _is_url(text)
    host, _, path = text.removeprefix("oci://").rstrip("/").partition("/")
    try:
        Repository(host, path or "x")
    except AirferryError as exc:
        raise ValueError(f"{exc.message}; write it like oci://ghcr.io/folder (without the chart's name)") from None
    return text.rstrip("/")


# What the bundle can carry (installer/bundle/FORMAT.md), so that a recipe is refused before anything is fetched.
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")]
VersionRange = Annotated[str, Field(pattern=r"^[\x21-\x7e]([\x20-\x7e]{0,198}[\x21-\x7e])?$")]
File = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(is_ascii)]
ImageText = Annotated[str, Field(max_length=600), AfterValidator(_is_reference)]
PlatformText = Annotated[str, AfterValidator(_is_platform)]
Stamp = Annotated[str, BeforeValidator(_stamp_text), AfterValidator(_is_stamp)]


def _is_address(text: str) -> str:
    if not re.fullmatch(r"[!-~]+", text, re.ASCII) or "#" in text:
        raise ValueError("not the address or the relative path of a document, without the fragment (#…)")
    return text


SchemaAddress = Annotated[str, Field(max_length=4096), AfterValidator(_is_address)]


class ChartEntry(Strict):
    """A chart: `name` at `version` from `repository` (http, https or oci), or the archive or folder at `path`.

    Without both it is in the recipe's `chart_repository`. `version` is one version, or a range as Helm reads it; a
    chart at `path` needs none. `optional_values` are merged over the values when optional parts are looked for: what
    these parts cannot be rendered without. `schemas` are files with the documents to which the chart's schemas refer,
    by address: they become parts of these schemas. `release`, `namespace` and `values` are for a recipe without a
    profile.
    """

    name: ChartName
    version: VersionRange | None = None
    repository: Annotated[str, AfterValidator(_is_chart_repository)] | None = None
    path: File | None = None
    release: ReleaseName | None = None
    namespace: ReleaseName | None = None
    values: Values = None
    optional_values: Values = None
    schemas: dict[SchemaAddress, File] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.repository is None) == (self.path is None):
            raise ValueError("needs either `repository` or `path`")
        if self.repository and not self.version:
            raise ValueError("needs `version`: one version, or a range like ^1.2.0")
        return self

    @property
    def identity(self) -> tuple[str | None, ...]:
        """What tells it from other entries."""
        return self.name, self.version, self.path, self.release

    @property
    def asked(self) -> str:
        """The version or range that the recipe asks for; empty for whatever is at `path`."""
        return self.version or ""


def _or_text(schema: dict[str, Any]) -> None:
    """Make `schema` that of a text too."""
    other = dict(schema)
    schema.clear()
    schema["anyOf"] = [{"type": "string"}, other]


class ImageEntry(Strict):
    """An image: `ref` at a registry; or from an OCI layout folder, a docker archive, or the local engine.

    `name` is the reference by which the cluster asks for it; `entry` is what it is called in the layout or archive,
    where that differs, in an archive also `@N` (place N of its manifest.json, from 0 on), or empty for the only image.
    """

    model_config = ConfigDict(json_schema_extra=_or_text)

    ref: ImageText | None = None
    layout: File | None = None
    archive: File | None = None
    engine: ImageText | None = None
    name: ImageText | None = None
    entry: Annotated[str, Field(max_length=600)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"ref": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(place is not None for place in (self.ref, self.layout, self.archive, self.engine)) != 1:
            raise ValueError("needs one of: a reference, `layout`, `archive`, `engine`")
        if (self.layout or self.archive) and not self.name:
            raise ValueError("`layout` and `archive` need `name`: the reference by which the cluster asks for it")
        if self.entry is not None and not (self.layout or self.archive):
            raise ValueError("`entry` is for layout and archive")
        if self.ref and self.name:
            raise ValueError("`name` is for layout, archive and engine; to fetch from elsewhere use `substitutions`")
        if self.name and "@" in self.name:
            raise ValueError("`name` is a tag, not a digest")
        return self

    @property
    def asked(self) -> str:
        """The name by which the cluster asks for the image, as written."""
        return self.name or self.ref or self.engine or ""


KubernetesVersion = Annotated[str, Field(pattern=r"^v?1\.\d{1,3}(\.\d{1,3})?$")]


class KubernetesEntry(Strict):
    """The clusters that charts are rendered for: from the version `from` up to `to`, and further API versions.

    A minor version (1.34) means all its patches. One of the two alone means that version, and without both it is Helm's
    own default.
    """

    from_: Annotated[KubernetesVersion | None, Field(alias="from")] = None
    to: KubernetesVersion | None = None
    api_versions: list[Text] = Field(default_factory=list)

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.stated and not self._ends[0] <= self._ends[1]:
            raise ValueError(f"`from` {self.from_} is newer than `to` {self.to}")
        if len(self.versions) > MAX_MINORS:
            raise ValueError(f"`from` {self.from_} `to` {self.to} are more than {MAX_MINORS} minor versions")
        return self

    @property
    def stated(self) -> bool:
        """Whether the recipe says a version."""
        return bool(self.from_ or self.to)

    @property
    def versions(self) -> tuple[tuple[str, ...], ...]:
        """For each minor version, oldest first, the versions that stand for it: one, or its first and its last patch.

        Of an unstated version: Helm's own default, as an empty text, and one that no cluster has.
        """
        if not self.stated:
            return (("", f"1.{LATE}.{LATE}"),)
        first, last = self._ends
        found = []
        for minor in range(first[0], last[0] + 1):
            oldest = first[1] if minor == first[0] else 0
            newest = last[1] if minor == last[0] else LATE
            found.append(tuple(f"1.{minor}.{patch}" for patch in sorted({oldest, newest})))
        return tuple(found)

    @property
    def version(self) -> str:
        """The one among `versions` that counts where one is enough: the first of the newest minor version."""
        return self.versions[-1][0]

    @property
    def _ends(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Minor version and patch of the oldest and of the newest version."""
        return _numbers(self.from_ or self.to, 0), _numbers(self.to or self.from_, LATE)


def _numbers(version: str | None, patch: int) -> tuple[int, int]:
    """Minor version and patch in `version`; `patch` where it has none."""
    _, minor, *rest = (version or "").split(".")
    return int(minor), int(rest[0]) if rest else patch


class RegistryEntry(Strict):
    """How one registry is reached: another endpoint, plain HTTP, a certificate authority of its own (PEM file), token
    servers in other domains, how long its answers and the pauses that it asks for are waited for.

    Without `plain_http`, only a registry on this machine and without `ca` is asked without TLS.
    """

    mirror: Annotated[str, AfterValidator(_is_url)] = ""
    plain_http: bool | None = None
    ca: File | None = None
    token_hosts: list[Annotated[str, AfterValidator(_is_host)]] = Field(default_factory=list)
    answer_seconds: Annotated[int, Field(ge=1, le=MOST_SECONDS)] = ANSWER_SECONDS
    pause_seconds: Annotated[int, Field(ge=0, le=MOST_SECONDS)] = PAUSE_SECONDS

    @model_validator(mode="after")
    def _one_scheme(self) -> Self:
        if self.mirror and self.plain_http is not None:
            raise ValueError("`mirror` says http or https itself: remove `plain_http`")
        if self.mirror and {"answer_seconds", "pause_seconds"} & self.model_fields_set:
            raise ValueError("`mirror` is asked instead: its own host has `answer_seconds` and `pause_seconds`")
        return self


def _housed(chart: Any, repository: Any) -> Any:
    housed = not isinstance(chart, dict) or chart.get("repository") or chart.get("path")
    return chart if housed else {**chart, "repository": repository}


class Recipe(Strict):
    """A recipe as read; the comments in the recipes that `airferry init` writes explain every key.

    Without a profile, each chart is a step of the application, in this order, and `manifests` are the last one.
    `files` travel along, however large.
    """

    name: Name
    version: Version = ""
    profile: File | None = None
    versions: dict[Key, Version] = Field(default_factory=dict)
    sequence: Annotated[int, Field(ge=1, lt=2**53)] = 1
    created: Stamp | None = None
    expires: Stamp | None = None
    platforms: list[PlatformText] = Field(default_factory=lambda: ["linux/amd64"], min_length=1)
    kubernetes: KubernetesEntry = KubernetesEntry()
    include: Include = "profile"
    chart_repository: Annotated[str, AfterValidator(_is_chart_repository)] | None = None
    charts: list[ChartEntry] = Field(default_factory=list)
    manifests: list[File] = Field(default_factory=list)
    images: list[ImageEntry] = Field(default_factory=list)
    accept_suspected: list[ImagePattern] = Field(default_factory=list)
    exclude: list[Exclusion] = Field(default_factory=list)
    suspected: Undecided = "error"
    referrers: bool = False
    site: File | None = None
    documents: list[File] = Field(default_factory=list)
    files: list[File] = Field(default_factory=list)
    registries: dict[Annotated[str, AfterValidator(_is_host)], RegistryEntry] = Field(default_factory=dict)
    substitutions: dict[Text, Text] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, value: Any) -> Any:
        """What stands once in the recipe and is meant wherever nothing else is said."""
        if not isinstance(value, dict):
            return value
        repository, charts = value.get("chart_repository"), value.get("charts")
        if not repository or not isinstance(charts, list):
            return value
        return {**value, "charts": [_housed(chart, repository) for chart in charts]}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not (self.profile or self.charts or self.manifests or self.images or self.files):
            raise ValueError("names nothing to carry: no profile, charts, manifests, images or files")
        if self.profile:
            self._check_profile()
        elif self.versions:
            raise ValueError("`versions` needs a profile, which says the images that each stands for")
        elif not self.version:
            raise ValueError("needs `version`")
        for what, names in (
            ("platform", self.platforms),
            ("chart", [" ".join(filter(None, chart.identity)) for chart in self.charts]),
            ("release", [] if self.profile else [chart.release or chart.name for chart in self.charts]),
            ("image", [str(parse_reference(image.asked)) for image in self.images]),
            ("exclusion", [item.full for item in self.exclude]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what} stands twice: {', '.join(twice)}")
        if self.created and self.expires and self.expires <= self.created:
            raise ValueError("expires before it is created")
        return self

    def _check_profile(self) -> None:
        """What an application is made of stands in one place."""
        if not self.version and not self.versions:
            raise ValueError("needs `version`, or `versions` to take it from")
        if self.manifests:
            raise ValueError("`manifests` belong into a step of the profile")
        for number, chart in enumerate(self.charts):
            for key in ("release", "namespace", "values"):
                if getattr(chart, key) is not None:
                    inside = "name" if key == "release" else key
                    raise ValueError(
                        f"charts[{number}]: `{key}` belongs into the chart's step in the profile (`{inside}`)"
                    )

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """The JSON Schema of a recipe, for editors."""
        return json_schema(Recipe, "recipe.yaml of airferry")

    @classmethod
    def load(cls, path: Path) -> "Recipe":
        """The recipe in the file `path`. Raises RecipeError naming every defect, StorageError."""
        try:
            return parse_recipe(read_bounded(path, MAX_RECIPE, RecipeError), path.name)
        except RecipeError as exc:
            if not isinstance(exc.__cause__, FileNotFoundError):
                raise
            hint = "`airferry init` writes a recipe to begin with."
            raise RecipeError(f"there is no {path}", hint=hint) from exc


def parse_recipe(data: bytes, file_name: str) -> Recipe:
    """The recipe in the YAML document `data`. Raises RecipeError naming every defect."""
    document = load_yaml(data, file_name, RecipeError)
    return validate(
        Recipe, document, file_name, RecipeError, hint="`airferry init` writes a recipe that explains itself."
    )

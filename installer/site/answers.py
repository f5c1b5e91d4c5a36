"""The keys of site.yaml that every application has: the registry, namespaces, values of single charts.

An application's own keys stand beside them: its model of answers extends `SiteAnswers`.
"""

from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from installer.chart.relocation import PROJECT
from installer.registry.endpoint import ANSWER_SECONDS, MOST_SECONDS, PAUSE_SECONDS
from installer.schema import Strict
from installer.site.answer_types import File, Label, Project, RegistryHost, SecretName, Text
from installer.site.secret import SecretSource

PULL_SECRET = "airferry-registry"  # noqa: S105 - a name


class Login(Strict):
    """A user of the registry."""

    username: Text
    password: SecretSource

    @model_validator(mode="after")
    def _readable(self) -> Self:
        if self.password.in_cluster:
            raise ValueError("the password is needed here, not in the cluster: use file, env or prompt")
        return self


class RegistryAnswers(Strict):
    """The registry that the images are loaded into, and from which the nodes pull.

    With `on_nodes` nobody answers at `host`: it only stands in the names by which the nodes have the images.
    With `names: kept` pods ask for upstream names, since each node knows the registry as a mirror of the upstream ones.
    An answer of the registry is waited for `answer_seconds`, a pause that it asks for may have `pause_seconds`.
    `pull_secret` is true for a Secret made from `credentials`, or the name of one that is in every namespace already.
    """

    host: RegistryHost
    project: Project = PROJECT
    ca: File | None = None
    plain_http: bool = False
    credentials: Login | None = None
    token_hosts: list[RegistryHost] = Field(default_factory=list)
    answer_seconds: int = Field(ANSWER_SECONDS, ge=1, le=MOST_SECONDS)
    pause_seconds: int = Field(PAUSE_SECONDS, ge=0, le=MOST_SECONDS)
    pull_secret: SecretName = False
    on_nodes: bool = False
    names: Literal["moved", "kept"] = "moved"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.plain_http and self.ca:
            raise ValueError("`ca` has no meaning with `plain_http`")
        if self.pull_secret is True and not self.credentials:
            raise ValueError("`pull_secret` needs `credentials`, or is the name of a Secret that is in the cluster")
        if self.on_nodes and self.names == "kept":
            raise ValueError("`names: kept` is for nodes with mirrors; with `on_nodes` there is no registry to mirror")
        if self.on_nodes and (self.ca or self.plain_http or self.credentials or self.token_hosts):
            raise ValueError(
                "with `on_nodes` there is no registry: `ca`, `plain_http`, `credentials`, `token_hosts` have no meaning"
            )
        return self

    @property
    def pull_secret_name(self) -> str:
        """The Secret by which pods pull; empty if they need none."""
        return self.pull_secret if isinstance(self.pull_secret, str) else PULL_SECRET if self.pull_secret else ""


class ChartAnswers(Strict):
    """What this site wants otherwise of one chart."""

    namespace: Label | None = None
    values: dict[str, Any] = Field(default_factory=dict)


class SiteAnswers(Strict):
    """The keys that every application has."""

    registry: RegistryAnswers
    namespace: Label | None = None
    charts: dict[str, ChartAnswers] = Field(default_factory=dict)
    without: list[Text] = Field(default_factory=list)
    """Charts that this site does without, since its cluster has what they bring from somebody else."""

    def secret_sources(self) -> dict[str, SecretSource]:
        """Every secret that is named, by its key."""
        return dict(_sources(self, ""))

    def given(self) -> Iterator[str]:
        """The keys that are answered, each also with those inside of its answer, dotted: `mysql`, `mysql.port`."""
        yield from _given(self, "")

    def free_values(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What the answers say in the words of charts, each with its key."""
        for name, chart in self.charts.items():
            yield f"charts.{name}.values", chart.values


def _given(node: Any, path: str) -> Iterator[str]:
    if isinstance(node, BaseModel):
        for name, field in type(node).model_fields.items():
            if name in node.model_fields_set:
                yield f"{path}{field.alias or name}"
                yield from _given(getattr(node, name), f"{path}{field.alias or name}.")
    elif isinstance(node, dict):
        for name, value in node.items():
            yield f"{path}{name}"
            yield from _given(value, f"{path}{name}.")


def _sources(node: Any, path: str) -> Iterator[tuple[str, SecretSource]]:
    if isinstance(node, SecretSource):
        yield path.removeprefix("."), node
    elif isinstance(node, BaseModel):
        for name in type(node).model_fields:
            yield from _sources(getattr(node, name), f"{path}.{name}")
    elif isinstance(node, dict):
        for name, value in node.items():
            yield from _sources(value, f"{path}.{name}")

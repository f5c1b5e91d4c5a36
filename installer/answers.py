"""The schema of site.yaml: its keys, their types, and what excludes what."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from installer.errors import AirferryError
from installer.oci.reference import Repository
from installer.schema import Strict
from installer.secret import SecretSource


def _is_host(text: str) -> str:
    try:
        Repository(text, "x")
    except AirferryError as exc:
        raise ValueError(f"{exc.message}; write it like registry.example:5000") from None
    return text


def _is_project(text: str) -> str:
    try:
        return text and Repository("localhost", text).path
    except AirferryError as exc:
        raise ValueError(exc.message) from None


def _is_url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+/?", text, re.ASCII):
        raise ValueError("must be http://HOST or https://HOST, without a path")
    return text.rstrip("/")


def _has_no_null(values: dict[str, Any]) -> dict[str, Any]:
    """The W&B controller ends with a panic when it merges a null with its own values."""
    nulls = sorted(_nulls(values))
    if nulls:
        raise ValueError(f"null is not allowed here: {', '.join(nulls)}")
    return values


def _nulls(node: Any, path: str = "") -> Iterator[str]:
    if node is None:
        yield path.removeprefix(".")
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _nulls(value, f"{path}.{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _nulls(value, f"{path}[{index}]")


# RFC 1123 labels, as Kubernetes asks of namespaces; object names may hold dots.
Label = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
Text = Annotated[str, Field(min_length=1, max_length=1000)]
File = Annotated[str, Field(min_length=1, max_length=4096)]
Host = Annotated[str, Field(max_length=300), AfterValidator(_is_host)]
Url = Annotated[str, Field(max_length=300), AfterValidator(_is_url)]
PlatformValues = Annotated[dict[str, Any], AfterValidator(_has_no_null)]


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
    """The registry that the images are loaded into, and from which the nodes pull."""

    host: Host
    project: Annotated[str, AfterValidator(_is_project)] = "airferry"
    ca: File | None = None
    plain_http: bool = False
    credentials: Login | None = None
    pull_secret: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.plain_http and self.ca:
            raise ValueError("`ca` has no meaning with `plain_http`")
        if self.pull_secret and not self.credentials:
            raise ValueError("`pull_secret` needs `credentials`")
        return self


class IngressAnswers(Strict):
    """How users reach the platform."""

    ingress_class: Annotated[Text | None, Field(alias="class")] = None
    annotations: dict[str, str] = Field(default_factory=dict)
    tls_secret: ObjectName | None = None


class MysqlAnswers(Strict):
    """The database."""

    host: Text
    port: Annotated[int, Field(ge=1, le=65535)] = 3306
    database: Text = "wandb_local"
    user: Text = "wandb"
    password: SecretSource
    ca: File | None = None


class BucketAnswers(Strict):
    """The object store. For an S3-compatible one, `name` is its host and port, and `path` the bucket."""

    provider: Literal["s3", "gcs", "az", "cw"] = "s3"
    name: Text
    path: Text | None = None
    region: Text | None = None
    access_key: SecretSource | None = None
    secret_key: SecretSource | None = None

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("`access_key` and `secret_key` belong together")
        if self.access_key and self.secret_key and self.access_key.secret != self.secret_key.secret:
            raise ValueError("`access_key` and `secret_key` must stand in the same Secret, or both outside the cluster")
        return self


class ChartAnswers(Strict):
    """What this site wants otherwise of one chart."""

    namespace: Label | None = None
    values: dict[str, Any] = Field(default_factory=dict)


class Answers(Strict):
    """The keys of site.yaml; templates/site.yaml explains them."""

    registry: RegistryAnswers
    namespace: Label | None = None
    operator_namespace: Label | None = None
    host: Url | None = None
    ingress: IngressAnswers | None = None
    license: SecretSource | None = None
    certificates: list[File] = Field(default_factory=list)
    mysql: MysqlAnswers | None = None
    bucket: BucketAnswers | None = None
    storage_class: Text | None = None
    size: Text | None = None
    values: PlatformValues = Field(default_factory=dict)
    operator_values: dict[str, Any] = Field(default_factory=dict)
    charts: dict[str, ChartAnswers] = Field(default_factory=dict)

    def secret_sources(self) -> dict[str, SecretSource]:
        """Every secret that is named, by its key."""
        login, mysql, bucket = self.registry.credentials, self.mysql, self.bucket
        found = {
            "registry.credentials.password": login.password if login else None,
            "license": self.license,
            "mysql.password": mysql.password if mysql else None,
            "bucket.access_key": bucket.access_key if bucket else None,
            "bucket.secret_key": bucket.secret_key if bucket else None,
        }
        return {key: source for key, source in found.items() if source is not None}

"""What site.yaml says about W&B with operator v2: mostly the keys that v1 has, so that one file serves both."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from installer.apps.wandb.site.answers import IngressAnswers, ProxyAnswers
from installer.apps.wandb.site.environment_answers import SecretVariables, Variables
from installer.apps.wandb.site.pod_answers import Toleration
from installer.apps.wandb.site.service_answers import (
    BucketAnswers,
    LdapAnswers,
    MysqlAnswers,
    OidcAnswers,
    SmtpAnswers,
)
from installer.schema import Strict
from installer.site.answer_types import File, Label, ObjectName, ServerName, ServerPort, Url, UrlWord
from installer.site.answers import SiteAnswers
from installer.site.secret import SecretSource

_OF_V1_ALONE = {
    "chart_source": "the operator fetches no chart",
    "node_selector": "use `spec` with the operator's `affinity`",
    "pod_annotations": "the operator has no field for it",
    "pod_labels": "the operator has no field for it",
    "priority_class": "the operator has no field for it",
    "replicas": "use `size`, which says it for all parts",
    "resources": "use `size`, or `spec` with `wandb.legacyOverrides`",
    "route": "use `expose: ingress` or `gateway`",
    "security": "all pods run without rights",
    "service": "use `expose: ingress` or `gateway`",
    "storage_class": "volumes come from the cluster's default storage class",
    "values": "use `spec`, in the words of the resource",
}
"""Keys that operator v1 has, and what v2 has instead."""


class GatewayAnswers(Strict):
    """The way of the Gateway API: a Gateway that is there (`name`, perhaps in another `namespace`), or one that the
    operator makes of the GatewayClass `class`."""

    gateway_class: Annotated[ObjectName | None, Field(alias="class")] = None
    name: ObjectName | None = None
    namespace: Label | None = None
    listener: ObjectName | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.gateway_class is None) == (self.name is None):
            raise ValueError("needs either `class`, or `name` of a Gateway that is there")
        if self.namespace and not self.name:
            raise ValueError("`namespace` is that of a Gateway that is there: it needs `name`")
        return self


class RedisAnswers(Strict):
    """The cache: a server of the site, or with `internal` the one that the operator runs. It is asked over TLS with
    `tls` or `ca`."""

    internal: bool = False
    host: ServerName | None = None
    port: ServerPort = 6379
    password: SecretSource | None = None
    tls: bool = False
    ca: File | None = None

    @model_validator(mode="after")
    def _one_server(self) -> Self:
        _check_server(self, self.host)
        return self


class ClickhouseAnswers(Strict):
    """The database of Weave's traces: a server of the site, or with `internal` the one that the operator runs. `port`
    is that of HTTP, `tcp_port` that of its own protocol."""

    internal: bool = False
    host: ServerName | None = None
    port: ServerPort = 8443
    tcp_port: ServerPort = 9000
    database: UrlWord = "weave_trace_db"
    user: UrlWord = "default"
    password: SecretSource | None = None
    replicated: bool = False

    @model_validator(mode="after")
    def _one_server(self) -> Self:
        _check_server(self, self.host)
        if not self.internal and not self.password:
            raise ValueError("needs `password`")
        return self


class StoreAnswers(BucketAnswers):
    """The object store: one of the site, or with `internal` the one that the operator runs."""

    internal: bool = False
    name: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.:-]{0,250})?$")] = ""

    @model_validator(mode="after")
    def _one_store(self) -> Self:
        if self.internal and self.model_fields_set - {"internal"}:
            raise ValueError("with `internal` nothing else has a meaning")
        if not self.internal and not self.name:
            raise ValueError("needs `name`, or `internal: true` for a store in the cluster")
        if self.kms_key:
            raise ValueError("`kms_key`: the operator has no field for it")
        if self.provider == "cw":
            raise ValueError("`provider` is s3, gcs or az here; for CoreWeave take s3 with its `endpoint`")
        if self.provider == "az" and not self.path:
            raise ValueError("az needs `path`, which begins with the container; `name` is the storage account")
        return self


class Answers(SiteAnswers):
    """The keys of site.yaml; docs/wandb.md explains them."""

    operator_namespace: Label | None = None
    host: Url | None = None
    expose: Literal["ingress", "gateway", "none"] = "ingress"
    ingress: IngressAnswers | None = None
    gateway: GatewayAnswers | None = None
    license: SecretSource | None = None
    certificates: list[File] = Field(default_factory=list)
    mysql: MysqlAnswers | None = None
    bucket: StoreAnswers | None = None
    redis: RedisAnswers | None = None
    clickhouse: ClickhouseAnswers | None = None
    smtp: SmtpAnswers | None = None
    oidc: OidcAnswers | None = None
    ldap: LdapAnswers | None = None
    session_hours: Annotated[int | None, Field(ge=1, le=8760)] = None
    proxy: ProxyAnswers | None = None
    env: Variables = Field(default_factory=dict)
    secret_env: SecretVariables = Field(default_factory=dict)
    size: Literal["dev", "micro", "small", "medium", "large", "xlarge", "xxlarge"] | None = None
    retention: Literal["detach", "purge"] | None = None
    tolerations: list[Toleration] = Field(default_factory=list)
    spec: dict[str, Any] = Field(default_factory=dict)
    operator_values: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        keys = value if isinstance(value, dict) else ()
        if found := [f"{key}: {_OF_V1_ALONE[key]}" for key in keys if key in _OF_V1_ALONE]:
            raise ValueError(f"keys of operator v1 that v2 does not have: {'; '.join(found)}")
        return value

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.ingress and self.expose != "ingress":
            raise ValueError(f"`ingress` has no meaning with `expose: {self.expose}`")
        if (self.gateway is not None) != (self.expose == "gateway"):
            raise ValueError("`gateway` and `expose: gateway` belong together")
        if both := sorted(self.env.keys() & self.secret_env.keys()):
            raise ValueError(f"stands in `env` and in `secret_env`: {', '.join(both)}")
        return self

    def free_values(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What the answers say in the words of charts, resources and programs, each with its key."""
        yield "env", dict(self.env)
        yield "spec", self.spec
        yield "operator_values", self.operator_values
        yield from super().free_values()


def own_answers(answers: SiteAnswers) -> Answers:
    """`answers`, known to be those of the platform."""
    if not isinstance(answers, Answers):
        raise TypeError("answers of another application")
    return answers


def _check_server(answers: RedisAnswers | ClickhouseAnswers, host: str | None) -> None:
    if answers.internal and answers.model_fields_set - {"internal"}:
        raise ValueError("with `internal` nothing else has a meaning")
    if not answers.internal and not host:
        raise ValueError("needs `host`, or `internal: true` for a server in the cluster")

"""What site.yaml says about the W&B platform: its keys, their types, and what excludes what."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from installer.apps.wandb.site.environment_answers import SecretVariables, Variables
from installer.apps.wandb.site.platform_answer_types import PlatformValues
from installer.apps.wandb.site.pod_answers import (
    NodeLabels,
    PodAnnotations,
    PodLabels,
    Replicas,
    Resources,
    Security,
    Toleration,
)
from installer.apps.wandb.site.service_answers import (
    BucketAnswers,
    ClickhouseAnswers,
    LdapAnswers,
    MysqlAnswers,
    OidcAnswers,
    RedisAnswers,
    SmtpAnswers,
)
from installer.schema import Strict
from installer.site.answer_types import (
    DnsName,
    File,
    Label,
    ObjectName,
    ProxyUrl,
    Text,
    Url,
    is_dns_name,
)
from installer.site.answers import SiteAnswers
from installer.site.secret import SecretSource


class IngressAnswers(Strict):
    """The Ingress through which users reach the platform.

    TLS: `tls_secret` is in the cluster already; `certificate` and `key` become a Secret.
    """

    ingress_class: Annotated[Text | None, Field(alias="class")] = None
    annotations: dict[str, str] = Field(default_factory=dict)
    additional_hosts: list[DnsName] = Field(default_factory=list)
    tls_secret: ObjectName | None = None
    certificate: File | None = None
    key: SecretSource | None = None

    @model_validator(mode="after")
    def _one_certificate(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("`certificate` and `key` belong together")
        if self.certificate and self.tls_secret:
            raise ValueError("either `tls_secret` or `certificate` and `key`")
        if self.key and self.key.in_cluster:
            raise ValueError("a key that is in the cluster: name its Secret as `tls_secret`")
        return self


class ServiceAnswers(Strict):
    """The Service through which users reach the platform instead of an Ingress: that of the chart's nginx."""

    annotations: dict[str, str] = Field(default_factory=dict)
    node_port: Annotated[int | None, Field(ge=1, le=65535)] = None


class RouteAnswers(Strict):
    """OpenShift's Route through which users reach the platform instead of an Ingress."""

    annotations: dict[str, str] = Field(default_factory=dict)


class ProxyAnswers(Strict):
    """The proxy through which the platform reaches what is outside of the cluster."""

    http: ProxyUrl | None = None
    https: ProxyUrl | None = None
    no_proxy: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9.:/*-]{1,260}$")]] = Field(default_factory=list)

    @model_validator(mode="after")
    def _any(self) -> Self:
        if not (self.http or self.https):
            raise ValueError("needs `http`, `https` or both")
        return self


class Answers(SiteAnswers):
    """The keys of site.yaml; templates/wandb/site.yaml explains them."""

    operator_namespace: Label | None = None
    host: Url | None = None
    expose: Literal["ingress", "route", "LoadBalancer", "NodePort", "none"] = "ingress"
    ingress: IngressAnswers | None = None
    route: RouteAnswers | None = None
    service: ServiceAnswers | None = None
    license: SecretSource | None = None
    certificates: list[File] = Field(default_factory=list)
    chart_source: Literal["auto", "configmap", "oci", "temporary"] = "auto"
    mysql: MysqlAnswers | None = None
    bucket: BucketAnswers | None = None
    redis: RedisAnswers | None = None
    clickhouse: ClickhouseAnswers | None = None
    smtp: SmtpAnswers | None = None
    oidc: OidcAnswers | None = None
    ldap: LdapAnswers | None = None
    session_hours: Annotated[int | None, Field(ge=1, le=8760)] = None
    proxy: ProxyAnswers | None = None
    env: Variables = Field(default_factory=dict)
    secret_env: SecretVariables = Field(default_factory=dict)
    storage_class: ObjectName | None = None
    size: Literal["small", "medium", "large", "xlarge", "xxlarge"] | None = None
    resources: Resources = Field(default_factory=dict)
    replicas: Replicas = Field(default_factory=dict)
    node_selector: NodeLabels = Field(default_factory=dict)
    tolerations: list[Toleration] = Field(default_factory=list)
    priority_class: ObjectName | None = None
    pod_labels: PodLabels = Field(default_factory=dict)
    pod_annotations: PodAnnotations = Field(default_factory=dict)
    security: Security = "default"
    values: PlatformValues = Field(default_factory=dict)
    operator_values: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.ingress and self.expose != "ingress":
            raise ValueError(f"`ingress` has no meaning with `expose: {self.expose}`")
        if self.expose == "route" and not self.host:
            raise ValueError("`expose: route` needs `host`")
        if self.route and self.expose != "route":
            raise ValueError("`route` needs `expose: route`")
        if self.service and self.expose not in ("LoadBalancer", "NodePort"):
            raise ValueError("`service` needs `expose: LoadBalancer` or `expose: NodePort`")
        if self.service and self.service.node_port and self.expose != "NodePort":
            raise ValueError("`service.node_port` needs `expose: NodePort`")
        if self.host and self.expose in ("ingress", "route") and not is_dns_name(self.host_name):
            raise ValueError(
                "`host` must be a DNS name in lower case without a port, since it becomes the name of an Ingress rule "
                "or of a Route; or choose another way with `expose`"
            )
        if both := sorted(self.env.keys() & self.secret_env.keys()):
            raise ValueError(f"stands in `env` and in `secret_env`: {', '.join(both)}")
        return self

    @property
    def host_name(self) -> str:
        """`host` without its scheme; empty if there is none."""
        return (self.host or "").partition("://")[2]

    def free_values(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What the answers say in the words of charts and programs, each with its key."""
        yield "env", dict(self.env)
        yield "values", self.values
        yield "operator_values", self.operator_values
        yield from super().free_values()


def own_answers(answers: SiteAnswers) -> Answers:
    """`answers`, known to be those of the platform."""
    if not isinstance(answers, Answers):
        raise TypeError("answers of another application")
    return answers

"""The part of site.yaml about services that the platform uses: database, object store, Redis, mail, logins."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from installer.schema import Strict
from installer.site.answer_types import (
    Endpoint,
    File,
    IssuerUrl,
    PlainText,
    ServerName,
    ServerPort,
    Text,
    UrlPath,
    UrlWord,
)
from installer.site.secret import SecretSource


class MysqlAnswers(Strict):
    """The database: a server of the site, or with `internal` the one of the chart, whose password is made there.

    With `tls` no component asks it without TLS; else they do so where it has none. `client_certificate` implies it.
    """

    internal: bool = False
    host: ServerName | None = None
    port: ServerPort = 3306
    database: UrlWord = "wandb_local"
    user: UrlWord = "wandb"
    password: SecretSource | None = None
    tls: bool = False
    ca: File | None = None
    client_certificate: File | None = None
    client_key: SecretSource | None = None

    @model_validator(mode="after")
    def _one_server(self) -> Self:
        if self.internal and self.model_fields_set - {"internal"}:
            raise ValueError("with `internal` nothing else has a meaning")
        if not self.internal and not (self.host and self.password):
            raise ValueError("needs `host` and `password`, or `internal: true` for a database in the cluster")
        return self

    @model_validator(mode="after")
    def _client(self) -> Self:
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("`client_certificate` and `client_key` belong together")
        if self.client_certificate and not self.ca:
            raise ValueError("`client_certificate` needs `ca`, by which the server is known")
        if self.client_key and self.client_key.in_cluster:
            raise ValueError("certificate and key become one Secret: give the key by file, env or prompt")
        return self

    @property
    def over_tls(self) -> bool:
        """Whether the server is asked over TLS only."""
        return self.tls or self.client_certificate is not None


class RedisAnswers(Strict):
    """The cache: a server of the site, or with `internal` the one of the chart, which has no password."""

    internal: bool = False
    host: ServerName | None = None
    port: ServerPort = 6379
    user: UrlWord | None = None
    password: SecretSource | None = None
    params: dict[UrlWord, UrlWord] = Field(default_factory=dict)
    ca: File | None = None

    @model_validator(mode="after")
    def _one_server(self) -> Self:
        if self.internal and self.model_fields_set - {"internal"}:
            raise ValueError("with `internal` nothing else has a meaning")
        if not self.internal and not self.host:
            raise ValueError("needs `host`, or `internal: true` for a Redis in the cluster")
        if self.user and not self.password:
            raise ValueError("`user` needs `password`")
        if "ttlInSeconds" in self.params:
            raise ValueError("the chart sets ttlInSeconds itself, and over what stands in `params`")
        if self.ca and self.password and self.password.in_cluster:
            raise ValueError(
                "the chart takes `ca` from the password's Secret: give the password by file, env or prompt"
            )
        return self


class ClickhouseAnswers(Strict):
    """The database of Weave's traces, a server of the site, asked over HTTP. Weave takes port 8443 for TLS, and every
    other port for none (github.com/wandb/weave, `clickhouse_trace_server_batched.py`)."""

    host: ServerName
    port: ServerPort = 8443
    database: UrlWord = "weave_trace_db"
    user: UrlWord = "default"
    password: SecretSource
    replicated: bool = False


class BucketAnswers(Strict):
    """The object store. `endpoint` is for S3-compatible ones (MinIO, Ceph), which are asked in path style.

    A scheme before the endpoint says the same as `tls`.
    """

    provider: Literal["s3", "gcs", "az", "cw"] = "s3"
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,250}$")]
    path: UrlPath | None = None
    endpoint: Endpoint | None = None
    tls: bool = False
    ca: File | None = None
    region: UrlWord | None = None
    kms_key: Text | None = None
    access_key: SecretSource | None = None
    secret_key: SecretSource | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.endpoint and self.provider != "s3":
            raise ValueError("`endpoint` has a meaning for provider s3 only")
        if (self.tls or self.ca) and not self.endpoint:
            raise ValueError("`tls` and `ca` need `endpoint`")
        if self.tls and self.endpoint and self.endpoint.startswith("http://"):
            raise ValueError("`endpoint` says http, and `tls` the contrary")
        return self

    @property
    def server(self) -> str:
        """The endpoint without its scheme; empty if there is none."""
        return (self.endpoint or "").rpartition("://")[2].removesuffix("/")

    @property
    def over_tls(self) -> bool:
        """Whether the endpoint is asked over TLS only."""
        return self.tls or (self.endpoint or "").startswith("https://")

    @model_validator(mode="after")
    def _keys(self) -> Self:
        if self.provider == "gcs" and (self.access_key or self.secret_key):
            raise ValueError("the chart has no keys for gcs: the pods' service accounts must be allowed there")
        if self.provider == "az":
            if self.secret_key:
                raise ValueError("az has one key: the storage account's, as `access_key`")
            return self
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("`access_key` and `secret_key` belong together")
        if self.access_key and self.secret_key and self.access_key.secret != self.secret_key.secret:
            raise ValueError("`access_key` and `secret_key` must stand in the same Secret, or both outside the cluster")
        return self


class SmtpAnswers(Strict):
    """The server that takes the platform's mail."""

    host: ServerName
    port: ServerPort = 587
    user: Text | None = None
    password: SecretSource | None = None
    sender: Annotated[Text | None, Field(alias="from")] = None

    @model_validator(mode="after")
    def _login(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("`user` and `password` belong together")
        if self.password and self.password.in_cluster:
            raise ValueError(
                "the platform wants user, password and server as one URL: if that is in the cluster already, name it "
                "as GORILLA_EMAIL_SINK in `secret_env`"
            )
        return self


class OidcAnswers(Strict):
    """Logins by OpenID Connect."""

    issuer: IssuerUrl
    client_id: Text
    auth_method: Literal["pkce", "implicit"] = "pkce"
    secret: SecretSource | None = None


class LdapAnswers(Strict):
    """Logins by LDAP, in W&B's own terms (environment variables LOCAL_LDAP_*)."""

    address: Annotated[str, Field(pattern=r"^ldaps?://[A-Za-z0-9.\[\]:-]{1,260}$")]
    base_dn: PlainText
    bind_dn: PlainText | None = None
    bind_password: SecretSource | None = None
    attributes: PlainText
    tls: bool = False
    group_allow_list: PlainText | None = None
    login: bool = True

    @model_validator(mode="after")
    def _bind(self) -> Self:
        if (self.bind_dn is None) != (self.bind_password is None):
            raise ValueError("`bind_dn` and `bind_password` belong together")
        return self

"""What site.yaml says of services, as fields of the resource, and as the Secrets that these refer to.

The operator takes each part of a connection from a key of a Secret, and puts them into URLs itself, as they are meant
there (github.com/wandb/operator, internal/controller/infra/external).
"""

import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from installer.apps.wandb.site.service_answers import MysqlAnswers, OidcAnswers, SmtpAnswers
from installer.apps.wandb_v2.answers import Answers, ClickhouseAnswers, RedisAnswers, StoreAnswers
from installer.site.secret import Secret, SecretSource
from installer.value import Value

LICENSE, LICENSE_KEY = "airferry-license", "license"
SINK, SINK_KEY = "airferry-smtp", "GORILLA_EMAIL_SINK"
ENVIRONMENT, LDAP, LDAP_KEY = "airferry-env", "airferry-ldap", "LDAP_BIND_PW"
_BUCKET = "airferry-bucket-connection"
INTERNAL = {
    "mysql": "managedMysql",
    "redis": "managedRedis",
    "objectStore": "managedObjectStore",
    "clickhouse": "managedClickhouse",
}
"""The services that the operator can run itself, and how the resource says so."""
_EXTERNAL = {
    "mysql": "externalMysql",
    "redis": "externalRedis",
    "objectStore": "externalObjectStore",
    "clickhouse": "externalClickhouse",
}


class Confidential(Value):
    """A secret of the site: `path` is the site's key for it, `before` and `after` are put around it in a URL."""

    source: SecretSource
    path: str
    before: str = ""
    after: str = ""

    def written(self, secret: Secret) -> Secret:
        """`secret` as its Secret holds it."""
        if not (self.before or self.after):
            return secret
        return Secret(f"{self.before}{urllib.parse.quote(secret.reveal(), safe='')}{self.after}")


class Connection(Value):
    """A service: the Secret `name` that is made for it, and its parts by field of the resource."""

    name: str
    parts: Mapping[str, str | Confidential]

    def fields(self) -> dict[str, Any]:
        """References to the parts: to the Secret that is made, or to the one in which the site has a part."""
        return {field: self._reference(field, part) for field, part in self.parts.items()}

    def made(self) -> dict[str, str | Confidential]:
        """The parts that its own Secret holds."""
        return {
            field: part for field, part in self.parts.items() if isinstance(part, str) or not part.source.in_cluster
        }

    def _reference(self, field: str, part: str | Confidential) -> dict[str, str]:
        if isinstance(part, Confidential) and part.source.secret and part.source.key:
            return {"name": part.source.secret, "key": part.source.key}
        return {"name": self.name, "key": field}


class Authorities(Value):
    """Certificates in PEM that services are checked with, and the one shown to MySQL; empty where there is none."""

    mysql: str = ""
    redis: str = ""
    client: str = ""


def services(answers: Answers, authorities: Authorities) -> dict[str, Any]:
    """The fields for all services that the site answers; null takes away what the bundle's resource says instead."""
    internal = {"mysql": answers.mysql, "redis": answers.redis, "objectStore": answers.bucket} | {
        "clickhouse": answers.clickhouse
    }
    connections = dict(_services(answers, authorities))
    found: dict[str, Any] = {}
    for name, answer in internal.items():
        if answer is not None and answer.internal:
            found[name] = {"default": {INTERNAL[name]: {}, _EXTERNAL[name]: None}}
        elif name in connections:
            found[name] = {"default": {_EXTERNAL[name]: connections[name].fields(), INTERNAL[name]: None}}
    return found


def connections(answers: Answers, authorities: Authorities) -> Iterator[Connection]:
    """All that Secrets are made for, logins included."""
    yield from (item for _, item in _services(answers, authorities))
    if answers.oidc:
        yield oidc(answers.oidc)


def oidc(answers: OidcAnswers) -> Connection:
    """The provider of logins."""
    parts: dict[str, str | Confidential] = {
        "issuerUrl": answers.issuer,
        "clientId": answers.client_id,
        "authMethod": answers.auth_method,
    }
    if answers.secret:
        parts["clientSecret"] = Confidential(answers.secret, "oidc.secret")
    return Connection("airferry-oidc-connection", parts)


def sink(smtp: SmtpAnswers) -> str | Confidential:
    """The URL of the server that takes mail."""
    if not (smtp.user and smtp.password):
        return f"smtp://{smtp.host}:{smtp.port}"
    before = f"smtp://{urllib.parse.quote(smtp.user, safe='')}:"
    return Confidential(smtp.password, "smtp.password", before, f"@{smtp.host}:{smtp.port}")


def _services(answers: Answers, authorities: Authorities) -> Iterator[tuple[str, Connection]]:
    if answers.mysql and not answers.mysql.internal:
        yield "mysql", _mysql(answers.mysql, authorities)
    if answers.redis and not answers.redis.internal:
        yield "redis", _redis(answers.redis, authorities.redis)
    if answers.bucket and not answers.bucket.internal:
        yield "objectStore", _store(answers.bucket)
    if answers.clickhouse and not answers.clickhouse.internal:
        yield "clickhouse", _clickhouse(answers.clickhouse)


def _mysql(mysql: MysqlAnswers, authorities: Authorities) -> Connection:
    parts: dict[str, str | Confidential] = {
        "host": str(mysql.host),
        "port": str(mysql.port),
        "database": mysql.database,
        "username": mysql.user,
    }
    if mysql.password:
        parts["password"] = Confidential(mysql.password, "mysql.password")
    if mysql.over_tls and not authorities.mysql:
        parts["tls"] = "true"
    if authorities.mysql:
        parts["sslCa"] = authorities.mysql
    if mysql.client_key:
        parts |= {"sslCert": authorities.client, "sslKey": Confidential(mysql.client_key, "mysql.client_key")}
    return Connection("airferry-mysql-connection", parts)


def _redis(redis: RedisAnswers, ca: str) -> Connection:
    parts: dict[str, str | Confidential] = {"host": str(redis.host), "port": str(redis.port)}
    if redis.password:
        parts["password"] = Confidential(redis.password, "redis.password")
    if redis.tls or ca:
        parts["tls"] = "true"
    if ca:
        parts["sslCa"] = ca
    return Connection("airferry-redis-connection", parts)


def _store(bucket: StoreAnswers) -> Connection:
    if bucket.provider == "az":
        return _azure(bucket)
    parts: dict[str, str | Confidential] = {
        "provider": bucket.provider,
        "bucket": bucket.name,
        "tlsEnabled": "true" if bucket.over_tls or not bucket.server else "false",
    }
    if bucket.server:
        host, _, port = bucket.server.partition(":")
        parts |= {"endpoint": host, "forcePathStyle": "true"}
        parts["port"] = port or ("443" if bucket.over_tls else "80")
    for field, text in (("path", bucket.path), ("region", bucket.region)):
        if text:
            parts[field] = text
    if bucket.access_key:
        parts["accessKey"] = Confidential(bucket.access_key, "bucket.access_key")
    if bucket.secret_key:
        parts["secretKey"] = Confidential(bucket.secret_key, "bucket.secret_key")
    return Connection(_BUCKET, parts)


def _azure(bucket: StoreAnswers) -> Connection:
    """The storage account is the name, as with v1; the path begins with the container."""
    container, _, path = (bucket.path or "").partition("/")
    parts: dict[str, str | Confidential] = {"provider": "azure", "accessKey": bucket.name, "bucket": container}
    if path:
        parts["path"] = path
    if bucket.access_key:
        parts["secretKey"] = Confidential(bucket.access_key, "bucket.access_key")
    return Connection(_BUCKET, parts)


def _clickhouse(clickhouse: ClickhouseAnswers) -> Connection:
    parts: dict[str, str | Confidential] = {
        "host": str(clickhouse.host),
        "httpPort": str(clickhouse.port),
        "tcpPort": str(clickhouse.tcp_port),
        "database": clickhouse.database,
        "username": clickhouse.user,
    }
    if clickhouse.password:
        parts["password"] = Confidential(clickhouse.password, "clickhouse.password")
    if clickhouse.replicated:
        parts["replicated"] = "true"
    return Connection("airferry-clickhouse-connection", parts)

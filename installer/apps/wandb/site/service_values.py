"""Answers about the platform's services as values of the chart `operator-wandb`, and the Secrets that these name.

Source: values.yaml and templates of github.com/wandb/helm-charts, chart `operator-wandb` 0.43.8. Its templates put
user names and passwords into URLs as they are (`_mysql.tpl`, `_redis.tpl`, `_bucket.tpl`, `_smtp.tpl`), and the init
container of `app` decodes the database's password before it uses it: so the Secrets made here hold them
percent-encoded. A Secret that a site has made itself must hold them so too.
"""

import urllib.parse
from collections.abc import Mapping
from typing import Any

from installer.apps.wandb.site.answers import Answers
from installer.apps.wandb.site.service_answers import (
    BucketAnswers,
    ClickhouseAnswers,
    LdapAnswers,
    MysqlAnswers,
    OidcAnswers,
    RedisAnswers,
    SmtpAnswers,
)
from installer.site.secret import Secret, SecretSource
from installer.value import Value

_MYSQL, _BUCKET, _REDIS = "airferry-mysql", "airferry-bucket", "airferry-redis"
_SMTP, _OIDC, _LDAP = "airferry-smtp", "airferry-oidc", "airferry-ldap"
_CLICKHOUSE, _ENV = "airferry-clickhouse", "airferry-env"
LICENSE, LICENSE_KEY = "airferry-license", "license"
_SINK, _FROM = "GORILLA_EMAIL_SINK", "GORILLA_EMAIL_FROM_ADDRESS"
TLS_SECRET = "airferry-tls"  # noqa: S105 - a name


class Ingredient(Value):
    """A value of a Secret that comes from the site: `path` is the site's key for it.

    With `in_url` the chart puts it into a URL; `before` and `after` are what a URL has around it, if the Secret holds
    the whole one.
    """

    source: SecretSource
    path: str
    in_url: bool = False
    before: str = ""
    after: str = ""

    def written(self, secret: Secret) -> Secret:
        """`secret` in the form that the chart needs."""
        if not self.in_url:
            return secret
        return Secret(f"{self.before}{urllib.parse.quote(secret.reveal(), safe='')}{self.after}")


class NeededSecret(Value):
    """A Secret that the platform's values refer to. `public` are keys whose values are no secrets."""

    name: str
    data: Mapping[str, Ingredient]
    public: Mapping[str, str] = {}


class Authorities(Value):
    """Certificates in PEM that single services are checked with; empty where the site names none."""

    mysql: str = ""
    redis: str = ""


def services(answers: Answers, authorities: Authorities) -> dict[str, Any]:
    """The values for all services that the site answers."""
    everywhere: dict[str, Any] = {}
    values: dict[str, Any] = {"global": everywhere}
    if answers.license:
        name, key = _place(answers.license, LICENSE, LICENSE_KEY)
        everywhere["licenseSecret"] = {"name": name, "key": key}
    if answers.mysql:
        values["mysql"] = {"install": answers.mysql.internal}
        everywhere |= _mysql(answers.mysql, authorities.mysql)
    if answers.redis:
        values["redis"] = {"install": answers.redis.internal}
        everywhere |= _redis(answers.redis, authorities.redis)
    if answers.clickhouse:
        values["weave-trace"] = {"install": True}
        everywhere["clickhouse"] = _clickhouse(answers.clickhouse)
    if answers.bucket:
        everywhere["bucket"] = _bucket(answers.bucket)
    if answers.smtp:
        everywhere |= _smtp(answers.smtp)
    if answers.oidc or answers.session_hours:
        everywhere["auth"] = _auth(answers.oidc, answers.session_hours)
    if answers.ldap:
        environment = _ldap(answers.ldap)
        values["app"] = {"env": environment}
        values["api"] = {"env": dict(environment)}
    for name, source in answers.secret_env.items():
        everywhere.setdefault("env", {})[name] = _reference(source, _ENV, name)
    return values


def needed(answers: Answers, authorities: Authorities) -> list[NeededSecret]:
    """The Secrets to be made: those whose content is not in the cluster already."""
    mysql, redis, bucket, clickhouse = answers.mysql, answers.redis, answers.bucket, answers.clickhouse
    found: dict[str, dict[str, Ingredient]] = {}
    for name, key, source, path, in_url in (
        (LICENSE, LICENSE_KEY, answers.license, "license", False),
        (_MYSQL, "MYSQL_PASSWORD", mysql and mysql.password, "mysql.password", True),
        (_REDIS, "REDIS_PASSWORD", redis and redis.password, "redis.password", True),
        (_CLICKHOUSE, "CLICKHOUSE_PASSWORD", clickhouse and clickhouse.password, "clickhouse.password", False),
        (_BUCKET, "ACCESS_KEY", bucket and bucket.access_key, "bucket.access_key", _keys_in_url(bucket)),
        (_BUCKET, "SECRET_KEY", bucket and bucket.secret_key, "bucket.secret_key", True),
        (_OIDC, "OIDC_SECRET", answers.oidc and answers.oidc.secret, "oidc.secret", False),
        (_LDAP, "LDAP_BIND_PW", answers.ldap and answers.ldap.bind_password, "ldap.bind_password", False),
        *((_ENV, name, source, f"secret_env.{name}", False) for name, source in answers.secret_env.items()),
    ):
        if source and not source.in_cluster:
            found.setdefault(name, {})[key] = Ingredient(source, path, in_url=in_url)
    if (smtp := answers.smtp) and smtp.user and smtp.password:
        before, after = f"smtp://{urllib.parse.quote(smtp.user, safe='')}:", f"@{smtp.host}:{smtp.port}"
        found[_SMTP] = {_SINK: Ingredient(smtp.password, "smtp.password", in_url=True, before=before, after=after)}
    public = {_REDIS: {"REDIS_CA_CERT": authorities.redis}} if authorities.redis else {}
    return [NeededSecret(name, data, public.get(name, {})) for name, data in found.items()]


def _keys_in_url(bucket: BucketAnswers | None) -> bool:
    """Azure's key is given to the pods by itself."""
    return bucket is not None and bucket.provider != "az"


def _mysql(mysql: MysqlAnswers, ca: str) -> dict[str, Any]:
    if not mysql.password:
        return {}
    name, key = _place(mysql.password, _MYSQL, "MYSQL_PASSWORD")
    values: dict[str, Any] = {
        "host": mysql.host,
        "port": mysql.port,
        "database": mysql.database,
        "user": mysql.user,
        "passwordSecret": {"name": name, "passwordKey": key},
    }
    return {"mysql": {**values, "caCert": ca} if ca else values}


def _redis(redis: RedisAnswers, ca: str) -> dict[str, Any]:
    if redis.internal:
        return {}
    values: dict[str, Any] = {"host": redis.host, "port": redis.port}
    if redis.password:
        name, key = _place(redis.password, _REDIS, "REDIS_PASSWORD")
        values["secret"] = {"secretName": name, "secretKey": key}
    if redis.params:
        values["params"] = dict(redis.params)
    # With a Secret of its own the chart takes the certificate from there; this one says that there is one.
    return {"redis": {**values, "caCert": ca} if ca else values}


def _clickhouse(clickhouse: ClickhouseAnswers) -> dict[str, Any]:
    """The traces' part of the platform gets the password by itself, in no URL."""
    name, key = _place(clickhouse.password, _CLICKHOUSE, "CLICKHOUSE_PASSWORD")
    plain = clickhouse.model_dump(include={"host", "port", "database", "user", "replicated"})
    return {**plain, "passwordSecret": {"name": name, "passwordKey": key}}


def _bucket(bucket: BucketAnswers) -> dict[str, Any]:
    """The chart's `name` is the server of an S3-compatible store, and `path` its bucket (`_bucket.tpl`)."""
    values: dict[str, Any] = {"provider": bucket.provider, "name": bucket.server or bucket.name}
    parts = [bucket.name] if bucket.endpoint else []
    path = "/".join([*parts, *([bucket.path] if bucket.path else [])]) + ("?tls=true" if bucket.over_tls else "")
    if path:
        values["path"] = path
    if bucket.region:
        values["region"] = bucket.region
    if bucket.kms_key:
        values["kmsKey"] = bucket.kms_key
    if bucket.access_key:
        name, access = _place(bucket.access_key, _BUCKET, "ACCESS_KEY")
        values["secret"] = {"secretName": name, "accessKeyName": access}
        if bucket.secret_key:
            values["secret"]["secretKeyName"] = _place(bucket.secret_key, _BUCKET, "SECRET_KEY")[1]
    return values


def _smtp(smtp: SmtpAnswers) -> dict[str, Any]:
    """The chart can be given a password too, but Helm then complains with every use that its default is a text.

    It has had a value for the sender since 0.43 only, which becomes the same variable.
    """
    plain = f"smtp://{smtp.host}:{smtp.port}"
    sink: Any = _reference(smtp.password, _SMTP, _SINK) if smtp.password else plain
    return {"env": {_SINK: sink, **({_FROM: smtp.sender} if smtp.sender else {})}}


def _auth(oidc: OidcAnswers | None, session_hours: int | None) -> dict[str, Any]:
    values: dict[str, Any] = {"sessionLengthHours": session_hours} if session_hours else {}
    if oidc:
        values["oidc"] = {"issuer": oidc.issuer, "clientId": oidc.client_id, "authMethod": oidc.auth_method}
        if oidc.secret:
            name, key = _place(oidc.secret, _OIDC, "OIDC_SECRET")
            values["oidc"]["oidcSecret"] = {"name": name, "secretKey": key}
    return values


def _ldap(ldap: LdapAnswers) -> dict[str, Any]:
    """docs.wandb.ai, "Configure SSO with LDAP": the chart itself knows nothing of it."""
    texts = {
        "ADDRESS": ldap.address,
        "BASE_DN": ldap.base_dn,
        "BIND_DN": ldap.bind_dn,
        "ATTRIBUTES": ldap.attributes,
        "TLS_ENABLE": "true" if ldap.tls else "false",
        "GROUP_ALLOW_LIST": ldap.group_allow_list,
        "LOGIN": "true" if ldap.login else "false",
    }
    values: dict[str, Any] = {f"LOCAL_LDAP_{name}": text for name, text in texts.items() if text}
    if ldap.bind_password:
        values["LOCAL_LDAP_BIND_PW"] = _reference(ldap.bind_password, _LDAP, "LDAP_BIND_PW")
    return values


def _place(source: SecretSource, name: str, key: str) -> tuple[str, str]:
    """Name and key of the Secret that holds `source`: the site's own, or the one that is made for it."""
    return (source.secret, source.key) if source.secret and source.key else (name, key)


def _reference(source: SecretSource, name: str, key: str) -> dict[str, Any]:
    """`source` as the value of an environment variable."""
    name, key = _place(source, name, key)
    return {"valueFrom": {"secretKeyRef": {"name": name, "key": key}}}

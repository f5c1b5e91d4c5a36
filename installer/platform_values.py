"""The site's answers in the words of the two W&B charts, `operator` and `operator-wandb`.

Sources: values.yaml and templates of github.com/wandb/helm-charts, charts `operator` 1.4.8 and `operator-wandb` 0.43.8.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from installer.answers import Answers, BucketAnswers, IngressAnswers, MysqlAnswers
from installer.secret import SecretSource

PULL_SECRET = "airferry-registry"  # noqa: S105 - a name
LICENSE, MYSQL, BUCKET = "airferry-license", "airferry-mysql", "airferry-bucket"
_LICENSE_KEY, _MYSQL_KEY, _ACCESS_KEY, _SECRET_KEY = "license", "MYSQL_PASSWORD", "ACCESS_KEY", "SECRET_KEY"


@dataclass(frozen=True)
class NeededSecret:
    """A Secret that the platform's values refer to: for each of its keys the source, and the site's key for it."""

    name: str
    data: Mapping[str, tuple[SecretSource, str]]


def needed(answers: Answers) -> list[NeededSecret]:
    """The Secrets to be made for `platform`: those whose content is not in the cluster already."""
    found = []
    if answers.license and not answers.license.in_cluster:
        found.append(NeededSecret(LICENSE, {_LICENSE_KEY: (answers.license, "license")}))
    if answers.mysql and not answers.mysql.password.in_cluster:
        found.append(NeededSecret(MYSQL, {_MYSQL_KEY: (answers.mysql.password, "mysql.password")}))
    bucket = answers.bucket
    if bucket and bucket.access_key and bucket.secret_key and not bucket.access_key.in_cluster:
        keys = {
            _ACCESS_KEY: (bucket.access_key, "bucket.access_key"),
            _SECRET_KEY: (bucket.secret_key, "bucket.secret_key"),
        }
        found.append(NeededSecret(BUCKET, keys))
    return found


def operator(answers: Answers, certificates: Sequence[str]) -> dict[str, Any]:
    """Values for the chart `operator`. Its pull secrets are plain names."""
    values: dict[str, Any] = {"airgapped": True}
    if certificates:
        values["customCACerts"] = list(certificates)
    if answers.registry.pull_secret:
        values["image"] = {"pullSecrets": [PULL_SECRET]}
    return values


def platform(answers: Answers, certificates: Sequence[str], mysql_ca: str) -> dict[str, Any]:
    """Values for the chart `operator-wandb`, as they stand in `spec.values` of the custom resource."""
    everywhere: dict[str, Any] = {}
    values: dict[str, Any] = {"global": everywhere}
    if answers.host:
        everywhere["host"] = answers.host
    if answers.storage_class:
        everywhere["storageClass"] = answers.storage_class
    if answers.size:
        everywhere["size"] = answers.size
    if certificates:
        everywhere["customCACerts"] = list(certificates)
    if answers.license:
        name, key = _place(answers.license, LICENSE, _LICENSE_KEY)
        everywhere["licenseSecret"] = {"name": name, "key": key}
    if answers.mysql:
        everywhere["mysql"] = _mysql(answers.mysql, mysql_ca)
        values["mysql"] = {"install": False}
    if answers.bucket:
        everywhere["bucket"] = _bucket(answers.bucket)
    if answers.ingress:
        values["ingress"] = _ingress(answers.ingress, answers.host or "")
    if answers.registry.pull_secret:
        # Maps, because some subcharts print the list as it is; the Prometheus server has a key of its own.
        everywhere["imagePullSecrets"] = [{"name": PULL_SECRET}]
        values["prometheus"] = {"instance": {"imagePullSecrets": [{"name": PULL_SECRET}]}}
    return values


def _mysql(mysql: MysqlAnswers, ca: str) -> dict[str, Any]:
    name, key = _place(mysql.password, MYSQL, _MYSQL_KEY)
    values: dict[str, Any] = {
        "host": mysql.host,
        "port": mysql.port,
        "database": mysql.database,
        "user": mysql.user,
        "passwordSecret": {"name": name, "passwordKey": key},
    }
    return {**values, "caCert": ca} if ca else values


def _bucket(bucket: BucketAnswers) -> dict[str, Any]:
    values: dict[str, Any] = {"provider": bucket.provider, "name": bucket.name}
    if bucket.path:
        values["path"] = bucket.path
    if bucket.region:
        values["region"] = bucket.region
    if bucket.access_key and bucket.secret_key:
        name, access = _place(bucket.access_key, BUCKET, _ACCESS_KEY)
        _, secret = _place(bucket.secret_key, BUCKET, _SECRET_KEY)
        values["secret"] = {"secretName": name, "accessKeyName": access, "secretKeyName": secret}
    return values


def _ingress(ingress: IngressAnswers, url: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if ingress.ingress_class:
        values["class"] = ingress.ingress_class
    if ingress.annotations:
        values["annotations"] = dict(ingress.annotations)
    if ingress.tls_secret:
        host = url.partition("://")[2].partition(":")[0]
        values["tls"] = [{"secretName": ingress.tls_secret, **({"hosts": [host]} if host else {})}]
    return values


def _place(source: SecretSource, name: str, key: str) -> tuple[str, str]:
    """Name and key of the Secret that holds `source`: the site's own, or the one that is made for it."""
    return (source.secret, source.key) if source.secret and source.key else (name, key)

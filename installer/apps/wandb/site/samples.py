"""Sample answers for every key of the W&B platform: parts of site.yaml that differ in one answer alone."""

from collections.abc import Mapping
from typing import Any

from installer.apps.samples import PLACES, Fragment

Pair = tuple[Fragment, Fragment]
_SECRET, _OTHER = PLACES
_FILE = {"file": "sample.secret"}
_HOST = {"host": "https://wandb.example"}
_INGRESS = {**_HOST, "ingress": {}}
_NODE_PORT = {"expose": "NodePort"}
_MYSQL = {"host": "mysql.example", "password": _SECRET}
_BUCKET = {"name": "bucket"}
_STORE = {**_BUCKET, "endpoint": "store.example:9000"}
# Both keys of a bucket stand in one Secret.
_KEYS = {"access_key": {"secret": "sample", "key": "access"}, "secret_key": {"secret": "sample", "key": "secret"}}
_REDIS = {"host": "redis.example"}
_SMTP = {"host": "smtp.example"}
_OIDC = {"issuer": "https://login.example", "client_id": "wandb"}
_LDAP = {"address": "ldaps://ldap.example", "base_dn": "dc=example", "attributes": "email=mail"}
_BIND = {"bind_dn": "cn=wandb", "bind_password": _SECRET}
_PROXY = {"http": "http://proxy.example"}


def _in(part: str, base: Fragment, **more: Any) -> Pair:
    """Within the answer `part`: `base`, and `more` over it."""
    return {part: base}, {part: {**base, **more}}


def _below(base: Fragment, part: str, **more: Any) -> Pair:
    """Within the answer `part` of the site `base`."""
    return base, {**base, part: {**base.get(part, {}), **more}}


SAMPLES: Mapping[str, tuple[Pair, ...]] = {
    "operator_namespace": (({}, {"operator_namespace": "sample"}),),
    "host": (({}, _HOST),),
    "expose": ((_HOST, {**_HOST, "expose": "NodePort"}),),
    "ingress.class": (_below(_INGRESS, "ingress", **{"class": "sample"}),),
    "ingress.annotations": (_below(_INGRESS, "ingress", annotations={"sample": "text"}),),
    "ingress.additional_hosts": (_below(_INGRESS, "ingress", additional_hosts=["other.example"]),),
    "ingress.tls_secret": (_below(_INGRESS, "ingress", tls_secret="sample"),),  # noqa: S106 - a name
    "ingress.certificate": (_below(_INGRESS, "ingress", certificate="sample.pem", key=_FILE),),
    "ingress.key": (_below(_INGRESS, "ingress", certificate="sample.pem", key=_FILE),),
    "service.annotations": (_below(_NODE_PORT, "service", annotations={"sample": "text"}),),
    "service.node_port": (_below(_NODE_PORT, "service", node_port=30080),),
    "license": (({}, {"license": _SECRET}),),
    "certificates": (({}, {"certificates": ["sample.pem"]}),),
    "mysql.internal": (({}, {"mysql": {"internal": True}}),),
    "mysql.host": (_in("mysql", _MYSQL, host="other.example"),),
    "mysql.port": (_in("mysql", _MYSQL, port=3307),),
    "mysql.database": (_in("mysql", _MYSQL, database="sample"),),
    "mysql.user": (_in("mysql", _MYSQL, user="sample"),),
    "mysql.password": (_in("mysql", _MYSQL, password=_OTHER),),
    "mysql.ca": (_in("mysql", _MYSQL, ca="sample.pem"),),
    "bucket.provider": (_in("bucket", _BUCKET, provider="az"), _in("bucket", _BUCKET, provider="gcs")),
    "bucket.name": (_in("bucket", _BUCKET, name="sample"),),
    "bucket.path": (_in("bucket", _BUCKET, path="sample"),),
    "bucket.endpoint": (_in("bucket", _BUCKET, endpoint="store.example:9000"),),
    "bucket.tls": (_in("bucket", _STORE, tls=True),),
    "bucket.ca": (_in("bucket", _STORE, ca="sample.pem"),),
    "bucket.region": (_in("bucket", _BUCKET, region="sample"),),
    "bucket.kms_key": (_in("bucket", _BUCKET, kms_key="sample"),),
    "bucket.access_key": (
        _in("bucket", {**_BUCKET, **_KEYS}, access_key={"secret": "sample", "key": "other"}),
        _in("bucket", {**_BUCKET, "provider": "az"}, access_key=_SECRET),
    ),
    "bucket.secret_key": (_in("bucket", {**_BUCKET, **_KEYS}, secret_key={"secret": "sample", "key": "other"}),),
    "redis.internal": (({"redis": _REDIS}, {"redis": {"internal": True}}),),
    "redis.host": (_in("redis", _REDIS, host="other.example"),),
    "redis.port": (_in("redis", _REDIS, port=6380),),
    "redis.password": (_in("redis", {**_REDIS, "password": _SECRET}, password=_OTHER),),
    "redis.params": (_in("redis", _REDIS, params={"sample": "text"}),),
    "redis.ca": (_in("redis", _REDIS, ca="sample.pem"),),
    "smtp.host": (_in("smtp", _SMTP, host="other.example"),),
    "smtp.port": (_in("smtp", _SMTP, port=25),),
    "smtp.user": (_in("smtp", _SMTP, user="wandb", password=_FILE),),
    "smtp.password": (_in("smtp", _SMTP, user="wandb", password=_FILE),),
    "smtp.from": (_in("smtp", _SMTP, **{"from": "wandb@example"}),),
    "oidc.issuer": (_in("oidc", _OIDC, issuer="https://other.example"),),
    "oidc.client_id": (_in("oidc", _OIDC, client_id="sample"),),
    "oidc.auth_method": (_in("oidc", _OIDC, auth_method="implicit"),),
    "oidc.secret": (_in("oidc", {**_OIDC, "secret": _SECRET}, secret=_OTHER),),
    "ldap.address": (_in("ldap", _LDAP, address="ldaps://other.example"),),
    "ldap.base_dn": (_in("ldap", _LDAP, base_dn="dc=other"),),
    "ldap.bind_dn": (_in("ldap", {**_LDAP, **_BIND}, bind_dn="cn=other"),),
    "ldap.bind_password": (_in("ldap", {**_LDAP, **_BIND}, bind_password=_OTHER),),
    "ldap.attributes": (_in("ldap", _LDAP, attributes="email=other"),),
    "ldap.tls": (_in("ldap", _LDAP, tls=True),),
    "ldap.group_allow_list": (_in("ldap", _LDAP, group_allow_list="sample"),),
    "ldap.login": (_in("ldap", _LDAP, login=False),),
    "session_hours": (({}, {"session_hours": 7}),),
    "proxy.http": (_in("proxy", _PROXY, http="http://other.example"),),
    "proxy.https": (_in("proxy", _PROXY, https="http://other.example"),),
    "proxy.no_proxy": (_in("proxy", _PROXY, no_proxy=["sample.example"]),),
    "env": (({}, {"env": {"SAMPLE": "text"}}),),
    "secret_env": (({}, {"secret_env": {"SAMPLE": _SECRET}}),),
    "storage_class": (({}, {"storage_class": "sample"}),),
    "size": (({}, {"size": "large"}), ({}, {"size": "small"})),
    "resources": (({}, {"resources": {"app": {"requests": {"cpu": "7"}}}}),),
    "node_selector": (({}, {"node_selector": {"sample": "text"}}),),
    "tolerations": (({}, {"tolerations": [{"key": "sample", "operator": "Exists"}]}),),
}
"""By key, the samples of its answer; one has to show an effect. What a chart reads in certain cases has several."""

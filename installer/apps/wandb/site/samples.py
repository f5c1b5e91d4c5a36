"""Sample answers for every key of the W&B platform: parts of site.yaml that differ in one answer alone."""

from collections.abc import Iterator, Mapping

from installer.apps.samples import PLACES, Fragment
from installer.chart.retarget import merged

_SECRET, _OTHER = PLACES
_FILE = {"file": "sample.secret"}
_NODE_PORT = {"expose": "NodePort"}
_CLICKHOUSE = {"clickhouse": {"host": "clickhouse.example", "password": _SECRET}}
_MYSQL = {"mysql": {"host": "mysql.example", "password": _SECRET, "ca": "sample.pem"}}
_CLIENT = merged(_MYSQL, {"mysql": {"client_certificate": "sample.pem", "client_key": _FILE}})
_BUCKET = {"bucket": {"name": "bucket"}}
_AZURE = {"bucket": {"name": "bucket", "provider": "az", "access_key": _SECRET}}

_SITE: Fragment = {
    "host": "https://wandb.example",
    "ingress": {},
    "mysql": {"host": "mysql.example", "password": _SECRET},
    "bucket": {
        "name": "bucket",
        "endpoint": "store.example:9000",
        # Both stand in one Secret.
        "access_key": {"secret": "sample", "key": "access"},
        "secret_key": {"secret": "sample", "key": "secret"},
    },
    "redis": {"host": "redis.example", "password": _SECRET},
    "smtp": {"host": "smtp.example"},
    "oidc": {"issuer": "https://login.example", "client_id": "wandb", "secret": _SECRET},
    "ldap": {
        "address": "ldaps://ldap.example",
        "base_dn": "dc=example",
        "attributes": "email=mail",
        "bind_dn": "cn=wandb",
        "bind_password": _SECRET,
    },
    "proxy": {"http": "http://proxy.example"},
}
"""What most samples differ from."""

_CHANGES: Mapping[str, Fragment] = {
    "operator_namespace": {"operator_namespace": "sample"},
    "host": {"host": "https://other.example"},
    "ingress.class": {"ingress": {"class": "sample"}},
    "ingress.annotations": {"ingress": {"annotations": {"sample": "text"}}},
    "ingress.additional_hosts": {"ingress": {"additional_hosts": ["other.example"]}},
    "ingress.tls_secret": {"ingress": {"tls_secret": "sample"}},
    "ingress.certificate": {"ingress": {"certificate": "sample.pem", "key": _FILE}},
    "ingress.key": {"ingress": {"certificate": "sample.pem", "key": _FILE}},
    "license": {"license": _SECRET},
    "certificates": {"certificates": ["sample.pem"]},
    "mysql.host": {"mysql": {"host": "other.example"}},
    "mysql.port": {"mysql": {"port": 3307}},
    "mysql.database": {"mysql": {"database": "sample"}},
    "mysql.user": {"mysql": {"user": "sample"}},
    "mysql.password": {"mysql": {"password": _OTHER}},
    "mysql.tls": {"mysql": {"tls": True}},
    "mysql.ca": {"mysql": {"ca": "sample.pem"}},
    "bucket.name": {"bucket": {"name": "sample"}},
    "bucket.path": {"bucket": {"path": "sample"}},
    "bucket.endpoint": {"bucket": {"endpoint": "other.example:9000"}},
    "bucket.tls": {"bucket": {"tls": True}},
    "bucket.ca": {"bucket": {"ca": "sample.pem"}},
    "bucket.region": {"bucket": {"region": "sample"}},
    "bucket.kms_key": {"bucket": {"kms_key": "sample"}},
    "bucket.access_key": {"bucket": {"access_key": {"key": "other"}}},
    "bucket.secret_key": {"bucket": {"secret_key": {"key": "other"}}},
    "redis.host": {"redis": {"host": "other.example"}},
    "redis.port": {"redis": {"port": 6380}},
    "redis.user": {"redis": {"user": "sample"}},
    "redis.password": {"redis": {"password": _OTHER}},
    "redis.params": {"redis": {"params": {"sample": "text"}}},
    "smtp.host": {"smtp": {"host": "other.example"}},
    "smtp.port": {"smtp": {"port": 25}},
    "smtp.user": {"smtp": {"user": "wandb", "password": _FILE}},
    "smtp.password": {"smtp": {"user": "wandb", "password": _FILE}},
    "smtp.from": {"smtp": {"from": "wandb@example"}},
    "oidc.issuer": {"oidc": {"issuer": "https://other.example"}},
    "oidc.client_id": {"oidc": {"client_id": "sample"}},
    "oidc.auth_method": {"oidc": {"auth_method": "implicit"}},
    "oidc.secret": {"oidc": {"secret": _OTHER}},
    "ldap.address": {"ldap": {"address": "ldaps://other.example"}},
    "ldap.base_dn": {"ldap": {"base_dn": "dc=other"}},
    "ldap.bind_dn": {"ldap": {"bind_dn": "cn=other"}},
    "ldap.bind_password": {"ldap": {"bind_password": _OTHER}},
    "ldap.attributes": {"ldap": {"attributes": "email=other"}},
    "ldap.tls": {"ldap": {"tls": True}},
    "ldap.group_allow_list": {"ldap": {"group_allow_list": "sample"}},
    "ldap.login": {"ldap": {"login": False}},
    "session_hours": {"session_hours": 7},
    "proxy.http": {"proxy": {"http": "http://other.example"}},
    "proxy.https": {"proxy": {"https": "http://other.example"}},
    "proxy.no_proxy": {"proxy": {"no_proxy": ["sample.example"]}},
    "env": {"env": {"SAMPLE": "text"}},
    "secret_env": {"secret_env": {"SAMPLE": _SECRET}},
    "size": {"size": "large"},
    "resources": {"resources": {"app": {"requests": {"cpu": "7"}}}},
    "replicas": {"replicas": {"app": 7}},
    "priority_class": {"priority_class": "sample"},
    "pod_labels": {"pod_labels": {"sample": "text"}},
    "pod_annotations": {"pod_annotations": {"sample": "text"}},
    "security": {"security": "restricted"},
}
_OTHERS: tuple[tuple[str, Fragment, Fragment], ...] = (
    # Where the chart's own Redis runs.
    ("storage_class", {}, {"storage_class": "sample"}),
    ("node_selector", {}, {"node_selector": {"sample": "text"}}),
    ("tolerations", {}, {"tolerations": [{"key": "sample", "operator": "Exists"}]}),
    ("expose", {}, _NODE_PORT),
    ("service.annotations", _NODE_PORT, {**_NODE_PORT, "service": {"annotations": {"sample": "text"}}}),
    ("service.node_port", _NODE_PORT, {**_NODE_PORT, "service": {"node_port": 30080}}),
    ("mysql.internal", {}, {"mysql": {"internal": True}}),
    ("bucket.provider", _BUCKET, {"bucket": {"name": "bucket", "provider": "az"}}),
    ("bucket.access_key", _AZURE, merged(_AZURE, {"bucket": {"access_key": _OTHER}})),
    ("mysql.client_certificate", _MYSQL, _CLIENT),
    ("mysql.client_key", _MYSQL, _CLIENT),
    *(
        (f"clickhouse.{key}", _CLICKHOUSE, merged(_CLICKHOUSE, {"clickhouse": {key: other}}))
        for key, other in (
            ("host", "other.example"),
            ("port", 8123),
            ("database", "sample"),
            ("user", "sample"),
            ("password", _OTHER),
            ("replicated", True),
        )
    ),
    ("redis.internal", {"redis": {"host": "redis.example"}}, {"redis": {"internal": True}}),
    # With a Secret of its own the chart takes the certificate from there.
    ("redis.ca", {"redis": {"host": "redis.example"}}, {"redis": {"host": "redis.example", "ca": "sample.pem"}}),
)


def samples() -> Iterator[tuple[str, Fragment, Fragment]]:
    """Keys, each with two parts of site.yaml that differ in the answer to it; some keys have several."""
    for key, change in _CHANGES.items():
        yield key, _SITE, merged(_SITE, change)
    yield from _OTHERS

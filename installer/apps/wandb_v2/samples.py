"""Sample answers for every key of W&B with operator v2: parts of site.yaml that differ in one answer alone."""

from collections.abc import Iterator, Mapping

from installer.apps.samples import PLACES, Fragment
from installer.chart.retarget import merged

_SECRET, _OTHER = PLACES
_FILE = {"file": "sample.secret"}
_GATEWAY: Fragment = {"expose": "gateway", "gateway": {"name": "sample"}}

_SITE: Fragment = {
    "host": "https://wandb.example",
    "ingress": {},
    "mysql": {"host": "mysql.example", "password": _SECRET, "ca": "sample.pem"},
    "redis": {"host": "redis.example", "password": _SECRET},
    "bucket": {
        "name": "bucket",
        "endpoint": "store.example:9000",
        # Both stand in one Secret.
        "access_key": {"secret": "sample", "key": "access"},
        "secret_key": {"secret": "sample", "key": "secret"},
    },
    "clickhouse": {"host": "clickhouse.example", "password": _SECRET},
    "oidc": {"issuer": "https://login.example", "client_id": "wandb"},
    "ldap": {"address": "ldaps://ldap.example", "base_dn": "dc=example", "attributes": "email=mail"},
    "proxy": {"http": "http://proxy.example"},
}
"""What most samples differ from. What only the content of a Secret shows is proven by its unit tests."""

_CHANGES: Mapping[str, Fragment] = {
    "host": {"host": "https://other.example"},
    "ingress.class": {"ingress": {"class": "sample"}},
    "ingress.annotations": {"ingress": {"annotations": {"sample": "text"}}},
    "ingress.additional_hosts": {"ingress": {"additional_hosts": ["other.example"]}},
    "ingress.tls_secret": {"ingress": {"tls_secret": "sample"}},
    "ingress.certificate": {"ingress": {"certificate": "sample.pem", "key": _FILE}},
    "ingress.key": {"ingress": {"certificate": "sample.pem", "key": _FILE}},
    "license": {"license": _SECRET},
    "mysql.password": {"mysql": {"password": _OTHER}},
    "redis.password": {"redis": {"password": _OTHER}},
    "redis.tls": {"redis": {"tls": True}},
    "bucket.access_key": {"bucket": {"access_key": {"key": "other"}}},
    "bucket.secret_key": {"bucket": {"secret_key": {"key": "other"}}},
    "bucket.region": {"bucket": {"region": "sample"}},
    "bucket.path": {"bucket": {"path": "sample"}},
    "clickhouse.password": {"clickhouse": {"password": _OTHER}},
    "clickhouse.replicated": {"clickhouse": {"replicated": True}},
    "smtp.host": {"smtp": {"host": "smtp.example"}},
    "smtp.from": {"smtp": {"host": "smtp.example", "from": "wandb@example"}},
    "oidc.secret": {"oidc": {"secret": _SECRET}},
    "ldap.address": {"ldap": {"address": "ldaps://other.example"}},
    "ldap.base_dn": {"ldap": {"base_dn": "dc=other"}},
    "ldap.attributes": {"ldap": {"attributes": "email=other"}},
    "session_hours": {"session_hours": 7},
    "proxy.http": {"proxy": {"http": "http://other.example"}},
    "proxy.https": {"proxy": {"https": "http://other.example"}},
    "proxy.no_proxy": {"proxy": {"no_proxy": ["sample.example"]}},
    "env": {"env": {"SAMPLE": "text"}},
    "secret_env": {"secret_env": {"SAMPLE": _SECRET}},
    "size": {"size": "xxlarge"},
    "retention": {"retention": "purge"},
    "tolerations": {"tolerations": [{"key": "sample", "operator": "Exists"}]},
    "spec": {"spec": {"requireLimits": True}},
}
_OTHERS: tuple[tuple[str, Fragment, Fragment], ...] = (
    ("expose", {"ingress": {}}, {"expose": "none"}),
    ("gateway.name", {"expose": "none"}, _GATEWAY),
    ("gateway.namespace", _GATEWAY, merged(_GATEWAY, {"gateway": {"namespace": "sample"}})),
    ("gateway.listener", _GATEWAY, merged(_GATEWAY, {"gateway": {"listener": "sample"}})),
    ("gateway.class", _GATEWAY, {"expose": "gateway", "gateway": {"class": "sample"}}),
    *((f"{key}.internal", {key: _SITE[key]}, {key: {"internal": True}}) for key in ("mysql", "redis", "bucket")),
    ("clickhouse.internal", {"clickhouse": _SITE["clickhouse"]}, {"clickhouse": {"internal": True}}),
)


def samples() -> Iterator[tuple[str, Fragment, Fragment]]:
    """Keys, each with two parts of site.yaml that differ in the answer to it."""
    for key, change in _CHANGES.items():
        yield key, _SITE, merged(_SITE, change)
    yield from _OTHERS

"""W&B's operator v2: what answers become of its resource, and what its driver adds."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from installer.apps.wandb_v2.resource import in_words_of
from installer.errors import SiteError
from tests.parts.authority import Authority
from tests.parts.demo_site import PASSWORD, REGISTRY, wanted
from tests.parts.fake_cluster import FakeCluster
from tests.parts.wandb_v2 import MANIFEST, Release

if TYPE_CHECKING:
    from pathlib import Path

    from installer.objects.desired import Desired

PLACE = f"{REGISTRY}/airferry"
_ASKED = {"prompt": "?"}
MYSQL = {"host": "mysql.example", "password": _ASKED}


def spec(made: Desired) -> dict[str, Any]:
    [resource] = made.resources
    found: dict[str, Any] = resource.document["spec"]
    return found


def secret(made: Desired, name: str) -> dict[str, str]:
    [item] = [item for item in made.secrets if item["metadata"]["name"] == name]
    assert item["metadata"]["namespace"] == "wandb"
    return {key: base64.b64decode(text).decode() for key, text in item["data"].items()}


@pytest.mark.parametrize(
    ("registry", "prefix", "secrets"),
    [
        ({}, {"imageRegistry": PLACE}, {}),
        ({"project": ""}, {"imageRegistry": REGISTRY}, {}),
        ({"names": "kept"}, {}, {}),
        ({"pull_secret": "pull"}, {"imageRegistry": PLACE}, {"imagePullSecrets": [{"name": "pull"}]}),
    ],
)
def test_the_resource_says_where_the_operator_finds_what_it_fetches(
    tmp_path: Path, registry: dict[str, Any], prefix: dict[str, str], secrets: dict[str, Any]
) -> None:
    made = wanted(Release(tmp_path).application(), tmp_path, registry={"host": REGISTRY, **registry})
    place = "/".join(filter(None, (REGISTRY, registry.get("project", "airferry"))))
    assert spec(made)["global"] == {**prefix, **secrets}
    assert spec(made)["wandb"]["manifestRepository"] == f"oci://{place}/{MANIFEST}"
    assert ("docker.io/demo/mysql:1.0" if not prefix else f"{place}/docker.io/demo/mysql:1.0") in made.images


@pytest.mark.parametrize("registry", [{"plain_http": True}, {"on_nodes": True}])
def test_what_cannot_be_fetched_over_https_is_given_as_files(tmp_path: Path, registry: dict[str, Any]) -> None:
    made = wanted(Release(tmp_path).application(), tmp_path, registry={"host": REGISTRY, **registry})
    assert spec(made)["wandb"]["manifestRepository"] == "file:///etc/airferry/server-manifest"
    [operator] = [item for item in made.installed if item.chart.name == "operator"]
    [deployment] = [item for item in operator.objects if item["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    [files] = [volume for volume in pod["volumes"] if "configMap" in volume]
    assert files["configMap"]["items"] == [{"key": "0.84.0.000.yaml", "path": "0.84.0/000.yaml"}]
    assert {"name": files["name"], "mountPath": "/etc/airferry/server-manifest", "readOnly": True} in pod["containers"][
        0
    ]["volumeMounts"]


def test_services_of_the_site_are_references_to_secrets_that_hold_them_as_they_are(tmp_path: Path) -> None:
    made = wanted(
        Release(tmp_path).application(),
        tmp_path,
        mysql={**MYSQL, "tls": True, "port": 3307},
        redis={"host": "redis.example", "password": _ASKED, "tls": True},
        bucket={"name": "b", "endpoint": "https://store.example:9000", "access_key": _ASKED, "secret_key": _ASKED},
        clickhouse={"host": "click.example", "password": {"secret": "theirs", "key": "pass"}, "tcp_port": 9440},
        oidc={"issuer": "https://login.example", "client_id": "wandb", "secret": _ASKED},
        smtp={"host": "mail.example", "user": "us/er", "password": _ASKED},
    )
    assert secret(made, "airferry-mysql-connection") == {
        "host": "mysql.example",
        "port": "3307",
        "database": "wandb_local",
        "username": "wandb",
        "password": PASSWORD,
        "tls": "true",
    }
    assert secret(made, "airferry-bucket-connection") == {
        "provider": "s3",
        "bucket": "b",
        "tlsEnabled": "true",
        "endpoint": "store.example",
        "forcePathStyle": "true",
        "port": "9000",
        "accessKey": PASSWORD,
        "secretKey": PASSWORD,
    }
    assert secret(made, "airferry-smtp") == {"GORILLA_EMAIL_SINK": f"smtp://us%2Fer:{PASSWORD}@mail.example:587"}
    external = spec(made)["clickhouse"]["default"]["externalClickhouse"]
    assert external["password"] == {"name": "theirs", "key": "pass"}
    assert external["tcpPort"] == {"name": "airferry-clickhouse-connection", "key": "tcpPort"}
    assert "password" not in secret(made, "airferry-clickhouse-connection")
    assert spec(made)["redis"]["default"].keys() == {"externalRedis"}
    assert secret(made, "airferry-oidc-connection")["clientSecret"] == PASSWORD
    # What is no secret need not be hidden in messages.
    assert {"mysql.example", "true", "3307"}.isdisjoint(made.confidential)
    assert PASSWORD in made.confidential
    assert PASSWORD not in str(spec(made))


def test_azure_has_account_and_container_where_v1_has_them(tmp_path: Path) -> None:
    bucket = {"provider": "az", "name": "account", "path": "container/below", "access_key": _ASKED}
    made = wanted(Release(tmp_path).application(), tmp_path, bucket=bucket)
    assert secret(made, "airferry-bucket-connection") == {
        "provider": "azure",
        "accessKey": "account",
        "bucket": "container",
        "path": "below",
        "secretKey": PASSWORD,
    }


def test_the_licence_stands_in_a_secret_until_the_resource_is_applied(tmp_path: Path) -> None:
    made = wanted(Release(tmp_path).application(), tmp_path, license=_ASKED)
    assert "license" not in spec(made)["wandb"]
    assert secret(made, "airferry-license") == {"license": PASSWORD}
    [resource] = made.resources
    assert resource.document["metadata"]["annotations"] == {"airferry/license-secret": "airferry-license/license"}


@pytest.mark.parametrize(
    ("answers", "networking"),
    [
        ({"expose": "none"}, {}),
        ({"ingress": {"class": "nginx"}}, {"mode": "ingress", "ingress": {"ingressClassName": "nginx"}}),
        (
            {"ingress": {"tls_secret": "tls", "annotations": {"a/b": "c"}}},
            {
                "mode": "ingress",
                "ingress": {"ingressClassName": "nginx"},
                "tls": {"secretName": "tls"},
                "annotations": {"a/b": "c"},
            },
        ),
        (
            {"expose": "gateway", "gateway": {"name": "g", "namespace": "n"}},
            {
                "mode": "gateway",
                "gatewayAPI": {"gateway": {"managed": False, "gatewayRef": {"name": "g", "namespace": "n"}}},
            },
        ),
        (
            {"expose": "gateway", "gateway": {"class": "nginx"}},
            {"mode": "gateway", "gatewayAPI": {"gateway": {"managed": True, "gatewayClassName": "nginx"}}},
        ),
    ],
)
def test_ways_to_the_platform(tmp_path: Path, answers: dict[str, Any], networking: dict[str, Any]) -> None:
    assert spec(wanted(Release(tmp_path).application(), tmp_path, **answers))["networking"] == networking


def test_the_operator_trusts_the_authority_of_the_registry(tmp_path: Path) -> None:
    Authority(tmp_path / "site")
    registry = {"host": REGISTRY, "ca": "site/ca.crt"}
    made = wanted(Release(tmp_path).application(), tmp_path, registry=registry)
    [operator] = [item for item in made.installed if item.chart.name == "operator"]
    [certificate] = operator.values["wandb-operator"]["caCerts"]["certs"]
    assert certificate.startswith("-----BEGIN CERTIFICATE-----")


def test_a_service_that_is_left_to_the_operator_needs_its_image(tmp_path: Path) -> None:
    made = Release(tmp_path).application()
    del made.images["docker.io/demo/mysql:1.0"]
    wanted(made, tmp_path, mysql=MYSQL)
    with pytest.raises(SiteError, match=r"need images that are not here:\n  docker\.io/demo/mysql:1\.0"):
        wanted(made, tmp_path, mysql={"internal": True})


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"replicas": {"app": 2}}, "keys of operator v1 that v2 does not have: replicas: use `size`"),
        ({"redis": {"port": 1}}, "needs `host`, or `internal: true`"),
        ({"redis": {"internal": True, "port": 1}}, "with `internal` nothing else has a meaning"),
        ({"clickhouse": {"host": "x"}}, "needs `password`"),
        ({"bucket": {"name": "b", "kms_key": "k"}}, "`kms_key`: the operator has no field for it"),
        ({"bucket": {"name": "b", "provider": "az"}}, "az needs `path`"),
        ({"bucket": {"internal": True, "name": "b"}}, "with `internal` nothing else has a meaning"),
        ({"expose": "gateway"}, "`gateway` and `expose: gateway` belong together"),
        ({"expose": "gateway", "gateway": {}}, "needs either `class`, or `name`"),
        ({"expose": "none", "ingress": {}}, "`ingress` has no meaning with `expose: none`"),
    ],
)
def test_answers_that_are_none(tmp_path: Path, answers: dict[str, Any], words: str) -> None:
    with pytest.raises(SiteError) as refused:
        wanted(Release(tmp_path).application(), tmp_path, **answers)
    assert words in refused.value.message


@pytest.mark.parametrize("newer", [False, True])
def test_references_are_spelt_as_the_operator_in_the_cluster_does(*, newer: bool) -> None:
    reference = {"name": "airferry-mysql-connection", "key": "host"}
    part = {"valueFrom": {"type": "object"}, "value": {}} if newer else {"name": {}, "key": {}}
    instance = {"properties": {"externalMysql": {"properties": {"host": {"properties": part}}}}}
    schema = {"mysql": {"additionalProperties": instance}}
    version = {"name": "v2", "schema": {"openAPIV3Schema": {"properties": {"spec": {"properties": schema}}}}}
    cluster = FakeCluster()
    metadata = {"name": "weightsandbiases.apps.wandb.com"}
    names = {"kind": "WeightsAndBiases", "plural": "weightsandbiases"}
    spec = {"versions": [version], "group": "apps.wandb.com", "names": names, "scope": "Namespaced"}
    kind = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    cluster.given({**kind, "metadata": metadata, "spec": spec})
    document = {"metadata": {}, "spec": {"mysql": {"default": {"externalMysql": {"host": reference}}}}}
    expected = {"valueFrom": {"secretKeyRef": reference}} if newer else reference
    assert in_words_of(cluster, document)["spec"]["mysql"]["default"]["externalMysql"]["host"] == expected

"""W&B with operator v2: its whole life, on a stand-in of the operator."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts import wandb_v2
from tests.parts.authority import Authority
from tests.parts.cluster_files import ADDRESS
from tests.parts.enclave_program import EnclaveProgram
from tests.parts.frozen import freeze_volume
from tests.parts.registry import Registry, read_accesses
from tests.parts.wandb_v2 import MANIFEST, Release, server_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.enclave import Enclave

pytestmark = [pytest.mark.cluster]

SITE = {"host": "https://wandb.enclave", "expose": "none", "license": {"file": "licence"}, "smtp": {"host": "mail"}}
MANAGED = {name: {"internal": True} for name in ("mysql", "redis", "bucket", "clickhouse")}
EXTERNAL = {
    "mysql": {"host": "mysql.enclave", "password": {"file": "password"}},
    "redis": {"host": "redis.enclave"},
    "bucket": {
        "name": "wandb",
        "endpoint": "https://store.enclave:9000",
        "access_key": {"file": "password"},
        "secret_key": {"file": "password"},
    },
    "clickhouse": {"host": "clickhouse.enclave", "password": {"file": "password"}},
}
SECRETS = {"licence": "aaa.bbb.ccc", "password": "p@ss/word: 7", "robot": "secret-of-robot"}


@pytest.fixture
def program(enclave: Enclave, tmp_path: Path) -> Iterator[EnclaveProgram]:
    program = EnclaveProgram(enclave, tmp_path)
    for name, text in SECRETS.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    yield program
    done = program.run("uninstall", "--yes", "--delete-data", "--delete-crds", "--timeout", "120")
    assert done.returncode in (0, 42), done.stderr


@pytest.fixture
def secure(enclave: Enclave, tmp_path: Path) -> Iterator[Registry]:
    """A registry with a login and a certificate of the site's own authority, which the node trusts as sites do."""
    authority = Authority(tmp_path / "authority")
    certificate = authority.issue("secure", [ADDRESS])
    registry = Registry(
        tmp_path / "secure",
        host=ADDRESS,
        users={"robot": SECRETS["robot"]},
        tls=certificate,
        prefix=enclave.confinement.full_prefix(),
    )
    with registry:
        trusted = enclave.folder / "config" / "certs.d" / registry.address
        trusted.mkdir(parents=True)
        (trusted / "hosts.toml").write_text(
            f'server = "{registry.url}"\n[host."{registry.url}"]\nca = "{authority.certificate}"\n'
        )
        yield registry


def objects(enclave: Enclave, kinds: str, namespace: str = "wandb") -> dict[str, dict[str, Any]]:
    found = json.loads(enclave.kubectl("get", kinds, f"--namespace={namespace}", "--output=json"))["items"]
    return {f"{item['kind']} {item['metadata']['name']}": item for item in found}


def images(enclave: Enclave) -> set[str]:
    """What pods and Jobs of the platform ask for."""
    found = objects(enclave, "pods,deployments,statefulsets,jobs").values()
    specs = [item["spec"] if item["kind"] == "Pod" else item["spec"]["template"]["spec"] for item in found]
    return {container["image"] for spec in specs for container in spec["containers"]}


def platform(enclave: Enclave) -> dict[str, Any]:
    resource = ("weightsandbiases.v2.apps.wandb.com", "wandb", "--namespace=wandb")
    found: dict[str, Any] = json.loads(enclave.kubectl("get", *resource, "--output=json"))
    return found


@pytest.mark.frozen
def test_it_lives_without_https_with_services_of_its_own(
    enclave: Enclave, program: EnclaveProgram, newer: wandb_v2.Operator, claimed: None
) -> None:
    """The operator speaks HTTPS alone: it gets the manifest as files. What `detach` leaves is told, and adopted."""
    # Services but for Kafka need operators of their own, which only the stand-in does without.
    services = MANAGED if newer.tag == wandb_v2.STAND_IN else EXTERNAL
    bundle = Release(program.folder / "bundle", operator=newer, spec={"size": "dev"}).write()
    freeze_volume(bundle, program.folder / "wandb-installer", bundle.stem)
    program = replace(program, executable=program.folder / "wandb-installer")
    program.site(**SITE, **services)
    first = program.result(program.install(bundle))
    running = {item["workload"] for item in first["workloads"]}
    assert {"Deployment wandb/api", "StatefulSet wandb/wandb-kafka-etcd"} <= running
    assert platform(enclave)["spec"]["wandb"]["manifestRepository"].startswith("file:///")
    assert platform(enclave)["spec"]["wandb"]["license"] == SECRETS["licence"]
    assert {image.startswith(f"{enclave.registry}/airferry/") for image in images(enclave)} == {True}
    assert program.result(program.install(bundle))["changed"] == []

    program.site(**SITE, **services, retention="detach", env={"SHOWN": "everywhere"})
    assert program.result(program.install(bundle))["changed"] == ["WeightsAndBiases wandb/wandb"]
    variables = objects(enclave, "deployments")["Deployment api"]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "SHOWN", "value": "everywhere"} in variables
    assert program.result(program.run("status", "--output", "json"))["ready"]

    before = {name: item["metadata"]["uid"] for name, item in objects(enclave, "statefulsets").items()}
    removed = program.result(program.run("uninstall", "--yes", "--output", "json"))
    kept = {text.partition(" (")[0].rpartition("/")[2] for text in removed["kept"] if "a service with its data" in text}
    left = set(objects(enclave, "deployments,statefulsets"))
    assert left == {"Deployment wandb-kafka", *before} - {"StatefulSet wandb-keeper"}
    assert kept == {name.partition(" ")[2] for name in left}
    program.result(program.install(bundle))
    again = {name: item["metadata"]["uid"] for name, item in objects(enclave, "statefulsets").items()}
    assert {name for name, uid in again.items() if before[name] != uid} <= {"StatefulSet wandb-keeper"}

    program.result(program.run("uninstall", "--yes", "--delete-data", "--output", "json"))
    assert objects(enclave, "deployments,statefulsets,applications.apps.wandb.com,persistentvolumeclaims") == {}


def test_it_lives_from_a_registry_with_https_a_login_and_services_of_the_site(
    enclave: Enclave, program: EnclaveProgram, secure: Registry, newer: wandb_v2.Operator, claimed: None
) -> None:
    """A migration that fails holds the new version up, and nothing else; the next version gets past it."""
    login = {"username": "robot", "password": {"file": "robot"}}
    site = {"host": secure.address, "ca": "authority/ca.crt", "credentials": login, "pull_secret": True}

    def answers(**more: Any) -> None:
        program.site(**SITE, **EXTERNAL, **more)
        path = program.folder / "site.yaml"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"registry": site}))

    answers()
    release = Release(program.folder / "first", manifest=server_manifest("0.84.0"), operator=newer)
    program.result(program.install(release.write()))
    accesses = (item for item in read_accesses(secure.access_log) if item.agent == "wandb-operator")
    asked = [item.path for item in accesses if item.status == 200]
    assert len(asked) == 3
    assert asked[0] == f"/v2/airferry/{MANIFEST}/manifests/0.84.0"
    assert {image.startswith(f"{secure.address}/airferry/") for image in images(enclave)} == {True}
    mysql = platform(enclave)["spec"]["mysql"]["default"]
    assert mysql.keys() == {"externalMysql"}
    assert mysql["externalMysql"]["password"] == {"name": "airferry-mysql-connection", "key": "password"}
    everything = json.dumps([platform(enclave), *objects(enclave, "configmaps").values()])
    assert SECRETS["password"] not in everything

    failing = server_manifest("0.85.0", migrate="echo no room in the database; exit 3")
    broken = replace(release, folder=program.folder / "broken", version="0.85.0", sequence=2, manifest=failing)
    done = program.upgrade(broken.write())
    assert done.returncode == 32, done.stderr
    assert "no room in the database" in done.stderr
    assert json.loads(program.run("status", "--output", "json").stdout)["ready"] is False
    assert images(enclave) >= {f"{secure.address}/airferry/docker.io/demo/api:0.84.0"}

    # The Job of the failure bears the name of the next one, and would keep its image.
    fixed = replace(broken, folder=program.folder / "fixed", version="0.85.1", sequence=3)
    fixed.manifest = server_manifest("0.85.1")
    program.result(program.upgrade(fixed.write()))
    assert platform(enclave)["status"]["wandb"]["migration"]["version"] == "0.85.1"
    assert f"{secure.address}/airferry/docker.io/demo/api:0.85.1" in images(enclave)

    # The database is not what it was.
    assert "which 0.84.0 does not know" in program.run("rollback", "--yes").stderr
    done = program.upgrade(program.folder / "first" / "wandb-0.84.0.tar", "--back-to", "1")
    assert (done.returncode, "which 0.84.0 does not know" in done.stderr) == (2, True)


def test_what_hinders_the_operator_is_told(enclave: Enclave, program: EnclaveProgram, secure: Registry) -> None:
    """What it cannot fetch it tells its log alone, or since some version a condition."""
    login = {"username": "robot", "password": {"file": "robot"}}
    site = {"host": secure.address, "ca": "authority/ca.crt", "credentials": login, "pull_secret": True}
    path = program.folder / "site.yaml"

    def refusal(release: Release, **more: Any) -> str:
        program.site(**SITE, **EXTERNAL, **more)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"registry": site}))
        bundle = release.write()
        # The webhook of an operator that has just been replaced may swallow one question, for ten seconds.
        done = (program.install if release.sequence == 1 else program.upgrade)(bundle, timeout=30)
        assert done.returncode == 32, done.stderr
        return done.stderr

    off = [{"name": "CA_INJECTOR", "value": "off"}]
    release = Release(program.folder / "1", cert_manager_values={"env": off})
    said = refusal(release)
    for name in ("MutatingWebhookConfiguration wandb-operator", "ValidatingWebhookConfiguration wandb-operator"):
        assert f"{name} has no authority yet" in said

    release = replace(release, folder=program.folder / "2", sequence=2, cert_manager_values={})
    blind: dict[str, Any] = {"wandb-operator": {"caCerts": {"certs": []}}}
    said = refusal(release, operator_values=blind)
    assert "condition Ready is not there yet" in said
    assert "the operator does not trust the registry's certificate" in said
    assert "name the authority as registry.ca in site.yaml" in said

    release = replace(release, folder=program.folder / "3", sequence=3)
    release.operator_values = {"manifestCondition": "1"}
    said = refusal(release, operator_values=blind)
    assert "condition Ready is False" in said
    assert "certificate signed by unknown authority" in said

    program.site(**SITE, **EXTERNAL)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"registry": site}))
    program.result(program.install(program.folder / "3" / "wandb-0.84.0.tar"))

"""Where secrets of a site end up on the real cluster: in the Secrets that are meant for them, and nowhere else."""

from __future__ import annotations

import base64
import binascii
import contextlib
import gzip
import json
import secrets
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.application import KEY, demo_platform
from tests.parts.authority import Authority
from tests.parts.enclave_program import ROOT, EnclaveProgram

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.parts.enclave import Enclave
    from tests.parts.operators import Operator

pytestmark = [pytest.mark.cluster, pytest.mark.controller]

# What a chart does with values: it shows them to everybody, and lets a pod have what they refer to.
READER = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-values"}
data: {values: {{ toJson .Values | quote }}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}-reader"}
spec:
  selector: {matchLabels: {app: reader}}
  template:
    metadata: {labels: {app: reader}}
    spec:
      terminationGracePeriodSeconds: 1
      imagePullSecrets: {{ toJson .Values.global.imagePullSecrets }}
      containers:
        - name: reader
          image: "{{ .Values.cache.image.registry }}/{{ .Values.cache.image.repository }}:{{ .Values.cache.image.tag }}"
          env:
            {{- $own := dict "OWN" .Values.global.env.OWN_TOKEN "SMTP" .Values.global.env.GORILLA_EMAIL_SINK }}
            {{- $_ := set $own "LDAP" .Values.app.env.LOCAL_LDAP_BIND_PW }}
            {{- range $name, $value := $own }}
            - {name: {{ $name }}, valueFrom: {{ toJson $value.valueFrom }}}
            {{- end }}
            {{- with .Values.global }}
            {{- range $name, $place := dict
              "MYSQL" (list .mysql.passwordSecret.name .mysql.passwordSecret.passwordKey)
              "REDIS" (list .redis.secret.secretName .redis.secret.secretKey)
              "ACCESS" (list .bucket.secret.secretName .bucket.secret.accessKeyName)
              "SECRET" (list .bucket.secret.secretName .bucket.secret.secretKeyName)
              "OIDC" (list .auth.oidc.oidcSecret.name .auth.oidc.oidcSecret.secretKey)
              "LICENSE" (list .licenseSecret.name .licenseSecret.key) }}
            - {name: {{ $name }}, valueFrom: {secretKeyRef: {name: {{ first $place }}, key: {{ last $place }}}}}
            {{- end }}
            {{- end }}
          volumeMounts: [{name: tls, mountPath: /tls}]
      volumes: [{name: tls, secret: {secretName: {{ (first .Values.ingress.tls).secretName }}}}]
"""
HOST = "wandb.enclave.example"
# The Secret that each answer is for, in the platform's namespace.
MEANT = {
    "registry": "airferry-registry",
    "license": "airferry-license",
    "mysql": "airferry-mysql",
    "access": "airferry-bucket",
    "secret": "airferry-bucket",
    "redis": "airferry-redis",
    "smtp": "airferry-smtp",
    "oidc": "airferry-oidc",
    "ldap": "airferry-ldap",
    "own": "airferry-env",
    "clickhouse": "airferry-clickhouse",
    "key": "airferry-tls",
}


@dataclass
class Watch:
    """Looks at the command lines of all processes and at a folder, as often as it can, while the context is open."""

    folder: Path
    seen: set[bytes] = field(default_factory=set)
    looks: int = 0
    _end: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.05):
            self.looks += 1
            self.seen |= {content(path) for path in Path("/proc").glob("[0-9]*/cmdline")}
            self.seen |= {content(path) for path in self.folder.rglob("*") if path.is_file()}


def content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def answers(folder: Path, enclave: Enclave, canaries: dict[str, str]) -> dict[str, Any]:
    """A site that has every kind of secret: most in files, one in the environment."""
    authority = Authority(folder / "authority")
    for name, text in canaries.items():
        path = folder / "kept" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)
    server = authority.issue("wandb", [HOST])
    (folder / "kept" / "key").write_bytes(server.key.read_bytes())
    file = {name: {"file": f"kept/{name}"} for name in (*canaries, "key")}
    return {
        "registry": {
            "host": enclave.registry,
            "plain_http": True,
            "credentials": {"username": "robot", "password": file["registry"]},
            "pull_secret": True,
        },
        "namespace": "wandb",
        "operator_namespace": "wandb-operator",
        "host": f"https://{HOST}",
        "ingress": {"class": "nginx", "certificate": str(server.certificate), "key": file["key"]},
        "license": {"env": "LICENSE_OF_THE_SITE"},
        "mysql": {"host": "db", "password": file["mysql"]},
        "bucket": {
            "endpoint": "s3.enclave:9000",
            "name": "b",
            "access_key": file["access"],
            "secret_key": file["secret"],
        },
        "clickhouse": {"host": "ch", "password": file["clickhouse"]},
        "redis": {"host": "cache", "user": "me", "password": file["redis"], "ca": str(authority.certificate)},
        "smtp": {"host": "mail", "user": "u", "password": file["smtp"]},
        "oidc": {"issuer": "https://login", "client_id": "c", "secret": file["oidc"]},
        "ldap": {
            "address": "ldap://l",
            "base_dn": "dc=x",
            "attributes": "email=mail",
            "bind_dn": "cn=a",
            "bind_password": file["ldap"],
        },
        "secret_env": {"OWN_TOKEN": file["own"]},
    }


@dataclass(frozen=True)
class Installed:
    """What an installation with a canary in each secret has left behind."""

    enclave: Enclave
    folder: Path
    canaries: dict[str, bytes]
    done: subprocess.CompletedProcess[str]
    rendered: list[Path]
    watch: Watch

    def found_in(self, data: bytes) -> set[str]:
        """Which canaries are in `data`."""
        return {name for name, canary in self.canaries.items() if canary in data}


@pytest.fixture(scope="module")
def installed(enclave: Enclave, tmp_path_factory: pytest.TempPathFactory, operator: Operator) -> Iterator[Installed]:
    folder = tmp_path_factory.mktemp("secrets")
    bundle = demo_platform(folder / "bundle", "wandb", operator, changes={"templates/reader.yaml": READER}).write()
    # Letters and digits only: nothing of them changes on its way through URLs.
    canaries = {name: f"canary{secrets.token_hex(12)}{name}" for name in MEANT if name != "key"}
    (folder / "site.yaml").write_text(json.dumps(answers(folder, enclave, canaries)))
    temporary = folder / "temporary"
    temporary.mkdir()
    environment = {
        "HOME": str(folder),
        "TMPDIR": str(temporary),
        "PATH": "/usr/bin:/bin",
        "KUBECONFIG": str(enclave.kubeconfig),
        "LICENSE_OF_THE_SITE": canaries["license"],
    }
    site = ("--bundle", bundle, "--key", KEY, "--site", folder / "site.yaml")

    def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "installer", *command]
        return enclave.run(argv, check=False, cwd=ROOT, env=environment, timeout=400)

    program = EnclaveProgram(enclave, folder)
    try:
        with Watch(temporary) as watch:
            done = run("install", *site, "--timeout", "240")
        assert done.returncode == 0, done.stderr
        for form in ("placeholder", "external"):
            assert run("render", *site, "--output-dir", folder / form, "--secrets", form).returncode == 0
        key = (folder / "kept" / "key").read_text().splitlines()[2].encode()
        known = {name: text.encode() for name, text in canaries.items()} | {"key": key}
        rendered = [path for form in ("placeholder", "external") for path in (folder / form).rglob("*")]
        yield Installed(enclave, folder, known, done, [path for path in rendered if path.is_file()], watch)
    finally:
        assert program.run("uninstall", "--yes", "--timeout", "120").returncode in (0, 42)
        enclave.kubectl("delete", "namespace", "wandb", "wandb-operator", "--ignore-not-found", "--timeout=90s")


def layers(data: bytes, depth: int = 4) -> Iterator[bytes]:
    """`data`, and what is packed into it: base64 in JSON texts or as a whole, and gzip."""
    yield data
    if not depth:
        return
    if data.startswith(b"\x1f\x8b"):
        yield from layers(gzip.decompress(data), depth - 1)
        return
    with contextlib.suppress(binascii.Error):
        yield from layers(base64.b64decode(data, validate=True), depth - 1)
    try:
        texts = list(strings(json.loads(data)))
    except ValueError:
        return
    for text in texts:
        if len(text) > 15 and text.encode() != data:
            yield from layers(text.encode(), depth - 1)


def strings(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for value in node.values() if isinstance(node, dict) else node:
            yield from strings(value)


def all_objects(enclave: Enclave) -> list[dict[str, Any]]:
    """Every object of every kind in every namespace."""
    kinds = enclave.kubectl("api-resources", "--verbs=list", "--output=name").split()
    text = enclave.kubectl("get", ",".join(kinds), "--all-namespaces", "--ignore-not-found", "--output=json")
    found: list[dict[str, Any]] = json.loads(text)["items"]
    return found


def test_each_secret_is_in_its_own_secret_alone(installed: Installed) -> None:
    found: set[tuple[str, str]] = set()
    kinds = set()
    for item in all_objects(installed.enclave):
        kinds.add(item["kind"])
        inside = {name for layer in layers(json.dumps(item).encode()) for name in installed.found_in(layer)}
        place = f"{item['kind']} {item['metadata'].get('namespace')}/{item['metadata']['name']}"
        found |= {(name, place) for name in inside}
    meant = {(name, f"Secret wandb/{secret}") for name, secret in MEANT.items()}
    assert found == meant | {("registry", "Secret wandb-operator/airferry-registry")}
    assert {"Secret", "ConfigMap", "Pod", "Event", "WeightsAndBiases", "ReplicaSet", "ControllerRevision"} <= kinds


def test_what_the_search_would_miss(installed: Installed) -> None:
    """The release of Helm and the operator's own Secrets are among what was searched, and can be read."""
    items = {item["metadata"]["name"]: item for item in all_objects(installed.enclave) if item["kind"] == "Secret"}
    for name in ("sh.helm.release.v1.wandb.v1", "wandb-spec-active"):
        assert any(b"OWN_TOKEN" in layer for layer in layers(json.dumps(items[name]).encode())), name


def test_neither_output_nor_files_nor_arguments_show_one(installed: Installed) -> None:
    assert installed.watch.looks > 20
    assert any(b"installer\0install\0" in line for line in installed.watch.seen)
    assert installed.found_in(b"\n".join(installed.watch.seen)) == set()
    assert installed.found_in((installed.done.stdout + installed.done.stderr).encode()) == set()
    assert len(installed.rendered) > 20
    for path in installed.rendered:
        text = path.read_bytes()
        assert installed.found_in(text) == set(), path
        assert not [name for name, canary in installed.canaries.items() if base64.b64encode(canary)[:20] in text], path
    for path in installed.folder.rglob("*"):
        if path.is_file() and "kept" not in path.parts and "authority" not in path.parts:
            assert installed.found_in(path.read_bytes()) == set(), path
    logs = [installed.enclave.registry_log, installed.enclave.containerd_log]
    logs += [path for path in installed.enclave.pod_logs.rglob("*") if path.is_file()]
    for path in logs:
        assert installed.found_in(path.read_bytes()) == set(), path

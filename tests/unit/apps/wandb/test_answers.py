"""site.yaml: every defect at once with its place, no secret in sight, and the values and Secrets it becomes."""

from __future__ import annotations

import base64
import copy
import json
import pickle
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from installer.apps.wandb.application import PlatformFiles
from installer.chart.helm import Chart
from installer.errors import SiteError
from installer.schema import json_schema
from installer.site.secret import MAX_SECRET, Secret
from installer.site.site import Site
from tests.parts.authority import Authority
from tests.parts.wandb_site import OPERATOR, PLATFORM, RELEASE, WANDB, load_site, secrets_of, values_of

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "canary-3c9f1e"
REGISTRY = "registry: {host: 'r.enclave:5000'}\n"
LITERAL = (
    "a secret never stands in this file: write it to a file and give {file: NAME}, "
    "or use {env: NAME}, {prompt: QUESTION}, {secret: NAME, key: KEY}"
)
Load = Callable[..., Site]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a site whose files lie in the test's folder."""

    def load(text: str, *, environment: dict[str, str] | None = None) -> Site:
        return load_site(text, tmp_path, environment=environment)

    return load


def certificates(site: Site) -> tuple[str, ...]:
    """Those that all parts of the platform shall trust."""
    assert isinstance(site.files, PlatformFiles)
    return site.files.certificates


def defects(load: Load, text: str) -> list[str]:
    with pytest.raises(SiteError) as caught:
        load(text)
    assert caught.value.exit_code == 40
    assert caught.value.hint
    assert CANARY not in str(caught.value) + caught.value.hint
    lines = str(caught.value).removeprefix("site.yaml: ").split("\n  ")
    return lines if len(lines) == 1 else lines[1:]


def test_the_smallest_site(load: Load) -> None:
    site = load(REGISTRY)
    assert (site.registry, site.project) == ("r.enclave:5000", "airferry")
    assert site.credentials() is None
    assert secrets_of(site) == ()
    assert site.notes == ()
    assert values_of(OPERATOR, site) == {"airgapped": True}
    assert values_of(PLATFORM, site) == {"global": {}}
    assert values_of(RELEASE, site) == {}


def test_all_defects_are_reported_at_once_with_their_places(load: Load) -> None:
    text = f"""
registry: {{host: "HTTP://x", proj: a, credentials: {{username: 1, password: "{CANARY}"}}}}
mysql: {{host: db, pasword: {{file: {CANARY}}}, port: "1"}}
host: wandb.example
license: {{file: a, env: {CANARY}}}
bucket: {{name: x, access_key: {{secret: a, key: k}}}}
values: {{a: {{b: [null]}}, c: ~}}
charts: {{demo: {{valeus: {{}}}}}}
ingress: {{clas: nginx, annotations: {{a: 1}}}}
ingres: {{}}
namespace: Not_A_Label
certificates: {CANARY}
size: 3
"""
    assert defects(load, text) == [
        "registry.host: not a registry host: 'HTTP://x'; write it like registry.example:5000",
        "registry.credentials.username: YAML reads this as a number; quote it",
        f"registry.credentials.password: {LITERAL}",
        "registry.proj: unknown key; did you mean project?",
        "namespace: String should match pattern '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$'",
        "charts.demo.valeus: unknown key; did you mean values?",
        "host: must be http://HOST or https://HOST, without a path",
        "ingress.annotations.a: YAML reads this as a number; quote it",
        "ingress.clas: unknown key; did you mean class?",
        "license: needs one of file, env, prompt, secret",
        "certificates: Input should be a valid list",
        "mysql.port: Input should be a valid integer",
        "mysql.pasword: unknown key; did you mean password?",
        "bucket: `access_key` and `secret_key` belong together",
        "size: Input should be 'small', 'medium', 'large', 'xlarge' or 'xxlarge'",
        "values: null is not allowed here: a.b[0], c",
        "ingres: unknown key; did you mean ingress?",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "registry: missing"),
        ("registry: text", "registry: must be a mapping of keys"),
        ("registry: {}", "registry.host: missing"),
        (f"registry: {{host: h}}\nmysql: '{CANARY}'", "mysql: must be a mapping of keys"),
        ("registry: {host: h, xyz: 1}", "registry.xyz: unknown key; known here: answer_seconds, ca, credentials, "),
        ("registry: {host: h, plain_http: 'yes'}", "registry.plain_http: Input should be a valid boolean"),
        ("registry: {host: h, project: A}", "registry.project: not a repository path: 'A'"),
        ("registry: {host: h, ca: f, plain_http: true}", "registry: `ca` has no meaning with `plain_http`"),
        ("registry: {host: h, on_nodes: true, ca: f}", "registry: with `on_nodes` there is no registry"),
        ("registry: {host: h, pull_secret: true}", "registry: `pull_secret` needs `credentials`, or is the name"),
        (
            "registry: {host: h, credentials: {username: u, password: {secret: s, key: k}}}",
            "registry.credentials: the password is needed here, not in the cluster: use file, env or prompt",
        ),
        (REGISTRY + "license: {secret: s}", "license: `secret` (the name of a Secret in the cluster) and `key` belong"),
        (REGISTRY + "license: {env: ''}", "license: needs one of file, env, prompt, secret"),
        (
            REGISTRY + f"license: {{litral: {CANARY}}}",
            "license.litral: unknown key; known here: env, file, key, prompt",
        ),
        (
            REGISTRY + "bucket: {name: b, access_key: {secret: s, key: a}, secret_key: {env: E}}",
            "bucket: `access_key` and `secret_key` must stand in the same Secret, or both outside the cluster",
        ),
        (REGISTRY + "mysql: {host: db}", "mysql: needs `host` and `password`, or `internal: true` for a database in "),
        (REGISTRY + "mysql: {internal: true, user: u}", "mysql: with `internal` nothing else has a meaning"),
        (REGISTRY + "mysql: {host: h, user: 'a@b', password: {env: E}}", "mysql.user: String should match pattern"),
        (REGISTRY + "clickhouse: {host: h}", "clickhouse.password: missing"),
        (REGISTRY + "clickhouse: {host: '{{ x }}', password: {env: E}}", "clickhouse.host: String should match"),
        (REGISTRY + "redis: {internal: true, port: 1}", "redis: with `internal` nothing else has a meaning"),
        (REGISTRY + "redis: {port: 1}", "redis: needs `host`, or `internal: true` for a Redis in the cluster"),
        (
            REGISTRY + "redis: {host: h, ca: f, password: {secret: s, key: k}}",
            "redis: the chart takes `ca` from the password's Secret: give the password by file, env or prompt",
        ),
        (REGISTRY + "redis: {host: h, user: u}", "redis: `user` needs `password`"),
        (
            REGISTRY + "mysql: {host: h, password: {env: E}, client_certificate: f}",
            "mysql: `client_certificate` and `client_key` belong together",
        ),
        (
            REGISTRY + "mysql: {host: h, password: {env: E}, client_certificate: f, client_key: {env: E}}",
            "mysql: `client_certificate` needs `ca`, by which the server is known",
        ),
        (
            REGISTRY
            + "mysql: {host: h, password: {env: E}, ca: f, client_certificate: f, client_key: {secret: s, key: k}}",
            "mysql: certificate and key become one Secret: give the key by file, env or prompt",
        ),
        (REGISTRY + "redis: {host: h, params: {ttlInSeconds: '1'}}", "redis: the chart sets ttlInSeconds itself"),
        (REGISTRY + "bucket: {provider: gcs, name: b, access_key: {env: E}}", "bucket: the chart has no keys for gcs"),
        (REGISTRY + "bucket: {provider: az, name: b, secret_key: {env: E}}", "bucket: az has one key"),
        (REGISTRY + "bucket: {provider: az, name: b, endpoint: h}", "bucket: `endpoint` has a meaning for provider s3"),
        (REGISTRY + "bucket: {name: b, tls: true}", "bucket: `tls` and `ca` need `endpoint`"),
        (
            REGISTRY + "bucket: {name: b, endpoint: 'http://h', tls: true}",
            "bucket: `endpoint` says http, and `tls` the",
        ),
        (REGISTRY + "bucket: {name: b, endpoint: 'https://h/path'}", "bucket.endpoint: String should match pattern"),
        (REGISTRY + "smtp: {host: h, user: u}", "smtp: `user` and `password` belong together"),
        (
            REGISTRY + "smtp: {host: h, user: u, password: {secret: s, key: k}}",
            "smtp: the platform wants user, password and server as one URL: if that is in the cluster already, name it",
        ),
        (REGISTRY + "ldap: {address: 'h', base_dn: b, attributes: a}", "ldap.address: String should match pattern"),
        (
            REGISTRY + "ldap: {address: 'ldap://h', base_dn: b, attributes: a, bind_dn: d}",
            "ldap: `bind_dn` and `bind_password` belong together",
        ),
        (REGISTRY + "oidc: {issuer: 'https://u@h', client_id: c}", "oidc.issuer: must be an http(s) URL without"),
        (REGISTRY + f"proxy: {{http: 'http://u:{CANARY}@h:1'}}", "proxy.http: a proxy's password would stand in"),
        (REGISTRY + "proxy: {no_proxy: [a]}", "proxy: needs `http`, `https` or both"),
        (REGISTRY + "env: {A: true}", "env.A: YAML reads this as a truth value; quote it"),
        (REGISTRY + "env: {A: '{{ .Values }}'}", "env.A: must not hold {{, which Helm would take for a template"),
        (REGISTRY + "env: {BUCKET_QUEUE: 'x://'}", "env: BUCKET_QUEUE has no effect: the chart itself sets it"),
        (REGISTRY + "secret_env: {BUCKET_QUEUE: {env: E}}", "secret_env: BUCKET_QUEUE has no effect: the chart itself"),
        (REGISTRY + "env: {1A: b}", "env.1A: String should match pattern"),
        (REGISTRY + "env: {A: b}\nsecret_env: {A: {env: E}}", "the document: stands in `env` and in `secret_env`: A"),
        (REGISTRY + f"secret_env: {{A: {CANARY}}}", "secret_env.A: a secret never stands in this file"),
        (REGISTRY + "resources: {ap: {}}", "resources: no component 'ap'; did you mean app?"),
        (
            REGISTRY + "resources: {app: {requests: {cpu: 1}}}",
            "resources.app.requests.cpu: YAML reads this as a number",
        ),
        (REGISTRY + "tolerations: [{key: a, efect: b}]", "tolerations[0].efect: unknown key; did you mean effect?"),
        (REGISTRY + "tolerations: [{operator: Equal}]", "tolerations[0]: without `key` it tolerates everything"),
        (REGISTRY + "tolerations: [{key: a, operator: Exists, value: b}]", "tolerations[0]: `value` has no meaning"),
        (
            REGISTRY + "tolerations: [{key: a, effect: NoSchedule, tolerationSeconds: 1}]",
            "tolerations[0]: `tolerationSeconds` needs `effect: NoExecute`",
        ),
        (REGISTRY + "tolerations: [{key: 'a b'}]", "tolerations[0].key: String should match pattern"),
        (REGISTRY + "tolerations: [{key: a, value: 'b c'}]", "tolerations[0].value: String should match pattern"),
        (REGISTRY + "node_selector: {a: 'b/c'}", "node_selector.a: String should match pattern"),
        (REGISTRY + "pod_labels: {'a/b/c': d}", "pod_labels.a/b/c: String should match pattern"),
        (
            REGISTRY + "pod_labels: {app.kubernetes.io/name: x, team: ml}",
            "pod_labels: the charts find their pods by these, so they cannot be set: app.kubernetes.io/name",
        ),
        (REGISTRY + "pod_annotations: {a: '{{ b }}'}", "pod_annotations.a: must not hold {{"),
        (REGISTRY + "priority_class: A", "priority_class: String should match pattern"),
        (REGISTRY + "replicas: {redis: 2}", "replicas: always one pod, or one per node: redis"),
        (REGISTRY + "replicas: {apo: 2}", "replicas: no component 'apo'; did you mean app?"),
        (REGISTRY + "replicas: {app: 0}", "replicas.app: Input should be greater than or equal to 1"),
        (REGISTRY + "security: strict", "security: Input should be 'default', 'restricted' or 'openshift'"),
        (REGISTRY + "host: 'https://h:8443'", "the document: `host` must be a DNS name in lower case without a port"),
        (REGISTRY + "host: 'https://10.0.0.1'", "the document: `host` must be a DNS name in lower case without"),
        (REGISTRY + "expose: none\ningress: {class: a}", "the document: `ingress` has no meaning with `expose: none`"),
        (REGISTRY + "expose: route", "the document: `expose: route` needs `host`"),
        (REGISTRY + "expose: route\nhost: 'https://h:8443'", "the document: `host` must be a DNS name in lower case"),
        (REGISTRY + "route: {}", "the document: `route` needs `expose: route`"),
        (REGISTRY + "service: {node_port: 1}", "the document: `service` needs `expose: LoadBalancer` or"),
        (
            REGISTRY + "expose: LoadBalancer\nservice: {node_port: 1}",
            "the document: `service.node_port` needs `expose: NodePort`",
        ),
        (REGISTRY + "ingress: {certificate: f}", "ingress: `certificate` and `key` belong together"),
        (
            REGISTRY + "ingress: {certificate: f, key: {env: E}, tls_secret: s}",
            "ingress: either `tls_secret` or `certificate` and `key`",
        ),
        (
            REGISTRY + "ingress: {certificate: f, key: {secret: s, key: k}}",
            "ingress: a key that is in the cluster: name its Secret as `tls_secret`",
        ),
        (REGISTRY + "mysql: {host: h, port: 70000, password: {env: E}}", "mysql.port: Input should be less than or"),
        (REGISTRY + "host: https://user@h", "host: must be http://HOST or https://HOST, without a path"),
        ("a: 1\na: 2", "line 2, column 1: key 'a' stands twice"),
        (f"registry: {{host: {CANARY}", "line 2, column 1: did not find"),
        ("- a", "not a values document"),
    ],
)
def test_a_defect_names_its_place(load: Load, text: str, expected: str) -> None:
    [line] = defects(load, text)
    assert line.startswith(expected)


def test_files_that_are_named_must_be_there_and_be_what_they_should(load: Load, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    (tmp_path / "key.pem").write_bytes(authority.issue("server").key.read_bytes())
    (tmp_path / "text.pem").write_text("no certificate")
    (tmp_path / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    text = REGISTRY.replace("}", ", ca: absent.pem}") + "certificates: [key.pem, text.pem, broken.pem]\n"
    text += "license: {file: absent.txt}\nmysql: {host: h, password: {file: absent.txt}, ca: key.pem}\n"
    found = defects(load, text)
    assert [line.partition(": ")[0] for line in found] == [
        *("registry.ca", "certificates[0]", "certificates[1]", "certificates[2]"),
        *("mysql.ca", "license", "mysql.password"),
    ]
    assert "holds a private key" in found[1]
    assert "no certificate in PEM" in found[2]
    assert "malformed" in found[3]


def test_certificates_are_split_and_repetitions_dropped(load: Load, tmp_path: Path) -> None:
    one, two = (Authority(tmp_path / name, name) for name in ("one", "two"))
    first, second = (authority.certificate.read_bytes() for authority in (one, two))
    (tmp_path / "both.pem").write_bytes(b"# comment\n" + first + b"\ntext between\n" + second.replace(b"\n", b"\r\n"))
    (tmp_path / "again.pem").write_bytes(second + first)
    site = load(REGISTRY + "certificates: [both.pem, again.pem]\n")
    assert certificates(site) == (first.decode(), second.decode())
    assert values_of(OPERATOR, site)["customCACerts"] == values_of(PLATFORM, site)["global"]["customCACerts"]


def test_an_expired_certificate_is_named_but_kept(load: Load, tmp_path: Path) -> None:
    old = Authority(tmp_path).issue("old.example", ["old.example"], lifetime=timedelta(days=-1))
    (tmp_path / "old.pem").write_bytes(old.certificate.read_bytes())
    site = load(REGISTRY + "certificates: [old.pem]\n")
    assert len(certificates(site)) == 1
    [note] = site.notes
    assert "old.pem" in note
    assert "old.example" in note
    assert "expired on" in note


FULL = """
registry:
  host: r.enclave:5000
  credentials: {username: robot, password: {file: registry.password}}
  pull_secret: true
host: https://wandb.enclave.example/
ingress: {class: nginx, annotations: {a: b}, tls_secret: tls}
license: {file: license.txt}
mysql: {host: db, password: {prompt: of MySQL}}
bucket: {name: "s3:9000", path: b, region: r, access_key: {env: ACCESS}, secret_key: {env: SECRET}}
storage_class: fast
size: small
values: {global: {size: large}, app: {replicas: 2}}
operator_values: {resources: {}}
charts:
  demo: {namespace: elsewhere, values: {greeting: hi}}
  operator: {values: {airgapped: false}}
"""


@pytest.fixture
def full(load: Load, tmp_path: Path) -> Site:
    """A site that answers everything."""
    for name, text in (("registry.password", "pass:wörd"), ("license.txt", "eyJ.abc\r\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    return load(FULL, environment={"ACCESS": "AK", "SECRET": "S/K+ "})


def test_answers_become_values_of_the_platform(full: Site) -> None:
    values = values_of(PLATFORM, full)
    assert values == {
        "global": {
            "host": "https://wandb.enclave.example",
            "storageClass": "fast",
            "size": "large",
            "licenseSecret": {"name": "airferry-license", "key": "license"},
            "mysql": {
                "host": "db",
                "port": 3306,
                "database": "wandb_local",
                "user": "wandb",
                "passwordSecret": {"name": "airferry-mysql", "passwordKey": "MYSQL_PASSWORD"},
            },
            "bucket": {
                "provider": "s3",
                "name": "s3:9000",
                "path": "b",
                "region": "r",
                "secret": {
                    "secretName": "airferry-bucket",
                    "accessKeyName": "ACCESS_KEY",
                    "secretKeyName": "SECRET_KEY",
                },
            },
            "imagePullSecrets": [{"name": "airferry-registry"}],
        },
        "mysql": {"install": False},
        "prometheus": {
            "instance": {
                "imagePullSecrets": [{"name": "airferry-registry"}],
                "alertmanager": {"imagePullSecrets": [{"name": "airferry-registry"}]},
                "prometheus-pushgateway": {"imagePullSecrets": [{"name": "airferry-registry"}]},
                "server": {"persistentVolume": {"storageClass": "fast"}},
            }
        },
        "ingress": {
            "class": "nginx",
            "annotations": {"a": "b"},
            "tls": [{"secretName": "tls", "hosts": ["wandb.enclave.example"]}],
        },
        "app": {"replicas": 2},
    }


def test_later_answers_win(full: Site) -> None:
    assert values_of(OPERATOR, full) == {
        "airgapped": False,
        "image": {"pullSecrets": ["airferry-registry"]},
        "resources": {},
    }
    assert values_of(RELEASE, full) == {"greeting": "hi"}
    assert [WANDB.namespace(step, full) for step in WANDB.profile.steps] == ["wandb-system", "wandb", "elsewhere"]


def test_namespaces_of_the_site(load: Load) -> None:
    site = load(REGISTRY + "namespace: ml\noperator_namespace: ops\n")
    assert [WANDB.namespace(step, site) for step in WANDB.profile.steps] == ["ops", "ml", "ml"]


def test_secrets_arrive_exactly(full: Site) -> None:
    found = {(item.name, item.namespace): item for item in secrets_of(full)}
    assert set(found) == {
        ("airferry-registry", "elsewhere"),
        ("airferry-registry", "wandb"),
        ("airferry-registry", "wandb-system"),
        ("airferry-license", "wandb"),
        ("airferry-mysql", "wandb"),
        ("airferry-bucket", "wandb"),
    }

    def data(name: str) -> dict[str, str]:
        return {key: value.reveal() for key, value in found[name, "wandb"].data.items()}

    assert data("airferry-license") == {"license": "eyJ.abc"}
    # The chart writes these two into URLs as they are, and its init container decodes the database's password.
    assert data("airferry-mysql") == {"MYSQL_PASSWORD": "answered%20of%20MySQL"}
    assert data("airferry-bucket") == {"ACCESS_KEY": "AK", "SECRET_KEY": "S%2FK%2B%20"}
    pull = found["airferry-registry", "wandb"]
    assert pull.type == "kubernetes.io/dockerconfigjson"
    [(host, login)] = json.loads(pull.data[".dockerconfigjson"].reveal())["auths"].items()
    assert (host, login["username"], login["password"]) == ("r.enclave:5000", "robot", "pass:wörd")
    assert base64.b64decode(login["auth"]).decode() == "robot:pass:wörd"


def test_no_secret_shows_itself(full: Site) -> None:
    credentials, secrets = full.credentials(), secrets_of(full)
    shown = (
        repr((full, credentials, secrets))
        + str(full)
        + json.dumps([values_of(step, full) for step in WANDB.profile.steps])
    )
    for text in ("pass:wörd", "eyJ.abc", "answered", "AK", "S/K+"):
        assert text not in shown.replace("MASK", "")
    secret = Secret(CANARY)
    assert CANARY not in f"{secret} {secret!r} {[secret]}"
    assert secret != Secret(CANARY)
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            copied(secret)


def test_nothing_is_asked_before_it_is_needed_and_nothing_twice(tmp_path: Path) -> None:
    asked: list[str] = []

    def prompt(question: str) -> str:
        asked.append(question)
        return "word"

    text = REGISTRY + "mysql: {host: h, password: {prompt: one}}\nlicense: {prompt: two}\n"
    site = load_site(text, tmp_path, prompt=prompt)
    values_of(PLATFORM, site)
    assert asked == []
    first = secrets_of(site)
    second = secrets_of(site)
    assert sorted(asked) == ["one", "two"]
    assert [(item.name, *item.data) for item in first] == [(item.name, *item.data) for item in second]


def test_secrets_that_are_in_the_cluster_are_only_named(load: Load) -> None:
    text = REGISTRY + "license: {secret: given, key: L}\nmysql: {host: h, password: {secret: given, key: P}}\n"
    text += "bucket: {name: b, access_key: {secret: given, key: A}, secret_key: {secret: given, key: S}}\n"
    site = load(text)
    assert secrets_of(site) == ()
    everywhere = values_of(PLATFORM, site)["global"]
    assert everywhere["licenseSecret"] == {"name": "given", "key": "L"}
    assert everywhere["mysql"]["passwordSecret"] == {"name": "given", "passwordKey": "P"}
    assert everywhere["bucket"]["secret"] == {"secretName": "given", "accessKeyName": "A", "secretKeyName": "S"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"word", "word"),
        (b"word\n", "word"),
        (b"word\r\n", "word"),
        (b' $word\'s "quotes" \\ ', ' $word\'s "quotes" \\ '),
        ("geheim äöü 密码".encode(), "geheim äöü 密码"),
        (b"x" * 100_000, "x" * 100_000),
    ],
)
def test_a_secret_from_a_file_is_exact(load: Load, tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "f").write_bytes(content)
    [secret] = secrets_of(load(REGISTRY + "license: {file: f}\n"))
    assert secret.data["license"].reveal() == expected


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (b"canary-3c9f1e\n\n", "line break"),
        (b"canary-3c9f1e\x00", "control character"),
        (b"canary-3c9f1e\xff", "UTF-8"),
        (b"canary-3c9f1e" * (MAX_SECRET // 13 + 1), "larger than"),
    ],
)
def test_a_secret_that_would_not_survive_is_refused_unshown(
    load: Load, tmp_path: Path, content: bytes, says: str
) -> None:
    (tmp_path / "f").write_bytes(content)
    site = load(REGISTRY + "license: {file: f}\n")
    with pytest.raises(SiteError, match=f"^license: .*{says}") as caught:
        secrets_of(site)
    assert CANARY not in str(caught.value)


def test_a_variable_that_is_not_set_is_named(load: Load) -> None:
    site = load(REGISTRY + "license: {env: LICENSE_TEXT}\n")
    with pytest.raises(SiteError, match=r"^license: environment variable LICENSE_TEXT is not set$"):
        secrets_of(site)


def test_a_secret_that_everybody_may_read_is_remarked(load: Load, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("word")
    (tmp_path / "f").chmod(0o644)
    assert load(REGISTRY + "license: {file: f}\n").notes == ("license: everybody may read f; chmod 600 it",)
    (tmp_path / "f").chmod(0o640)
    assert load(REGISTRY + "license: {file: f}\n").notes == ()


def test_answers_about_a_chart_that_the_bundle_lacks_are_refused(load: Load) -> None:
    WANDB.check(load(REGISTRY + "charts: {demo-app: {}, wandb: {}}\n"))
    with pytest.raises(SiteError, match=r"charts\.demp: the bundle has no such chart; did you mean demo\?"):
        WANDB.check(load(REGISTRY + "charts: {demp: {}}\n"))


def test_secrets_in_values_of_the_platform_are_refused_with_the_answer_to_use(load: Load) -> None:
    text = f"""
values: {{api: {{env: {{STORE: "mysql://u:{CANARY}@h"}}}},
  global: {{license: {CANARY}, mysql: {{password: {CANARY}}}, redis: {{password: ""}},
  email: {{smtp: {{password: {{valueFrom: {{secretKeyRef: {{name: a, key: b}}}}}}}}}}}}}}
charts:
  wandb: {{values: {{global: {{bucket: {{accessKey: {CANARY}, secretKey: {CANARY}}}}}}}}}
  demo: {{values: {{global: {{license: free}}}}}}
"""
    with pytest.raises(SiteError) as caught:
        WANDB.check(load(REGISTRY + text))
    assert CANARY not in str(caught.value)
    assert [line.partition(": ")[0] for line in str(caught.value).split("\n  ")[1:]] == [
        "values.api.env.STORE",
        "values.global.license",
        "values.global.mysql.password",
        "charts.wandb.values.global.bucket.accessKey",
        "charts.wandb.values.global.bucket.secretKey",
    ]
    for answer in ("use license", "use mysql.password", "use bucket.access_key", "use bucket.secret_key"):
        assert answer in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LDAP_BIND_PW", CANARY),
        ("GORILLA_LICENSE", "ABC"),
        ("AWS_SECRET_ACCESS_KEY", "AKIA0123"),
        ("GORILLA_SESSION_KEY", "1"),
        ("MYSQL", f"mysql://u:{CANARY}@h"),
        ("GORILLA_SUPPORTED_FILE_STORES", f"gs://free,s3://KEY:{CANARY}/with+slash@minio:9000/b"),
    ],
)
def test_a_secret_among_the_variables_is_refused_unshown(load: Load, name: str, value: str) -> None:
    [line] = defects(load, f"{REGISTRY}env: {{LOG_LEVEL: info, {name}: '{value}'}}\n")
    assert line == (f"env: looks like a secret, and many may read what is made of it; use secret_env instead: {name}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WF_ENFORCE_PASSWORD_LENGTH", "12"),
        ("REQUIRE_TOKEN", "true"),
        ("GORILLA_LICENSE_CERT_PATH", "/jwks.json"),
        ("CALLBACK", "https://h:8443/a@b"),
        ("MYSQL", "mysql://$(MYSQL_USER):$(MYSQL_PASSWORD)@$(MYSQL_HOST)/db"),
        ("MAIL", "smtp://me@h"),
    ],
)
def test_a_variable_that_only_sounds_like_a_secret_is_taken(load: Load, name: str, value: str) -> None:
    assert values_of(PLATFORM, load(f"{REGISTRY}env: {{{name}: '{value}'}}\n"))["global"]["env"] == {name: value}


def test_values_that_look_like_secrets_are_remarked(load: Load) -> None:
    text = f"""
env: {{PASSWORD_POLICY: {CANARY}, TOKEN_FILE: /a, LOG_LEVEL: info}}
values:
  api: {{env: [{{name: DB_PASSWORD, value: {CANARY}}}], apiKey: {CANARY}}}
  global: {{redis: {{secret: {{secretName: mine, secretKey: REDIS_PASSWORD}}}}, mysql: {{passwordSecret: {{name: x}}}}}}
  ingress: {{annotations: {{nginx.ingress.kubernetes.io/auth-secret: login, a/ssl-passthrough: "true"}}}}
  other: {{existingSecret: mine, passwordKey: key, licensePath: /a, password: "{{{{ .Values.x }}}}"}}
charts: {{demo: {{values: {{clientSecret: "", client: {{secret: {CANARY}}}, store: "s3://k:{CANARY}@h"}}}}}}
"""
    site = load(REGISTRY + text)
    assert CANARY not in str(site.notes)
    assert [note.partition(": ")[0] for note in site.notes] == [
        "env.PASSWORD_POLICY",
        "values.api.apiKey",
        "values.api.env[0].DB_PASSWORD",
        "charts.demo.values.client.secret",
        "charts.demo.values.store",
    ]
    WANDB.check(site)


def test_yaml_is_read_as_helm_reads_it(load: Load) -> None:
    site = load(REGISTRY + "charts: {demo: {values: {day: 2026-01-02, truth: on}}}\n")
    assert values_of(RELEASE, site) == {"day": "2026-01-02", "truth": True}


def test_the_schema_for_editors_describes_the_keys() -> None:
    schema = json_schema(WANDB.answers, "site.yaml")
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["registry"]
    assert "class" in schema["$defs"]["IngressAnswers"]["properties"]
    json.dumps(schema)


@pytest.mark.charts
def test_the_real_charts_understand_the_values(full: Site, assets: Path) -> None:
    platform = Chart.load((assets / "operator-wandb-0.43.8.tgz").read_bytes())
    objects = platform.render(values_of(PLATFORM, full), release="wandb", namespace="wandb").objects
    text = json.dumps(objects)
    for name in ("airferry-license", "airferry-mysql", "airferry-bucket", "airferry-registry"):
        assert f'"name": "{name}"' in text
    [ingress] = [item for item in objects if item["kind"] == "Ingress"]
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"]["tls"] == [{"secretName": "tls", "hosts": ["wandb.enclave.example"]}]
    for item in objects:
        pod = item["spec"]["template"]["spec"] if item["kind"] in ("Deployment", "StatefulSet", "DaemonSet") else {}
        assert pod.get("imagePullSecrets", [{"name": "airferry-registry"}]) == [{"name": "airferry-registry"}]
    operator = Chart.load((assets / "operator-1.4.8.tgz").read_bytes())
    [deployment] = [
        item
        for item in operator.render(values_of(OPERATOR, full), release="operator", namespace="wandb").objects
        if item["kind"] == "Deployment"
    ]
    assert deployment["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "airferry-registry"}]


@pytest.fixture
def server(tmp_path: Path) -> Authority:
    """An authority with `server.crt` and `server.key` for one name, below `authority`."""
    authority = Authority(tmp_path / "authority")
    authority.issue("server", ["wandb.enclave.example", "*.apps.example"])
    return authority


TLS = "ingress: {certificate: authority/server.crt, key: {file: authority/server.key}, additional_hosts: [%s]}\n"


def test_certificate_and_key_become_a_secret_that_the_ingress_names(load: Load, server: Authority) -> None:
    site = load(REGISTRY + "host: https://wandb.enclave.example\n" + TLS % "a.apps.example")
    assert [note for note in site.notes if "everybody" not in note] == []
    [tls] = values_of(PLATFORM, site)["ingress"]["tls"]
    assert tls == {"secretName": "airferry-tls", "hosts": ["wandb.enclave.example", "a.apps.example"]}
    [secret] = secrets_of(site)
    assert (secret.name, secret.namespace, secret.type) == ("airferry-tls", "wandb", "kubernetes.io/tls")
    assert secret.data["tls.crt"].reveal().encode() == (server.folder / "server.crt").read_bytes()
    assert secret.data["tls.key"].reveal().encode() == (server.folder / "server.key").read_bytes().rstrip()
    assert [item.data["tls.key"].reveal() for item in secrets_of(site, blank=True)] == [""]


def test_a_host_that_the_certificate_is_not_for_is_remarked(load: Load, server: Authority) -> None:
    notes = load(REGISTRY + "host: https://other.example\n" + TLS % "a.b.apps.example").notes
    assert "ingress.certificate: is not for other.example" in notes
    assert "ingress.certificate: is not for a.b.apps.example" in notes


def test_an_expired_server_certificate_is_refused(load: Load, server: Authority) -> None:
    server.issue("server", ["wandb.enclave.example"], lifetime=timedelta(days=-1))
    [line] = defects(load, REGISTRY + TLS % "a.example")
    assert line.startswith("ingress.certificate: authority/server.crt: expired on ")


@pytest.mark.parametrize("key", ["another", "encrypted", "text"])
def test_a_key_that_does_not_serve_is_refused_unshown(load: Load, server: Authority, key: str) -> None:
    path = server.folder / "server.key"
    if key == "another":
        path.write_bytes(server.issue("another").key.read_bytes())
    elif key == "encrypted":
        plain = load_pem_private_key(path.read_bytes(), None)
        path.write_bytes(plain.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word")))
    else:
        path.write_text(CANARY)
    site = load(REGISTRY + TLS % "a.example")
    with pytest.raises(SiteError, match=r"^ingress\.key: not ") as caught:
        secrets_of(site)
    assert CANARY not in str(caught.value)


def test_passwords_are_encoded_where_the_chart_writes_urls(load: Load, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(Authority(tmp_path / "authority").certificate.read_bytes())
    word = "p@ss:/w ö?"
    text = """
mysql: {host: db, password: {env: W}}
redis: {host: cache, password: {env: W}, ca: ca.pem}
smtp: {host: mail, user: "me@x", password: {env: W}}
oidc: {issuer: "https://i/realm", client_id: c, secret: {env: W}}
ldap: {address: "ldap://l", base_dn: "dc=x", attributes: "email=mail", bind_dn: "cn=a", bind_password: {env: W}}
bucket: {provider: az, name: account, path: files, access_key: {env: W}}
clickhouse: {host: ch, password: {env: W}}
secret_env: {TOKEN: {env: W}}
"""
    site = load(REGISTRY + text, environment={"W": word})
    found = {item.name: {key: value.reveal() for key, value in item.data.items()} for item in secrets_of(site)}
    encoded = "p%40ss%3A%2Fw%20%C3%B6%3F"
    assert found == {
        "airferry-mysql": {"MYSQL_PASSWORD": encoded},
        "airferry-redis": {"REDIS_PASSWORD": encoded, "REDIS_CA_CERT": (tmp_path / "ca.pem").read_text()},
        "airferry-smtp": {"GORILLA_EMAIL_SINK": f"smtp://me%40x:{encoded}@mail:587"},
        "airferry-oidc": {"OIDC_SECRET": word},
        "airferry-ldap": {"LDAP_BIND_PW": word},
        "airferry-bucket": {"ACCESS_KEY": word},
        "airferry-clickhouse": {"CLICKHOUSE_PASSWORD": word},
        "airferry-env": {"TOKEN": word},
    }
    reference = {"secretKeyRef": {"name": "airferry-smtp", "key": "GORILLA_EMAIL_SINK"}}
    assert values_of(PLATFORM, site)["global"]["env"]["GORILLA_EMAIL_SINK"] == {"valueFrom": reference}


def test_clickhouse_is_that_of_the_traces(load: Load) -> None:
    values = values_of(PLATFORM, load(REGISTRY + "clickhouse: {host: ch, password: {secret: s, key: k}}\n"))
    assert values["weave-trace"] == {"install": True}
    assert values["global"]["clickhouse"] == {
        "host": "ch",
        "port": 8443,
        "database": "weave_trace_db",
        "user": "default",
        "replicated": False,
        "passwordSecret": {"name": "s", "passwordKey": "k"},
    }


def test_ways_to_reach_the_platform(load: Load) -> None:
    def values(text: str) -> dict[str, Any]:
        return values_of(PLATFORM, load(REGISTRY + text))

    assert "ingress" not in values("")
    assert values("expose: none\nhost: http://10.0.0.1:8080")["ingress"] == {"install": False}
    route = values("expose: route\nhost: https://w.example")
    assert (route["ingress"], route["nginx"]) == ({"install": False}, {"install": True})
    nodes = values("expose: NodePort\nservice: {node_port: 30080}")
    port = {"name": "http", "port": 8080, "protocol": "TCP", "nodePort": 30080}
    assert nodes["ingress"] == {"install": False}
    assert nodes["nginx"] == {"install": True, "service": {"type": "NodePort", "ports": [port]}}


def test_a_proxy_is_not_asked_for_what_is_in_the_cluster(load: Load) -> None:
    text = "host: https://w.example\nproxy: {https: 'http://proxy:3128', no_proxy: [.corp]}\nenv: {A: b}\n"
    environment = values_of(PLATFORM, load(REGISTRY + text))["global"]["env"]
    assert set(environment) == {"HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "A"}
    names = environment["NO_PROXY"].split(",")
    assert {".svc", "$(KUBERNETES_SERVICE_HOST)", "wandb-app", "wandb-redis-master", "w.example", ".corp"} <= set(names)


def test_the_address_of_an_issuers_description_is_taken_for_the_issuer(load: Load) -> None:
    issuer = "https://login.example/realms/ml"
    for text in (issuer, f"{issuer}/.well-known/openid-configuration"):
        values = values_of(PLATFORM, load(f"{REGISTRY}oidc: {{issuer: '{text}', client_id: c}}"))
        assert values["global"]["auth"]["oidc"]["issuer"] == issuer


def test_object_stores_in_the_words_of_the_chart(load: Load) -> None:
    def bucket(text: str) -> dict[str, Any]:
        found: dict[str, Any] = values_of(PLATFORM, load(f"{REGISTRY}bucket: {{{text}}}"))["global"]["bucket"]
        return found

    assert bucket("name: b, region: r") == {"provider": "s3", "name": "b", "region": "r"}
    compatible = bucket("name: b, endpoint: 'minio:9000', tls: true, path: a/b")
    assert compatible == {"provider": "s3", "name": "minio:9000", "path": "b/a/b?tls=true"}
    assert bucket("name: b, endpoint: 'https://minio:9000/'")["path"] == "b?tls=true"
    assert bucket("name: b, endpoint: 'https://minio:9000/'")["name"] == "minio:9000"
    assert bucket("name: b, endpoint: 'http://minio'") == {"provider": "s3", "name": "minio", "path": "b"}
    assert bucket("provider: gcs, name: b") == {"provider": "gcs", "name": "b"}
    assert bucket("provider: az, name: account, path: c, access_key: {secret: s, key: k}") == {
        "provider": "az",
        "name": "account",
        "path": "c",
        "secret": {"secretName": "s", "accessKeyName": "k"},
    }

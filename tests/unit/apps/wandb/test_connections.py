"""Answers about databases as the pods of the real charts get them: in variables, with passwords from Secrets."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from installer.apps.wandb.pods import check_pods
from installer.apps.wandb.site.answers import own_answers
from installer.chart.helm import Chart
from installer.chart.retarget import merged
from installer.cluster.workload import ReleaseName, pod_specs
from installer.errors import SiteError
from installer.objects.desired import ChartRelease
from installer.site.site import Site
from tests.parts.authority import Authority
from tests.parts.wandb_site import PLATFORM, load_site, secrets_of, values_of
from tests.parts.wandb_values import EVERY_PART

if TYPE_CHECKING:
    from pathlib import Path

Load = Callable[[str], Site]
RECENT = ("0.41.4", "0.43.8")
# All parts but the exporters, which ask the databases by themselves.
PARTS: dict[str, Any] = merged(
    EVERY_PART,
    {
        "prometheus": {"mysql-exporter": {"enabled": False}, "redis-exporter": {"enabled": False}},
        "global": {"executor": {"enabled": True}},
    },
)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    authority = Authority(tmp_path / "authority")
    (tmp_path / "ca.pem").write_bytes(authority.certificate.read_bytes())
    client = authority.issue("wandb", ["wandb"])
    (tmp_path / "client.pem").write_bytes(client.certificate.read_bytes())
    (tmp_path / "client.key").write_bytes(client.key.read_bytes())
    (tmp_path / "other.key").write_bytes(authority.issue("other").key.read_bytes())
    return lambda text: load_site(f"registry: {{host: r}}\n{text}", tmp_path)


def installed(assets: Path, version: str, site: Site, parts: dict[str, Any]) -> ChartRelease:
    chart = Chart.load((assets / f"operator-wandb-{version}.tgz").read_bytes())
    values = merged(parts, values_of(PLATFORM, site))
    objects = chart.render(values, release="wandb", namespace="wandb").objects
    return ChartRelease(chart, ReleaseName("wandb", "wandb"), values, tuple(objects), (), frozenset())


def variables(made: ChartRelease, wanted: str) -> dict[tuple[str, str, str], str]:
    """The variables of all containers whose values match `wanted`, by object, container and name."""
    return {
        (item["metadata"]["name"], container["name"], entry["name"]): str(entry["value"])
        for item in made.objects
        for spec in pod_specs(item)
        for container in (*(spec.get("initContainers") or []), *spec["containers"])
        for entry in container.get("env") or []
        if re.search(wanted, str(entry.get("value") or ""))
    }


def checked(site: Site, made: ChartRelease) -> None:
    check_pods(own_answers(site.answers), made, made)


MYSQL = "mysql: {host: db, password: {env: E}, %s}\n"
LOGIN = r"\$\(MYSQL_USER\):\$\(MYSQL_PASSWORD\)@\$\(MYSQL_HOST\):\$\(MYSQL_PORT\)/\$\(MYSQL_DATABASE\)"
CUSTOM = "tls=custom&ssl-ca=$(MYSQL_CA_CERT_PATH)"


@pytest.mark.charts
@pytest.mark.parametrize("version", RECENT)
@pytest.mark.parametrize(
    ("answers", "ends"),
    [
        ("tls: true", "tls=true"),
        ("tls: true, ca: ca.pem", CUSTOM),
        (
            "ca: ca.pem, client_certificate: client.pem, client_key: {file: client.key}",
            f"{CUSTOM}&ssl-cert=/etc/mysql-client/tls.crt&ssl-key=/etc/mysql-client/tls.key",
        ),
    ],
)
def test_no_component_asks_mysql_without_tls(assets: Path, load: Load, version: str, answers: str, ends: str) -> None:
    plain = load(MYSQL % "port: 3307")
    before = variables(installed(assets, version, plain, PARTS), "mysql://")
    assert len(before) > 90
    assert all("tls=preferred" in text for text in before.values())
    site = load(MYSQL % answers)
    made = installed(assets, version, site, PARTS)
    checked(site, made)
    after = variables(made, "mysql://")
    initial = {place for place in before if place[1] == "init-db"} if "client" in answers else set()
    assert after == {
        place: text.replace("tls=preferred", ends) for place, text in before.items() if place not in initial
    }
    assert all(re.search(f"mysql://{LOGIN}\\?{re.escape(ends)}$", text) for text in after.values())
    with pytest.raises(
        SiteError, match=r"mysql\.tls: chart .* no way to give it to the pods of .*\(GORILLA_RUN_STORE\)"
    ):
        checked(site, installed(assets, version, plain, PARTS))


@pytest.mark.charts
@pytest.mark.parametrize("version", RECENT)
def test_the_client_certificate_lies_where_the_urls_name_it(assets: Path, load: Load, version: str) -> None:
    answers = "ca: ca.pem, client_certificate: client.pem, client_key: {file: client.key}"
    site = load(MYSQL.replace("env: E", "prompt: E") % answers)
    made = installed(assets, version, site, PARTS)
    asking = {place[:2] for place in variables(made, "mysql://")}
    mount = {"name": "mysql-client", "mountPath": "/etc/mysql-client", "readOnly": True}
    volume = {"name": "mysql-client", "secret": {"secretName": "airferry-mysql-client"}}
    mounted = {
        (item["metadata"]["name"], container["name"])
        for item in made.objects
        for spec in pod_specs(item)
        for container in (*(spec.get("initContainers") or []), *spec["containers"])
        if mount in (container.get("volumeMounts") or []) and volume in (spec.get("volumes") or [])
    }
    assert asking <= mounted
    [secret] = [item for item in secrets_of(site) if item.name == "airferry-mysql-client"]
    assert secret.type == "kubernetes.io/tls"
    assert secret.data["tls.key"].reveal().startswith("-----BEGIN")
    other = load(MYSQL.replace("env: E", "prompt: E") % answers.replace("client.key", "other.key"))
    with pytest.raises(SiteError, match=r"^mysql\.client_key: not the key of the certificate"):
        secrets_of(other)


@pytest.mark.charts
@pytest.mark.parametrize("version", RECENT)
def test_every_component_logs_in_to_redis_as_the_user_of_the_site(assets: Path, load: Load, version: str) -> None:
    plain = load("redis: {host: cache, password: {env: E}}\n")
    before = variables(installed(assets, version, plain, PARTS), "redis://")
    assert len(before) > 130
    site = load("redis: {host: cache, user: wandb, password: {env: E}}\n")
    made = installed(assets, version, site, PARTS)
    checked(site, made)
    start = "redis://wandb:$(REDIS_PASSWORD)@$(REDIS_HOST):"
    after = variables(made, "redis://")
    assert after == {place: text.replace("redis://:", "redis://wandb:") for place, text in before.items()}
    assert all(text.startswith(start) for text in after.values())
    idle = merged(PARTS, {"global": {"executor": {"enabled": False}}})
    assert set(variables(installed(assets, version, site, idle), "^noop://").values()) == {"noop://"}
    # The limiter of requests is a variable that is there only if it is on.
    limited = {"global": {"api": {"enabled": True, "rateLimits": {"enabled": True}}}}
    with pytest.raises(SiteError, match=r"redis\.user: .* to the pods of [^(]*\(GORILLA_LIMITER\)"):
        checked(site, installed(assets, version, site, merged(PARTS, limited)))


@pytest.mark.charts
def test_the_chart_of_the_guide_cannot_be_told(assets: Path, load: Load) -> None:
    site = load(MYSQL % "tls: true" + "redis: {host: cache, user: wandb, password: {env: E}}\n")
    base = {"global": {"bucket": {"name": "b", "region": "r"}}}
    with pytest.raises(SiteError) as caught:
        checked(site, installed(assets, "0.18.0", site, base))
    assert "mysql.tls: chart operator-wandb 0.18.0 has no way" in str(caught.value)
    assert "redis.user: chart operator-wandb 0.18.0 has no way" in str(caught.value)


@pytest.mark.charts
@pytest.mark.parametrize("version", RECENT)
def test_the_traces_are_kept_in_the_clickhouse_of_the_site(assets: Path, load: Load, version: str) -> None:
    site = load("clickhouse: {host: ch.example, user: me, database: traces, password: {env: E}, replicated: true}\n")
    made = installed(assets, version, site, {})
    [spec] = [
        spec for item in made.objects if item["metadata"]["name"] == "wandb-weave-trace-bc" for spec in pod_specs(item)
    ]
    for container in (*spec["initContainers"], *spec["containers"]):
        found = {entry["name"]: entry.get("value") or entry["valueFrom"]["secretKeyRef"] for entry in container["env"]}
        assert {name: text for name, text in found.items() if name.startswith("WF_CLICKHOUSE")} == {
            "WF_CLICKHOUSE_HOST": "ch.example",
            "WF_CLICKHOUSE_PORT": "8443",
            "WF_CLICKHOUSE_DATABASE": "traces",
            "WF_CLICKHOUSE_USER": "me",
            "WF_CLICKHOUSE_REPLICATED": "true",
            "WF_CLICKHOUSE_PASS": {"name": "airferry-clickhouse", "key": "CLICKHOUSE_PASSWORD"},
        }
    assert "wandb-clickhouse" not in [item["metadata"]["name"] for item in made.objects if item["kind"] == "Secret"]
    # The number that Weave asks over TLS for; any other one is used as it is.
    other = load("clickhouse: {host: ch, port: 8123, password: {env: E}}\n")
    assert set(variables(installed(assets, version, other, {}), "^8123$")) == {
        ("wandb-weave-trace-bc", container, "WF_CLICKHOUSE_PORT")
        for container in ("weave-trace", "weave-trace-migrate")
    }

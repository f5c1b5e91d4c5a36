"""The site's answers against the real charts: each value that they become is one that a template reads."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, get_args

import pytest

from installer.apps.wandb.site.pod_answers import Component
from installer.chart.helm import Chart, hook_events
from installer.chart.retarget import merged
from installer.cluster.workload import pod_specs
from tests.parts.template_files import WANDB, files_of_the_template, uncommented
from tests.parts.wandb_site import OPERATOR, PLATFORM, load_site, values_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from installer.site.site import Site

# Parts that the answers themselves do not switch on.
EVERYTHING: dict[str, Any] = {
    "global": {"api": {"enabled": True}, "glue": {"enabled": True}},
    "clickhouse": {"install": True, "keeper": {"enabled": True}},
    "kafka": {"install": True, "broker": {"replicaCount": 1}},
    **{
        name: {"install": True}
        for name in set(get_args(Component))
        - {"api", "app", "glue", "mysql", "operator", "otel", "prometheus", "redis"}
    },
}
# Not in the packed chart that the tests have: its dependency on Prometheus' own chart was left out.
ABSENT = ("prometheus", "instance")

# Parts that are off here; what the site says of pods is proven on all parts elsewhere.
OFF = (
    *(("bufstream",), ("etcd",), ("stackdriver",), ("yace",), ("otel", "deployment")),
    *(("prometheus", "mysql-exporter"), ("prometheus", "redis-exporter")),
)

pytestmark = pytest.mark.charts


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """All that the template comments out, with resources for every component."""
    folder = tmp_path_factory.mktemp("site")
    files_of_the_template(folder)
    for name in ("registry.password", "license.txt"):
        (folder / name).chmod(0o600)
    text = uncommented((WANDB / "site.yaml").read_text()).replace("pull_secret: false", "pull_secret: true")
    given = text.index("  app: {requests")
    some = "".join(f"  {name}: {{requests: {{cpu: 11m}}}}\n" for name in get_args(Component) if name != "app")
    return load_site(text[:given] + some + text[given:], folder)


def leaves(node: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    if isinstance(node, dict | list) and node:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(value, *path, key)
    elif path[:2] != ABSENT:
        yield path


def with_value(values: dict[str, Any], path: tuple[Any, ...], value: Any) -> Any:
    """The value that stood at `path` of `values`, and now is `value`."""
    node = values
    for key in path[:-1]:
        node = node[key]
    old, node[path[-1]] = node[path[-1]], value
    return old


def rendered(chart: Chart, values: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects of the chart with all its parts; what Secrets hold stands there as text."""
    objects = chart.render(
        merged(EVERYTHING, values), release="wandb", namespace="wandb", api_versions=["networking.k8s.io/v1/Ingress"]
    ).objects
    return [{**item, "data": texts(item)} if item["kind"] == "Secret" else item for item in objects]


def texts(secret: dict[str, Any]) -> list[str]:
    return [base64.b64decode(text or "").decode() for text in (secret.get("data") or {}).values()]


# What only takes some values, and what decides over whole parts; the other is what the answer is changed to.
SWITCHES = {
    ("global", "size"): "medium",
    ("global", "bucket", "provider"): "cw",
    ("ingress", "install"): True,
    ("mysql", "install"): False,
    ("redis", "install"): False,
    ("nginx", "install"): False,
    ("nginx", "service", "type"): "ClusterIP",
}
# What excludes something that the template has, with the answers that then matter.
ALTERNATIVES = (
    (
        "mysql: {internal: true}\nredis: {internal: true}\nstorage_class: fast\n"
        "resources: {mysql: {limits: {cpu: 1m}}, redis: {limits: {cpu: 1m}}}\n"
        "node_selector: {a: b}\ntolerations: [{key: a, value: b, effect: NoSchedule}]\n"
        "expose: NodePort\nservice: {node_port: 30080, annotations: {a: b}}"
    ),
    (
        "bucket: {provider: az, name: account, path: container, access_key: {secret: s, key: k}}\n"
        "smtp: {host: mail, from: a@b.c}\nredis: {host: cache, ca: redis-ca.pem}\nexpose: none"
    ),
)
# With the password in a Secret, the chart only asks whether there is a certificate, and then has its own `tls`.
MARKLESS = {("global", "redis", "caCert"), ("global", "redis", "params", "tls")}


@pytest.fixture(scope="module")
def platform(assets: Path) -> Chart:
    return Chart.load((assets / "operator-wandb-0.43.8.tgz").read_bytes())


def marked(values: dict[str, Any]) -> dict[tuple[Any, ...], str]:
    """Put a mark of its own into each of `values`, as far as any text or number will do; the marks by their path."""
    marks: dict[tuple[Any, ...], str] = {}
    for number, path in enumerate(leaves(values), 10001):
        old = with_value(values, path, None)
        mark: Any = old
        if path in SWITCHES or path in MARKLESS or isinstance(old, bool):
            pass
        elif isinstance(old, int):
            mark, marks[path] = number, str(number)
        elif path[-1] in ("cpu", "memory"):
            mark = marks[path] = f"{number}m"
        else:
            mark, marks[path] = f"{old}Mark{number}", f"Mark{number}"
        with_value(values, path, mark)
    return marks


def test_every_pod_has_the_nodes_of_the_site(platform: Chart, tmp_path: Path) -> None:
    text = "registry: {host: r}\nmysql: {internal: true}\nredis: {internal: true}\nbucket: {name: b, region: r}\n"
    site = load_site(
        f"{text}node_selector: {{pool: wandb}}\ntolerations: [{{key: a, value: b, effect: NoSchedule}}]\n", tmp_path
    )
    # Bufstream, which comes with etcd, takes few buckets.
    more = {name: {"install": True} for name in ("bufstream", "stackdriver", "yace")}
    elsewhere = {
        item["metadata"]["name"]
        for item in rendered(platform, merged(more, values_of(PLATFORM, site)))
        if hook_events(item) != ("test",)
        for spec in pod_specs(item)
        if not (spec.get("nodeSelector") == {"pool": "wandb"} and spec.get("tolerations"))
    }
    assert elsewhere == {"wandb-stackdriver", "wandb-yace"}, "which have no value for it"


def test_every_answer_is_read_by_a_template(site: Site, platform: Chart, tmp_path: Path) -> None:
    files_of_the_template(tmp_path)
    unread: set[tuple[Any, ...]] = set()
    found: set[tuple[Any, ...]] = set()
    for one in (site, *(load_site(f"registry: {{host: r}}\n{text}\n", tmp_path) for text in ALTERNATIVES)):
        values = values_of(PLATFORM, one)
        marks = marked(values)
        text = json.dumps(rendered(platform, values))
        unread |= {path for path, mark in marks.items() if mark not in text}
        found |= {path for path, mark in marks.items() if mark in text}
    unread = {path for path in unread if not any(path[: len(part)] == part for part in OFF)}
    # Part of the chart's own database and cache, which the site of the template does not have.
    own = {path for path in unread if path[0] in ("mysql", "redis") or path == ("global", "storageClass")}
    assert unread - own == set()
    assert own
    assert {path[:2] for path in own} <= {path[:2] for path in found}
    assert len(found) > 90


def test_every_switch_switches_something(platform: Chart, tmp_path: Path) -> None:
    answers = "mysql: {internal: true}\nredis: {internal: true}\nexpose: NodePort\nbucket: {name: b}\nsize: small\n"
    values = values_of(PLATFORM, load_site(f"registry: {{host: r}}\n{answers}", tmp_path))

    def text(values: dict[str, Any]) -> str:
        # Each render makes other passwords.
        return json.dumps([item for item in rendered(platform, values) if item["kind"] != "Secret"])

    before = text(values)
    assert before == text(values)
    for path, other in SWITCHES.items():
        old = with_value(values, path, other)
        assert text(values) != before, path
        with_value(values, path, old)


def test_pods_are_placed_and_may_pull_and_know_the_neighbours(site: Site, platform: Chart) -> None:
    values = merged(values_of(PLATFORM, site), {"mysql": {"install": True}, "redis": {"install": True}})
    objects = rendered(platform, values)
    pods = {f"{item['kind']} {item['metadata']['name']}": pod for item in objects if (pod := pod_spec(item))}
    assert len(pods) > 20
    for name, pod in pods.items():
        if name.startswith("Pod "):  # `helm test`
            continue
        assert pod.get("imagePullSecrets") == [{"name": "airferry-registry"}], name
        assert pod.get("nodeSelector") == {"pool": "wandb"}, name
        assert [item["key"] for item in pod.get("tolerations") or []] == ["dedicated"], name
    past_the_proxy = values["global"]["env"]["NO_PROXY"].split(",")
    services = {item["metadata"]["name"] for item in objects if item["kind"] == "Service"}
    assert services <= set(past_the_proxy)


def pod_spec(item: dict[str, Any]) -> dict[str, Any] | None:
    """The pod of a workload."""
    spec = item.get("spec") or {}
    if item["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    found = spec if item["kind"] == "Pod" else (spec.get("template") or {}).get("spec")
    return found if isinstance(found, dict) and "containers" in found else None


def test_the_operator_reads_its_answers(site: Site, assets: Path) -> None:
    values = values_of(OPERATOR, site)
    chart = Chart.load((assets / "operator-1.4.8.tgz").read_bytes())
    objects = chart.render(values, release="operator", namespace="wandb").objects
    marks = marked(values)
    text = json.dumps(chart.render(values, release="operator", namespace="wandb").objects)
    assert [path for path, mark in marks.items() if mark not in text] == []
    [pod] = [pod for item in objects if (pod := pod_spec(item))]
    assert pod["imagePullSecrets"] == [{"name": "airferry-registry"}]

"""What all answers of a site make of the real platform chart, before the real API server."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from installer.chart.helm import Chart, hook_events
from installer.chart.retarget import merged
from tests.parts.template_files import WANDB, files_of_the_template, uncommented
from tests.parts.wandb_site import PLATFORM, load_site, values_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.enclave import Enclave

pytestmark = [pytest.mark.cluster, pytest.mark.charts]

TAKEN = "serverside-applied (server dry run)"
OTHERS = "redis: {internal: true}\nexpose: NodePort\nservice: {node_port: 30080, annotations: {a: b}}\n"
# The parts that can be confined, hooks included.
CONFINED: dict[str, Any] = {
    "otel": {"install": False},
    "frontend": {"install": True},
    "global": {"api": {"enabled": True}, "glue": {"enabled": True}, "localService": {"bypass": True}},
    "clickhouse": {"install": True, "keeper": {"enabled": True}},
    "kafka": {"install": True, "broker": {"replicaCount": 1}},
    "nginx": {"install": True},
    "reloader": {"install": True},
    "settingsMigrationJob": {"install": True},
    "weave-trace": {"install": True},
    "yace": {"install": True, "regions": ["r"], "searchTags": {"k": "v"}},
}


def dry_run(
    enclave: Enclave, namespace: str, folder: Path, assets: Path, site: str, values: dict[str, Any], *, upgrade: bool
) -> tuple[int, list[str]]:
    """How many objects the chart makes of a site, and what the API server says of them, its warnings included."""
    files_of_the_template(folder)
    chart = Chart.load((assets / "operator-wandb-0.43.8.tgz").read_bytes())
    given = merged(values_of(PLATFORM, load_site(site, folder)), values)
    rendered = chart.render(given, release="wandb", namespace=namespace, upgrade=upgrade).objects
    objects = [item for item in rendered if "test" not in hook_events(item)]
    for item in objects:
        item["metadata"].setdefault("namespace", namespace)
    (folder / "objects.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    # kubectl's own look at them stumbles over empty keys in Secrets of the chart, which the server ignores.
    options = ("--server-side", "--dry-run=server", "--validate=false")
    file, both = str(folder / "objects.json"), {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return len(objects), enclave.kubectl("apply", *options, "-f", file, **both).splitlines()


@pytest.mark.parametrize("text", [uncommented((WANDB / "site.yaml").read_text()), f"registry: {{host: r}}\n{OTHERS}"])
def test_the_api_server_takes_every_object(
    enclave: Enclave, namespace: str, tmp_path: Path, assets: Path, text: str
) -> None:
    count, lines = dry_run(enclave, namespace, tmp_path, assets, text, {}, upgrade=False)
    assert len([line for line in lines if line.endswith(TAKEN)]) == count > 50


@pytest.mark.parametrize("security", ["default", "restricted", "openshift"])
@pytest.mark.parametrize("upgrade", [False, True])
def test_the_api_server_has_nothing_against_confined_pods(
    enclave: Enclave, namespace: str, tmp_path: Path, assets: Path, security: str, upgrade: bool
) -> None:
    enclave.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/warn=restricted")
    site = f"registry: {{host: r}}\nhost: https://w.example\nsecurity: {security}\nbucket: {{name: b}}\n"
    count, lines = dry_run(enclave, namespace, tmp_path, assets, site, CONFINED, upgrade=upgrade)
    assert len([line for line in lines if line.endswith(TAKEN)]) == count > 50
    refused = [line for line in lines if "would violate PodSecurity" in line]
    if security == "restricted":
        assert refused == []
    elif security == "default":
        assert len(refused) > 10, "the server looks at them"
    else:
        # What these lack OpenShift gives to every pod; all others are as for `restricted`.
        assert all('"kafka"' in line or '"wandb-reloader"' in line or '"yace"' in line for line in refused)

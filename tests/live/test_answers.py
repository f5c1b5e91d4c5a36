"""What all answers of a site make of the real platform chart, before the real API server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from installer.chart.helm import Chart
from tests.parts.template_files import WANDB, files_of_the_template, uncommented
from tests.parts.wandb_site import PLATFORM, load_site, values_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.enclave import Enclave

pytestmark = [pytest.mark.cluster, pytest.mark.charts]

OTHERS = "redis: {internal: true}\nexpose: NodePort\nservice: {node_port: 30080, annotations: {a: b}}\n"


@pytest.mark.parametrize("text", [uncommented((WANDB / "site.yaml").read_text()), f"registry: {{host: r}}\n{OTHERS}"])
def test_the_api_server_takes_every_object(
    enclave: Enclave, namespace: str, tmp_path: Path, assets: Path, text: str
) -> None:
    files_of_the_template(tmp_path)
    site = load_site(text, tmp_path)
    chart = Chart.load((assets / "operator-wandb-0.43.8.tgz").read_bytes())
    objects = chart.render(values_of(PLATFORM, site), release="wandb", namespace=namespace).objects
    for item in objects:
        item["metadata"].setdefault("namespace", namespace)
    (tmp_path / "objects.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    # kubectl's own look at them stumbles over empty keys in Secrets of the chart, which the server ignores.
    options = ("--server-side", "--dry-run=server", "--validate=false")
    lines = enclave.kubectl("apply", *options, "-f", str(tmp_path / "objects.json")).splitlines()
    assert len(lines) == len(objects) > 50

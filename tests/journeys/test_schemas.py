"""A chart whose schema refers to the web: the document comes from the recipe, and checks the values on both sides."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.parts.charts import package
from tests.parts.programs import from_source

if TYPE_CHECKING:
    from pathlib import Path

    from tests.journeys.conftest import Carried

ADDRESS = "https://schemas.example/v1/common.json"
COMMON = {"$defs": {"port": {"type": "integer"}}}
FILES = {
    "Chart.yaml": "apiVersion: v2\nname: web\nversion: 1.0.0\n",
    "values.yaml": "port: 80\n",
    "values.schema.json": json.dumps({"properties": {"port": {"$ref": f"{ADDRESS}#/$defs/port"}}}),
    "templates/it.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {port: '{{ .Values.port }}'}\n",
}


def test_from_a_refusal_to_values_that_are_checked_inside(carried: Carried, tmp_path: Path) -> None:
    (tmp_path / "web.tgz").write_bytes(package("web", files=FILES))
    airferry = from_source("builder", tmp_path)
    recipe = {"name": "web", "version": "1.0", "charts": [{"name": "web", "path": "web.tgz"}]}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    refused = airferry.run("lock")
    assert refused.returncode == 41
    assert f'      "{ADDRESS}": schemas/schemas.example/v1/common.json' in refused.stderr.splitlines()

    (tmp_path / "common.json").write_text(json.dumps(COMMON))
    recipe["charts"] = [{"name": "web", "path": "web.tgz", "schemas": {ADDRESS: "common.json"}}]
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    airferry.result("lock")
    first, second = (airferry.result("build", "-o", f"{name}.tar")["sums"] for name in ("web", "again"))
    assert first == second
    airferry.result("sign", "web.tar", "--key", carried.folder / "release.key")

    installer = from_source("installer", tmp_path, "--bundle", tmp_path / "web.tar", "--key", carried.key)
    site = {"registry": {"host": "registry.enclave.example:5000"}, "charts": {"web": {"values": {"port": 8080}}}}
    (tmp_path / "site.yaml").write_text(json.dumps(site))
    installer.result("render", "--site", "site.yaml", "--output-dir", "out")
    assert any("8080" in path.read_text() for path in (tmp_path / "out").rglob("*.yaml"))
    site["charts"] = {"web": {"values": {"port": "http"}}}
    (tmp_path / "site.yaml").write_text(json.dumps(site))
    refused = installer.run("render", "--site", "site.yaml", "--output-dir", "wrong")
    assert refused.returncode == 40
    assert "got string, want integer" in refused.stderr

    (tmp_path / "common.json").write_text(json.dumps({}))
    refused = airferry.run("build", "-o", "third.tar")
    assert refused.returncode == 41
    assert "changed since they were locked, or gone: common.json" in refused.stderr

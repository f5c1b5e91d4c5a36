"""An application of one's own: all of it is in the folder of its profile, and the programs are as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from tests.parts.profile_example import write_example
from tests.parts.programs import from_source

if TYPE_CHECKING:
    from pathlib import Path

    from tests.journeys.conftest import Carried


def documents(folder: Path) -> dict[str, Any]:
    """The objects of all rendered files, by kind and name."""
    found = {}
    for path in sorted(folder.rglob("*.yaml")):
        for item in yaml.safe_load_all(path.read_text()):
            if item and "kind" in item and "metadata" in item:
                found[f"{item['kind']} {item['metadata']['name']}"] = item
    return found


def test_from_init_to_render(carried: Carried, tmp_path: Path) -> None:
    write_example(tmp_path / "example")
    airferry = from_source("builder", tmp_path)
    airferry.result("init", "--profile", "example", "new")
    new = tmp_path / "new"
    recipe = new / "recipe.yaml"
    registries = f'registries:\n  docker.io: {{mirror: "{carried.upstream.url}"}}\n'
    recipe.write_text(recipe.read_text() + registries)
    airferry = from_source("builder", new)
    airferry.result("lock")
    airferry.result("build")
    airferry.result("sign", "shop-1.0.tar", "--key", carried.folder / "release.key")
    installer = from_source("installer", new, "--bundle", new / "shop-1.0.tar", "--key", carried.key)
    assert "# What visitors read." in installer.run("template").stdout
    (new / "site.yaml").write_text((tmp_path / "example" / "site.yaml").read_text())
    # At home, where the site's secrets are not.
    assert airferry.result("rehearse", "shop-1.0.tar", "--site", "site.yaml", "--kubernetes", "1.33")["asked"] == []
    assert "it installs on Kubernetes 1.33" in airferry.run("rehearse", "shop-1.0.tar", "--kubernetes", "1.33").stdout
    unknown = airferry.run("rehearse", "shop-1.0.tar", "--kubernetes", "newest")
    assert (unknown.returncode, "--kubernetes" in unknown.stderr) == (2, True)
    answers = (new / "site.yaml").read_text()
    (new / "wrong.yaml").write_text(f"{answers}charts: {{shop: {{values: {{image: {{tag: none}}}}}}}}\n")
    refused = airferry.run("rehearse", "shop-1.0.tar", "--site", "wrong.yaml")
    assert refused.returncode == 41
    assert "the installer would refuse this in the enclave:" in refused.stderr
    (new / "database.password").write_text("a word of the site\n")
    installer.result("render", "--site", "site.yaml", "--output-dir", "out")
    objects = documents(new / "out")
    assert objects["ConfigMap shop"]["data"]["greeting"] == "Welcome!"
    assert objects["CronJob shop-nightly"]["spec"]["schedule"] == "30 2 * * *"
    assert objects["Deployment shop"]["spec"]["replicas"] == 3
    image = objects["Deployment shop"]["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image.startswith("registry.enclave.example:5000/")
    assert "NetworkPolicy shop" in objects
    assert objects["Namespace shop"]["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "baseline"}
    assert "Secret shop-database" in objects
    assert not any("a word of the site" in path.read_text() for path in (new / "out").rglob("*") if path.is_file())

"""`airferry init`: what it writes is a beginning that `lock` can read."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder.cli.main import cli
from builder.recipe.recipe import Recipe
from installer import shell
from installer.apps.application import Application, application
from installer.apps.profile import parse_profile
from installer.errors import RecipeError, SiteError
from installer.site.site import Site
from installer.strict_yaml import load_yaml
from tests.parts.charts import CHARTS, package
from tests.parts.static_files import StaticFiles

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA = {
    "properties": {
        "replicas": {"type": "integer", "description": "How many web servers run."},
        "image": {
            "type": "object",
            "required": ["tag"],
            "properties": {"tag": {"type": "string"}, "pullPolicy": {"enum": ["Always", "IfNotPresent"]}},
        },
    }
}


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    found = shell.run(cli, "airferry", ["init", *arguments])
    out, err = capsys.readouterr()
    assert found == code, err
    return out + err


def read(folder: Path) -> tuple[Recipe, Application]:
    profile = parse_profile((folder / "profile.yaml").read_bytes(), "profile.yaml", RecipeError)
    return Recipe.load(folder / "recipe.yaml"), application(profile)


def keys(folder: Path, name: str) -> Sequence[str]:
    schema = json.loads((folder / f"{name}.schema.json").read_text())
    assert (folder / f"{name}.yaml").read_text().startswith(f"# yaml-language-server: $schema={name}.schema.json\n")
    return list(schema["properties"])


def test_the_platform(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new"
    said = run(capsys, str(folder), code=2)
    assert "say --profile wandb, --profile wandb-v2, --profile empty, --profile FOLDER" in said
    assert not folder.exists()
    assert "next: edit" in run(capsys, "--profile", "wandb", str(folder))
    recipe, app = read(folder)
    assert (recipe.profile, app.profile.driver) == ("profile.yaml", "wandb")
    assert "license" in keys(folder, "site")
    assert "steps" in keys(folder, "profile")
    assert "charts" in keys(folder, "recipe")
    (folder / "recipe.yaml").write_text("mine")
    assert f"kept    {folder / 'recipe.yaml'} (it exists)" in run(capsys, "--profile", "wandb", str(folder))
    assert (folder / "recipe.yaml").read_text() == "mine"


def test_a_profile_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own"
    run(capsys, "--profile", "empty", str(own))
    (own / "policies").mkdir()
    (own / "policies" / "x.yaml").write_text("x")
    (own / "airferry.lock").write_text("made")
    run(capsys, "--profile", str(own), str(tmp_path / "new"))
    assert (tmp_path / "new" / "policies" / "x.yaml").read_text() == "x"
    assert not (tmp_path / "new" / "airferry.lock").exists()
    assert "host" in json.loads((own / "site.schema.json").read_text())["properties"]
    assert "neither one of wandb, wandb-v2, empty, nor a folder" in run(capsys, "--profile", str(tmp_path), code=2)
    assert "two beginnings" in run(capsys, "--profile", "empty", "--chart", "x", code=2)


@pytest.mark.parametrize("place", ["folder", "archive", "repository"])
def test_a_chart(tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str) -> None:
    archive = package("demo-app", files={"values.schema.json": json.dumps(SCHEMA)})
    new = tmp_path / "deep" / "new"
    with StaticFiles(tmp_path / "web") as web:
        (tmp_path / "web" / "demo-app-1.0.0.tgz").write_bytes(archive)
        entry = {"name": "demo-app", "version": "1.0.0", "urls": ["demo-app-1.0.0.tgz"]}
        (tmp_path / "web" / "index.yaml").write_text(json.dumps({"apiVersion": "v1", "entries": {"demo-app": [entry]}}))
        named = {
            "folder": str(CHARTS / "demo-app"),
            "archive": str(tmp_path / "web" / "demo-app-1.0.0.tgz"),
            "repository": f"{web.url}/demo-app",
        }[place]
        run(capsys, "--chart", named, str(new))
        recipe, app = read(new)
        (chart,) = recipe.charts
        assert (chart.repository, chart.version) == ((web.url, "1.0.0") if place == "repository" else (None, None))
        assert chart.path is None or (new / chart.path).resolve() == Path(named).resolve()
    assert [step.label for step in app.profile.steps] == ["demo-app"]
    text = (new / "site.yaml").read_text()
    assert load(text, app).charts == {}
    values = load(text.replace("\n# charts:", "\ncharts:").replace("\n# ", "\n "), app, whole=True)
    assert values == load_yaml((CHARTS / "demo-app" / "values.yaml").read_bytes(), "values.yaml", SiteError)
    if place != "folder":
        assert "#   replicas: integer, How many web servers run.\n" in text
        assert '#   image.pullPolicy: one of "Always", "IfNotPresent"\n' in text
        assert "#   image.tag: required, string\n" in text


def load(text: str, app: Application, *, whole: bool = False) -> Any:
    """The answers in `text`; with `whole` the values of the one chart, and comments that are no YAML left out."""
    if whole:
        text = text[text.index("charts:") :]
        text = "registry: {host: r.enclave}\n" + text
    site = Site.load(
        text.encode(),
        Path(),
        application=app,
        now=dt.datetime(2026, 6, 1, tzinfo=dt.UTC),
        environment=lambda _: None,
        prompt=lambda _: "",
    )
    return site.answers.charts["demo-app"].values if whole else site.answers


def test_a_chart_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such folder or archive" in run(capsys, "--chart", str(tmp_path / "none"), code=2)

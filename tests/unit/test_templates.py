"""The templates that `airferry init` copies are valid as they stand, and what they comment out is valid too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from builder.charts.tree import ChartTree
from builder.charts.version_overrides import pinned, versions
from builder.recipe.recipe import Recipe, parse_recipe
from installer.chart.helm import Chart, parse_values
from installer.chart.images import references
from installer.errors import SiteError
from installer.schema import json_schema
from installer.site.secret import SecretSource
from tests.parts.template_files import FOLDER, files_of_the_template, uncommented
from tests.parts.wandb_site import WANDB, load_site

if TYPE_CHECKING:
    from pathlib import Path


SCHEMAS = (("site", json_schema(WANDB.answers, "site.yaml of airferry")), ("recipe", Recipe.json_schema()))


def test_the_recipe_is_valid_and_names_files_that_are_here() -> None:
    recipe = Recipe.load(FOLDER / "recipe.yaml")
    assert [chart.role for chart in recipe.charts] == ["operator", "platform"]
    named = [recipe.site, *(chart.resource or chart.values for chart in recipe.charts)]
    assert all(isinstance(name, str) and (FOLDER / name).is_file() for name in named)


def test_what_the_recipe_comments_out_is_valid() -> None:
    text = (FOLDER / "recipe.yaml").read_text()
    for key in ("images", "exclude", "substitutions", "registries"):
        text = text.replace(f"\n{key}: []", f"\n{key}:").replace(f"\n{key}: {{}}", f"\n{key}:")
    recipe = parse_recipe(uncommented(text).encode(), "recipe.yaml")
    assert recipe.expires
    assert len(recipe.charts) == 3
    assert len(recipe.images) == 4
    assert recipe.exclude
    assert recipe.substitutions
    assert len(recipe.registries) == 3


def test_the_site_needs_nothing_but_a_registry() -> None:
    assert load_site((FOLDER / "site.yaml").read_text(), FOLDER).registry == "registry.enclave.example:5000"


def test_what_the_site_comments_out_is_valid(tmp_path: Path) -> None:
    text = uncommented((FOLDER / "site.yaml").read_text())
    with pytest.raises(SiteError) as missing:
        load_site(text, tmp_path)
    assert "unknown key" not in str(missing.value)
    files_of_the_template(tmp_path)
    answers = load_site(text, tmp_path).answers
    # Every key of the schema is explained, and all at once make sense, except for those that exclude each other.
    assert unanswered(answers) == {"service", "ingress.tls_secret", "mysql.internal", "redis.internal"}


def unanswered(model: BaseModel, path: str = "") -> set[str]:
    """The keys of a model that were not given, secrets' own aside."""
    found = {f"{path}{key}" for key in set(type(model).model_fields) - model.model_fields_set}
    for key in model.model_fields_set:
        value = getattr(model, key)
        if isinstance(value, BaseModel) and not isinstance(value, SecretSource):
            found |= unanswered(value, f"{path}{key}.")
    return found


@pytest.mark.parametrize(("name", "schema"), SCHEMAS)
def test_editors_get_the_schema_of_each_file(name: str, schema: dict[str, Any]) -> None:
    """`make docs` writes them anew."""
    assert (FOLDER / f"{name}.yaml").read_text().startswith(f"# yaml-language-server: $schema={name}.schema.json\n")
    assert json.loads((FOLDER / f"{name}.schema.json").read_text()) == schema


@pytest.mark.charts
@pytest.mark.parametrize("upgrade", [False, True])
def test_every_image_of_the_profile_has_a_version(assets: Path, upgrade: bool) -> None:
    operator = parse_values((FOLDER / "operator-values.yaml").read_bytes(), "operator-values.yaml", SiteError)
    resource = parse_values((FOLDER / "wandb.yaml").read_bytes(), "wandb.yaml", SiteError)
    assert operator["airgapped"] is True
    recipe = Recipe.load(FOLDER / "recipe.yaml")
    for entry, given in zip(recipe.charts, (operator, resource["spec"]["values"]), strict=True):
        chart = Chart.load((assets / f"{entry.name}-{entry.version}.tgz").read_bytes())
        values = pinned(ChartTree.of(chart), given, versions(recipe))
        objects = chart.render(values, release="wandb", namespace="wandb", upgrade=upgrade).objects
        found = [item.reference() for item in references(objects) if not item.test_only]
        assert found
        assert not [str(reference) for reference in found if reference.selector == "latest"]


if __name__ == "__main__":
    for title, document in SCHEMAS:
        (FOLDER / f"{title}.schema.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")

"""The templates that `airferry init` copies are valid as they stand, and what they comment out is valid too."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest

import templates
from builder.recipe import Recipe, parse_recipe
from installer.chart.helm import Chart, parse_values
from installer.chart.images import references
from installer.errors import SiteError
from installer.site import Site
from tests.parts.authority import Authority

FOLDER = Path(templates.__file__).parent
# A commented key, item or nested line of YAML, as opposed to a sentence.
_COMMENTED = re.compile(r"^( *)# ( *(?:- )?(?:[a-z_.0-9/:-]+:(?: .*)?|- \S.*))$")


def uncommented(text: str) -> str:
    return "\n".join(_COMMENTED.sub(r"\1\2", line) for line in text.splitlines())


def load(text: str, folder: Path) -> Site:
    now = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
    return Site.load(text.encode(), folder, now=now, environment=lambda _: None, prompt=lambda _: "answer")


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
    assert load((FOLDER / "site.yaml").read_text(), FOLDER).registry == "registry.enclave.example:5000"


def test_what_the_site_comments_out_is_valid(tmp_path: Path) -> None:
    text = uncommented((FOLDER / "site.yaml").read_text())
    with pytest.raises(SiteError) as missing:
        load(text, tmp_path)
    assert "unknown key" not in str(missing.value)
    authority = Authority(tmp_path / "authority")
    for name in ("registry-ca.pem", "enclave-ca.pem", "mysql-ca.pem"):
        (tmp_path / name).write_bytes(authority.certificate.read_bytes())
    for name in ("registry.password", "license.txt", "bucket.access", "bucket.secret"):
        (tmp_path / name).write_text("word\n")
    answers = load(text, tmp_path).answers
    assert None not in (answers.mysql, answers.bucket, answers.license, answers.ingress, answers.registry.credentials)
    assert answers.charts
    # Every key of the schema is explained.
    assert set(type(answers).model_fields) <= set(re.findall(r"^(\w+):", text, flags=re.MULTILINE))


@pytest.mark.controller
@pytest.mark.parametrize("upgrade", [False, True])
def test_every_image_of_the_profile_has_a_version(assets: Path, upgrade: bool) -> None:
    operator = parse_values((FOLDER / "operator-values.yaml").read_bytes(), "operator-values.yaml", SiteError)
    resource = parse_values((FOLDER / "wandb.yaml").read_bytes(), "wandb.yaml", SiteError)
    assert operator["airgapped"] is True
    for entry, values in zip(
        Recipe.load(FOLDER / "recipe.yaml").charts, (operator, resource["spec"]["values"]), strict=True
    ):
        chart = Chart.load((assets / f"{entry.name}-{entry.version}.tgz").read_bytes())
        objects = chart.render(values, release="wandb", namespace="wandb", upgrade=upgrade)
        found = [item.reference() for item in references(objects) if not item.test_only]
        assert found
        assert not [str(reference) for reference in found if reference.selector == "latest"]

"""The templates that `airferry init` copies are valid as they stand, and what they comment out is valid too."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel

from builder.charts.tree import ChartTree
from builder.charts.version_overrides import pinned, tags
from builder.recipe.recipe import Recipe, parse_recipe
from builder.resolve.site_template import site_template
from installer.apps.application import application
from installer.apps.profile import Profile, parse_profile
from installer.chart.helm import Chart, parse_values
from installer.chart.images import references
from installer.errors import RecipeError, SiteError
from installer.site.secret import SecretSource
from installer.site.site import ApplicationAnswers, RegistryOnly, Site
from tests.parts.template_files import FOLDER, WANDB, files_of_the_template, uncommented

if TYPE_CHECKING:
    from pathlib import Path

PROFILES = sorted(path.parent.name for path in FOLDER.glob("*/recipe.yaml"))


def profile_of(name: str, text: str = "") -> Profile:
    raw = text or (FOLDER / name / "profile.yaml").read_text()
    return parse_profile(raw.encode(), "profile.yaml", RecipeError)


def load(text: str, folder: Path, asked: ApplicationAnswers | None = None) -> Site:
    return Site.load(
        text.encode(),
        folder,
        application=asked or application(profile_of("wandb")),
        now=dt.datetime(2026, 6, 1, tzinfo=dt.UTC),
        environment=lambda _: None,
        prompt=lambda _: "answer",
    )


def test_the_profiles() -> None:
    assert PROFILES == ["empty", "wandb", "wandb-v2"]


@pytest.mark.parametrize("name", PROFILES)
def test_recipe_and_profile_are_valid_and_name_files_that_are_here(name: str) -> None:
    recipe, profile = Recipe.load(FOLDER / name / "recipe.yaml"), profile_of(name)
    assert {chart for chart, _ in profile.charts} == {chart.name for chart in recipe.charts}
    named = [recipe.profile, recipe.site, *(step.resource or step.values for step in profile.steps)]
    assert all((FOLDER / name / str(file)).is_file() for file in named if file is not None)
    assert recipe.versions.keys() == profile.versions.keys()


def test_what_the_recipe_comments_out_is_valid() -> None:
    text = (WANDB / "recipe.yaml").read_text()
    for key in ("images", "accept_suspected", "exclude", "substitutions", "registries", "files"):
        text = text.replace(f"\n{key}: []", f"\n{key}:").replace(f"\n{key}: {{}}", f"\n{key}:")
    # Either the repository or a path.
    text = text.replace("    # path: operator-1.4.8.tgz", "")
    recipe = parse_recipe(uncommented(text).encode(), "recipe.yaml")
    assert recipe.expires
    assert len(recipe.charts) == 3
    assert len(recipe.images) == 4
    assert recipe.accept_suspected
    assert recipe.exclude
    assert recipe.files
    assert recipe.substitutions
    assert len(recipe.registries) == 4


@pytest.mark.parametrize(("name", "steps", "questions"), [("wandb", 4, 0), ("wandb-v2", 4, 0), ("empty", 3, 3)])
def test_what_a_profile_comments_out_is_valid(name: str, steps: int, questions: int) -> None:
    profile = profile_of(name, uncommented((FOLDER / name / "profile.yaml").read_text()))
    assert (len(profile.steps), len(profile.questions)) == (steps, questions)


@pytest.mark.parametrize("name", ["", *PROFILES])
def test_the_template_that_lock_makes_is_valid_with_and_without_its_comments(name: str, tmp_path: Path) -> None:
    text = (FOLDER / name / "profile.yaml").read_text() if name else ""
    asked = application(profile_of(name, uncommented(text))) if name else None
    made = site_template(asked)
    assert load(made, tmp_path, asked or RegistryOnly()).registry == "registry.enclave.example:5000"
    whole = uncommented(made)
    for key in (
        "ca",
        "plain_http",
        "credentials",
        "token_hosts",
        "answer_seconds",
        "pause_seconds",
        "pull_secret",
        "on_nodes",
        "project",
    ):
        assert f"  {key}: " in whole or f"  {key}:\n" in whole
    for file in re.findall(r"file\"?: \"?([a-z-]+\.[a-z]+)", whole):
        (tmp_path / file).write_text("word\n")
    for left in ("  ca: registry-ca.pem", "  on_nodes: false"):
        whole = whole.replace(left, "")
    answers = load(whole, tmp_path, asked or RegistryOnly()).answers
    assert {*(asked.profile.questions if asked else ())} <= answers.model_fields_set


def test_the_site_needs_nothing_but_a_registry() -> None:
    assert load((WANDB / "site.yaml").read_text(), WANDB).registry == "registry.enclave.example:5000"


def test_what_the_site_comments_out_is_valid(tmp_path: Path) -> None:
    text = uncommented((WANDB / "site.yaml").read_text())
    with pytest.raises(SiteError) as missing:
        load(text, tmp_path)
    assert "unknown key" not in str(missing.value)
    files_of_the_template(tmp_path)
    answers = load(text, tmp_path).answers
    # Every key of the schema is explained, and all at once make sense, except for those that exclude each other.
    assert unanswered(answers) == {"route", "service", "ingress.tls_secret", "mysql.internal", "redis.internal"}


def unanswered(model: BaseModel, path: str = "") -> set[str]:
    """The keys of a model that were not given, secrets' own aside."""
    found = {f"{path}{key}" for key in set(type(model).model_fields) - model.model_fields_set}
    for key in model.model_fields_set:
        value = getattr(model, key)
        if isinstance(value, BaseModel) and not isinstance(value, SecretSource):
            found |= unanswered(value, f"{path}{key}.")
    return found


@pytest.mark.charts
@pytest.mark.parametrize("upgrade", [False, True])
def test_every_image_of_the_profile_has_a_version(assets: Path, upgrade: bool) -> None:
    recipe, profile = Recipe.load(WANDB / "recipe.yaml"), profile_of("wandb")
    operator = parse_values((WANDB / "operator-values.yaml").read_bytes(), "operator-values.yaml", SiteError)
    resource = parse_values((WANDB / "wandb.yaml").read_bytes(), "wandb.yaml", SiteError)
    assert operator["airgapped"] is True
    for entry, given in zip(recipe.charts, (operator, resource["spec"]["values"]), strict=True):
        chart = Chart.load((assets / f"{entry.name}-{entry.version}.tgz").read_bytes())
        values = pinned(ChartTree.of(chart), given, tags(profile, recipe.versions))
        objects = chart.render(values, release="wandb", namespace="wandb", upgrade=upgrade).objects
        found = [item.reference() for item in references(objects) if not item.test_only]
        assert found
        assert not [str(reference) for reference in found if reference.selector == "latest"]

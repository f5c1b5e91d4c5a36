"""docs/profiles.md names every key, and its example does what it says."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

from builder.images.connect import connect
from builder.images.engine import Engine
from builder.recipe.recipe import Recipe
from builder.resolve.effects import heard
from builder.resolve.requirements import needs
from builder.resolve.site_template import site_template
from builder.resolve.steps import version_of
from installer.apps.profile import Installs, LogPattern, NamespaceEntry, Profile, PullSecret, Ready, Step
from installer.apps.questions import Question, Reach, SecretPlace, Target, When
from installer.chart.retarget import merged
from installer.registry.credentials import CredentialStore
from installer.report import Silent
from installer.site.site import Site
from tests.parts.profile_example import CHAPTER, write_example

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import BaseModel

MODELS: tuple[type[BaseModel], ...] = (
    *(Profile, Step, Installs, Ready, NamespaceEntry, PullSecret, LogPattern),
    *(Question, Target, SecretPlace, When, Reach),
)


def test_every_key_is_explained() -> None:
    explained = set(re.findall(r"`([a-z_]+)`", CHAPTER))
    keys = {field.alias or name for model in MODELS for name, field in model.model_fields.items()}
    assert keys <= explained


def test_the_example(tmp_path: Path) -> None:
    write_example(tmp_path)
    places = connect((), tmp_path, Engine(tmp_path), credentials=CredentialStore(), proxies={})
    recipe = Recipe.load(tmp_path / "recipe.yaml")
    found = needs(recipe, "recipe.yaml", places, Silent())
    app, steps = found.application, found.steps
    assert app
    assert steps
    assert heard(app, steps, recipe.kubernetes).profile.unheard == {}
    assert version_of(recipe, steps.profile) == "1.0"
    assert steps.profile.steps[1].manifests == ["policies-network.yaml"]
    site = Site.load(
        (tmp_path / "site.yaml").read_bytes(),
        tmp_path,
        application=app,
        now=dt.datetime(2026, 6, 1, tzinfo=dt.UTC),
        environment=lambda _: None,
        prompt=lambda _: "",
    )
    app.check(site)
    (release,) = steps.releases
    step = steps.profile.step("shop")
    values = merged(release.values, app.values(step, site))
    assert values == {
        "image": {"tag": "1.0"},
        "greeting": "Welcome!",
        "replicas": 3,
        "schedule": "30 2 * * *",
        "nightly": {"enabled": True},
        "database": {"secret": "shop-database", "key": "password"},
    }
    objects = release.fetched.chart.render(values, release=release.name, namespace=app.namespace(step, site)).objects
    config = next(item for item in objects if item["kind"] == "ConfigMap")
    assert (config["metadata"]["name"], config["data"]["greeting"]) == ("shop", "Welcome!")
    (made,) = app.secrets(site, blank=False)
    assert (made.name, made.namespace, made.data["password"].reveal()) == ("shop-database", "shop", "secret")
    assert '# What visitors read.\n# (required)\ngreeting: "Welcome"\n' in site_template(app)

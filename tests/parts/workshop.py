"""A folder with a recipe, a profile and small charts, and what `lock` makes of them, without a network."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from builder.images.connect import connect
from builder.images.engine import Engine
from builder.images.source import LockSource
from builder.recipe.recipe import Recipe
from builder.resolve.make_lock import make_lock
from builder.resolve.requirements import LoadSite, Needs, needs
from installer.errors import RecipeError
from installer.oci import media_types
from installer.oci.model import Descriptor
from installer.registry.credentials import CredentialStore
from installer.report import Silent
from tests.parts.charts import package
from tests.parts.images import Image, Layer, write_layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from builder.recipe.lock import Lock, LockedChart
    from installer.apps.profile import Profile


class _Noting(Silent):
    def __init__(self, notes: list[str]) -> None:
        self._notes = notes

    def note(self, text: str) -> None:
        self._notes.append(text)


class Workshop:
    """A folder with a recipe, and what becomes of it; `notes` are the lines that `lock` has written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places = connect((), folder, Engine(folder), credentials=CredentialStore(), proxies={})
        self.charts: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def chart(self, name: str, *, version: str = "", files: Mapping[str, str] | None = None, **entry: Any) -> None:
        path = f"{name}-{version or '1.0.0'}.tgz"
        (self.folder / path).write_bytes(
            package(name, version=version, files={"templates/test.yaml": "", **(files or {})})
        )
        self.charts.append({"name": name, "path": path, **entry})

    def file(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)

    def needs(self, profile: Mapping[str, Any] | None = None, **recipe: Any) -> Needs:
        self.recipe(profile, recipe)
        return self.found()

    def found(self, site: LoadSite | None = None) -> Needs:
        """What the recipe in the folder needs."""
        return needs(Recipe.load(self.folder / "recipe.yaml"), "recipe.yaml", self.places, Silent(), site)

    def lock(
        self,
        profile: Mapping[str, Any] | None = None,
        *,
        site: LoadSite | None = None,
        more: Iterable[str] = (),
        **recipe: Any,
    ) -> Lock:
        """The lock of all images that are asked for and of `more`."""
        found = self.needs(profile, **recipe)
        layout = write_layout(self.folder / "layout", Image((Layer({}),)), tag="x")
        images = [{"layout": layout.path.name, "entry": "x", "name": name} for name in (*found.images, *more)]
        return self.lock_of(self.recipe(profile, {**recipe, "images": images}), site)

    def lock_of(self, recipe: Recipe, site: LoadSite | None = None, *, old: Lock | None = None) -> Lock:
        """The lock of `recipe`, whose images are where it says."""
        reporter = _Noting(self.notes)
        now = "2026-01-01T00:00:00Z"
        return make_lock(recipe, "recipe.yaml", self.places, reporter, now=now, old=old, site=site)

    def archive(self, lock: Lock, chart: LockedChart) -> bytes:
        """The archive of a locked chart as `build` makes it."""
        blob = lock.blobs_by_digest()[chart.archive]
        view = memoryview(bytearray(blob.size))
        with LockSource(lock, self.places).open(Descriptor(media_types.HELM_CHART, blob.digest, blob.size)) as stream:
            assert stream.readinto(view) == blob.size
        return bytes(view)

    def recipe(self, profile: Mapping[str, Any] | None, more: Mapping[str, Any]) -> Recipe:
        entries: dict[str, Any] = {"name": "demo", "version": "1.0", "charts": self.charts, **more}
        if entries["version"] is None:
            del entries["version"]
        if "profile_at" in entries:
            entries["profile"] = entries.pop("profile_at")
        if profile is not None:
            self.file("profile.yaml", json.dumps(profile))
            entries["profile"] = "profile.yaml"
        self.file("recipe.yaml", json.dumps(entries))
        return Recipe.load(self.folder / "recipe.yaml")

    def steps(self, profile: Mapping[str, Any] | None = None, **recipe: Any) -> Profile:
        found = self.needs(profile, **recipe).steps
        assert found
        return found.profile

    def refusal(self, profile: Mapping[str, Any] | None = None, **recipe: Any) -> str:
        with pytest.raises(RecipeError) as caught:
            self.needs(profile, **recipe)
        return f"{caught.value.message}; {caught.value.hint}"

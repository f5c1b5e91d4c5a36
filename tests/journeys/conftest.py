"""A release that has been made and carried, for all journeys, and the programs of both sides."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from tests.demo import RECIPE, fill
from tests.parts.programs import Program, from_source
from tests.parts.registry import Registry
from tests.parts.static_files import StaticFiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.parts.images import Layout

PAYLOAD = 9 * 1024 * 1024
"""Three chunks, the last one not full."""
SIZE = "5MiB"
"""The demo's large layer, three chunks, does not fit: it is cut."""


@dataclass
class Carried:
    """The demo's application as a release: recipe, lock, signed bundle and keys in `folder`; frozen when needed.

    `layouts` are the images as they were pushed to `upstream`. Tests copy what they change.
    """

    folder: Path
    upstream: Registry
    layouts: Mapping[str, Layout]
    airferry: Program

    @property
    def bundle(self) -> Path:
        """The signed bundle."""
        return self.folder / "demo-1.0.tar"

    @property
    def key(self) -> Path:
        """The public key."""
        return self.folder / "release.pub"

    @cached_property
    def frozen(self) -> Path:
        """The frozen file."""
        self.airferry.result("freeze", self.bundle, "--key", self.key, "--file", self.folder / "demo-installer")
        return self.folder / "demo-installer"


@dataclass(frozen=True)
class Volumes:
    """The demo's release in several signed volumes, in one folder."""

    folder: Path
    plan: Any
    airferry: Program

    @property
    def files(self) -> list[Path]:
        """In their order."""
        return [self.folder / item["file"] for item in self.plan["volumes"]]


@pytest.fixture(scope="session")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Carried]:
    """A release of the demo's application, and the registry that it came from."""
    folder = tmp_path_factory.mktemp("release")
    charts = tmp_path_factory.mktemp("charts")
    airferry = from_source("builder", folder)
    with Registry(tmp_path_factory.mktemp("upstream")) as upstream, StaticFiles(charts) as web:
        layouts = fill(upstream, charts, folder, PAYLOAD)
        recipe = RECIPE.format(charts=web.url, upstream=upstream.url)
        # By digest an index is carried whole.
        whole = f"docker.io/demo/httpd@{layouts['docker.io/demo/httpd:1.0'].digest}"
        (folder / "recipe.yaml").write_text(recipe.replace("images:\n", f"images:\n  - {whole}\n"))
        airferry.result("lock")
        airferry.result("build")
        airferry.result("keygen", "release", "--no-passphrase")
        airferry.result("sign", "demo-1.0.tar", "--key", "release.key")
        yield Carried(folder, upstream, layouts, airferry)


@pytest.fixture(scope="session")
def volumes(carried: Carried, tmp_path_factory: pytest.TempPathFactory) -> Volumes:
    """Leave them unchanged."""
    folder = tmp_path_factory.mktemp("volumes")
    plan = carried.airferry.result("plan", "--volume-size", SIZE)
    carried.airferry.result("build", "--volume-size", SIZE, "-o", folder)
    carried.airferry.result("sign", folder, "--key", "release.key")
    return Volumes(folder, plan, carried.airferry)


@pytest.fixture
def airferry(carried: Carried, tmp_path: Path) -> Program:
    """The builder's program in a folder of the test's own."""
    return from_source("builder", tmp_path)


@pytest.fixture(params=["source", pytest.param("frozen", marks=pytest.mark.frozen)])
def installer(request: pytest.FixtureRequest, carried: Carried, tmp_path: Path) -> Program:
    """The enclave's program with the carried bundle, in a folder of the test's own; from source, and frozen."""
    if request.param == "source":
        return from_source("installer", tmp_path, "--bundle", carried.bundle, "--key", carried.key)
    return Program((str(carried.frozen),), tmp_path)


@pytest.fixture
def enclave(tmp_path: Path) -> Iterator[Registry]:
    """An empty registry."""
    with Registry(tmp_path / "enclave") as registry:
        yield registry

"""The reference bundle, written once for all tests of a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.parts.bundles import Cargo, reference_cargo, several_volumes, signing_key

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def cargo(tmp_path_factory: pytest.TempPathFactory) -> Cargo:
    """What the reference bundle holds; leave it unchanged."""
    return reference_cargo(tmp_path_factory.mktemp("layouts"))


@pytest.fixture(scope="module")
def volume(cargo: Cargo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference bundle in one signed volume; leave it unchanged."""
    (path,) = cargo.write(tmp_path_factory.mktemp("bundle"), key=signing_key())
    return path


@pytest.fixture(scope="module")
def volumes(cargo: Cargo, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """The same with a large document, in three signed volumes, the document cut in two; leave them unchanged."""
    return several_volumes(cargo, tmp_path_factory.mktemp("bundle"))

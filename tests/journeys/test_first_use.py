"""What people type who use the command lines for the first time: they lose nothing, and learn what to do."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.journeys.test_refusals import assert_refused
from tests.parts.programs import Program, from_source

if TYPE_CHECKING:
    from pathlib import Path

    from tests.journeys.conftest import Carried


@pytest.fixture
def own(carried: Carried, tmp_path: Path) -> Program:
    """The builder in a folder with a copy of the carried release: recipe, lock, keys and bundle."""
    folder = tmp_path / "own"
    shutil.copytree(carried.folder, folder, ignore=shutil.ignore_patterns("demo-installer"))
    return from_source("builder", folder)


@pytest.mark.parametrize(
    "command",
    [
        "build -o recipe.yaml",
        "build -o airferry.lock",
        "build -o release.key",
        "build -o demo-1.0.tar --reuse .",
        "sign demo-1.0.tar --export release.key",
        "sign demo-1.0.tar --export pass --passphrase-file pass",
        "sheet demo-1.0.tar --key release.pub -o release.key",
        "freeze demo-1.0.tar --key release.pub -o release.pub",
        "freeze demo-1.0.tar --key release.pub -o release.key",
        "verify demo-1.0.tar --key release.pub --proof key.json",
    ],
)
def test_no_output_replaces_an_input_or_a_secret_key(own: Program, command: str) -> None:
    (own.folder / "pass").write_text("word\n")
    shutil.copy(own.folder / "release.key", own.folder / "key.json")
    before = {path: path.read_bytes() for path in own.folder.iterdir() if path.is_file()}
    done = own.run(*command.split())
    assert_refused(done, 2, "give another output file")
    assert {path: path.read_bytes() for path in own.folder.iterdir() if path.is_file()} == before


def test_a_folder_stands_for_the_recipe_and_the_lock_in_it(own: Program) -> None:
    elsewhere = from_source("builder", own.folder.parent)
    assert elsewhere.result("lock", "own")["state"] == "unchanged"
    assert elsewhere.result("list", "own")["images"]
    assert elsewhere.result("plan", own.folder)["images"]
    assert elsewhere.result("build", own.folder, "-o", "copy.tar")["bytes"]

"""What people type who use the command lines for the first time: they lose nothing, and learn what to do."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.parts.bundles import KEYS
from tests.parts.programs import Program, assert_refused, from_source

if TYPE_CHECKING:
    from pathlib import Path

    from tests.journeys.conftest import Carried, Volumes


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


def test_build_replaces_bundles_only(own: Program) -> None:
    (own.folder / "notes").write_text("mine\n")
    assert_refused(own.run("build", "-o", "notes"), 2, "notes: is there already, and no bundle", "--force")
    assert (own.folder / "notes").read_text() == "mine\n"
    assert own.run("build", "-o", "notes", "--force").returncode == 0
    assert own.run("build", "-o", "notes").returncode == 0


def test_a_folder_stands_for_the_recipe_and_the_lock_in_it(own: Program) -> None:
    elsewhere = from_source("builder", own.folder.parent)
    assert elsewhere.result("lock", "own")["state"] == "unchanged"
    assert elsewhere.result("list", "own")["images"]
    assert elsewhere.result("plan", own.folder)["images"]
    assert elsewhere.result("build", own.folder, "-o", "copy.tar")["bytes"]


def test_a_passphrase_that_nobody_can_be_asked_for(airferry: Program, carried: Carried) -> None:
    (airferry.folder / "pass").write_text("word\n")
    assert_refused(airferry.run("keygen", "mine"), 2, "passphrase", "--passphrase-file")
    airferry.result("keygen", "mine", "--passphrase-file", "pass")
    assert_refused(airferry.run("sign", carried.bundle, "--key", "mine.key"), 2, "passphrase", "--passphrase-file")


def test_a_secret_that_nobody_can_be_asked_for(carried: Carried, tmp_path: Path) -> None:
    program = from_source("installer", tmp_path, "--bundle", carried.bundle, "--key", carried.key)
    login = "credentials: {username: u, password: {prompt: Password}}"
    (tmp_path / "site.yaml").write_text(f"registry: {{host: registry.example, {login}}}\n")
    done = program.run("load", "--site", "site.yaml")
    assert_refused(done, 40, "registry.credentials", "Password: there is no terminal", "file or env")
    assert done.stderr.count("\n") == 2


def test_ctrl_c_at_a_passphrase(airferry: Program) -> None:
    primary, secondary = pty.openpty()
    with subprocess.Popen(
        airferry.arguments("keygen", "mine"),
        cwd=airferry.folder,
        env=airferry.surroundings(),
        stdin=secondary,
        stdout=subprocess.PIPE,
        stderr=secondary,
        start_new_session=True,
    ) as running:
        shown = b""
        while b"passphrase" not in shown:
            shown += os.read(primary, 1000)
        running.send_signal(signal.SIGINT)
        while b"next: " not in shown:
            shown += os.read(primary, 1000)
        assert running.wait(30) == 130
    for descriptor in (primary, secondary):
        os.close(descriptor)
    assert b"interrupted by SIGINT\r\nnext: nothing was done." in shown
    assert not list(airferry.folder.glob("mine*"))


def test_what_is_no_bundle_or_key_or_registry_is_named(own: Program, tmp_path: Path) -> None:
    done = own.run("verify", "airferry.lock", "--key", "release.pub")
    assert_refused(done, 10, "airferry.lock: SHA256SUMS: expected here")
    assert_refused(own.run("sign", "demo-1.0.tar", "--key", "release.pub"), 2, "release.pub: not a secret key", ".key")
    load = ("load", "--bundle", own.folder / "demo-1.0.tar", "--key", own.folder / "release.pub", "--registry")
    installer = from_source("installer", tmp_path)
    assert_refused(installer.run(*load, "http://127.0.0.1:1"), 2, "not a registry host", "registry.example:5000")
    (tmp_path / "ca.pem").write_text("x")
    done = installer.run(*load, "127.0.0.1:1", "--ca", "ca.pem", "--plain-http")
    assert_refused(done, 2, "plain HTTP and a certificate authority")


def test_hints_name_what_the_command_has(own: Program, volumes: Volumes, tmp_path: Path) -> None:
    own.result("build", "-o", "unsigned.tar")
    assert_refused(own.run("verify", "unsigned.tar", "--key", "release.pub"), 11, "airferry sign unsigned.tar --key")
    assert_refused(own.run("verify", "demo-1.0.tar", "--key", KEYS / "test-only.pub"), 11, "not made by a trusted key")
    first, *others = volumes.files
    (tmp_path / "disc").mkdir()
    shutil.copy(first, tmp_path / "disc")
    done = own.run("verify", tmp_path / "disc", "--key", "release.pub")
    assert_refused(done, 12, "bring them" if len(others) > 1 else "bring it", "of the installer asks for")
    assert "--bundle" not in done.stderr
    installer = from_source("installer", tmp_path)
    verify = ("verify", "--bundle", "disc", "--key", own.folder / "release.pub")
    assert_refused(installer.run(*verify, "--request", "rq.json"), 12, "next: send the request; ")


def test_a_name_that_was_mistyped(airferry: Program) -> None:
    assert_refused(airferry.run("verfy"), 2, "Did you mean 'verify'?")


def test_options_are_called_the_same_on_both_sides(own: Program, tmp_path: Path) -> None:
    """And folders for results are made, but not those above them."""
    own.result("build", "--volume-size", "5MiB", "-o", "volumes")
    own.result("sign", "volumes", "-k", "release.key")
    own.result("parity", "volumes", "-o", "parity")
    assert_refused(own.run("parity", "volumes", "-o", "none/parity"), 2, "none/parity")
    assert_refused(own.run("build", "--volume-size", "5MiB", "-o", "none/volumes"), 2, "none/volumes")
    assert_refused(own.run("build", "--volume-size", "5MiB", "-o", "release.pub"), 2, "release.pub: not a folder")
    installer = from_source("installer", tmp_path)
    bundle = ("--bundle", own.folder / "volumes", "-k", own.folder / "release.pub")
    assert installer.result("verify", *bundle)["verified"]
    assert installer.result("repair", own.folder / "parity", *bundle, "-o", tmp_path)["files"] == []


def test_a_bundle_that_is_signed_already(own: Program) -> None:
    done = own.run("build")
    assert "signed already" in done.stderr
    assert "airferry sign" not in done.stderr

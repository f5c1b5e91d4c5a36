"""What is missing on a developer's machine is told at once; and nothing is fetched where all is there."""

from __future__ import annotations

import os
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from tests import packages
from tests.environment import ROOT, differences

if TYPE_CHECKING:
    from collections.abc import Callable

CONSTRAINTS = (ROOT / "constraints.txt").read_text()


@pytest.fixture
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_users_are_told_every_missing_package_at_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    names = ("python", "demo", "test", "cluster", "bench")
    monkeypatch.setattr(packages, "GROUPS", {name: {f"for-{name}": lambda: False} for name in names})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert packages.provide(["test"]) == 2
    assert capfd.readouterr().err == (
        "missing Debian packages: for-demo for-python for-test\n"
        "next: sudo apt-get install -y --no-install-recommends for-demo for-python for-test\n"
        "other targets of make need in addition: for-bench for-cluster\n"
    )


def test_every_target_asks_for_what_makes_the_environment_too() -> None:
    wanted = set(packages.GROUPS["python"])
    for group in packages.GROUPS:
        included = (*packages.INCLUDES.get(group, ()), group)
        assert wanted <= {package for name in included for package in packages.GROUPS[name]}, group


def test_this_environment_is_as_it_is_asked_for(project: dict[str, Any]) -> None:
    assert list(differences(project, CONSTRAINTS)) == []


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str, str]] = {
    "new": (lambda table: table["dependencies"].append("no-such-thing"), "", "no-such-thing is not installed"),
    "new for development": (
        lambda table: table["optional-dependencies"]["dev"].append("no-such-thing==1"),
        "",
        "no-such-thing is not installed",
    ),
    "another version": (lambda table: table["dependencies"].append("click==1.0"), "", ", not 1.0"),
    "another version of what others need": (lambda _: None, "iniconfig==1.0\n", ", not 1.0"),
    "a command": (lambda table: table["scripts"].update(fly="builder:fly"), "", "airferry is not installed with its"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_to_be_installed_is_noticed(project: dict[str, Any], change: str) -> None:
    apply, constraints, told = CHANGES[change]
    apply(project["project"])
    [found] = differences(project, constraints)
    assert told in found

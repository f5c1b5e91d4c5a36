"""Whether the virtual environment that runs this holds what pyproject.toml and constraints.txt ask for.

    .venv/bin/python -m tests.environment

Exit code 0: nothing has to be installed, and so nothing is asked of the network; 1: something is missing or of another
version, which is printed. Uses the standard library only.
"""

import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:==([^\s;]+))?")


def differences(project: dict[str, Any], constraints: str) -> Iterator[str]:
    """What the environment lacks of `project`, the content of pyproject.toml, or holds in another version than
    `constraints` and `project` say. Requirements are `NAME` or `NAME==VERSION`."""
    table = project["project"]
    asked = [_REQUIREMENT.match(text) for text in (*table["dependencies"], *table["optional-dependencies"]["dev"])]
    pins = [_REQUIREMENT.match(line) for line in constraints.splitlines()]
    for requirement in filter(None, asked):
        if _version(requirement[1]) is None:
            yield f"{requirement[1]} is not installed"
    for requirement in filter(None, (*asked, *pins)):
        found = _version(requirement[1])
        if found and requirement[2] and found != requirement[2]:
            yield f"{requirement[1]} is {found}, not {requirement[2]}"
    if _scripts(table["name"]) != table["scripts"]:
        yield f"{table['name']} is not installed with its commands"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _scripts(name: str) -> dict[str, str]:
    """The commands that a distribution is installed with."""
    points = importlib.metadata.entry_points(group="console_scripts")
    return {point.name: point.value for point in points if point.dist and point.dist.name == name}


if __name__ == "__main__":
    told = list(
        differences(tomllib.loads((ROOT / "pyproject.toml").read_text()), (ROOT / "constraints.txt").read_text())
    )
    print(*told, sep="\n", end="\n" if told else "")
    sys.exit(1 if told else 0)

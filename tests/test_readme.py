"""What README.md says is so."""

from __future__ import annotations

import re
from pathlib import Path

import click

from tests.exit_codes import errors, with_table
from tests.parts.commands import commands

README = Path(__file__).parents[1] / "README.md"


def test_the_table_of_exit_codes_is_current() -> None:
    text = README.read_text()
    assert with_table(text) == text, "run `make docs`"


def test_every_kind_of_error_has_a_code_of_its_own() -> None:
    codes = [cls.exit_code for cls in errors()]
    assert len(set(codes)) == len(codes)
    assert all(0 < code < 256 for code in codes)


def test_every_command_and_option_that_it_shows_exists() -> None:
    blocks = "".join(re.findall(r"^```\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL))
    shown = re.findall(r"^(?:\$ )?(?:airferry|\./wandb-installer) ([a-z]+)([^#\n]*)", blocks, re.MULTILINE)
    assert len(shown) > 10
    for name, rest in shown:
        options = {option for command in commands(name, rest) for item in command.params for option in item.opts}
        used = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", rest.split("&&")[0]))
        assert used <= options, f"{name}: {used - options}"
        assert any(complete(command, used) for command in commands(name, rest)), f"{name}: an option is missing"


def complete(command: click.Command, used: set[str]) -> bool:
    """Whether each option that the command cannot do without is used."""
    options = [item for item in command.params if isinstance(item, click.Option) and item.required]
    return all(used & set(item.opts) for item in options)

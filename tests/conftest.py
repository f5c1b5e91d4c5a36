"""What every test may ask for, and which tests are left out where their parts are missing."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ASSETS = "AIRFERRY_TEST_ASSETS"
CHARTS = "AIRFERRY_TEST_CHARTS"
WANDB_V2 = "AIRFERRY_TEST_WANDB_V2"
MARKED = {"charts": ASSETS, "wandb_v2": WANDB_V2}
"""Marks of tests, and the variable that names the folder which these need."""
LEFT_OUT = pytest.StashKey[list[str]]()


def pytest_configure() -> None:
    """Signals mean to programs under test what they usually mean, also where a script
    runs all of this in its background.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_report_header() -> list[str]:
    """Say what is left out and why; nothing is ever skipped in silence."""
    left_out = {
        ASSETS: "the real W&B charts: tests marked `charts` are left out",
        CHARTS: "charts of others: only our own are rendered by helm, too",
        WANDB_V2: "charts and server manifests of W&B's operator v2: tests marked `wandb_v2` are left out",
    }
    return [f"{name} names no folder with {text}" for name, text in left_out.items() if not os.environ.get(name)]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what needs the files of others where they are not given."""
    absent = [mark for mark, name in MARKED.items() if not os.environ.get(name)]
    without = [item for item in items if any(item.get_closest_marker(mark) for mark in absent)]
    if without:
        items[:] = [item for item in items if item not in without]
        config.hook.pytest_deselected(items=without)
        names = [item.nodeid for item in without]
        config.stash[LEFT_OUT] = names
        if hasattr(config, "workeroutput"):  # a process of pytest-xdist; all of them collect the same
            config.workeroutput["left_out"] = names


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What a process of pytest-xdist has left out."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say by name what was left out, with or without pytest-xdist."""
    if names := config.stash.get(LEFT_OUT, []):
        terminalreporter.write_sep("=", f"left out, because no folder is named by {' or '.join(MARKED.values())}")
        for name in names:
            terminalreporter.write_line(f"  {name}")


@pytest.fixture(scope="session", autouse=True)
def _state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Commands that run in this process remember nothing in the user's own folder, and nothing of an earlier run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder with the real W&B charts."""
    return _folder(ASSETS)


@pytest.fixture(scope="session")
def wandb_v2() -> Path:
    """The folder with charts and server manifests of W&B's operator v2."""
    return _folder(WANDB_V2)


def _folder(name: str) -> Path:
    folder = Path(os.environ[name]).resolve()
    if not folder.is_dir():
        raise FileNotFoundError(f"{name} names {folder}, which is no folder")
    return folder

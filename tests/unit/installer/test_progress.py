"""Progress on terminals of all kinds."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import termios

import pytest

from installer.report import Lines, reporter


def everything(primary: int) -> str:
    """What was written to a terminal that nobody holds open any more: the kernel hands it over piece by piece."""
    shown = b""
    with os.fdopen(primary, "rb", buffering=0) as stream, contextlib.suppress(OSError):
        while part := stream.read(10_000):
            shown += part
    return shown.decode()


@pytest.mark.parametrize(("columns", "left"), [(40, "left"), (100, "B/s")])
def test_a_bar_says_how_long_it_takes_on_any_width(columns: int, left: str) -> None:
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(secondary, "w") as stream:
        bar = reporter(quiet=False, stream=stream)
        bar.begin("wandb-0.82.2.tar: fetching", 1000)
        bar.advance(500)
        bar.end()
    shown = everything(primary)
    last = [line for line in re.split(r"[\r\n]+", shown) if line.strip()][-1]
    assert left in last
    assert "50%" in last
    assert len(last) <= columns


def test_a_dumb_terminal_gets_lines() -> None:
    primary, secondary = pty.openpty()
    with os.fdopen(secondary, "w") as stream:
        assert isinstance(reporter(quiet=False, dumb=True, stream=stream), Lines)
        assert not isinstance(reporter(quiet=False, stream=stream), Lines)
    os.close(primary)

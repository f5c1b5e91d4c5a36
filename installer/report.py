"""Progress and talk: how long work reports what it does, without knowing who listens."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO


class Reporter(Protocol):
    """Receives the progress of one command. Methods may be called from several threads."""

    def begin(self, title: str, total: int) -> None:
        """A task of `total` bytes starts; a task still open ends."""

    def advance(self, count: int) -> None:
        """`count` more bytes are done; negative when work is repeated."""

    def end(self) -> None:
        """The open task is over."""

    def note(self, text: str) -> None:
        """A line worth reading."""


class Silent:
    """Says nothing."""

    def begin(self, title: str, total: int) -> None: ...

    def advance(self, count: int) -> None: ...

    def end(self) -> None: ...

    def note(self, text: str) -> None: ...


def printable(text: str) -> str:
    """`text` with everything replaced that could steer a terminal or hide: only printable characters remain."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def size(count: float) -> str:
    """A byte count for people: decimal units, three figures."""
    for unit in ("B", "kB", "MB", "GB"):
        # From here on three figures would be rounded to four.
        if abs(count) < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def count(number: int, noun: str) -> str:
    """How many there are: `1 image`, `2 images`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class Lines:
    """Plain lines for a stream that is no terminal: a start, one line every `every` seconds, an end."""

    def __init__(self, stream: TextIO, *, every: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._every, self._clock = stream, every, clock
        self._lock = threading.Lock()
        self._title, self._total, self._done, self._start, self._last = "", 0, 0, 0.0, 0.0

    def begin(self, title: str, total: int) -> None:
        self.end()
        with self._lock:
            self._title, self._total, self._done = title, total, 0
            self._start = self._last = self._clock()

    def advance(self, count: int) -> None:
        with self._lock:
            self._done += count
            now = self._clock()
            if now - self._last >= self._every:
                self._last = now
                rate = self._done / max(now - self._start, 1e-6)
                left = (self._total - self._done) / rate if rate > 0 else 0
                self._say(
                    f"{self._title}: {size(self._done)} of {size(self._total)}, {size(rate)}/s, {left:.0f} s left"
                )

    def end(self) -> None:
        with self._lock:
            if self._title and self._done:
                took = max(self._clock() - self._start, 1e-6)
                self._say(f"{self._title}: {size(self._done)} in {took:.1f} s ({size(self._done / took)}/s)")
            self._title = ""

    def note(self, text: str) -> None:
        with self._lock:
            self._say(text)

    def _say(self, text: str) -> None:
        print(printable(text), file=self._stream, flush=True)


_NARROW = 70
"""Columns that a whole bar needs with the usual titles."""


class Bar:
    """A progress bar with bytes, rate and time left, for a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._bar: Any = None

    def begin(self, title: str, total: int) -> None:
        from tqdm import tqdm

        self.end()
        with self._lock:
            # What is longer than a line would be cut at its end, where the time left stands.
            columns = self._columns
            short = "{percentage:.0f}%, {remaining} left: {desc}" if columns < _NARROW else None
            self._bar = tqdm(
                total=total,
                desc=title if short is None else title[: columns - len("100%, 00:00:00 left: ")],
                unit="B",
                unit_scale=True,
                file=self._stream,
                mininterval=0.2,
                bar_format=short,
            )

    @property
    def _columns(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return os.get_terminal_size(self._stream.fileno()).columns or _NARROW
        return _NARROW

    def advance(self, count: int) -> None:
        with self._lock:
            if self._bar is not None:
                self._bar.update(count)

    def end(self) -> None:
        with self._lock:
            if self._bar is not None:
                self._bar.close()
                self._bar = None

    def note(self, text: str) -> None:
        with self._lock:
            if self._bar is not None:
                self._bar.write(printable(text), file=self._stream)
            else:
                print(printable(text), file=self._stream, flush=True)


def reporter(*, quiet: bool, dumb: bool = False, stream: TextIO | None = None) -> Reporter:
    """The reporter for `stream` (standard error by default): silent, a bar on a terminal unless `dumb`, else lines."""
    stream = stream or sys.stderr
    if quiet:
        return Silent()
    return Bar(stream) if stream.isatty() and not dumb else Lines(stream)

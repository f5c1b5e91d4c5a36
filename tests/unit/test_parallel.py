"""Work in several threads ends when the user interrupts it."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from builder.parallel import in_parallel
from installer.parallel import each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def in_order(step: Callable[[int], object]) -> None:
    each(step, [1], threads=2, stop=threading.Event())


def with_results(step: Callable[[int], object]) -> None:
    in_parallel(step, [1], "things")


@pytest.fixture
def interrupting() -> Iterator[signal.Signals]:
    """A signal that interrupts as Ctrl-C does, without ending the test run."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    yield signal.SIGUSR1
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("work", [in_order, with_results])
def test_an_interruption_is_heard_whichever_thread_it_reaches(
    work: Callable[[Callable[[int], object]], None], interrupting: signal.Signals
) -> None:
    """The kernel gives a signal to any thread that takes it; Python acts on it in the first thread alone."""
    hangs, start = threading.Event(), time.monotonic()

    def step(_: int) -> None:
        time.sleep(0.2)
        signal.pthread_kill(threading.get_ident(), interrupting)
        hangs.wait(30)

    try:
        with pytest.raises(KeyboardInterrupt):
            work(step)
    finally:
        hangs.set()
    assert time.monotonic() - start < 20

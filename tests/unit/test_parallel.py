"""Work in several threads ends when the user interrupts it, and takes no more threads than are of use."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from builder.images.parallel import in_parallel
from installer.parallel import Pace, each

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


class Crowd:
    """Eight threads that want a turn, one after the other; `inside` are those that got it."""

    def __init__(self, pace: Pace) -> None:
        self.pace, self.inside = pace, list[int]()
        self.pool = ThreadPoolExecutor(8)
        self.leave = [threading.Event() for _ in range(8)]

    def __enter__(self) -> Crowd:
        for number in range(8):
            self.pool.submit(self.take, number)
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        for event in self.leave:
            event.set()
        self.pool.shutdown()

    def take(self, number: int) -> None:
        with self.pace.turn():
            self.inside.append(number)
            self.leave[number].wait(30)

    def has(self, *numbers: int) -> None:
        """These get in, and nobody else."""
        end = time.monotonic() + 20
        while len(self.inside) < len(numbers) and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(0.05)
        assert sorted(self.inside) == list(numbers)


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Crowd]:
    """On a machine with two processors, where five may have a turn."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    with Crowd(Pace(5)) as found:
        yield found


def test_as_many_as_there_are_processors_while_the_source_is_fast(crowd: Crowd) -> None:
    for _ in range(1000):
        crowd.pace.took(0.01, 0.008)
    crowd.has(0, 1)
    crowd.leave[1].set()
    crowd.has(0, 1, 2)
    crowd.leave[0].set()
    crowd.has(0, 1, 2, 3)


def test_more_as_soon_as_the_source_is_slow(crowd: Crowd) -> None:
    crowd.pace.took(0.2, 0.004)
    crowd.has(0, 1)
    crowd.pace.took(0.1, 0.004)
    crowd.has(0, 1, 2, 3, 4)
    crowd.pace.took(5, 0.004)
    crowd.leave[0].set()
    crowd.has(0, 1, 2, 3, 4, 5)


def test_one_step_that_took_long_is_forgotten(crowd: Crowd) -> None:
    for _ in range(50):
        crowd.pace.took(0.2, 0.01)
        for _ in range(20):
            crowd.pace.took(0.005, 0.01)
    crowd.has(0, 1)

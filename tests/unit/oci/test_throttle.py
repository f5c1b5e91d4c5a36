"""A host that has too many requests is sent fewer at a time, and more again when it answers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from installer.registry.throttle import ENOUGH, Throttle


class Clock:
    """Time that passes in pauses only."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def made() -> tuple[Throttle, Clock]:
    clock = Clock()
    return Throttle(clock.sleep, lambda: clock.now), clock


def at_once(throttle: Throttle, count: int) -> int:
    """How many of `count` requests at the same time are under way together, at most."""
    lock, running, most = threading.Lock(), 0, 0

    def one(_: int) -> None:
        nonlocal running, most
        with throttle.admitted():
            with lock:
                running += 1
                most = max(most, running)
            threading.Event().wait(0.02)
            with lock:
                running -= 1

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(one, range(count)))
    return most


def refuse_together(throttle: Throttle, count: int, pause: float = 0.0) -> None:
    """`count` requests that are under way together are all refused."""
    together = threading.Barrier(count)

    def one(_: int) -> None:
        with throttle.admitted() as turn:
            together.wait()
            throttle.refuse(turn, pause)
            together.wait()

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(one, range(count)))


def test_nothing_is_held_back_before_a_refusal() -> None:
    throttle, clock = made()
    assert at_once(throttle, 8) > 1
    assert (throttle.most, clock.pauses) == (None, [])


def test_refusals_halve_what_is_sent_and_answers_let_it_grow() -> None:
    throttle, _ = made()
    refuse_together(throttle, 8)
    assert throttle.refusals == 8
    assert throttle.most is not None
    # The eight ends count as answers, too.
    before = throttle.most
    assert 4 <= before <= 6
    assert at_once(throttle, 12) <= before + 3
    for _ in range(ENOUGH * ENOUGH):
        with throttle.admitted():
            pass
    assert throttle.most is None


def test_one_at_a_time_is_the_least() -> None:
    throttle, _ = made()
    for _ in range(5):
        with throttle.admitted() as turn:
            throttle.refuse(turn, 0)
            assert throttle.most == 1


def test_all_wait_as_long_as_one_was_told() -> None:
    throttle, clock = made()
    with throttle.admitted() as turn:
        throttle.refuse(turn, 7.0)
    with throttle.admitted():
        assert clock.pauses == [7.0]
    with throttle.admitted():
        assert clock.pauses == [7.0]


def test_a_request_inside_another_does_not_wait_for_it() -> None:
    throttle, _ = made()
    with throttle.admitted() as turn:
        throttle.refuse(turn, 0)
    with throttle.admitted(), throttle.admitted():
        assert throttle.most == 1

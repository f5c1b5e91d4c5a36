"""A host that has too many requests is sent fewer at a time, and more again when it answers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from installer.registry.throttle import ENOUGH, Throttle, Turn

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock:
    """Time that passes in pauses only."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []
        self.told: list[str] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def made() -> tuple[Throttle, Clock]:
    clock = Clock()
    return Throttle("r.site", clock.sleep, lambda: clock.now, clock.told.append), clock


@contextmanager
def admitted(throttle: Throttle) -> Iterator[Turn]:
    turn = throttle.enter()
    try:
        yield turn
    finally:
        turn.end()


def at_once(throttle: Throttle, count: int) -> int:
    """How many of `count` requests at the same time are under way together, at most."""
    lock, running, most = threading.Lock(), 0, 0

    def one(_: int) -> None:
        nonlocal running, most
        with admitted(throttle):
            with lock:
                running += 1
                most = max(most, running)
            threading.Event().wait(0.02)
            with lock:
                running -= 1

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(one, range(count)))
    return most


def refuse_together(throttle: Throttle, count: int, pause: float = 0.0) -> list[bool]:
    """`count` requests that are under way together are all refused; which of them had company."""
    together = threading.Barrier(count)

    def one(_: int) -> bool:
        with admitted(throttle) as turn:
            together.wait()
            crowded = turn.refuse(pause)
            together.wait()
            return crowded

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_nothing_is_held_back_before_a_refusal() -> None:
    throttle, clock = made()
    assert at_once(throttle, 8) > 1
    assert (throttle.most, clock.pauses) == (None, [])


def test_refusals_halve_what_is_sent_and_answers_let_it_grow() -> None:
    throttle, _ = made()
    assert all(refuse_together(throttle, 8))
    assert (throttle.refusals, throttle.most) == (8, 4)
    assert at_once(throttle, 12) <= 4 + 3
    for _ in range(ENOUGH * ENOUGH):
        with admitted(throttle):
            pass
    assert throttle.most is None


def test_one_at_a_time_is_the_least() -> None:
    throttle, _ = made()
    for _ in range(5):
        with admitted(throttle) as turn:
            assert not turn.refuse(0)
            assert throttle.most == 1


def test_where_one_at_a_time_is_too_many_there_are_gaps() -> None:
    throttle, clock = made()
    for _ in range(4):
        with admitted(throttle) as turn:
            turn.refuse(0)
    assert [round(pause, 3) for pause in clock.pauses] == [0.05, 0.1]
    for _ in range(30):
        with admitted(throttle):
            pass
    assert round(max(clock.pauses), 3) == 0.2
    assert sum(clock.pauses) < 2
    assert throttle.most
    assert throttle.most > 1, "and none in the end"


def test_who_is_refused_while_others_are_answered_has_not_failed() -> None:
    throttle, _ = made()
    answers = []
    for refused in (True, False, True, True):
        with admitted(throttle) as turn:
            answers += [turn.refuse(0)] if refused else []
    assert answers == [False, True, False]


def test_who_is_refused_beside_another_has_not_failed() -> None:
    throttle, _ = made()
    assert refuse_together(throttle, 2) == [True, True]
    assert refuse_together(throttle, 1) == [False]


def test_all_wait_as_long_as_one_was_told() -> None:
    throttle, clock = made()
    with admitted(throttle) as turn:
        turn.refuse(7.0)
    with admitted(throttle):
        assert clock.pauses == [7.0]
    with admitted(throttle):
        assert clock.pauses == [7.0]


def test_a_long_pause_is_counted_down() -> None:
    throttle, clock = made()
    with admitted(throttle) as turn:
        turn.refuse(3.0)
    with admitted(throttle) as turn:
        assert clock.told == []
        turn.refuse(70.0)
    with admitted(throttle):
        assert clock.told == [f"r.site asks for a pause: going on in {left} s" for left in (70, 40, 10)]


def test_a_request_inside_another_does_not_wait_for_it() -> None:
    throttle, _ = made()
    with admitted(throttle) as turn:
        turn.refuse(0)
    with admitted(throttle), admitted(throttle):
        assert throttle.most == 1
    with admitted(throttle), ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: throttle.enter(urgent=True).end()).result(10)


def test_an_answer_that_is_read_by_another_thread_ends_its_request() -> None:
    throttle, _ = made()
    with admitted(throttle) as turn:
        turn.refuse(0)
    turn = throttle.enter()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(turn.end).result(10)
    turn.end()
    assert at_once(throttle, 3) <= 3

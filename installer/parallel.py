"""Work in several threads that ends well: with the first error, or at once when the user interrupts."""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from installer.errors import AirferryError, InterruptedByUserError

_T = TypeVar("_T")
INTERRUPTIONS = (InterruptedByUserError, KeyboardInterrupt)
SMALL = 1 << 20
"""Up to so many bytes, sending or fetching is mostly waiting for answers."""
_WAITING = 6
LOOK_SECONDS = 0.5
"""A signal may reach another thread, such as one of Helm's library: who waits hears of it when looking up."""
_PATIENCE_SECONDS = 0.25
_work = threading.local()


def take_part(stop: threading.Event) -> None:
    """Whatever this thread does from now on is of no use once `stop` is set."""
    _work.stop = stop


def pause(seconds: float) -> None:
    """Sleep. Raises AirferryError as soon as the work that this thread takes part in has failed elsewhere."""
    stop: threading.Event = getattr(_work, "stop", None) or threading.Event()
    if stop.wait(seconds):
        raise AirferryError("given up, since another part of the same work failed")


def each(
    step: Callable[[_T], object],
    work: Iterable[_T],
    *,
    threads: int,
    stop: threading.Event,
    waits: Callable[[_T], bool] = lambda _: False,
) -> None:
    """Call `step` for every item, in order, `threads` at a time.

    For items that mostly wait for the network (`waits`) there are six times as many threads, beside the others: they
    need little memory and processor, and a distant registry answers many questions in the time of one.

    The first error is raised, with `stop` set, after the running steps have ended; they should look at `stop` now and
    then, and wait by `pause`. An interruption is raised without waiting for them: one may hang on a silent host, and
    the process ends.
    """
    pools = [
        ThreadPoolExecutor(count, initializer=take_part, initargs=(stop,)) for count in (threads, _WAITING * threads)
    ]
    jobs = [pools[waits(item)].submit(step, item) for item in work]
    try:
        running = set(jobs)
        while running:
            ended, running = wait(running, LOOK_SECONDS, FIRST_EXCEPTION)
            for job in ended:
                job.result()
    except BaseException as exc:
        stop.set()
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        if not isinstance(exc, INTERRUPTIONS):
            for pool in pools:
                pool.shutdown()
        raise
    for pool in pools:
        pool.shutdown()


class Pace:
    """How many at a time do what keeps a processor busy between waiting for a source.

    As many as there are processors, while the source is so fast that more would only take turns on them and push each
    other's data out of their caches; `many` as soon as it has made them wait. `clock` is monotonic, in seconds.
    """

    def __init__(self, many: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._free = min(many, len(os.sched_getaffinity(0)))
        self._more, self._lost = many - self._free, 0.0
        self._queue: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until it is this thread's turn; who came first is first."""
        mine = threading.Event()
        with self._lock:
            self._queue.append(mine)
            self._admit(0)
        mine.wait()
        try:
            yield
        finally:
            with self._lock:
                self._admit(1)

    def took(self, waited: float, worked: float) -> None:
        """Take note of a step's seconds. Waiting that is well above working, and stays so, lets the others in."""
        with self._lock:
            self._lost = max(0.0, self._lost + waited - 2 * worked)
            if self._lost > _PATIENCE_SECONDS:
                self._admit(self._more)
                self._more = 0

    def _admit(self, places: int) -> None:
        """Let in who waits, with so many places more. The lock is held."""
        self._free += places
        while self._free and self._queue:
            self._free -= 1
            self._queue.popleft().set()

"""Work in several threads that ends well: with the first error, or at once when the user interrupts."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from installer.errors import InterruptedByUserError

_T = TypeVar("_T")
INTERRUPTIONS = (InterruptedByUserError, KeyboardInterrupt)
SMALL = 1 << 20
"""Up to so many bytes, sending or fetching is mostly waiting for answers."""
_WAITING = 6


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
    then. An interruption is raised without waiting for them: one may hang on a silent host, and the process ends.
    """
    pools = ThreadPoolExecutor(threads), ThreadPoolExecutor(_WAITING * threads)
    jobs = [pools[waits(item)].submit(step, item) for item in work]
    try:
        for job in wait(jobs, return_when=FIRST_EXCEPTION).done:
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

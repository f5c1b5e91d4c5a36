"""Work in several threads that ends well: with the first error, or at once when the user interrupts."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from installer.errors import InterruptedByUserError

_T = TypeVar("_T")
INTERRUPTIONS = (InterruptedByUserError, KeyboardInterrupt)


def each(step: Callable[[_T], object], work: Iterable[_T], *, threads: int, stop: threading.Event) -> None:
    """Call `step` for every item, in order, `threads` at a time.

    The first error is raised, with `stop` set, after the running steps have ended; they should look at `stop` now and
    then. An interruption is raised without waiting for them: one may hang on a silent host, and the process ends.
    """
    pool = ThreadPoolExecutor(threads)
    jobs = [pool.submit(step, item) for item in work]
    try:
        for job in wait(jobs, return_when=FIRST_EXCEPTION).done:
            job.result()
    except BaseException as exc:
        stop.set()
        pool.shutdown(wait=not isinstance(exc, INTERRUPTIONS), cancel_futures=True)
        raise
    pool.shutdown()

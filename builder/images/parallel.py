"""Work in several threads, with results in order and one error for all that fails."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from installer.errors import AirferryError, several
from installer.parallel import LOOK_SECONDS

REQUESTS = 16
"""Manifests are small: so many requests wait for the network at once."""
RENDERINGS = 4
"""Helm works in as many processes as there are processors, and these threads keep them busy."""
_In = TypeVar("_In")
_Out = TypeVar("_Out")


def in_parallel(
    work: Callable[[_In], _Out], items: Sequence[_In], failing: str, *, threads: int = REQUESTS
) -> list[_Out]:
    """`work` done for each item, results in order. Raises one AirferryError for all that fail."""
    results: list[_Out] = []
    errors: list[AirferryError] = []
    pool = ThreadPoolExecutor(threads)
    try:
        futures = [pool.submit(work, item) for item in items]
        running = set(futures)
        while running:
            _, running = wait(running, LOOK_SECONDS)
        for future in futures:
            try:
                results.append(future.result())
            except AirferryError as exc:
                errors.append(exc)
    finally:
        # After an interruption nobody waits for the answer of a slow host.
        pool.shutdown(wait=False, cancel_futures=True)
    if errors:
        raise several(errors, failing) from errors[0]
    return results

"""How many requests at a time a host bears: as many as come, until it says that these are too many."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ENOUGH = 64
"""With so many at a time again, nothing is held back any more."""


class Throttle:
    """Admits requests to one host. Safe to use from several threads.

    A refusal for too many requests halves what is admitted at a time, and holds all back for as long as the host asks;
    as many answers as are admitted let one more in.
    """

    def __init__(self, sleep: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._sleep, self._clock = sleep, clock
        self._free = threading.Condition()
        self._own = threading.local()
        self._running = self._answered = self._turn = 0
        self._until = 0.0
        self.most: int | None = None
        self.refusals = 0

    @contextmanager
    def admitted(self) -> Iterator[int]:
        """Wait until a request may be sent; gives what `refuse` wants to know.

        A request that is sent in the middle of another one, for what that one sends, does not wait.
        """
        if getattr(self._own, "busy", False):
            yield self._turn
            return
        with self._free:
            self._free.wait_for(lambda: self.most is None or self._running < self.most)
            self._running += 1
            turn = self._turn
        self._own.busy = True
        try:
            if (left := self._until - self._clock()) > 0:
                self._sleep(left)
            yield turn
        finally:
            self._own.busy = False
            with self._free:
                self._running -= 1
                self._grow()
                self._free.notify_all()

    def refuse(self, turn: int, pause: float) -> None:
        """The request that was admitted with `turn` was one too many; the host wants `pause` seconds without any."""
        with self._free:
            self.refusals += 1
            self._until = max(self._until, self._clock() + pause)
            # All that were under way together are refused together: that counts once.
            if turn == self._turn:
                self._turn += 1
                self._answered = 0
                self.most = max(min(self._running, self.most or self._running) // 2, 1)

    def _grow(self) -> None:
        if self.most is not None:
            self._answered += 1
            if self._answered > self.most:
                self._answered = 0
                self.most = self.most + 1 if self.most < ENOUGH else None

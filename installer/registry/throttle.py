"""How many requests at a time a host bears: as many as come, until it says that these are too many.

A request lasts until its answer has been read: a host that limits connections counts those that still send
(nginx, ngx_http_limit_conn_module).
"""

import threading
from collections import Counter
from collections.abc import Callable

ENOUGH = 64
"""With so many at a time again, nothing is held back any more."""
WORTH_TELLING = 5.0
TELL_SECONDS = 30.0
SHORTEST_GAP, LONGEST_GAP = 0.05, 5.0


class Turn:
    """A request that a throttle has admitted, up to the end of its answer."""

    def __init__(self, throttle: "Throttle", number: int, thread: int) -> None:
        self._throttle, self.number, self.thread = throttle, number, thread
        self.refused = self.ended = False

    def refuse(self, pause: float, *, said: bool = True) -> bool:
        """It was one too many; the host wants `pause` seconds without any, and `said` so.

        Whether others were under way with it, or were answered since the last refusal: then it may succeed as one of
        fewer, and has not failed yet.
        """
        return self._throttle.refuse(self, pause, said=said)

    def end(self) -> None:
        """The answer is read, or is of no use. To be called once or more, by any thread."""
        self._throttle.leave(self)


class Throttle:
    """Admits requests to one host. Safe to use from several threads.

    A refusal for too many requests halves what is admitted at a time, and holds all back for as long as the host asks,
    which `tell` hears; as many answers as are admitted let one more in. Where one at a time is too many, it counts
    requests in a time: gaps between them double with each refusal, and shrink with each answer.
    """

    def __init__(
        self,
        host: str,
        sleep: Callable[[float], None],
        clock: Callable[[], float],
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._host, self._sleep, self._clock, self._tell = host, sleep, clock, tell
        self._free = threading.Condition()
        self._inside = Counter[int]()
        self._running = self._answered = self._served = self._number = 0
        self._until = self._told_until = self._gap = 0.0
        self.most: int | None = None
        self.refusals = 0

    def enter(self, *, urgent: bool = False) -> Turn:
        """Wait until a request may be sent.

        One that is sent in the middle of another of the same thread, for what that one sends, does not wait for others
        to end; neither does an `urgent` one, for which others may be waiting.
        """
        thread = threading.get_ident()
        with self._free:
            if not urgent and not self._inside[thread]:
                self._free.wait_for(lambda: self.most is None or self._running < self.most)
            self._running += 1
            self._inside[thread] += 1
            turn = Turn(self, self._number, thread)
        try:
            while (left := self._until - self._clock()) > 0:
                self._announce(left)
                self._sleep(min(left, TELL_SECONDS))
        except BaseException:
            turn.end()
            raise
        return turn

    def refuse(self, turn: Turn, pause: float, *, said: bool) -> bool:
        """See `Turn.refuse`."""
        with self._free:
            turn.refused = True
            crowded = turn.number != self._number or self._running > 1 or self._served > 0
            self._served = 0
            self.refusals += said
            self._until = max(self._until, self._clock() + pause)
            # All that were under way together are refused together: that counts once.
            if turn.number == self._number:
                self._number += 1
                self._answered = 0
                if self.most == 1:
                    self._gap = min(max(2 * self._gap, SHORTEST_GAP), LONGEST_GAP)
                many = min(self._running, self.most or self._running)
                self.most = max(many - many // 2, 1)
            return crowded

    def leave(self, turn: Turn) -> None:
        """See `Turn.end`."""
        with self._free:
            if turn.ended:
                return
            turn.ended = True
            self._running -= 1
            self._inside[turn.thread] -= 1
            if not self._inside[turn.thread]:
                del self._inside[turn.thread]
            if not turn.refused:
                self._served += 1
                self._grow()
            if self._gap:
                self._until = max(self._until, self._clock() + self._gap)
            self._free.notify_all()

    def _grow(self) -> None:
        if self._gap:
            self._gap = 0.0 if self._gap <= SHORTEST_GAP else self._gap * 0.7
        elif self.most is not None:
            self._answered += 1
            if self._answered > self.most:
                self._answered = 0
                self.most = self.most + 1 if self.most < ENOUGH else None

    def _announce(self, left: float) -> None:
        """Say from time to time, for all who wait, how long that still is."""
        with self._free:
            now = self._clock()
            if left < WORTH_TELLING or now < self._told_until:
                return
            self._told_until = now + min(left, TELL_SECONDS)
        self._tell(f"{self._host} asks for a pause: going on in {left:.0f} s")

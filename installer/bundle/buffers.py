"""Memory for chunks, lent again and again: new memory has to be cleared first, which a fast source would wait for."""

import contextlib
import queue
import sys
import threading
from collections import deque
from collections.abc import Iterator

from installer.bundle.limits import CHUNK
from installer.parallel import SMALL


class Buffers:
    """At most `count` buffers of a chunk each, made when they are needed. Safe to use from several threads."""

    def __init__(self, count: int = sys.maxsize) -> None:
        self._unmade, self._free = count, list[bytearray]()
        self._waiting: deque[queue.SimpleQueue[bytearray]] = deque()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def one(self) -> Iterator[bytearray]:
        """A buffer while the block runs; those who wait for one get it in the order in which they came."""
        turn: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        with self._lock:
            if self._free:
                turn.put(self._free.pop())
            elif self._unmade:
                self._unmade -= 1
                turn.put(bytearray(CHUNK))
            else:
                self._waiting.append(turn)
        buffer = turn.get()
        try:
            yield buffer
        finally:
            with self._lock:
                if self._waiting:
                    self._waiting.popleft().put(buffer)
                else:
                    self._free.append(buffer)

    @contextlib.contextmanager
    def holding(self, size: int) -> Iterator[bytearray]:
        """Memory for the chunks of a blob of `size` bytes: one of the buffers, or as little as a small blob needs."""
        if size <= SMALL:
            # Of these many are on their way at a time.
            yield bytearray(size)
        else:
            with self.one() as buffer:
                yield buffer

"""Buffers that are lent again and again: new memory has to be cleared first, which a fast source would wait for."""

import contextlib
import queue
import sys
import threading
from collections import deque
from collections.abc import Iterator

from installer.parallel import SMALL


class Buffers:
    """At most `count` buffers of `size` bytes each, made when they are needed. Safe to use from several threads."""

    def __init__(self, size: int, count: int = sys.maxsize) -> None:
        self._size, self._unmade, self._free = size, count, list[bytearray]()
        self._waiting: deque[queue.SimpleQueue[bytearray]] = deque()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def one(self) -> Iterator[bytearray]:
        """A buffer while the block runs. Threads that wait for one get it first come, first served."""
        turn: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        with self._lock:
            if self._free:
                turn.put(self._free.pop())
            elif self._unmade:
                self._unmade -= 1
                turn.put(bytearray(self._size))
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
        """Memory to read a blob of `size` bytes: one of the buffers, or just `size` bytes for a small blob."""
        if size <= SMALL:
            # Many small blobs are on their way at a time.
            yield bytearray(size)
        else:
            with self.one() as buffer:
                yield buffer

"""Memory that is lent: never to two at a time, and again to the next."""

import pytest

from installer.buffers import Buffers
from installer.bundle.limits import CHUNK


def test_the_next_one_gets_the_same_memory() -> None:
    buffers = Buffers(CHUNK)
    with buffers.holding(3 * CHUNK) as first, buffers.holding(CHUNK) as second:
        assert first is not second
        assert len(first) == len(second) == CHUNK
    with buffers.one() as third:
        assert third is first or third is second


def test_a_small_blob_takes_no_more_than_it_needs() -> None:
    with Buffers(CHUNK, 0).holding(1000) as memory:
        assert len(memory) == 1000


def test_an_error_gives_the_memory_back() -> None:
    buffers = Buffers(CHUNK)
    with pytest.raises(ZeroDivisionError), buffers.one() as first:
        1 / 0  # noqa: B018
    with buffers.one() as second:
        assert second is first

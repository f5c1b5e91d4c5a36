"""A link over which everything takes its time, to a server on loopback; some of its connections are reset.

    with DistantLink(registry.address, milliseconds=20, resets=0.01) as link:
        ...  # http://{link.address}

`milliseconds` is the round trip. What is sent arrives half of that later, however much it is; a new connection costs
one round trip before anything else, as TCP's handshake would. `resets` is the share of a client's pieces (about one a
request) upon which its connection is reset; which ones is drawn anew in each run, from the same numbers.

It is a process of its own, so that it does not wait for those who measure: `python -m tests.parts.distant_link`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

PIECE = 256 * 1024
ROOT = Path(__file__).parents[2]


class DistantLink:
    """The process; it listens within `with` on a free port of 127.0.0.1 and passes everything on to `target`."""

    def __init__(self, target: str, *, milliseconds: float, resets: float = 0.0) -> None:
        self._command = [sys.executable, "-m", "tests.parts.distant_link", target, str(milliseconds), str(resets)]
        self.address = ""

    def __enter__(self) -> DistantLink:
        self._process = subprocess.Popen(self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().decode().strip()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # It ends with its standard input, also when we are killed.
        self._process.communicate(timeout=20)


class _Direction(asyncio.Protocol):
    """One end of a connection: what it receives is written to the other end `delay` seconds later, in order."""

    def __init__(self, link: _Link, *, client: bool) -> None:
        self._link, self._client = link, client
        self.other: _Direction | None = None
        self.transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._open_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._client:
            self._open_at = self._loop.time() + 2 * self._link.delay
            transport.pause_reading()
            self._link.connecting.add(self._loop.create_task(self._connect()))

    async def _connect(self) -> None:
        link = self._link
        _, other = await self._loop.create_connection(lambda: _Direction(link, client=False), link.host, link.port)
        assert self.transport is not None
        self.other, other.other = other, self
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._client and self._link.random.random() < self._link.resets:
            self._reset()
            return
        # A timer for each piece; those of one connection are due one after the other.
        due = max(self._loop.time(), self._open_at) + self._link.delay
        self._open_at = max(self._open_at, due - self._link.delay + 1e-6)
        self._loop.call_at(due, self._forward, data)

    def eof_received(self) -> bool:
        self._loop.call_at(max(self._loop.time(), self._open_at) + self._link.delay, self._forward, b"")
        return True

    def _forward(self, data: bytes) -> None:
        target = self.other.transport if self.other is not None else None
        if target is None or target.is_closing():
            return
        if data:
            target.write(data)
        else:
            target.write_eof()

    def _reset(self) -> None:
        for end in (self, self.other):
            if end is not None and end.transport is not None:
                plain = end.transport.get_extra_info("socket")
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self._loop.call_at(max(self._loop.time(), self._open_at) + self._link.delay, self.other.transport.close)


class _Link:
    """What all connections share."""

    def __init__(self, target: str, milliseconds: float, resets: float) -> None:
        self.host, _, port = target.rpartition(":")
        self.port = int(port)
        self.delay, self.resets = milliseconds / 2000, resets
        self.random = random.Random(1)
        self.connecting: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Print the address, and pass on until standard input ends."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Direction(self, client=True), "127.0.0.1", 0, backlog=256)
        sys.stdout.write("{}:{}\n".format(*server.sockets[0].getsockname()))
        sys.stdout.flush()
        await loop.run_in_executor(None, sys.stdin.buffer.read)
        server.close()


def main() -> None:
    """Serve as the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("milliseconds", type=float)
    parser.add_argument("resets", type=float)
    arguments = parser.parse_args()
    asyncio.run(_Link(arguments.target, arguments.milliseconds, arguments.resets).serve())


if __name__ == "__main__":
    main()

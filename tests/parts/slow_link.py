"""A link of limited speed to a server on loopback, which counts the bytes that pass.

    with SlowLink(registry.address, 50_000_000) as link:
        ...  # http://{link.address}
        link.down  # bytes that clients were sent so far

A transfer over loopback is over before anything can happen to it; through the link it takes long enough.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from types import TracebackType

PIECE = 64 * 1024


class SlowLink:
    """Listens on a free port of 127.0.0.1 within `with`, and passes everything on to `target` (`HOST:PORT`).

    `speed` is in bytes per second and holds for each connection and direction. `up` and `down` count the bytes that
    went to the server and came from it.
    """

    def __init__(self, target: str, speed: float) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._speed = speed
        self._lock = threading.Lock()
        self.up = self.down = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> SlowLink:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A blocked accept() is not ended by close() alone.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def wait_for(self, count: int, process: subprocess.Popen[str]) -> None:
        """Wait until `count` bytes have passed in the busier direction, or `process` has ended."""
        while max(self.up, self.down) < count and process.poll() is None:
            time.sleep(0.001)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            # What lies in buffers is counted although it has not arrived: keep them small.
            for end in (client, server):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, target, down in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pass, args=(source, target, down), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, down: bool) -> None:
        buffer = memoryview(bytearray(PIECE))
        try:
            while count := source.recv_into(buffer):
                target.sendall(buffer[:count])
                with self._lock:
                    if down:
                        self.down += count
                    else:
                        self.up += count
                time.sleep(count / self._speed)
        except OSError:
            pass
        # Both directions end together: a killed client must not leave the server waiting.
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        # Each socket is the source of one direction, which closes it.
        source.close()

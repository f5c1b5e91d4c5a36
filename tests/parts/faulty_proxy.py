"""A proxy before a real registry, for faults that come between the two: those of `faulty_registry`, and broken bodies.

with FaultyProxy(registry.address) as proxy:
    proxy.on("PUT", "/blobs/uploads/", status(503), times=3)
"""

from __future__ import annotations

import http.client
import socket
from typing import TYPE_CHECKING

from tests.parts.faulty_registry import Answer, FaultyRegistry, Handler

if TYPE_CHECKING:
    from tests.parts.faulty_registry import Fault

_OF_THE_CONNECTION = ("connection", "transfer-encoding", "keep-alive", "content-length")


class FaultyProxy(FaultyRegistry):
    """Passes on to `target` (`HOST:PORT`) what no fault takes up."""

    def __init__(self, target: str) -> None:
        super().__init__(handler=_Passing)
        self.target = target


class _Passing(Handler):
    registry: FaultyProxy

    def answer(self) -> Answer:
        """What the registry behind answers."""
        seen = self.seen
        connection = http.client.HTTPConnection(self.registry.target, timeout=60)
        headers = {name: value for name, value in seen.headers.items() if name not in _OF_THE_CONNECTION}
        if seen.method in ("POST", "PUT", "PATCH"):
            headers["content-length"] = str(len(seen.body))
        connection.request(seen.method, self.path, seen.body or None, headers)
        with connection.getresponse() as response:
            body = response.read()
            found = {name.title(): value for name, value in response.getheaders()}
        connection.close()
        if seen.method != "HEAD":
            found.pop("Content-Length", None)
        found.pop("Transfer-Encoding", None)
        return Answer(response.status, found, body)


def broken(count: int) -> Fault:
    """Pass on `count` bytes of a body, then reset both connections."""

    def fault(handler: Handler) -> None:
        assert isinstance(handler, _Passing)
        host, _, port = handler.registry.target.rpartition(":")
        seen = handler.seen
        lines = [
            f"{seen.method} {handler.path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in seen.headers.items()),
        ]
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode() + seen.body[:count])
        handler.cut(reset=True)

    return fault

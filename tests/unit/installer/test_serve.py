"""The server in the volumes under clients that are slow, many, or silent."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from installer.report import Silent
from installer.serving import server as serve
from installer.serving.server import Server
from tests.parts.bundles import Cargo, open_bundle, signing_key
from tests.parts.images import File, Image, Layer, write_layout
from tests.parts.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from installer.bundle.reader import Bundle

MIB = 1 << 20


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    """One image with a layer of two chunks."""
    folder, cargo = tmp_path_factory.mktemp("served"), Cargo()
    layer = Layer({"/data": File(random.Random(2).randbytes(6 * MIB))}, "none")
    cargo.image("docker.io/demo/one:1", write_layout(folder / "one", Image((layer,))))
    with open_bundle(cargo.write(folder, key=signing_key())) as opened:
        yield opened


@contextlib.contextmanager
def serving(bundle: Bundle) -> Iterator[Server]:
    """A server whose kernel buffers are small: what a client does not read stays with the server."""
    server = Server(bundle, "127.0.0.1", 0, Silent())
    server._http.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
    with server:
        yield server


def asked(server: Server, path: str) -> socket.socket:
    """A connection on which `path` has been asked for."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    client.settimeout(30)
    host, _, port = server.address.rpartition(":")
    client.connect((host, int(port)))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    return client


def layer_of(bundle: Bundle) -> tuple[str, int]:
    """Path and size of the large blob."""
    blob = max(bundle.manifest.blobs, key=lambda blob: blob.size)
    return f"/v2/docker.io/demo/one/blobs/{blob.digest}", blob.size


def rest(client: socket.socket, pause: float = 0.0) -> int:
    """Read to the end, `pause` seconds after each 64 KiB; how many bytes came."""
    count = 0
    while part := client.recv(64 << 10, socket.MSG_WAITALL):
        count += len(part)
        time.sleep(pause)
    return count


def is_answered(client: socket.socket, seconds: float) -> bool:
    """Whether more than a head of an answer comes within `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        client.settimeout(max(end - time.monotonic(), 0.01))
        with contextlib.suppress(TimeoutError):
            if len(client.recv(4 << 10, socket.MSG_PEEK)) > 1000:
                client.settimeout(30)
                return True
            time.sleep(0.02)
    client.settimeout(30)
    return False


def test_who_reads_slowly_but_steadily_is_not_cut_off(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve._Handler, "timeout", 2)
    path, size = layer_of(bundle)
    with serving(bundle) as server, asked(server, path) as client:
        # A chunk takes four seconds, a slice of it one.
        assert rest(client, 0.06) > size


def test_chunks_on_their_way_are_counted(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "SENDING", 2)
    path, size = layer_of(bundle)
    with serving(bundle) as server:
        with asked(server, path) as one, asked(server, path) as two:
            assert is_answered(one, 20)
            assert is_answered(two, 20)
            with asked(server, path) as three:
                assert not is_answered(three, 0.5)
                # What needs no chunk does not wait.
                with asked(server, "/v2/docker.io/demo/one/tags/list") as small:
                    assert rest(small) > 0
                with ThreadPoolExecutor(2) as pool:
                    assert min(pool.map(rest, (one, three))) > size
        # Those who hang up leave their turn to others.
        with asked(server, path) as four:
            assert rest(four) > size
        # The last byte is with its reader before the server has put its chunk back.
        assert wait_until(lambda: len(server._http.buffers._free) == 2, 20)


def test_connections_are_counted(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "CONNECTIONS", 2)
    path, size = layer_of(bundle)
    with serving(bundle) as server:
        one, two, three = (asked(server, path) for _ in range(3))
        with one, two, three:
            assert is_answered(two, 20)
            assert not is_answered(three, 0.5)
            one.close()
            assert rest(three) > size
            four, five = asked(server, path), asked(server, path)
            assert is_answered(four, 20)
        start = time.monotonic()
    # The end waits for nobody.
    assert time.monotonic() - start < 10
    four.close()
    five.close()


def test_a_start_asks_no_name_server(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def getfqdn(name: str = "") -> str:
        raise AssertionError(name)

    monkeypatch.setattr(socket, "getfqdn", getfqdn)
    with serving(bundle) as server, asked(server, "/v2/") as client:
        assert rest(client) > 0

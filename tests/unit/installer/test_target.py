"""The cluster that commands work on: both ways to it are the same."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = """
import os, sys
from pathlib import Path
from installer.chart.releases import Releases
from installer.cli.target import Target
from installer.errors import AirferryError
from installer.report import Silent
from installer.shell import Session

file = Path(sys.argv[1])
session = Session("text", Silent(), dict(os.environ))
if sys.argv[2] == "target":
    target = Target(session, file, "", plugin=False)
    releases = target.releases("n")
    try:
        target.cluster.version()
    except AirferryError as exc:
        print(type(exc).__name__)
else:
    releases = Releases(file, namespace="n")
try:
    releases.history("r")
except AirferryError as exc:
    print(type(exc).__name__)
print(sorted(session.proxies()))
"""


@contextmanager
def proxy() -> Iterator[tuple[int, list[bytes]]]:
    """The port of a proxy that breaks every connection, and the first lines that it has heard."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    heard.append(connection.recv(65536).partition(b"\r\n")[0])

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1], heard
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.mark.parametrize("way", ["target", "releases"])
def test_no_proxy_of_the_environment_leads_to_the_cluster(tmp_path: Path, way: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    # This machine by an address that proxies are used for: for loopback they never are.
    clusters = [{"name": "c", "cluster": {"server": f"https://0.0.0.0:{port}"}}]
    contexts = [{"name": "x", "context": {"cluster": "c", "user": "u"}}]
    users = [{"name": "u", "user": {"token": "t"}}]
    config = {"apiVersion": "v1", "kind": "Config", "clusters": clusters, "users": users, "contexts": contexts}
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps({**config, "current-context": "x"}))
    with proxy() as (number, heard):
        names = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
        env = {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(tmp_path)}
        env |= dict.fromkeys(names, f"http://127.0.0.1:{number}")
        command = [sys.executable, "-c", PROGRAM, str(file), way]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    # The session still knows them: registries are reached by them. Without it, Helm goes by the proxy.
    assert done.stdout.splitlines()[-1] == str(sorted(names)), done.stderr
    assert set(done.stdout.splitlines()[:-1]) == {"ClusterUnreachableError"}
    assert bool(heard) == (way == "releases"), heard

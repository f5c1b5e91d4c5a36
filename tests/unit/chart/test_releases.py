"""Releases where there is no cluster to speak of: every failure has its class, and Ctrl-C is heard at once."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from helm_python import HelmError

from installer.chart.releases import Releases, _converted
from installer.errors import AirferryError, ClusterError, ClusterForbiddenError, ClusterUnreachableError
from tests.parts.charts import package

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def kubeconfig(folder: Path, port: int) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"token": "canary-token"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


@pytest.fixture
def answering(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a server that answers every request with the bytes of the parameter; None answers never."""
    answer: bytes | None = request.param
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                held.append(connection)
                if answer is not None:
                    connection.recv(65536)
                    connection.sendall(answer)
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        for connection in held:
            connection.close()


def refused() -> int:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_a_cluster_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    releases = Releases(kubeconfig(tmp_path, refused()), namespace="n")
    with pytest.raises(ClusterUnreachableError, match=r"cannot read release r: .*refused") as caught:
        releases.history("r")
    assert "canary-token" not in str(caught.value)


def test_a_cluster_that_goes_away_between_two_requests_is_unreachable(tmp_path: Path) -> None:
    body = b'{"gitVersion": "v1.35.4"}'
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                server.close()
                connection.sendall(head.encode() + body)

        thread = threading.Thread(target=serve)
        thread.start()
        releases = Releases(kubeconfig(tmp_path, port), namespace="n", server=f"http://127.0.0.1:{port}")
        with pytest.raises(ClusterUnreachableError, match=r"secrets.*connection refused"):
            releases.history("r")
        thread.join(10)


SERVER = "https://k.enclave:6443"
WEBHOOK = (
    'failed to create resource: Internal error occurred: failed calling webhook "m.svc": failed to call webhook: '
    'Post "https://kyverno.kyverno.svc:443/mutate?timeout=10s": dial tcp 10.96.3.4:443: connect: connection refused'
)
QUOTA = 'failed to create resource: configmaps "a" is forbidden: exceeded quota: q, requested: count/configmaps=1'
GRANTED = 'roles "r" is forbidden: user "u" (groups=["g"]) is attempting to grant RBAC permissions not currently held'
DENIED = 'configmaps is forbidden: User "u" cannot list resource "configmaps" in API group "" in the namespace "n"'


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (WEBHOOK, ClusterError),
        ("error trying to reach service: dial tcp 10.1.1.1:443: connect: connection refused", ClusterError),
        (f'Get "{SERVER}/api/v1/x?y=z": dial tcp 10.0.0.1:6443: connect: connection refused', ClusterUnreachableError),
        (f'{WEBHOOK}; Get "{SERVER}/x": dial tcp [::1]:6443: connect: connection refused', ClusterUnreachableError),
        ("kubernetes cluster unreachable: i/o timeout", ClusterUnreachableError),
        (QUOTA, ClusterError),
        (
            QUOTA.replace("exceeded quota: q, requested: count/configmaps=1", "failed quota: q: must specify x"),
            ClusterError,
        ),
        (DENIED, ClusterForbiddenError),
        (GRANTED, ClusterForbiddenError),
        ('configmaps "a" is forbidden: unable to create new content because it is being terminated', ClusterError),
        ('StatefulSet.apps "a" is invalid: spec: Forbidden: updates to statefulset spec are forbidden', ClusterError),
        ('admission webhook "p.example" denied the request: forbidden', ClusterError),
    ],
)
def test_only_what_is_the_api_server_itself_is_waited_for(said: str, expected: type[AirferryError]) -> None:
    assert type(_converted(HelmError(said), "install chart a", f"{SERVER}/")) is expected


@pytest.mark.parametrize("context", ["", "nowhere"])
def test_a_kubeconfig_that_does_not_fit_is_named(tmp_path: Path, context: str) -> None:
    path = kubeconfig(tmp_path, refused()) if context else tmp_path / "absent"
    with pytest.raises(ClusterUnreachableError, match=context or "absent"):
        Releases(path, context=context, namespace="n").status("r")


def test_the_environment_names_no_other_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.write_text("not a kubeconfig: [")
    monkeypatch.setenv("KUBECONFIG", str(other))
    monkeypatch.setenv("HELM_KUBECONTEXT", "other")
    monkeypatch.setenv("HELM_NAMESPACE", "other")
    port = refused()
    with pytest.raises(ClusterUnreachableError, match=f"127.0.0.1:{port}"):
        Releases(kubeconfig(tmp_path, port), namespace="n").status("r")


@pytest.mark.parametrize("answering", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{]"], indirect=True)
def test_a_server_that_is_no_cluster_raises_one_of_our_errors(tmp_path: Path, answering: int) -> None:
    with pytest.raises(AirferryError):
        Releases(kubeconfig(tmp_path, answering), namespace="n").status("r")


@pytest.mark.parametrize("answering", [None], indirect=True)
@pytest.mark.parametrize("call", ["releases.status('r')", "releases.ensure(chart, 'r', {})", "releases.uninstall('r')"])
def test_ctrl_c_ends_a_call_that_hangs(tmp_path: Path, answering: int, call: str) -> None:
    archive = tmp_path / "chart.tgz"
    archive.write_bytes(package("demo-app"))
    program = f"""
import sys
from pathlib import Path
from installer.chart.helm import Chart
from installer.chart.releases import Releases
releases = Releases(Path(sys.argv[1]), namespace="n")
chart = Chart.load(Path(sys.argv[2]).read_bytes())
print("started", flush=True)
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program, kubeconfig(tmp_path, answering), archive],
        env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        time.sleep(1)  # for the call to reach the server; earlier it is only easier to end
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()
    assert (stdout, stderr, process.returncode) == ("interrupted\n", "", 0)

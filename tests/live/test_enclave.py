"""The enclave itself: a cluster that works, and a network that leads nowhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.parts.cluster_files import PLACES
from tests.parts.enclave import Enclave
from tests.parts.images import push, write_layout
from tests.parts.kubernetes import VERSION
from tests.parts.process import wait_until
from tests.parts.registry import read_accesses
from tests.parts.runnable import httpd, httpd_request, job, two_platforms

pytestmark = pytest.mark.cluster

# Reserved for documentation (RFC 5737): nothing answers there, but with a default route the attempt would be made.
OUTSIDE = "192.0.2.1"
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 80), timeout=30)"
WAIT = "--timeout=60s"


def run_pod(enclave: Enclave, namespace: str, name: str, image: str, *arguments: str) -> None:
    """Create a pod of one container that is not started again when it ends."""
    container = {"name": "main", "image": image, "args": list(arguments)}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "containers": [container]},
    }
    enclave.kubectl("create", f"--namespace={namespace}", "--filename=-", input=json.dumps(pod))


def pod_status(enclave: Enclave, namespace: str, name: str) -> dict[str, Any]:
    pod = json.loads(enclave.kubectl("get", "pod", name, f"--namespace={namespace}", "--output=json"))
    status: dict[str, Any] = pod["status"]
    return status


def run_job(enclave: Enclave, namespace: str, tmp_path: Path, script: str) -> str:
    """Run a shell script in a pod; what it prints."""
    image = f"{enclave.registry}/live/job:1"
    push(write_layout(tmp_path / "job", job()), image, prefix=enclave.command([]))
    run_pod(enclave, namespace, "job", image, script)
    enclave.kubectl("wait", "pod/job", f"--namespace={namespace}", "--for=jsonpath={.status.phase}=Succeeded", WAIT)
    return enclave.kubectl("logs", "job", f"--namespace={namespace}")


def test_the_node_is_ready_and_runs_the_version_that_was_built(enclave: Enclave) -> None:
    # Another test may just have ended an API server, to which the node reports every ten seconds.
    enclave.kubectl("wait", "node", "--all", "--for=condition=Ready", WAIT)
    (node,) = json.loads(enclave.kubectl("get", "nodes", "--output=json"))["items"]
    assert node["status"]["nodeInfo"]["kubeletVersion"] == f"v{VERSION}"


def test_a_pod_runs_an_image_that_came_from_the_registry_of_the_enclave(
    enclave: Enclave, namespace: str, tmp_path: Path
) -> None:
    image = f"{enclave.registry}/live/{namespace}:1"
    layout = write_layout(tmp_path / "web", two_platforms(httpd(f"page of {namespace}")))
    push(layout, image, prefix=enclave.command([]))
    run_pod(enclave, namespace, "web", image)
    enclave.kubectl("wait", "pod/web", f"--namespace={namespace}", "--for=condition=Ready", WAIT)

    status = pod_status(enclave, namespace, "web")
    assert status["containerStatuses"][0]["imageID"].endswith(layout.digest)
    pulled = [access for access in read_accesses(enclave.registry_log) if access.agent.startswith("containerd/")]
    manifests = {access.path for access in pulled if access.path.startswith(f"/v2/live/{namespace}/manifests/")}
    # The index and, of its two images, only the one for this machine.
    assert f"/v2/live/{namespace}/manifests/{layout.digest}" in manifests
    assert f"/v2/live/{namespace}/manifests/{layout.manifests[0]}" in manifests
    assert f"/v2/live/{namespace}/manifests/{layout.manifests[1]}" not in manifests


def test_pods_reach_each_other_through_services(enclave: Enclave, namespace: str, tmp_path: Path) -> None:
    image = f"{enclave.registry}/live/web:1"
    push(write_layout(tmp_path / "web", httpd("reached")), image, prefix=enclave.command([]))
    run_pod(enclave, namespace, "web", image)
    enclave.kubectl("expose", "pod", "web", f"--namespace={namespace}", "--port=80", "--target-port=8080")
    enclave.kubectl("wait", "pod/web", f"--namespace={namespace}", "--for=condition=Ready", WAIT)
    query = "--output=jsonpath={.spec.clusterIP}"
    address = enclave.kubectl("get", "service", "web", f"--namespace={namespace}", query)
    # The node learns of a service in its own time.
    script = f"n=0; until {httpd_request(address)}; do n=$((n+1)); [ $n -lt 20 ] || exit 1; sleep 1; done"
    assert "reached" in run_job(enclave, namespace, tmp_path, script)


def test_the_network_has_no_way_out(enclave: Enclave) -> None:
    for family in ("-4", "-6"):
        assert enclave.run(["ip", family, "route", "show", "default"]).stdout == ""
    attempt = enclave.run([sys.executable, "-c", CONNECT, OUTSIDE], check=False)
    assert "Network is unreachable" in attempt.stderr


def test_a_pod_has_no_way_out_either(enclave: Enclave, namespace: str, tmp_path: Path) -> None:
    script = f"ip route; {httpd_request(OUTSIDE)} 2>&1; true"
    said = run_job(enclave, namespace, tmp_path, script)
    assert "default" not in said
    assert "Network is unreachable" in said


def test_an_image_from_outside_cannot_be_pulled(enclave: Enclave, namespace: str) -> None:
    run_pod(enclave, namespace, "stray", "docker.io/library/busybox:1.36")

    def refused() -> bool:
        containers = pod_status(enclave, namespace, "stray").get("containerStatuses", [])
        return any(each["state"].get("waiting", {}).get("reason") == "ErrImagePull" for each in containers)

    assert wait_until(refused, 60)


def test_starting_it_again_changes_nothing(enclave: Enclave) -> None:
    before = enclave.parts()
    assert enclave.up().parts() == before


def test_killed_while_starting_it_is_removed_without_a_trace_and_starts_again(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    other = Enclave(folder)
    starting = subprocess.Popen(
        [sys.executable, "-m", "tests.parts.enclave", "--dir", str(folder), "up"], stdout=subprocess.DEVNULL
    )
    try:
        assert wait_until(lambda: "kube-apiserver" in other.parts(), 60)
        os.kill(starting.pid, signal.SIGKILL)
        starting.wait()
        assert not other.ready()
        other.down()
        assert_no_trace(other)
        with other:
            assert other.ready()
        assert_no_trace(other)
    finally:
        other.down()


def test_a_registry_with_a_private_authority_is_trusted_by_the_node(tmp_path: Path) -> None:
    with Enclave(tmp_path / "other", tls=True) as other:
        image = f"{other.registry}/live/web:1"
        push(write_layout(tmp_path / "web", httpd()), image, prefix=other.command([]), ca=other.ca)
        run_pod(other, "default", "web", image)
        other.kubectl("wait", "pod/web", "--for=condition=Ready", WAIT)
    assert_no_trace(other)


def test_ending_one_enclave_leaves_another_alone(enclave: Enclave, namespace: str, tmp_path: Path) -> None:
    with Enclave(tmp_path / "other"):
        assert enclave.ready()
    assert enclave.ready()
    prefix = enclave.confinement.full_prefix()
    mounts = subprocess.run([*prefix, "cat", "/proc/self/mountinfo"], check=True, capture_output=True, text=True).stdout
    assert set(PLACES) <= {line.split()[4] for line in mounts.splitlines()}
    assert run_job(enclave, namespace, tmp_path, "echo it still works") == "it still works\n"


def assert_no_trace(enclave: Enclave) -> None:
    assert enclave.parts() == {}
    assert not enclave.confinement.exists()
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(enclave.folder) not in mounts
    assert sorted(path.name for path in enclave.folder.iterdir()) == ["lock", "logs"]

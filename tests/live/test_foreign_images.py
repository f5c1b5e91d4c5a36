"""A pod that no chart makes, as an operator would: `observe` finds its image, and `status` names it on site."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.application import Application
from tests.parts.bundles import packed_chart
from tests.parts.enclave_program import ROOT, EnclaveProgram
from tests.parts.process import wait_until
from tests.parts.programs import from_source
from tests.parts.runnable import pause

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.parts.enclave import Enclave

pytestmark = pytest.mark.cluster

IMAGE, FOREIGN = "docker.io/demo/still:1.0", "ghcr.io/cloudnative-pg/postgresql:16"
WEB = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: {{ .Values.image }}}]
"""
RECIPE = {
    "name": "shop",
    "version": "1.0",
    "images": [{"layout": "image-0", "entry": "", "name": IMAGE}],
    "charts": [{"name": "shop", "path": "shop.tgz"}],
}


@pytest.fixture
def application(tmp_path: Path) -> Application:
    """A pod of a chart, and its image."""
    made = Application(tmp_path / "made", "shop", images={IMAGE: pause()})
    files = {"templates/web.yaml": WEB, "values.yaml": f"greeting: hello\nimage: {IMAGE}\n"}
    made.chart(packed_chart("shop", "1.0.0", files))
    return made


def observed(enclave: Enclave, folder: Path, namespace: str) -> subprocess.CompletedProcess[str]:
    options = ("--kubeconfig", str(enclave.kubeconfig), "--namespace", namespace, "--output", "json", str(folder))
    env = {"HOME": str(folder), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "builder", "observe", *options]
    return enclave.run(command, check=False, cwd=ROOT, env=env)


def make_pod(enclave: Enclave, namespace: str, image: str) -> None:
    """A pod that belongs to an object other than a workload: for that, a ConfigMap is as good as a custom resource."""
    place = f"--namespace={namespace}"
    enclave.kubectl("create", "configmap", "db", place)
    uid = enclave.kubectl("get", "configmap", "db", place, "--output=jsonpath={.metadata.uid}")
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "db", "uid": uid, "controller": True}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "db-1", "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "postgres", "image": image}]},
    }
    enclave.kubectl("create", "--filename=-", place, input=json.dumps(pod))


def test_an_image_that_only_an_operator_names_is_found_and_told(
    enclave: Enclave, namespace: str, application: Application, tmp_path: Path
) -> None:
    program = EnclaveProgram(enclave, tmp_path)
    program.site(namespace=namespace)
    program.result(program.install(application.write()))
    folder = application.folder
    (folder / "recipe.yaml").write_text(json.dumps(RECIPE))
    (folder / "shop.tgz").write_bytes(application.charts[0])
    from_source("builder", folder).result("lock")
    status = ("status", "--name", "shop", "--namespace", namespace, "--output", "json")
    assert program.result(program.run(*status))["strays"] == []

    def ran() -> Any:
        return json.loads(observed(enclave, folder, namespace).stdout)["carried"]

    assert wait_until(lambda: bool(ran()[0]["runs"]), 60)
    (carried,) = ran()
    (locked,) = json.loads((folder / "airferry.lock").read_text())["images"]
    assert carried["runs"] == [locked["digest"]]
    assert carried["image"].startswith(f"{enclave.registry}/airferry/docker.io/demo/still")

    make_pod(enclave, namespace, FOREIGN)
    done = observed(enclave, folder, namespace)
    assert done.returncode == 41, done.stderr
    (missing,) = json.loads(done.stdout)["missing"]
    assert missing["image"] == FOREIGN
    assert missing["seen"] == [f"Pod {namespace}/db-1 of ConfigMap db, container postgres"]
    (stray,) = program.result(program.run(*status))["strays"]
    assert stray["object"] == missing["seen"][0]
    assert stray["detail"] == f"{FOREIGN} is not from {enclave.registry}"
    assert "`images` of the recipe" in stray["next"]

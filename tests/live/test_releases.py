"""Helm releases on the real cluster: brought about once, changed only by a change, and finished after any accident."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.charts import package
from tests.parts.images import push, write_layout
from tests.parts.process import wait_until
from tests.parts.runnable import job

if TYPE_CHECKING:
    from tests.parts.enclave import Enclave

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
HOOK = """
apiVersion: batch/v1
kind: Job
metadata:
  name: rel-hook-{{ if .Release.IsInstall }}install{{ else }}upgrade{{ end }}
  annotations:
    helm.sh/hook: post-install,post-upgrade
    helm.sh/hook-delete-policy: before-hook-creation
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 2
      containers:
        - name: hook
          image: {{ .Values.toolsImage }}
          args: [{{ .Values.script | quote }}]
"""
SLOW, FAST, FAILING = "sleep 300", "echo done", "exit 1"


@dataclass(frozen=True)
class Calls:
    """Calls of `Releases` for one namespace, each in a process inside the enclave's network."""

    enclave: Enclave
    namespace: str
    folder: Path
    image: str
    kubeconfig: Path

    def chart(self, version: str = "1.0.0") -> Path:
        """A chart of one ConfigMap and a hook Job."""
        unused = {f"templates/{name}.yaml": "" for name in ("deployment", "service", "cronjob")}
        path = self.folder / f"chart-{version}.tgz"
        path.write_bytes(package("demo-app", version=version, files={**unused, "templates/hook.yaml": HOOK}))
        return path

    def start(self, method: str, script: str = FAST, version: str = "1.0.0", **more: Any) -> subprocess.Popen[str]:
        """Start a call; `ensure` is given the chart, its values, and the hook's script."""
        values = {"toolsImage": self.image, "script": script, **more.pop("values", {})}
        call = {"method": method, "chart": str(self.chart(version)), "values": values, **more}
        command = [sys.executable, "-m", "tests.parts.releases_program", self.kubeconfig, self.namespace]
        process = subprocess.Popen(
            self.enclave.command([str(part) for part in command]),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(call))
        process.stdin.close()
        process.stdin = None
        return process

    def run(self, method: str, *arguments: Any, **more: Any) -> Any:
        """The result of a call."""
        stdout, stderr = self.start(method, *arguments, **more).communicate(timeout=180)
        assert stderr == ""
        return json.loads(stdout)

    def until_hook_runs(self, name: str) -> None:
        """Return when the hook Job `name` has a running pod. Raises AssertionError after a minute."""
        query = ("get", "job", name, "--ignore-not-found", "--output=jsonpath={.status.active}", "-n", self.namespace)
        assert wait_until(lambda: self.enclave.kubectl(*query).strip() == "1", 60)

    def statuses(self) -> list[str]:
        """The status of each revision, oldest first."""
        return [status for _, status, _ in self.run("history")]


@pytest.fixture
def calls(enclave: Enclave, namespace: str, tmp_path: Path) -> Calls:
    """Calls for a namespace of the test's own, as administrator."""
    image = f"{enclave.registry}/live/tools:1"
    push(write_layout(tmp_path / "tools", job()), image, prefix=enclave.command([]))
    return Calls(enclave, namespace, tmp_path, image, enclave.kubeconfig)


def test_a_release_changes_only_when_chart_or_values_do(calls: Calls) -> None:
    assert calls.run("status") is None
    assert calls.run("history") == []
    assert calls.run("ensure") is True
    assert calls.run("status") == {"revision": 1, "status": "deployed", "version": "1.0.0", "kinds": ["ConfigMap"]}
    assert calls.run("ensure") is False
    assert calls.run("ensure", values={"greeting": "other"}) is True
    assert calls.run("ensure", values={"greeting": "other"}) is False
    assert calls.run("ensure", FAST, "1.1.0", values={"greeting": "other"}) is True
    assert calls.run("history") == [
        [1, "superseded", "1.0.0"],
        [2, "superseded", "1.0.0"],
        [3, "deployed", "1.1.0"],
    ]
    assert calls.run("uninstall") is True
    assert calls.run("uninstall") is False
    left = calls.enclave.kubectl("get", "configmap", "rel", "--ignore-not-found", "-n", calls.namespace)
    assert left == ""


def test_a_first_installation_that_was_killed_is_done_anew(calls: Calls) -> None:
    process = calls.start("ensure", SLOW)
    calls.until_hook_runs("rel-hook-install")
    process.kill()
    process.communicate()
    assert calls.statuses() == ["pending-install"]
    assert calls.run("ensure", FAST) is True
    assert calls.statuses() == ["deployed"]
    # The install hook has run to its end, which an upgrade would not have made it do.
    succeeded = "--output=jsonpath={.status.succeeded}"
    assert calls.enclave.kubectl("get", "job", "rel-hook-install", succeeded, "-n", calls.namespace) == "1"


def test_an_upgrade_that_was_killed_is_finished(calls: Calls) -> None:
    assert calls.run("ensure") is True
    process = calls.start("ensure", SLOW, "1.1.0")
    calls.until_hook_runs("rel-hook-upgrade")
    process.kill()
    process.communicate()
    assert calls.statuses() == ["deployed", "pending-upgrade"]
    assert calls.run("ensure", FAST, "1.1.0") is True
    status = calls.run("status")
    assert (status["status"], status["version"]) == ("deployed", "1.1.0")
    assert calls.run("ensure", FAST, "1.1.0") is False


def test_a_failed_hook_fails_the_release_and_a_better_one_repairs_it(calls: Calls) -> None:
    result = calls.run("ensure", FAILING)
    assert result["error"] == "ClusterError"
    assert "rel-hook-install" in result["message"]
    assert calls.statuses() == ["failed"]
    assert calls.run("ensure", FAST) is True
    assert calls.statuses() == ["deployed"]
    assert calls.run("ensure", FAILING)["error"] == "ClusterError"
    assert calls.statuses() == ["deployed", "failed"]
    assert calls.run("ensure", FAST) is True
    assert calls.run("status")["status"] == "deployed"


def test_objects_of_others_become_part_of_a_release_on_demand_and_are_never_made_anew(calls: Calls) -> None:
    def uid() -> str:
        return calls.enclave.kubectl("get", "configmap", "rel", "--output=jsonpath={.metadata.uid}", *place)

    place = (f"--namespace={calls.namespace}",)
    calls.enclave.kubectl("create", "configmap", "rel", *place)
    theirs = uid()
    assert "exists and cannot be imported" in calls.run("ensure")["message"]
    assert calls.run("ensure", FAILING, take_over=True)["error"] == "ClusterError"
    assert calls.statuses()[-1] == "failed"
    assert calls.run("ensure", FAST) is True
    assert calls.statuses()[-1] == "deployed"
    assert uid() == theirs
    show = ("--show-managed-fields", "--output=jsonpath={.metadata.managedFields[*].manager}")
    assert calls.enclave.kubectl("get", "configmap", "rel", *place, *show) == "helm", "as with Helm's own program"


def test_a_hook_that_takes_too_long_fails_the_release(calls: Calls) -> None:
    result = calls.run("ensure", SLOW, timeout=5)
    assert result["error"] == "ClusterError"
    assert calls.statuses() == ["failed"]


def test_ctrl_c_ends_an_installation_and_leaves_it_to_be_finished(calls: Calls) -> None:
    process = calls.start("ensure", SLOW)
    calls.until_hook_runs("rel-hook-install")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert (json.loads(stdout), stderr) == ({"error": "KeyboardInterrupt"}, "")
    assert calls.statuses() == ["failed"]
    assert calls.run("ensure", FAST) is True


def test_a_user_without_permission_and_a_stranger_are_told_so(calls: Calls, tmp_path: Path) -> None:
    calls.enclave.kubectl("create", "serviceaccount", "nobody", "-n", calls.namespace)
    token = calls.enclave.kubectl("create", "token", "nobody", "-n", calls.namespace).strip()
    for text, says in ((token, "secrets is forbidden"), ("stranger", "provide credentials")):
        config = json.loads(calls.kubeconfig.read_text())
        config["users"] = [{"name": config["users"][0]["name"], "user": {"token": text}}]
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(config))
        weak = Calls(calls.enclave, calls.namespace, tmp_path, calls.image, path)
        for method in ("history", "ensure"):
            result = weak.run(method)
            assert result["error"] == "ClusterForbiddenError"
            assert says in result["message"]
            assert text not in result["message"]

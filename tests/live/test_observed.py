"""What the W&B controller was seen to do, each time provoked, and what our user sees of it.

| # | the controller | our user | test |
|---|---|---|---|
| 1 | from an http repository: `Completed`, while no pod can run | `status` ends with 32 and the cause | `…_1_…` |
| 2 | that repository gone: the resource cannot be deleted | `uninstall` removes it all the same | `…_1_…` |
| 3 | a chart in a ConfigMap needs no server, ever | what `install` chooses | `…_3_…` |
| 4 | a chart file that came too late: refused, no second try | `status` says so, `install` mends and wakes | `…_4_…` |
| 5 | a chart in the registry, not needed for the deletion | `install --chart-source oci` | `…_5_and_9_…` |
| 6 | every change is an upgrade; a hook without its image fails | `status` names the hook, `install` mends | `…_6_…` |
| 7 | a change before autoscalers have reported is refused | `install` waits; it wakes who was hasty | `…_7_…` |
| 8 | a finalizer for a release that never was | `uninstall` takes it off | `…_8_…` |
| 9 | deleted while an upgrade waits for its hook | `uninstall`: clean | `…_5_and_9_…` |
| 10 | one global registry in the values leaves most images public | all images are moved | `test_platform.py` |
| 11 | Secrets with keys stay after the deletion | `uninstall` names them | `test_platform.py` |
| 12 | the API server dislikes the finalizer's name | nothing of it | `…_8_…` |
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.application import KEY, REFUSING, demo_platform
from tests.parts.enclave_program import ROOT, SOON, EnclaveProgram
from tests.parts.process import wait_until
from tests.parts.registry import read_accesses

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.enclave import Enclave
    from tests.parts.operators import Operator

pytestmark = [pytest.mark.cluster, pytest.mark.controller]

NAMESPACE, OPERATOR = "seen", "seen-operator"
RESOURCE = ("wandb", "seen", f"--namespace={NAMESPACE}")


class Seen:
    """An installation of the small platform behind a W&B controller."""

    def __init__(self, enclave: Enclave, folder: Path, operator: Operator) -> None:
        self.enclave = enclave
        self.program = EnclaveProgram(enclave, folder)
        self.answer()
        self.bundle = demo_platform(folder / "bundle", "seen", operator).write()

    def answer(self, **values: Any) -> None:
        """Write site.yaml, with `values` for the platform."""
        self.program.site(namespace=NAMESPACE, operator_namespace=OPERATOR, values=values)

    def install(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Install, whatever there is already; all of it runs then."""
        done = self.program.install(self.bundle, *options)
        assert all(item["ready"] for item in self.program.result(done)["workloads"])
        return done

    def change(self, **spec: Any) -> None:
        """What an administrator changes of the custom resource."""
        self.enclave.kubectl("patch", *RESOURCE, "--type=merge", f"--patch={json.dumps({'spec': spec})}")

    def resource(self) -> Any:
        """The custom resource."""
        return json.loads(self.enclave.kubectl("get", *RESOURCE, "--output=json"))

    def says(self, *texts: str, seconds: float = 90) -> str:
        """What `status` prints once it contains `texts`; it calls the installation not ready then."""
        assert wait_until(lambda: all(text in self.program.run("status").stdout for text in texts), seconds), (
            self.program.run("status").stdout
        )
        done = self.program.run("status")
        assert done.returncode == 32, done.stdout
        return done.stdout

    def refused(self, cause: str, where: str, said: str = "") -> dict[str, str]:
        """The cause that `status` names soon after the controller has refused the last change and `said` why."""

        def visible() -> bool:
            phase = self.resource()["status"]["phase"]
            return phase == "Invalid Config" and said in self.program.run("status").stdout

        assert wait_until(visible, 90), self.program.run("status").stdout
        return self.program.cause("seen", cause, time.monotonic() + SOON, where)

    def runs(self, seconds: float = 90) -> None:
        """Wait until `status` is content."""
        assert wait_until(lambda: self.program.run("status").returncode == 0, seconds), self.program.run("status")

    def uninstall(self) -> str:
        """Remove all of it; what the program said meanwhile."""
        done = self.program.run("uninstall", "--yes", "--output", "json")
        assert self.program.result(done)["removed"][0] == f"WeightsAndBiases {NAMESPACE}/seen"
        with pytest.raises(subprocess.CalledProcessError):
            self.resource()
        return done.stderr

    def break_hook(self) -> str:
        """A change whose hook has an image that nobody has; its name."""
        repository = f"{self.enclave.registry}/airferry/docker.io/demo/nowhere"
        self.change(values={"renew": {"image": {"repository": repository}}})
        return repository

    def begin_upgrade(self) -> None:
        """Add the revision that Helm notes when it begins an upgrade (see helm.sh/helm/v4/pkg/storage)."""
        selector = "--selector=owner=helm,name=seen"
        query = ("get", "secrets", f"--namespace={NAMESPACE}", selector, "--output=json")
        held = json.loads(self.enclave.kubectl(*query))["items"]
        last = max(held, key=lambda item: int(item["metadata"]["labels"]["version"]))
        release = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(last["data"]["release"]))))
        number, status = release["version"] + 1, "pending-upgrade"
        release["version"], release["info"]["status"] = number, status
        text = base64.b64encode(gzip.compress(json.dumps(release).encode()))
        labels = {**last["metadata"]["labels"], "version": str(number), "status": status}
        secret = {
            **{key: last[key] for key in ("apiVersion", "kind", "type")},
            "metadata": {"name": f"sh.helm.release.v1.seen.v{number}", "namespace": NAMESPACE, "labels": labels},
            "data": {"release": base64.b64encode(text).decode()},
        }
        self.enclave.kubectl("create", "--filename=-", input=json.dumps(secret))

    @contextlib.contextmanager
    def served(self) -> Iterator[str]:
        """The bundle as a chart repository at this URL."""
        address = f"{self.enclave.registry.partition(':')[0]}:8881"
        command = [sys.executable, "-m", "installer", "serve", "--bundle", str(self.bundle), "--key", str(KEY)]
        with subprocess.Popen(
            self.enclave.command([*command, "--listen", address]),
            cwd=ROOT,
            env={"HOME": str(self.program.folder), "PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as server:
            try:
                assert server.stdout
                assert address in server.stdout.readline()
                yield f"http://{address}/charts"
            finally:
                server.terminate()


@pytest.fixture(scope="module")
def site(enclave: Enclave, tmp_path_factory: pytest.TempPathFactory, operator: Operator) -> Iterator[Seen]:
    """The bundle and the place for it; whatever is left of it goes in the end."""
    found = Seen(enclave, tmp_path_factory.mktemp("seen"), operator)
    yield found
    done = found.program.run("uninstall", "--yes", "--timeout", "120")
    assert done.returncode in (0, 42), done.stderr
    enclave.kubectl("delete", "namespace", NAMESPACE, OPERATOR, "--ignore-not-found", "--timeout=90s")


@pytest.fixture
def seen(site: Seen) -> Seen:
    """The platform, up and running: `install` brings it about from whatever the test before has left."""
    site.answer()
    site.install("--take-over")
    return site


def test_3_a_chart_in_a_config_map_needs_no_server(seen: Seen) -> None:
    (path,) = seen.resource()["spec"]["chart"].values()
    query = ("get", "configmap", "wandb-charts", f"--namespace={OPERATOR}", "--output=json")
    held = json.loads(seen.enclave.kubectl(*query))
    assert path.removeprefix("/charts/") in held["binaryData"]
    seen.change(values={"web": {"replicas": 2}})
    query = ("get", "deployment", "seen-web", f"--namespace={NAMESPACE}", "--output=jsonpath={.status.readyReplicas}")
    assert wait_until(lambda: seen.enclave.kubectl(*query) == "2", 60)
    seen.runs()


def test_4_a_chart_file_that_comes_too_late(seen: Seen) -> None:
    operator = f"--namespace={OPERATOR}"
    seen.enclave.kubectl("delete", "configmap", "wandb-charts", operator)
    seen.enclave.kubectl("rollout", "restart", "deployment/wandb-controller-manager", operator)
    seen.enclave.kubectl("rollout", "status", "deployment/wandb-controller-manager", operator, "--timeout=60s")
    seen.change(values={"late": "yes"})
    found = seen.refused("chart-file-missing", f"pod {OPERATOR}/wandb-controller-manager-")
    assert "has no chart at /charts/" in found["detail"]
    assert "no such file" in found["detail"]
    assert "run `install` again" in found["next"]
    assert "replacing pod" in seen.install().stderr
    seen.runs()


def test_6_a_hook_without_its_image(seen: Seen) -> None:
    image = seen.break_hook()
    seen.says("Job seen/seen-renew", image)
    # The controller gives up after 30 s.
    seen.says("Invalid Config", "hooks failed")
    # Killed during the next upgrade, it leaves a release with which Helm refuses the one after that.
    seen.begin_upgrade()
    seen.change(values={"next": "change"})
    found = seen.refused("release-pending", "WeightsAndBiases seen/seen", "another operation")
    assert "run `install` again" in found["next"]
    done = seen.program.install(seen.bundle)
    assert (done.returncode, "renew.image.repository" in done.stderr) == (33, True), done.stderr
    assert "was left pending-upgrade by a change that broke off" in seen.install("--take-over").stderr
    seen.runs()


def test_7_a_change_before_autoscalers_have_reported(seen: Seen) -> None:
    # Not before: each new one makes an installation wait for its first report.
    seen.answer(autoscaler=True)
    # `install` waits for the report: so the next change is taken.
    seen.install()
    query = ("get", "hpa", "web", f"--namespace={NAMESPACE}", "--output=json")
    scaler = json.loads(seen.enclave.kubectl(*query))
    assert scaler.pop("status")["currentReplicas"] >= 1
    for key in ("resourceVersion", "uid", "creationTimestamp", "managedFields"):
        scaler["metadata"].pop(key, None)
    seen.enclave.kubectl("replace", "--force", "--filename=-", input=json.dumps(scaler))
    seen.change(values={"hasty": "yes"})
    seen.says("Invalid Config", "invalid type for comparison")
    assert "waking the controller" in seen.install().stderr
    seen.runs()


def test_5_and_9_a_chart_in_the_registry_and_deleted_while_an_upgrade_waits_for_its_hook(seen: Seen) -> None:
    seen.install("--chart-source", "oci")
    assert seen.resource()["spec"]["chart"]["url"].startswith(f"oci://{seen.enclave.registry}/airferry/charts/")
    seen.break_hook()
    query = ("get", "job", "seen-renew", f"--namespace={NAMESPACE}", "--output=jsonpath={.status.active}")

    def waits() -> bool:
        with contextlib.suppress(subprocess.CalledProcessError):
            return seen.enclave.kubectl(*query) == "1"
        return False

    assert wait_until(waits, 60)
    before = len(read_accesses(seen.enclave.registry_log))
    assert "finalizer" not in seen.uninstall()
    asked = read_accesses(seen.enclave.registry_log)[before:]
    assert not [each for each in asked if each.agent.startswith("Helm/")]
    left = seen.enclave.kubectl("get", "all", f"--namespace={NAMESPACE}", "--output=name")
    assert "job" not in left
    assert "deployment" not in left


def test_1_and_2_completed_without_running_and_a_repository_that_vanished(seen: Seen) -> None:
    with seen.served() as url:
        chart = {"path": None, "url": url, "name": "demo-platform", "version": "1.0.0"}
        seen.change(chart=chart, values={"web": {"image": {"repository": "docker.io/demo/httpd", "digest": ""}}})
        said = seen.says("Completed", "docker.io/demo/httpd", f"repository, {url}")
        assert "cannot be pulled" in said
    # Deleting now, the controller asks the repository and gets no answer, again and again.
    said = seen.uninstall()
    assert "without the controller" in said
    assert "refused" in said


def test_8_and_12_a_finalizer_for_a_release_that_never_was(site: Seen, operator: Operator, tmp_path: Path) -> None:
    if site.program.run("status").returncode != 42:
        site.uninstall()
    changes = {"templates/refuse.yaml": REFUSING}
    application = demo_platform(tmp_path / "bundle", "seen", operator, changes=changes)
    application.sequence = 2
    done = site.program.install(application.write())
    assert done.returncode == 32, done.stderr
    assert "this platform is closed on Mondays" in done.stderr
    assert site.resource()["metadata"]["finalizers"] == ["finalizer.app.wandb.com"]
    said = site.uninstall()
    assert "no release exists; removing the finalizer" in said
    assert "domain-qualified" not in done.stderr + said

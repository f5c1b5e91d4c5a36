"""The enclave: a real Kubernetes cluster of one node, with a real registry, in a network without a way out.

    python -m tests.parts.enclave build          build Kubernetes (once, minutes)
    python -m tests.parts.enclave up             start; facts as JSON on stdout
    python -m tests.parts.enclave status         the same facts and what runs; exit code 1 when it is not ready
    python -m tests.parts.enclave exec -- CMD    run a command inside
    python -m tests.parts.enclave down           end and remove all of it, with those of test processes
    python -m tests.parts.enclave packages       the Debian packages it needs

Needs root. `up` and `down` can be repeated at any time, also after a crash half way. AIRFERRY_ENCLAVE names another
folder for its state, and so another enclave.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.parts import cluster_files, kubernetes
from tests.parts.authority import Authority
from tests.parts.cluster_files import ADDRESS, FIRST_SERVICE, NODE, SERVICES, ClusterFiles, Credentials
from tests.parts.confinement import Confinement
from tests.parts.images import push, write_layout
from tests.parts.process import wait_until
from tests.parts.registry import Registry
from tests.parts.runnable import pause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

FOLDER = Path(os.environ.get("AIRFERRY_ENCLAVE") or kubernetes.CACHE / "enclave")
REGISTRY_PORT = 5000
START_SECONDS = 120.0
# The package that brings each program.
PACKAGES = {
    "docker-registry": "docker-registry",
    "skopeo": "skopeo",
    "etcd": "etcd-server",
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "/bin/busybox": "busybox-static",
    "zstd": "zstd",
}
REGISTRY = "registry"
# What is removed from the folder with the enclave; the logs stay until the next start.
STATE = (
    *("enclave.json", "kubeconfig", "keeper.ready", "certificates", "config", "registry", "pause"),
    *("etcd", "containerd", "addresses", "pods", *cluster_files.PLACES.values()),
)
# The kubelet first, so that nothing is started anew; etcd last, since the API server waits for it even to end.
STOPPING = ("kubelet", "kube-proxy", "kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd")


def folder_for(worker: str) -> Path:
    """The state of the enclave for one of several test processes; the first one has that of `make cluster`."""
    return FOLDER if worker == "gw0" else FOLDER.with_name(f"{FOLDER.name}-{worker}")


class Enclave:
    """The enclave whose state is in `folder`; several can run at once.

    `with Enclave() as enclave` starts one where none runs, and leaves one running that ran before.
    With `tls` the registry speaks HTTPS with a certificate of the private authority `ca`, otherwise plain HTTP.
    """

    def __init__(self, folder: Path = FOLDER, *, tls: bool = False) -> None:
        self.folder = folder.resolve()
        self.tls = tls
        self.confinement = Confinement(self.folder, ADDRESS, SERVICES)
        self.kubeconfig = self.folder / "kubeconfig"
        self.registry = f"{ADDRESS}:{REGISTRY_PORT}"
        self.netns = self.confinement.name
        self.logs = self.folder / "logs"
        self.ca = self.folder / "certificates" / "ca.crt"
        self.registry_log = self.logs / REGISTRY / "access.log"
        self.containerd_log = self.logs / "containerd.log"
        self.pod_logs = self.folder / "pods"
        self._started_here = False

    def up(self) -> Enclave:
        """Start what does not run yet; returns when pods can be created.

        Raises RuntimeError, with the end of the log in question, and leaves nothing running then.
        """
        self._check_requirements()
        with self._lock():
            if self.ready():
                return self
            self._remove()
            try:
                self._start()
            except BaseException:
                self.confinement.remove(STOPPING)
                raise
            self._started_here = True
        return self

    def down(self) -> None:
        """End and remove everything but the logs; nothing happens where nothing runs.

        The folders that served as mount points (`cluster_files.PLACES`) stay behind empty, where they were not there
        before: removing one would also unmount what other enclaves have mounted there.
        """
        with self._lock():
            self._remove()

    def ready(self) -> bool:
        """Whether an enclave as described runs, its node is ready and pods can be created."""
        try:
            as_recorded = json.loads((self.folder / "enclave.json").read_text()) == self.facts()
        except (OSError, ValueError):
            return False
        return as_recorded and not self._stopped_parts(self._expected_parts()) and self._node_ready()

    def facts(self) -> dict[str, Any]:
        """What others must know to use it."""
        return {
            "kubeconfig": str(self.kubeconfig),
            "registry": self.registry,
            "tls": self.tls,
            "ca": str(self.ca),
            "netns": self.netns,
            "registry_log": str(self.registry_log),
            "containerd_log": str(self.containerd_log),
            "pod_logs": str(self.pod_logs),
            "kubectl": str(kubernetes.programs_folder() / "kubectl"),
        }

    def command(self, argv: Sequence[str | Path]) -> list[str]:
        """`argv` with what makes it run in the enclave's network."""
        return [*self.confinement.network_prefix, *map(str, argv)]

    def run(self, argv: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in the enclave's network, as `subprocess.run` does.

        Unless `options` say otherwise: output is captured as text, a failure raises CalledProcessError.
        """
        defaults: dict[str, Any] = {"check": True, "text": True, "capture_output": True}
        if options.keys() & {"stdout", "stderr"}:
            del defaults["capture_output"]
        done: subprocess.CompletedProcess[str] = subprocess.run(self.command(argv), **{**defaults, **options})
        return done

    def kubectl(self, *arguments: str, **options: Any) -> str:
        """What kubectl, as administrator, prints on stdout."""
        program = kubernetes.programs_folder() / "kubectl"
        # It would remember for hours which versions a kind has; here definitions come and go.
        own = (f"--kubeconfig={self.kubeconfig}", "--cache-dir=/dev/null")
        return self.run([program, *own, *arguments], **options).stdout

    def abandon(self, *namespaces: str) -> None:
        """Have namespaces deleted without waiting for it; installations in them are not found from now on."""
        for namespace in namespaces:
            record = ("configmaps", "--selector=app.kubernetes.io/component=installation")
            self.kubectl("delete", *record, f"--namespace={namespace}")
        self.kubectl("delete", "namespace", *namespaces, "--wait=false")

    def stop(self, part: str) -> list[str]:
        """Kill one of the parts as a crash would; its command line, for `start_again`."""
        server = self.confinement.parts()[part]
        command = Path("/proc", str(server.pid), "cmdline").read_text().split("\0")[:-1]
        server.send(signal.SIGKILL)
        if not wait_until(server.gone, 10):
            raise RuntimeError(f"{part} does not end")
        return command

    def start_again(self, part: str, command: Sequence[str]) -> None:
        """Start a part that was stopped; it gets ready in its own time."""
        self.confinement.start(part, command, self.logs / f"{part}.log")

    def parts(self) -> dict[str, int]:
        """The parts that run, with their process ids."""
        return {name: each.pid for name, each in sorted(self.confinement.parts().items())}

    def __enter__(self) -> Enclave:
        return self.up()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._started_here:
            self.down()

    def _start(self) -> None:
        shutil.rmtree(self.logs, ignore_errors=True)
        self.logs.mkdir(parents=True)
        files = self._files()
        self.confinement.create(files.overlays())
        registry = self._registry(files.credentials)
        registry.start()
        sandbox_image = f"{self.registry}/enclave/pause:1"
        files.write(self.registry, registry.url, sandbox_image)
        commands = files.commands()

        def start(*parts: str) -> None:
            for part in parts:
                self.confinement.start(part, commands[part], self.logs / f"{part}.log")

        start("containerd", "etcd", "kube-apiserver")
        layout = write_layout(self.folder / "pause", pause())
        ca = self.ca if self.tls else None
        push(layout, sandbox_image, prefix=self.confinement.network_prefix, ca=ca)
        self._wait("the API server", self._api_ready)
        # Without it the kubelet ends at once.
        self._wait("containerd", self._runtime_ready)
        start("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
        self._wait("the node", self._node_ready)
        (self.folder / "enclave.json").write_text(json.dumps(self.facts()))

    def _files(self) -> ClusterFiles:
        authority = Authority(self.ca.parent)
        names = [f"kubernetes.default{end}" for end in ("", ".svc", ".svc.cluster.local")]
        credentials = Credentials(
            authority=authority.certificate,
            api_server=authority.issue("api-server", ["kubernetes", *names, ADDRESS, FIRST_SERVICE, "127.0.0.1"]),
            kubelet=authority.issue("kubelet", [NODE, ADDRESS]),
            kubelet_client=authority.issue("kubelet-client", organization="system:masters"),
            service_accounts=authority.issue("service-accounts"),
            registry=authority.issue(REGISTRY, [ADDRESS]),
            token=secrets.token_hex(24),
        )
        return ClusterFiles(self.folder, kubernetes.programs_folder(), self.netns, credentials)

    def _registry(self, credentials: Credentials) -> Registry:
        return Registry(
            self.folder / REGISTRY,
            host=ADDRESS,
            port=REGISTRY_PORT,
            logs=self.logs / REGISTRY,
            tls=credentials.registry if self.tls else None,
            prefix=self.confinement.full_prefix(),
            env=self.confinement.environment(REGISTRY),
        )

    def _remove(self) -> None:
        self.confinement.remove(STOPPING)
        for name in STATE:
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _expected_parts(self) -> set[str]:
        return {"containerd", REGISTRY, *STOPPING}

    def _stopped_parts(self, expected: set[str]) -> set[str]:
        return expected - self.confinement.parts().keys()

    def _wait(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait for `condition`, but not when a part that was started has ended."""
        # By their process ids: one that is just becoming its program shows no mark.
        started = self.confinement.parts()
        ended: set[str] = set()

        def ready() -> bool:
            ended.update(part for part, process in started.items() if process.gone())
            return bool(ended) or condition()

        if not wait_until(ready, START_SECONDS) or ended:
            reasons = [f"{part}: {_end_of(self.logs / f'{part}.log')}" for part in sorted(ended or started)]
            raise RuntimeError("\n".join([f"{what} does not get ready", *reasons]))

    def _api_ready(self) -> bool:
        return self._answer("get", "--raw=/readyz") == "ok"

    def _runtime_ready(self) -> bool:
        ask = ["ctr", f"--address={cluster_files.RUNTIME_SOCKET}", "--connect-timeout=1s", "version"]
        asked = subprocess.run([*self.confinement.full_prefix(), *ask], capture_output=True, timeout=20, check=False)
        return asked.returncode == 0

    def _node_ready(self) -> bool:
        query = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
        if self._answer("get", "node", NODE, f"--output={query}") != "True":
            return False
        # Pods are refused in a namespace until its default account has been made.
        account = self._answer("get", "serviceaccount", "default", "--namespace=default", "--output=name")
        return account == "serviceaccount/default"

    def _answer(self, *arguments: str) -> str | None:
        try:
            return self.kubectl("--request-timeout=5s", *arguments, timeout=20).strip()
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return None

    def _check_requirements(self) -> None:
        if os.geteuid() != 0:
            raise RuntimeError("the enclave makes namespaces and mounts: it needs root")
        wanted = sorted({package for program, package in PACKAGES.items() if shutil.which(program) is None})
        if wanted:
            raise RuntimeError(f"programs are missing: apt-get install --no-install-recommends {' '.join(wanted)}")
        if unbuilt := kubernetes.missing():
            raise RuntimeError(f"not built yet ({', '.join(unbuilt)}): python -m tests.parts.enclave build")

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Only one start or stop at a time; the kernel gives the lock back when its holder ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _end_of(log: Path, size: int = 1500) -> str:
    text = log.read_text(errors="replace") if log.exists() else ""
    return text[-size:].strip()


def main() -> int:
    """The command line; results on stdout, talk on stderr."""
    parser = argparse.ArgumentParser(prog="python -m tests.parts.enclave", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--dir", type=Path, help=f"folder of all state (default: {FOLDER})")
    parser.add_argument("--tls", action="store_true", help="the registry speaks HTTPS")
    parser.add_argument("action", choices=["build", "up", "down", "status", "exec", "packages"])
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what `exec` runs")
    options = parser.parse_args()
    enclave = Enclave(options.dir or FOLDER, tls=options.tls)
    try:
        if options.action == "down" and not options.dir:
            for folder in FOLDER.parent.glob(f"{FOLDER.name}-gw*"):
                Enclave(folder).down()
        return _act(enclave, options.action, options.command)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1


def _act(enclave: Enclave, action: str, command: list[str]) -> int:
    match action:
        case "build":
            print(kubernetes.build())
        case "packages":
            go = {"golang-go"} if kubernetes.missing() and shutil.which("go") is None else set()
            print(" ".join(sorted(go | set(PACKAGES.values()))))
        case "up":
            print(json.dumps(enclave.up().facts(), indent=1))
        case "down":
            enclave.down()
        case "status":
            ready = enclave.ready()
            print(json.dumps({**enclave.facts(), "ready": ready, "parts": enclave.parts()}, indent=1))
            return 0 if ready else 1
        case _:
            words = command[1:] if command[:1] == ["--"] else command
            if not words:
                print("exec needs a command: exec -- CMD", file=sys.stderr)
                return 2
            os.environ["KUBECONFIG"] = str(enclave.kubeconfig)
            os.environ["PATH"] = f"{kubernetes.programs_folder()}:{os.environ['PATH']}"
            os.execvp("nsenter", enclave.command(words))
    return 0


if __name__ == "__main__":
    sys.exit(main())

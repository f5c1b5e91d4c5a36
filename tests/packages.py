"""Debian packages that the work on airferry needs: install what is missing (as root), or name the command that does.

    python3 -m tests.packages python demo test

Runs before there is a virtual environment, so it uses the standard library only. Exit code 0: nothing is missing (any
more); 2: something is, and the command to install it was printed.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

Probe = Callable[[], bool]


def _program(name: str) -> Probe:
    """Whether a program is there; administration tools are not on every user's path."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    return lambda: shutil.which(name, path=path) is not None


def _static_busybox() -> bool:
    busybox = Path("/bin/busybox")
    return busybox.exists() and b"/lib64/ld-linux" not in busybox.read_bytes()


def _shared_python() -> bool:
    """Freezing needs the interpreter as a shared library, which Debian has in a package of its own."""
    if sys.base_prefix != "/usr":
        return True
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    return Path(str(sysconfig.get_config_var("LIBDIR")), name).exists()


def _venv() -> bool:
    return importlib.util.find_spec("ensurepip") is not None


GROUPS: dict[str, dict[str, Probe]] = {
    "python": {"make": _program("make"), "python3-venv": _venv},
    "demo": {
        "binutils": _program("objcopy"),
        "busybox-static": _static_busybox,
        "curl": _program("curl"),
        "docker-registry": _program("docker-registry"),
        f"libpython{sys.version_info.major}.{sys.version_info.minor}": _shared_python,
        "openssl": _program("openssl"),
        "skopeo": _program("skopeo"),
    },
    "test": {
        "containerd": _program("containerd"),
        "docker.io": _program("dockerd"),
        "dosfstools": _program("mkfs.fat"),
        "e2fsprogs": _program("mkfs.ext4"),
        "fusefat": _program("fusefat"),
        "fuseiso": _program("fuseiso"),
        "gcc": _program("gcc"),
        "genisoimage": _program("genisoimage"),
        "golang-go": _program("go"),
        "iproute2": _program("ip"),
        "libc6-dev": Path("/usr/include/dlfcn.h").exists,
        "minisign": _program("minisign"),
        "par2": _program("par2"),
        "util-linux": _program("unshare"),
        "zxing-cpp-tools": _program("ZXingReader"),
    },
    "cluster": {
        "conntrack": _program("conntrack"),
        "containernetworking-plugins": Path("/usr/lib/cni/bridge").exists,
        "etcd-server": _program("etcd"),
        "golang-go": _program("go"),
        "iptables": _program("iptables"),
        "runc": _program("runc"),
        "zstd": _program("zstd"),
    },
    "bench": {"golang-go": _program("go")},
}
INCLUDES = {
    "demo": ("python",),
    "test": ("python", "demo"),
    "cluster": ("python", "demo", "test"),
    "bench": ("python", "demo"),
}


def missing(groups: Sequence[str]) -> list[str]:
    """The packages of `groups`, and of those they include, that are not installed."""
    wanted = {package: probe for group in groups for name in (*INCLUDES.get(group, ()), group)
              for package, probe in GROUPS[name].items()}  # fmt: skip
    return sorted(package for package, probe in wanted.items() if not probe())


def provide(groups: Sequence[str]) -> int:
    """Install what is missing, or print how; the exit code."""
    absent = missing(groups)
    if not absent:
        return 0
    install = ["apt-get", "install", "-y", "--no-install-recommends", *absent]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"missing Debian packages: {' '.join(absent)}\nnext: sudo {' '.join(install)}", file=sys.stderr)
        if further := sorted(set(missing(list(GROUPS))) - set(absent)):
            print(f"other targets of make need in addition: {' '.join(further)}", file=sys.stderr)
        return 2
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-q"], install):
        print(f"$ {' '.join(command)}", file=sys.stderr, flush=True)
        done = subprocess.run(command, env=environment, stdout=sys.stderr, check=False)
        if done.returncode != 0 and command is install:
            return 2
    still = missing(groups)
    if still:
        print(f"installed, but not found: {' '.join(still)}", file=sys.stderr)
    return 2 if still else 0


if __name__ == "__main__":
    sys.exit(provide(sys.argv[1:] or sorted(GROUPS)))

"""Small images that really run, made of Debian's static busybox, and the image of a W&B controller.

All of them have a shell at /bin/sh except the controller's. They end at once on SIGTERM: as process 1 of a container
a program without a handler would otherwise ignore it and hold up every deletion of a pod by its grace period.

The `wget` of Debian 12's static busybox crashes whatever it is asked; `httpd_request` asks a web server with `nc`.
"""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

from tests.parts.images import Directory, Entry, File, Image, Layer, Platform, Run, Symlink

BUSYBOX = Path("/bin/busybox")  # package busybox-static


@cache
def busybox() -> Layer:
    """The base layer that all busybox images share: programs, accounts and a writable /tmp."""
    program = BUSYBOX.read_bytes()
    listing = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout
    if b"/lib64/ld-linux" in program:
        raise RuntimeError(f"{BUSYBOX} is linked dynamically; install the package busybox-static")
    entries: dict[str, Entry] = {
        "/bin/busybox": File(program, 0o755),
        "/etc/passwd": File(b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"),
        "/etc/group": File(b"root:x:0:\nnobody:x:65534:\n"),
        "/root": Directory(0o700),
        "/tmp": Directory(0o1777),
    }
    entries |= {f"/bin/{name}": Symlink("busybox") for name in listing.split() if name != "busybox"}
    return Layer(entries)


def pause() -> Image:
    """Does nothing until it is ended; also serves as the sandbox image of containerd."""
    script = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done"
    return Image((busybox(),), Run(entrypoint=("/bin/sh", "-c", script)))


def httpd(page: str = "hello from the enclave\n", *, port: int = 8080, user: str = "65534:65534") -> Image:
    """A web server on `port` whose `/` answers with `page` in a layer of its own."""
    script = f"httpd -f -p {port} -h /www & child=$!; trap 'kill $child; exit 0' TERM INT; wait $child"
    run = Run(entrypoint=("/bin/sh", "-c", script), ports=(f"{port}/tcp",), user=user)
    return Image((busybox(), Layer({"/www/index.html": File(page.encode())})), run)


def job(script: str = "echo done", *, user: str = "") -> Image:
    """Runs `script` (or the arguments that the pod gives) with the shell and ends."""
    return Image((busybox(),), Run(entrypoint=("/bin/sh", "-c"), command=(script,), user=user))


def httpd_request(host: str, port: int = 80, path: str = "/") -> str:
    """A shell command for one of these images: print a web server's answer; fails where it cannot be reached."""
    return f"printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {host} {port}"


def two_platforms(image: Image, *, other: str = "arm64") -> list[Image]:
    """`image` for linux/amd64, and a look-alike for linux/`other` with layers of its own that cannot run anywhere."""
    stand_in = Layer({"/bin/stand-in": File(f"stand-in for linux/{other}\n".encode() * 64, 0o755)})
    variant = "v8" if other == "arm64" else None
    return [image, Image((stand_in,), image.run, Platform(other, variant=variant))]


# The chart asks for an election whatever its values say.
_ALONE = b"""#!/bin/busybox sh
for word; do
  shift
  [ "$word" = --leader-elect ] || set -- "$@" "$word"
done
exec /controller "$@"
"""


@cache
def controller(program: Path, *, elects: bool = True) -> Image:
    """A W&B controller, arranged like its released image.

    Unless it `elects`, it takes itself for the leader. It never gives its office back: so each time that it is started
    anew, it would look on for the 15 s until the office of its predecessor is void.
    /helm must be writable for user 65532; the operator chart mounts a volume there.
    """
    binary = File(program.read_bytes(), 0o755)
    account = "nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"
    base = Layer(
        {
            "/etc/passwd": File(b"root:x:0:0:root:/root:/sbin/nologin\n" + account.encode()),
            "/etc/group": File(b"root:x:0:\nnonroot:x:65532:\n"),
            "/home/nonroot": Directory(0o700, 65532, 65532),
            "/tmp": Directory(0o1777),
        }
    )
    entries: dict[str, Entry] = {"/manager": binary}
    if not elects:
        shell = File(BUSYBOX.read_bytes(), 0o755)
        entries = {"/controller": binary, "/manager": File(_ALONE, 0o755), "/bin/busybox": shell}
    helm = Layer({f"/helm/{name}": Directory(0o777) for name in (".cache/helm", ".config/helm", ".local/share/helm")})
    env = (
        *Run().env,
        "HELM_CACHE_HOME=/helm/.cache/helm",
        "HELM_CONFIG_HOME=/helm/.config/helm",
        "HELM_DATA_HOME=/helm/.local/share/helm",
    )
    return Image((base, Layer(entries), helm), Run(entrypoint=("/manager",), env=env, user="65532:65532"))

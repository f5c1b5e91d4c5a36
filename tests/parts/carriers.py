"""Four programs that carry images out of a registry and into another: airferry, skopeo, crane and containerd's `ctr`.

Each is asked in the way that keeps all digests. `take` and `bring` return what stood in the way, in one line; nothing
where it ended well. What `take` has brought home is not believed but read.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import subprocess
from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from builder.cli.main import cli as builder
from builder.release.sign import sign
from installer.cli.main import cli as installer
from installer.oci.digest import Digest
from installer.shell import run
from tests.parts import second_reader
from tests.parts.bundles import KEYS, signing_key
from tests.parts.go_programs import go_program
from tests.parts.images import CREATED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import click

    from tests.parts.containerd import Containerd
    from tests.parts.odd_maker import OddImage

SECONDS = 120


@dataclass(frozen=True)
class Place:
    """A repository; `user` is a name and a password."""

    address: str
    repository: str
    user: tuple[str, str] | None = None

    def reference(self, odd: OddImage) -> str:
        """What is asked for: a whole index by its digest, all else by its tag."""
        return f"{self.address}/{self.repository}{f'@{odd.top}' if odd.whole else ':1'}"

    @property
    def tag(self) -> str:
        """Where a copy goes."""
        return f"{self.address}/{self.repository}:1"

    def logins(self, folder: Path) -> Path:
        """A folder with the credentials of this place and no others, as `docker login` writes them."""
        found = {self.address: {"auth": b64encode(":".join(self.user).encode()).decode()}} if self.user else {}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"auths": found}))
        return folder


class Carrier(Protocol):
    """Takes an image out of a place into `folder`, and brings it from there into another place."""

    name: str

    def take(self, place: Place, odd: OddImage, folder: Path) -> str: ...

    def bring(self, folder: Path, odd: OddImage, place: Place) -> str: ...


class Skopeo:
    """skopeo, by a folder in its own format: in that alone it keeps the digests of Docker's images."""

    name = "skopeo"

    def take(self, place: Place, odd: OddImage, folder: Path) -> str:
        ended = self._copy(place, odd, folder, f"docker://{place.reference(odd)}", f"dir:{folder / 'content'}")
        return ended or _lack(odd.needed, _digests(folder / "content"))

    def bring(self, folder: Path, odd: OddImage, place: Place) -> str:
        return self._copy(place, odd, folder, f"dir:{folder / 'content'}", f"docker://{place.tag}")

    def _copy(self, place: Place, odd: OddImage, folder: Path, source: str, target: str) -> str:
        options = ["--quiet", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"]
        options += ["--authfile", str(place.logins(folder / "logins") / "config.json")]
        options += ["--all"] if odd.whole else []
        return _ended(["skopeo", "--insecure-policy", "copy", *options, source, target])


class Crane:
    """crane, by an OCI image layout."""

    name = "crane"

    def take(self, place: Place, odd: OddImage, folder: Path) -> str:
        platform = [] if odd.whole else ["--platform", "linux/amd64"]
        content = str(folder / "content")
        ended = self._crane(place, folder, "pull", "--format", "oci", *platform, place.reference(odd), content)
        return ended or _lack(odd.needed, _digests(folder / "content" / "blobs"))

    def bring(self, folder: Path, odd: OddImage, place: Place) -> str:
        return self._crane(place, folder, "push", str(folder / "content"), place.tag)

    def _crane(self, place: Place, folder: Path, *arguments: str) -> str:
        logins = place.logins(folder / "logins")
        return _ended([str(go_program("crane")), *arguments], DOCKER_CONFIG=str(logins), HOME=str(folder))


class Ctr:
    """containerd's own client, by the content store of a node, where namespaces share nothing."""

    name = "containerd"

    def __init__(self, node: Containerd) -> None:
        self._node = node
        # The service that newer clients leave a pull to unpacks with the snapshotters of its configuration only.
        self._by_client = ["--local"] if b"--local" in node.ctr("images", "pull", "--help") else []

    def take(self, place: Place, odd: OddImage, folder: Path) -> str:
        platform = ["--all-platforms"] if odd.whole else ["--platform", "linux/amd64"]
        reference = place.reference(odd)
        fetch = ("content", "fetch", "--plain-http", *self._login(place), *platform, reference)
        return self._ctr(folder, *fetch) or _lack(odd.needed, self.holds(folder))

    def bring(self, folder: Path, odd: OddImage, place: Place) -> str:
        (source,) = self._lines(folder, "images", "list", "--quiet")
        platform = [] if odd.whole else ["--platform", "linux/amd64"]
        push = ("images", "push", "--plain-http", *self._login(place), *platform, place.tag, source)
        return self._ctr(folder, *push)

    def pull(self, place: Place, odd: OddImage, folder: Path) -> str:
        """Bring the image onto the node, unpacked: what the kubelet has it do."""
        reference = place.reference(odd)
        options = ["--plain-http", "--snapshotter=native", *self._by_client, *self._login(place)]
        ended = self._ctr(folder, "images", "pull", *options, reference)
        return ended or _lack(odd.on_node, self.holds(folder))

    def holds(self, folder: Path) -> set[str]:
        """The digests in the namespace that is called like `folder`; containerd has compared each with its content."""
        return set(self._lines(folder, "content", "list", "--quiet"))

    def _lines(self, folder: Path, *arguments: str) -> list[str]:
        return self._node.ctr("--namespace", folder.name, *arguments).decode().split()

    def _ctr(self, folder: Path, *arguments: str) -> str:
        try:
            self._node.ctr("--namespace", folder.name, *arguments)
        except subprocess.CalledProcessError as exc:
            return _last(exc.stderr.decode(errors="replace"))
        return ""

    def _login(self, place: Place) -> list[str]:
        return ["--user", ":".join(place.user)] if place.user else []


class Airferry:
    """airferry, by a signed bundle, which a reader that shares no code with it has to find right."""

    name = "airferry"

    def take(self, place: Place, odd: OddImage, folder: Path) -> str:
        return self.take_all({place.repository: odd}, place, folder)

    def take_all(self, wanted: Mapping[str, OddImage], place: Place, folder: Path) -> str:
        """Take the images of several repositories into one bundle; that of `place` is no matter."""
        folder.mkdir(parents=True)
        recipe = {
            # Each is an application of its own: several go into one place.
            "name": f"one-{Digest.of(os.fsencode(folder)).hex[:12]}",
            "version": "1",
            "created": CREATED,
            "images": [f"docker.io/{path}{f'@{odd.top}' if odd.whole else ':1'}" for path, odd in wanted.items()],
            "referrers": any(odd.referrers for odd in wanted.values()),
            "registries": {"docker.io": {"mirror": f"http://{place.address}"}},
        }
        (folder / "recipe.yaml").write_text(json.dumps(recipe))
        ended = self._run(builder, place, folder, "lock", str(folder / "recipe.yaml"))
        bundle = self.bundle(folder)
        lock = str(folder / "airferry.lock")
        ended = ended or self._run(builder, place, folder, "build", "--no-sync", "-o", str(bundle), lock)
        if ended:
            return ended
        sign([bundle], signing_key())
        try:
            found = second_reader.read([bundle.read_bytes()], KEYS / "test-only.pub", KEYS / "test-only.minisign.pub")
        except second_reader.RefusedError as exc:
            return f"the bundle: {exc}"
        return _lack(frozenset().union(*(odd.needed for odd in wanted.values())), set(found.blobs))

    def bring(self, folder: Path, odd: OddImage, place: Place) -> str:
        return self.bring_all(folder, place)

    def bring_all(self, folder: Path, place: Place) -> str:
        """Load all of the bundle; what comes first in the repository of `place` is the project."""
        project = place.repository.partition("/")[0]
        where = ("--registry", place.address, "--project", project, "--plain-http")
        return self._run(installer, place, folder, "load", *self._trusted(folder), *where)

    def node_import(self, folder: Path, node: Containerd, namespace: str) -> str:
        """Import the bundle into a namespace of `node`."""
        place = Place("127.0.0.1", "none")
        where = ("--containerd", str(node.socket), "--namespace", namespace)
        path = f"{node.programs}:{os.environ['PATH']}"
        with _environment(CONTAINERD_SNAPSHOTTER="native", PATH=path):
            return self._run(installer, place, folder, "import", *self._trusted(folder), *where)

    def bundle(self, folder: Path) -> Path:
        """The bundle that `take` has made."""
        return folder / "one-1.tar"

    def _trusted(self, folder: Path) -> tuple[str, ...]:
        return ("--bundle", str(self.bundle(folder)), "--key", str(KEYS / "test-only.pub"))

    def _run(self, side: click.Group, place: Place, folder: Path, *arguments: str) -> str:
        """The exit code and the error of a command, which runs in this process as people call it."""
        said = io.StringIO()
        surroundings = _environment(HOME=str(folder), DOCKER_CONFIG=str(place.logins(folder / "logins")))
        with surroundings, contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            code = run(side, "airferry", [arguments[0], "--quiet", *arguments[1:]])
        if code == 0:
            return ""
        _, _, error = said.getvalue().partition("error: ")
        return f"{code}: {error.partition(chr(10) + 'next: ')[0].strip() or said.getvalue()[-300:]}".replace("\n", " ")


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _ended(command: Sequence[str], **environment: str) -> str:
    known = {"PATH": "/usr/local/bin:/usr/bin:/bin", "TMPDIR": os.environ.get("TMPDIR", "/tmp"), **environment}
    try:
        done = subprocess.run(command, env=known, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"not done after {SECONDS} seconds"
    return "" if done.returncode == 0 else _last(done.stderr.decode(errors="replace"))


def _last(said: str) -> str:
    lines = said.strip().splitlines() or ["it ended without a word"]
    return lines[-1].strip()


def _lack(needed: Iterable[str], found: set[str]) -> str:
    lacking = sorted(set(needed) - found)
    return f"{len(lacking)} of its parts did not arrive, such as {lacking[0]}" if lacking else ""


def _digests(folder: Path) -> set[str]:
    """Of all files below `folder`, whatever they are called: their digests by both functions."""
    found = set()
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            found |= {f"{name}:{hashlib.new(name, data).hexdigest()}" for name in ("sha256", "sha512")}
    return found

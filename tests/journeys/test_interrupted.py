"""Killed at twelve random moments and run again, builds, copies and loads converge and do not repeat what was done.

A moment is a count of bytes that have passed on the way, so it means the same on fast and slow machines. Each test
prints its seed; AIRFERRY_TEST_SEED repeats a run, AIRFERRY_TEST_ROUNDS has as many of them (`make kills`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import pytest

from installer.bundle.limits import CHUNK
from installer.transfer.load import THREADS
from tests.parts import images
from tests.parts.go_programs import go_program
from tests.parts.process import Process, wait_until
from tests.parts.programs import Program, from_source
from tests.parts.registry import DEBIAN_PROGRAM, Registry
from tests.parts.slow_link import SlowLink

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

MIB = 1 << 20
KILLS = 12
ROUNDS = range(int(os.environ.get("AIRFERRY_TEST_ROUNDS") or 1))
SPEED = 80e6
"""Bytes per second of each connection: all of it takes a second or two."""
LARGE, SMALL, COUNT = 49 * MIB, 9 * MIB, 15
RECIPE = """\
name: heavy
version: "1"
images: [docker.io/heavy/one:1, docker.io/heavy/two:1]
registries: {{docker.io: {{mirror: "http://{address}"}}}}
created: 2026-01-01T00:00:00Z
"""


def shares(what: str, total: int) -> list[int]:
    """Random counts of bytes, one for each kill but one, that make nine tenths of `total`: no run comes to its end."""
    seed = int(os.environ.get("AIRFERRY_TEST_SEED") or random.SystemRandom().randrange(10**6))
    print(f"{what}: AIRFERRY_TEST_SEED={seed}")
    cuts = sorted(random.Random(seed).sample(range(total * 9 // 10), KILLS - 2))
    return [end - start for start, end in pairwise([0, *cuts, total * 9 // 10])]


@dataclass(frozen=True)
class Heavy:
    """Two images of 184 MiB, one layer large; their lock and the bundle of a calm build lie in `folder`."""

    folder: Path
    upstream: Registry
    airferry: Program

    @property
    def bundle(self) -> Path:
        """The bundle of the calm build, signed."""
        return self.folder / "heavy-1.tar"


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Heavy]:
    folder = tmp_path_factory.mktemp("heavy")
    source = random.Random("heavy")
    sizes = [LARGE, *[SMALL] * COUNT]
    layers = [images.Layer({"/data": images.File(source.randbytes(size))}, compression="none") for size in sizes]
    with Registry(tmp_path_factory.mktemp("upstream")) as upstream:
        for name, part in (("one", layers[:8]), ("two", layers[6:])):
            layout = images.write_layout(folder / name, images.Image(tuple(part)))
            images.push(layout, f"{upstream.address}/heavy/{name}:1")
        airferry = from_source("builder", folder)
        (folder / "recipe.yaml").write_text(RECIPE.format(address=upstream.address))
        airferry.result("lock")
        airferry.result("build")
        airferry.result("keygen", "release", "--no-passphrase")
        airferry.result("sign", "heavy-1.tar", "--key", "release.key")
        yield Heavy(folder, upstream, airferry)


@pytest.fixture(params=["source v3", "source debian", pytest.param("frozen v3", marks=pytest.mark.frozen)])
def loader(request: pytest.FixtureRequest, heavy: Heavy, tmp_path: Path) -> Program:
    """The enclave's program with the heavy bundle."""
    if request.param.startswith("source"):
        return from_source("installer", tmp_path, "--bundle", heavy.bundle, "--key", heavy.folder / "release.pub")
    file = heavy.folder / "heavy"
    if not file.exists():
        heavy.airferry.result("freeze", heavy.bundle, "--key", "release.pub", "--file", file)
    return Program((str(file),), tmp_path)


@pytest.fixture
def server(loader: Program, request: pytest.FixtureRequest) -> str:
    """The program of the registry to load into: version 3 keeps what it has of an upload that breaks off."""
    kind: str = request.node.callspec.params["loader"]
    return DEBIAN_PROGRAM if kind.endswith("debian") else str(go_program("registry"))


def children(pid: int) -> list[Process]:
    """All processes below `pid` (proc(5))."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text() if Path(f"/proc/{pid}").exists() else ""
    own = [found for child in text.split() if (found := Process.of(int(child)))]
    return [*own, *(found for child in own for found in children(child.pid))]


def kill(running: subprocess.Popen[str]) -> None:
    """SIGKILL to the process that the user sees; whatever it has started must end with it."""
    below = children(running.pid)
    running.kill()
    running.communicate()
    assert wait_until(lambda: not any(child.alive() for child in below), 5), f"still at work: {below}"


def killed(program: Program, link: SlowLink, count: int, *arguments: str) -> None:
    """Run `arguments` and kill it when `count` bytes have passed since."""
    before = max(link.up, link.down)
    with program.start(*arguments) as running:
        link.wait_for(before + count, running)
        assert running.poll() is None, f"ended too early: {running.communicate()}"
        kill(running)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture
def elsewhere(heavy: Heavy, tmp_path: Path) -> Iterator[tuple[Program, SlowLink]]:
    """The builder in a folder with the same lock, its registry behind a slow link."""
    with SlowLink(heavy.upstream.address, SPEED) as link:
        lock = (heavy.folder / "airferry.lock").read_text()
        assert heavy.upstream.address in lock
        (tmp_path / "airferry.lock").write_text(lock.replace(heavy.upstream.address, link.address))
        # It travels along, and the lock knows it.
        shutil.copy2(heavy.folder / "recipe.yaml", tmp_path)
        yield from_source("builder", tmp_path), link


def kill_at_the_end(program: Program, part: Path, *arguments: str) -> None:
    """Kill a build at the moment when its first block, which is written last, appears."""
    with program.start(*arguments) as running:
        while running.poll() is None and part.exists() and not any(_start(part)):
            pass
        kill(running)


def _start(part: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError), part.open("rb") as file:
        return file.read(16)
    return b"renamed"


@pytest.mark.parametrize("round_", ROUNDS)
def test_an_interrupted_build_continues(heavy: Heavy, elsewhere: tuple[Program, SlowLink], round_: int) -> None:
    airferry, link = elsewhere
    total = sum(path.stat().st_size for path in heavy.upstream.storage.rglob("data"))
    build = ("build", "--threads", "2")
    for share in shares("build", total):
        killed(airferry, link, share, *build)
        assert not (airferry.folder / "heavy-1.tar").exists()
    kill_at_the_end(airferry, airferry.folder / "heavy-1.tar.part", *build)
    airferry.result(*build)
    print(f"round {round_}: {total} bytes, fetched {link.down} in {KILLS} interrupted runs and one that ended")
    assert link.down <= total + KILLS * 2 * CHUNK
    calm = airferry.folder / "calm.tar"
    heavy.airferry.result("build", "--file", calm)
    assert sha256(airferry.folder / "heavy-1.tar") == sha256(calm)
    assert not list(airferry.folder.glob("*.part"))


def test_a_bundle_that_is_complete_is_not_fetched_again(heavy: Heavy) -> None:
    count, before = len(heavy.upstream.accesses()), heavy.bundle.stat()
    done = heavy.airferry.run("build")
    assert (done.returncode, "built already" in done.stderr) == (0, True)
    assert len(heavy.upstream.accesses()) == count
    assert heavy.bundle.stat() == before


def stored(registry: Registry) -> Iterator[Path]:
    """The files of a registry but those of its uploads, which it clears away while one looks."""
    for folder, inner, names in os.walk(registry.storage):
        inner[:] = [name for name in inner if name != "_uploads"]
        yield from (Path(folder, name) for name in names)


def contents(registry: Registry) -> dict[str, int]:
    """Blobs and links of a registry with their sizes."""
    return {str(path.relative_to(registry.storage)): path.stat().st_size for path in stored(registry)}


def is_tagged(registry: Registry) -> bool:
    """Whether a registry has any tag."""
    return any("tags" in path.parts for path in stored(registry))


@pytest.mark.parametrize("round_", ROUNDS)
def test_an_interrupted_load_continues(heavy: Heavy, loader: Program, server: str, tmp_path: Path, round_: int) -> None:
    total = sum(path.stat().st_size for path in heavy.upstream.storage.rglob("data"))
    # Layers, and the configurations of the two images; manifests are sent in another way.
    blobs = COUNT + 1 + 2
    with Registry(tmp_path / "enclave", program=server) as enclave, SlowLink(enclave.address, SPEED) as link:
        load = ("load", "--registry", link.address)
        keeps = server != DEBIAN_PROGRAM
        moment = 0
        for share in shares("load", total * 8 // 9):
            moment += share
            # Where nothing is kept of a blob that breaks off, much is sent twice; where all is kept, what passes
            # between a moment and its kill brings the end nearer.
            killed(loader, link, max(moment - link.up, 1) if keeps else share // 2, *load)
        with loader.start(*load) as last:
            wait_until(lambda: is_tagged(enclave) or last.poll() is not None, 60)
            kill(last)
        result = loader.result(*load)
        print(f"round {round_}: {total} bytes, sent {link.up} in {KILLS} interrupted runs and one that ended")
        assert not keeps or link.up <= total + KILLS * THREADS * CHUNK
        assert result["sent"] < total
        complete = [item for item in enclave.accesses() if item.method == "PUT" and item.query and item.status == 201]
        times = Counter(parse_qs(item.query)["digest"][0] for item in complete)
        # The empty one of the floor comes last: a kill may hit between it and its manifest.
        assert times.pop(f"sha256:{hashlib.sha256(b'{}').hexdigest()}") <= 2
        assert set(times.values()) == {1}, "a complete blob was sent again"
        assert len(times) == blobs
        interrupted = contents(enclave)
    with Registry(tmp_path / "calm", program=server) as calm:
        loader.result("load", "--registry", calm.address)
        assert contents(calm) == interrupted


def written(running: subprocess.Popen[str]) -> int:
    """Wait for the end of a process; the bytes that it has written (proc(5)), told as long as nobody collects it."""
    os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)
    found = re.search(r"^wchar: (\d+)$", Path(f"/proc/{running.pid}/io").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


@pytest.mark.parametrize("round_", ROUNDS)
def test_an_interrupted_copy_continues(heavy: Heavy, tmp_path: Path, round_: int) -> None:
    stick, source, total = tmp_path / "stick", tmp_path / "installer", LARGE + 1
    stick.mkdir()
    source.write_bytes(random.Random("copy").randbytes(total))
    copy = stick / source.name
    part, everything = copy.with_name(f"{copy.name}.part"), 0
    write = ("media", "write", str(stick), "--own-disk", "--from", str(source))
    for moment in [*accumulate(shares("media write", total)), total]:
        with heavy.airferry.start(*write) as running:
            while not (part.exists() and part.stat().st_size >= moment):
                assert running.poll() is None, f"ended too early: {running.communicate()}"
                time.sleep(0.001)
            running.kill()
            everything += written(running)
            kill(running)
    with heavy.airferry.start(*write) as running:
        everything += written(running)
    print(f"round {round_}: {total} bytes, written {everything} in {KILLS} interrupted runs and one that ended")
    assert running.returncode == 0
    assert total <= everything <= total + (KILLS + 1) * CHUNK
    assert sha256(copy) == sha256(source)
    sidecar = Path(f"{copy}.sha256")
    assert sidecar.read_text() == f"{sha256(copy)}  {copy.name}\n"
    assert {path.name for path in stick.iterdir()} == {copy.name, sidecar.name}

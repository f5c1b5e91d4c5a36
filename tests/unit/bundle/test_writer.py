"""Writing: always the same bytes, every byte fetched once, and nothing unfinished that looks finished."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3

from installer.bundle.limits import CHUNK
from installer.bundle.part_files import finish_interrupted
from installer.bundle.tar import BLOCK
from installer.bundle.volume import metadata_of
from installer.bundle.writer import write
from installer.errors import (
    AirferryError,
    ContentError,
    IncompleteError,
    NotFoundError,
    RegistryAccessError,
    RegistryUnreachableError,
    StorageError,
    UsageError,
)
from installer.report import Silent
from installer.verify.verification import verify
from tests.parts.bundles import Cargo, MemoryStream, large_cargo, open_bundle, signing_key
from tests.parts.counted import Counted
from tests.parts.images import File, Image, Layer, write_layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from installer.bundle.manifest import BundleBlob
    from installer.bundle.writer import OpenBlob
    from installer.oci.digest import Digest
    from installer.oci.source import BlobStream

PROJECT = Path(__file__).parents[3]
THREADS = 3
AT_ONCE = THREADS + 4
"""Small documents have threads of their own, enough for the four that there are."""


@dataclass
class Upstream:
    """A source that counts what it gives, and breaks after `chunks` chunks."""

    cargo: Cargo
    chunks: int = 1_000_000
    given: Counter[tuple[str, int]] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def open_blob(self, blob: BundleBlob, offset: int) -> UpstreamStream:
        return UpstreamStream(self, blob, offset)

    def count(self, digest: str, position: int) -> None:
        with self.lock:
            if self.chunks <= 0:
                raise RegistryUnreachableError("the connection was lost")
            self.chunks -= 1
            self.given[digest, position // CHUNK] += 1


class UpstreamStream(MemoryStream):
    def __init__(self, upstream: Upstream, blob: BundleBlob, offset: int) -> None:
        super().__init__(upstream.cargo.blobs[blob.descriptor][offset:])
        self.upstream, self.digest, self.position = upstream, str(blob.digest), offset

    def readinto(self, view: memoryview) -> int:
        """At most to the end of the chunk, so that chunks can be counted."""
        room = CHUNK - self.position % CHUNK
        count = super().readinto(view[:room])
        if count and self.position % CHUNK == 0:
            self.upstream.count(self.digest, self.position)
        self.position += count
        return count


def build(
    cargo: Cargo, paths: Sequence[Path], upstream: Upstream | None = None, *, volume_size: int | None = None
) -> str:
    source = upstream or Upstream(cargo)
    skeleton = cargo.skeleton(volume_size)
    return str(write(paths, skeleton, cargo.manifest_json(), source.open_blob, Counted(), threads=THREADS))


@pytest.fixture(scope="module")
def writer_cargo() -> Cargo:
    return large_cargo()


@pytest.fixture(scope="module")
def expected(writer_cargo: Cargo, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bundle as an undisturbed build makes it."""
    path = tmp_path_factory.mktemp("expected") / "bundle.tar"
    build(writer_cargo, [path])
    return path.read_bytes()


# --- always the same bytes ---

ELSEWHERE = """
import os, sys
from pathlib import Path
from installer.verify.verification import verify
from tests.parts.bundles import reference_cargo, signing_key
os.umask(int(sys.argv[2], 8))
folder = Path(sys.argv[1])
reference_cargo(folder / "layouts").write(folder, key=signing_key())
"""


def test_the_same_bytes_on_every_machine(volume: Path, tmp_path: Path) -> None:
    """Signatures included. Hash seeds differ by themselves; the order of sets must not matter."""
    surroundings = (
        ("022", {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "1"}),
        ("077", {"TZ": "Pacific/Kiritimati", "LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "2", "LANG": "ar_EG"}),
        ("000", {"TZ": "America/St_Johns", "LC_ALL": "POSIX", "HOME": "/", "PYTHONHASHSEED": "3"}),
    )
    for number, (umask, env) in enumerate(surroundings):
        folder = tmp_path / f"machine {number}"
        (folder / "layouts").mkdir(parents=True)
        command = [sys.executable, "-c", ELSEWHERE, str(folder), umask]
        subprocess.run(command, env={"PATH": os.defpath, **env}, cwd=PROJECT, check=True)
        assert (folder / "bundle.tar").read_bytes() == volume.read_bytes()


def test_threads_do_not_matter(writer_cargo: Cargo, expected: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bundle.tar"
    write([path], writer_cargo.skeleton(), writer_cargo.manifest_json(), writer_cargo.open_blob, Silent(), threads=1)
    assert path.read_bytes() == expected


def test_every_chunk_is_fetched_once(writer_cargo: Cargo, expected: bytes, tmp_path: Path) -> None:
    upstream = Upstream(writer_cargo)
    build(writer_cargo, [tmp_path / "bundle.tar"], upstream)
    assert set(upstream.given.values()) == {1}
    assert len(upstream.given) == 4 * 4 + 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle.tar"]


def test_what_is_written_is_read_back(writer_cargo: Cargo, tmp_path: Path) -> None:
    (path,) = writer_cargo.write(tmp_path, key=signing_key())
    with open_bundle([path]) as bundle:
        verify(bundle, Counted(), sha256=True)


# --- interrupted and continued ---


@pytest.mark.parametrize("chunks", [0, 1, 2, 7, 13, 19])
def test_a_broken_source_is_continued(writer_cargo: Cargo, expected: bytes, tmp_path: Path, chunks: int) -> None:
    path = tmp_path / "bundle.tar"
    first = Upstream(writer_cargo, chunks)
    with pytest.raises(RegistryUnreachableError):
        build(writer_cargo, [path], first)
    assert not path.exists()
    part = tmp_path / "bundle.tar.part"
    assert part.stat().st_size == len(expected)
    with pytest.raises(IncompleteError, match="not finished"):
        open_bundle([part])
    second = Upstream(writer_cargo)
    build(writer_cargo, [path], second)
    assert path.read_bytes() == expected
    # The first run gave up without waiting for what other threads were just fetching.
    assert sum((first.given + second.given).values()) - 20 <= AT_ONCE
    assert max(second.given.values()) == 1


def test_many_interruptions(writer_cargo: Cargo, expected: bytes, tmp_path: Path) -> None:
    total: Counter[tuple[str, int]] = Counter()
    attempt = 0
    while not (tmp_path / "bundle.tar").exists():
        attempt += 1
        upstream = Upstream(writer_cargo, chunks=2)
        with contextlib.suppress(RegistryUnreachableError):
            build(writer_cargo, [tmp_path / "bundle.tar"], upstream)
        total += upstream.given
        assert attempt < 20
    assert (tmp_path / "bundle.tar").read_bytes() == expected
    assert sum(total.values()) <= 20 + AT_ONCE * attempt


KILLED = """
import sys, time
from pathlib import Path
from installer.bundle.writer import write
from installer.report import Silent
from tests.parts.counted import Counted
from tests.parts.bundles import large_cargo
from tests.unit.bundle.test_writer import Upstream

cargo = large_cargo()
class Slow(Upstream):
    def count(self, digest, position):
        super().count(digest, position)
        print(digest, position, flush=True)
        time.sleep(0.004)
write([Path(sys.argv[1])], cargo.skeleton(), cargo.manifest_json(), Slow(cargo).open_blob, Silent(), threads=3)
print("done", flush=True)
"""


@pytest.mark.parametrize("lines", [1, 4, 9, 15, 20])
def test_sigkill(writer_cargo: Cargo, expected: bytes, tmp_path: Path, lines: int) -> None:
    path = tmp_path / "bundle.tar"
    command = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        said += child.stdout.readlines()
    if not path.exists():
        with pytest.raises(IncompleteError):
            open_bundle([tmp_path / "bundle.tar.part"])
    upstream = Upstream(writer_cargo)
    build(writer_cargo, [path], upstream)
    assert path.read_bytes() == expected
    before = {line for line in said if line.startswith("sha256:")}
    if "done\n" not in said:
        assert len(before) + sum(upstream.given.values()) - 20 <= AT_ONCE


def test_a_part_of_another_plan_is_begun_anew(writer_cargo: Cargo, expected: bytes, tmp_path: Path) -> None:
    other = large_cargo()
    other.name = "retirw"
    path = tmp_path / "bundle.tar"
    with pytest.raises(RegistryUnreachableError):
        build(other, [path], Upstream(other, 10))
    assert path.with_suffix(".tar.part").stat().st_size == len(expected)
    upstream = Upstream(writer_cargo)
    build(writer_cargo, [path], upstream)
    assert path.read_bytes() == expected
    assert sum(upstream.given.values()) == 20


SPOILS = ["damaged chunk", "forged blob", "lost header", "nonsense in the journal", "cut short", "no part", "text"]


@pytest.mark.parametrize("spoil", SPOILS)
def test_what_a_part_says_is_checked(writer_cargo: Cargo, expected: bytes, tmp_path: Path, spoil: str) -> None:
    path, part = tmp_path / "bundle.tar", tmp_path / "bundle.tar.part"
    with pytest.raises(RegistryUnreachableError):
        build(writer_cargo, [path], Upstream(writer_cargo, 14))
    data = bytearray(part.read_bytes())
    if spoil == "damaged chunk":
        for offset in range(100_000, len(data), 1_000_000):
            data[offset] ^= 1
    elif spoil == "forged blob":
        # Its journal says that it is whole, and it is not what its digest says.
        blob, place, journal = found_in(writer_cargo, data, "small-1")
        data[place : place + blob.size] = bytes(blob.size)
        data[journal : journal + 64] = blake3(bytes(blob.size)).hexdigest().encode()
    elif spoil == "lost header":
        _, place, _ = found_in(writer_cargo, data, "small-1")
        data[place - 512 : place] = bytes(512)
    elif spoil == "nonsense in the journal":
        place = data.index(b'"chunks":"')
        data[place + 10 : place + 20] = b"not hex at"
    elif spoil == "cut short":
        del data[-5000:]
    elif spoil == "text":
        data[:] = b"this is no part"
    part.write_bytes(data)
    if spoil == "no part":
        part.unlink()
    build(writer_cargo, [path])
    assert path.read_bytes() == expected


def found_in(cargo: Cargo, part: bytearray, name: str) -> tuple[BundleBlob, int, int]:
    """A document of a bundle that is being written, the place of its content, and that of its hashes in the journal."""
    skeleton = cargo.skeleton()
    digest = next(document.digest for document in skeleton.documents if document.name == name)
    blob = next(blob for blob in skeleton.blobs if blob.digest == digest)
    metadata = metadata_of(skeleton, cargo.manifest_json())
    start = metadata.places()["bundle.json"]
    journal = part.rindex(b'"chunks":"', start, part.index(digest.text.encode(), start)) + len(b'"chunks":"')
    return blob, metadata.length + blob.pieces[0][1], journal


def test_sums_that_were_being_written(tmp_path: Path) -> None:
    """The power failed in the middle of them: the part is none that only lacks its name."""
    cargo, path, part = Cargo(), tmp_path / "bundle.tar", tmp_path / "bundle.tar.part"
    for number in range(900):
        cargo.document(f"{number:03}", str(number).encode())
    build(cargo, [path])
    whole = path.read_bytes()
    end = BLOCK + metadata_of(cargo.skeleton(), cargo.manifest_json()).sums
    assert end > 1 << 16
    part.write_bytes(whole[: 1 << 16] + bytes(end - (1 << 16)) + whole[end:])
    path.write_bytes(b"something older")
    finish_interrupted([path])
    assert path.read_bytes() == b"something older"
    upstream = Upstream(cargo)
    build(cargo, [path], upstream)
    assert (path.read_bytes() == whole, sum(upstream.given.values())) == (True, 0)


def test_what_is_not_right_gets_no_name(writer_cargo: Cargo, expected: bytes, tmp_path: Path) -> None:
    """Who looks at the finished files refuses them: the next run goes on from what is right."""
    path = tmp_path / "bundle.tar"
    upstream, skeleton = Upstream(writer_cargo), writer_cargo.skeleton()

    def refuse(parts: Sequence[Path], sums: Digest) -> None:
        (part,) = parts
        assert part.read_bytes() == expected
        raise StorageError(f"not {sums}")

    with pytest.raises(StorageError, match="not sha256:"):
        write([path], skeleton, writer_cargo.manifest_json(), upstream.open_blob, Silent(), check=refuse)
    finish_interrupted([path])
    assert [found.name for found in tmp_path.iterdir()] == ["bundle.tar.part"]
    build(writer_cargo, [path], upstream)
    assert (path.read_bytes() == expected, sum(upstream.given.values())) == (True, 20)


def test_a_finished_bundle_is_built_again(writer_cargo: Cargo, expected: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bundle.tar"
    path.write_bytes(b"something older")
    build(writer_cargo, [path])
    assert path.read_bytes() == expected


def test_several_volumes_are_continued(writer_cargo: Cargo, tmp_path: Path) -> None:
    limit = 2 * CHUNK + 100_000
    count = len(writer_cargo.skeleton(limit).volumes)
    assert count > 4
    undisturbed = [tmp_path / f"whole-{number}.tar" for number in range(count)]
    continued = [tmp_path / f"again-{number}.tar" for number in range(count)]
    build(writer_cargo, undisturbed, volume_size=limit)
    with pytest.raises(RegistryUnreachableError):
        build(writer_cargo, continued, Upstream(writer_cargo, 11), volume_size=limit)
    upstream = Upstream(writer_cargo)
    build(writer_cargo, continued, upstream, volume_size=limit)
    for whole, again in zip(undisturbed, continued, strict=True):
        assert whole.read_bytes() == again.read_bytes()
        assert whole.stat().st_size <= limit
    assert sum(upstream.given.values()) <= 9 + AT_ONCE


# --- what sources do ---


def test_wrong_content(writer_cargo: Cargo, expected: bytes, tmp_path: Path) -> None:
    """The blob whose source lies is refused as a whole, and fetched anew next time; all others are kept."""
    path = tmp_path / "bundle.tar"
    liar = large_cargo()
    wrong = max(liar.blobs, key=lambda blob: blob.size)
    liar.blobs[wrong] = liar.blobs[wrong][:-1] + b"?"
    upstream = Upstream(liar)
    with pytest.raises(ContentError, match="delivers other content") as caught:
        build(writer_cargo, [path], upstream)
    assert str(wrong.digest) in caught.value.message
    again = Upstream(writer_cargo)
    build(writer_cargo, [path], again)
    assert path.read_bytes() == expected
    assert [again.given[str(wrong.digest), number] for number in range(4)] == [1, 1, 1, 1]
    others = sum((upstream.given + again.given).values()) - 8
    assert others - 16 <= AT_ONCE


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: b""])
def test_a_source_that_ends_early(writer_cargo: Cargo, expected: bytes, tmp_path: Path, change) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "bundle.tar"
    liar = large_cargo()
    wrong = max(liar.blobs, key=lambda blob: blob.size)
    liar.blobs[wrong] = change(liar.blobs[wrong])
    with pytest.raises(ContentError, match="ends before"):
        build(writer_cargo, [path], Upstream(liar))
    build(writer_cargo, [path])
    assert path.read_bytes() == expected


def test_a_source_that_gives_more_is_not_asked(writer_cargo: Cargo, expected: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bundle.tar"
    generous = large_cargo()
    for blob in generous.blobs:
        generous.blobs[blob] += b"and more"
    build(writer_cargo, [path], Upstream(generous))
    assert path.read_bytes() == expected


# --- what disks do ---


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 32 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "airferry-test", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_is_noticed_before_anything_is_fetched(writer_cargo: Cargo, small_disk: Path) -> None:
    upstream = Upstream(writer_cargo)
    with pytest.raises(StorageError, match=r"MB are needed, .* are free") as caught:
        build(writer_cargo, [small_disk / "bundle.tar"], upstream)
    assert "free some space" in caught.value.hint
    assert not upstream.given
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_turns_read_only(writer_cargo: Cargo, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    upstream = Upstream(writer_cargo)
    with pytest.raises(StorageError, match="cannot create") as caught:
        build(writer_cargo, [small_disk / "bundle.tar"], upstream)
    assert "read-only" in caught.value.hint
    assert not upstream.given


def test_a_folder_that_is_not_there(writer_cargo: Cargo, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="No such file") as caught:
        build(writer_cargo, [tmp_path / "absent" / "bundle.tar"])
    assert getattr(caught.value, "hint", "")


def test_a_folder_in_the_place_of_the_bundle(writer_cargo: Cargo, tmp_path: Path) -> None:
    (tmp_path / "bundle.tar").mkdir()
    with pytest.raises(UsageError, match="cannot write"):
        build(writer_cargo, [tmp_path / "bundle.tar"])


def test_no_part_stays_where_not_all_have_room(writer_cargo: Cargo, small_disk: Path) -> None:
    limit = 2 * CHUNK + 100_000
    paths = [small_disk / f"{number}.tar" for number in range(len(writer_cargo.skeleton(limit).volumes))]
    with pytest.raises(StorageError, match="are needed"):
        build(writer_cargo, paths, volume_size=limit)
    assert list(small_disk.iterdir()) == []


def test_many_builds_at_once(writer_cargo: Cargo, expected: bytes, tmp_path: Path) -> None:
    """Whoever comes second is refused, or finds nothing begun; the bundle is whole whoever wins."""
    path = tmp_path / "bundle.tar"

    def attempt(_: int) -> None:
        with contextlib.suppress(UsageError):
            build(writer_cargo, [path])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(attempt, range(12)))
    assert path.read_bytes() == expected
    assert [found.name for found in tmp_path.iterdir()] == ["bundle.tar"]


def test_a_part_that_is_a_link_is_not_followed(writer_cargo: Cargo, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "bundle.tar.part").symlink_to(victim)
    with pytest.raises(StorageError):
        build(writer_cargo, [tmp_path / "bundle.tar"])
    assert victim.read_bytes() == b"precious"


def test_two_writers_at_once(writer_cargo: Cargo, tmp_path: Path) -> None:
    part = tmp_path / "bundle.tar.part"
    with part.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another build is writing it"):
            build(writer_cargo, [tmp_path / "bundle.tar"])
    build(writer_cargo, [tmp_path / "bundle.tar"])


def test_memory_stays_small(tmp_path: Path) -> None:
    """A blob of 200 MB is never held in memory: four buffers of a chunk are."""
    script = """
import hashlib, json, resource, sys
from pathlib import Path
from installer.bundle.manifest import *
from installer.bundle.volume import place
from installer.bundle.writer import write
from installer.oci.digest import Digest
from installer.oci.model import Descriptor, Platform
from installer.report import Silent
from installer.verify.verification import verify
from tests.parts.counted import Counted

SIZE, STEP = 200_000_000, bytes(range(256)) * 4096
class Stream:
    def __init__(self, offset): self.position = offset
    def __enter__(self): return self
    def __exit__(self, *exc): pass
    def readinto(self, view):
        count = min(len(view), SIZE - self.position, len(STEP) - self.position % len(STEP))
        start = self.position % len(STEP)
        view[:count] = STEP[start:start + count]
        self.position += count
        return count
whole, left = hashlib.sha256(), SIZE
while left:
    whole.update(STEP[:left]); left -= min(left, len(STEP))
digest = Digest.from_hex(whole.hexdigest())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
blobs, volumes = place([Descriptor("application/octet-stream", digest, SIZE)], {digest: [(0, SIZE)]})
documents = (BundleDocument("large", "other", digest),)
manifest = BundleManifest("airferry-bundle/1", "memory", "1", 1, "2026-01-01T00:00:00Z", "never", "0.1.0",
                          (Platform("linux", "amd64"),), (), (), documents, blobs, volumes)
write([Path(sys.argv[1])], manifest, b"[]", lambda blob, offset: Stream(offset), Silent())
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "bundle.tar")], cwd=PROJECT, check=True, capture_output=True
    )
    assert json.loads(done.stdout) < 32 * 1024


class TestRefusals:
    """Blobs that their source refuses: the others are fetched, and one error names all."""

    def cargo(self, folder: Path) -> Cargo:
        found, base = Cargo(), Layer({"/base": File(b"base")}, "none")
        for name in ("one", "two", "three"):
            own = Layer({f"/{name}": File(random.Random(name).randbytes(70_000))}, "none")
            found.image(f"docker.io/demo/{name}:1", write_layout(folder / name, Image((base, own))))
        return found

    def refusing(self, cargo: Cargo, sources: Mapping[str, AirferryError]) -> tuple[OpenBlob, list[str]]:
        """What gives all blobs but those of `sources` alone; whose blobs it gave."""
        skeleton, given = cargo.skeleton(), list[str]()
        owners = {
            blob.digest: [image.source for image in skeleton.images if blob in skeleton.parts(image)] or ["nobody"]
            for blob in skeleton.blobs
        }

        def open_blob(blob: BundleBlob, offset: int) -> BlobStream:
            (first, *others) = owners[blob.digest]
            if not others and first in sources:
                raise sources[first]
            given.append(first)
            return cargo.open_blob(blob, offset)

        return open_blob, given

    @pytest.mark.parametrize("refused", list(permutations(("one", "two", "three"), 2)))
    def test_all_are_told_and_the_others_are_kept(self, tmp_path: Path, refused: tuple[str, str]) -> None:
        cargo, path = self.cargo(tmp_path / "layouts"), tmp_path / "bundle.tar"
        first, second = (f"docker.io/demo/{name}:1" for name in refused)
        errors = {first: RegistryAccessError("shut", hint="log in."), second: NotFoundError("gone", hint="lock.")}
        open_blob, _ = self.refusing(cargo, errors)
        with pytest.raises(NotFoundError, match=r"^2 refusals; all other") as caught:
            write([path], cargo.skeleton(), cargo.manifest_json(), open_blob, Silent(), threads=1)
        assert f"  {first}: shut\n    next: log in." in caught.value.message
        assert f"  {second}: gone\n    next: lock." in caught.value.message
        assert not path.exists()
        open_blob, given = self.refusing(cargo, {})
        write([path], cargo.skeleton(), cargo.manifest_json(), open_blob, Silent())
        assert set(given) == {first, second}

    def test_what_ends_everything_is_not_gone_on_after(self, tmp_path: Path) -> None:
        cargo = self.cargo(tmp_path / "layouts")
        error = RegistryUnreachableError("nobody answers")
        open_blob, _ = self.refusing(cargo, {f"docker.io/demo/{name}:1": error for name in ("one", "two")})
        with pytest.raises(RegistryUnreachableError, match=r"^nobody answers$"):
            write([tmp_path / "bundle.tar"], cargo.skeleton(), cargo.manifest_json(), open_blob, Silent())

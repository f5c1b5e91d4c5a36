"""Where the program's file ends, what is appended, and the surroundings that it sets up."""

import fcntl
import os
import sys
from pathlib import Path

import pytest

from installer.errors import BundleError, StorageError, UsageError
from installer.frozen import compressed_libs, program
from installer.frozen.header import ALIGNMENT, Front, PinnedKey
from tests.parts.elf import elf

KEY = PinnedKey("ab" * 32, ("-----BEGIN PUBLIC KEY-----", "MFkw", "-----END PUBLIC KEY-----"))
NOW = 2_000_000_000.0


def frozen(raw: bytes, volume: bytes = bytes(1024), front: bytes | None = None) -> bytes:
    padded = raw + bytes(-len(raw) % ALIGNMENT)
    return padded + (Front("demo 1.0", (KEY,), len(volume)).encode() if front is None else front) + volume


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "program"


def located(file: Path, raw: bytes) -> program.Embedded | None:
    file.write_bytes(raw)
    return program.locate(file)


@pytest.mark.parametrize("content", [b"", b"x", bytes(8000), b"y" * (4096 - 64 - 56 - 3 * 64)])
def test_the_volume_is_found_behind_a_program_of_any_length(file: Path, content: bytes) -> None:
    found = located(file, frozen(elf(content=content), b"volume" * 512))
    assert found is not None
    assert (found.name, found.keys, found.volume_size) == ("demo 1.0", (KEY,), 3072)
    assert file.read_bytes()[found.volume_offset :] == b"volume" * 512
    assert found.volume_offset % ALIGNMENT == 0


def test_a_file_without_volume_still_has_name_and_keys(file: Path) -> None:
    found = located(file, frozen(elf(), b""))
    assert found == program.Embedded("demo 1.0", (KEY,), file.stat().st_size, 0)


def test_a_bare_program_and_other_files_carry_nothing(file: Path) -> None:
    for raw in (elf(), b"", b"\x7fELF", b"#!/bin/sh\n" * 100, bytes(10_000)):
        assert located(file, raw) is None
    assert program.locate(Path(sys.executable).resolve()) is None


def test_the_end_of_a_real_program_is_the_end_of_its_file() -> None:
    path = Path(sys.executable).resolve()
    with path.open("rb") as real:
        assert program.program_end(real, path.stat().st_size) == path.stat().st_size


def test_a_segment_may_end_behind_the_section_table(file: Path) -> None:
    raw = elf({"seg_offset": 0, "seg_size": 6000}) + bytes(6000 - len(elf()))
    found = located(file, frozen(raw))
    assert found is not None
    assert found.volume_offset == 8192 + ALIGNMENT


@pytest.mark.parametrize(
    "fields",
    [
        {"shoff": 2**63},
        {"shoff": 2**64 - 64},
        {"shnum": 0xFEFF},
        {"shentsize": 63},
        {"shentsize": 0},
        {"phentsize": 57},
        {"phoff": 10**9},
        {"phnum": 0xFFFF},
        {"sec_size": 2**62},
        {"sec_offset": 2**64 - 1, "sec_size": 2**64 - 1},
        {"seg_size": 10**12},
        {"seg_offset": 2**64 - 1},
    ],
)
def test_headers_that_point_outside_the_file_are_refused(file: Path, fields: dict[str, int]) -> None:
    with pytest.raises(BundleError):
        located(file, frozen(elf(fields)))


def test_every_cut_of_a_frozen_file_is_refused_or_carries_nothing(file: Path) -> None:
    raw = frozen(elf())
    for size in range(0, len(raw), 64):
        file.write_bytes(raw[:size])
        try:
            found = program.locate(file)
        except BundleError:
            continue
        assert found is None
        assert size in (0, len(elf())), size


def test_every_flipped_bit_of_padding_and_front_is_refused(file: Path) -> None:
    raw = bytearray(frozen(elf(), b""))
    start = len(elf())
    names = set()
    for place in [*range(start, start + 40), *range(ALIGNMENT, ALIGNMENT + 400), *range(len(raw) - 40, len(raw))]:
        for bit in range(8):
            raw[place] ^= 1 << bit
            try:
                found = located(file, bytes(raw))
                assert found is not None
                names.add((found.name, found.keys))
            except BundleError:
                pass
            raw[place] ^= 1 << bit
    # What is left are other letters in name, key and fingerprint: nothing signs them.
    assert all(len(name) == len("demo 1.0") and len(keys) == 1 for name, keys in names)


@pytest.mark.parametrize("extra", [b"\0", b"x" * 512])
def test_bytes_behind_the_volume_are_refused(file: Path, extra: bytes) -> None:
    with pytest.raises(BundleError, match="bytes, but program"):
        located(file, frozen(elf()) + extra)


def test_a_missing_file_is_named(file: Path) -> None:
    with pytest.raises(UsageError, match="program"):
        program.locate(file)


STEERING = {
    "LD_LIBRARY_PATH": "/evil", "LD_PRELOAD": "/evil.so", "LD_LIBRARY_PATH_ORIG": "/x", "OPENSSL_CONF": "/evil",
    "SSL_CERT_FILE": "/evil", "SSLKEYLOGFILE": "/evil", "REQUESTS_CA_BUNDLE": "/evil", "HELM_C_LIB": "/evil.so",
    "PYTHONPATH": "/evil", "STATICX_PROG_PATH": "/evil", "_PYI_ARCHIVE_FILE": "/evil", "GODEBUG": "x509ignoreCN=0",
}  # fmt: skip
HARMLESS = {
    "HOME": "/root",
    "PATH": "/bin",
    "TMPDIR": "/tmp",
    "HTTPS_PROXY": "http://p:1",
    "KUBECONFIG": "/k",
    "TERM": "x",
}


def test_a_child_inherits_nothing_that_steers_libraries() -> None:
    assert program.child_environment(STEERING | HARMLESS) == HARMLESS


def test_from_source_the_program_has_no_file_and_a_clean_environment() -> None:
    environ = STEERING | HARMLESS
    before = list(sys.meta_path)
    assert program.begin(environ, NOW) is None
    assert environ == HARMLESS
    assert sys.meta_path == before


def left_folder(parent: Path, name: str, mark: bytes | None = b"started\n", mode: int = 0o700) -> Path:
    folder = parent / name
    (folder / "_internal").mkdir(parents=True)
    (folder / "_internal" / "library.so").write_bytes(b"x")
    if mark is not None:
        (folder / program.RUN_MARK).write_bytes(mark)
    folder.chmod(mode)
    return folder


def test_folders_of_killed_runs_are_removed_and_nothing_else(tmp_path: Path) -> None:
    gone = left_folder(tmp_path, "staticx-aaaaaa")
    kept = [
        left_folder(tmp_path, "staticx-foreign", mark=None),
        left_folder(tmp_path, "staticx-public", mode=0o755),
        left_folder(tmp_path, "elsewhere-aaaa"),
    ]
    unpacking = left_folder(tmp_path, "staticx-unpack", mark=b"")
    cleaning = left_folder(tmp_path, "staticx-clean", mark=None)
    (cleaning / "_internal" / compressed_libs.LIST).touch()
    empty = tmp_path / "staticx-empty"
    empty.mkdir(mode=0o700)
    running = left_folder(tmp_path, "staticx-running")
    (tmp_path / "staticx-link").symlink_to(kept[0])
    now = empty.stat().st_mtime
    with (running / program.RUN_MARK).open("rb") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        assert program.remove_stale(tmp_path, now + 10) == [gone]
        assert all(folder.is_dir() for folder in [*kept, unpacking, cleaning, empty, running])
        assert set(program.remove_stale(tmp_path, now + 400)) == {unpacking, cleaning, empty}
    assert program.remove_stale(tmp_path, now) == [running]
    assert all(folder.is_dir() for folder in kept)
    assert not any(folder.exists() for folder in [gone, unpacking, cleaning, empty, running])
    assert program.remove_stale(tmp_path / "missing", now) == []


@pytest.mark.parametrize(
    ("mode", "fit"), [(0o1777, True), (0o700, True), (0o755, True), (0o777, False), (0o770, False)]
)
def test_a_temporary_folder_open_to_others_is_refused(tmp_path: Path, mode: int, *, fit: bool) -> None:
    tmp_path.chmod(mode)
    if fit:
        program._check_temporary(tmp_path)
    else:
        with pytest.raises(StorageError, match="other users") as caught:
            program._check_temporary(tmp_path)
        assert "TMPDIR" in caught.value.hint


def test_a_temporary_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        other = Path("/")  # root's, therefore fit
        program._check_temporary(other)
        return
    os.chown(tmp_path, 12345, -1)
    with pytest.raises(StorageError, match="other users"):
        program._check_temporary(tmp_path)

"""FORMAT.md and the code say the same: a second reader that follows the text, the tables, and the worked example."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import installer.bundle
from builder.release.freeze import freeze
from installer.bundle import limits, tar
from installer.bundle.manifest import (
    BundleBase,
    BundleBlob,
    BundleChart,
    BundleDocument,
    BundleImage,
    BundleManifest,
)
from installer.frozen.header import Front, PinnedKey
from installer.report import Silent
from installer.value import Value, fields
from tests.parts import second_reader
from tests.parts.bundles import KEYS, open_bundle, signing_key

if TYPE_CHECKING:
    from tests.parts.bundles import Cargo

TEXT = (Path(installer.bundle.__file__).parent / "FORMAT.md").read_text()
PUBLIC = KEYS / "test-only.pub", KEYS / "test-only.minisign.pub"


def section(title: str) -> str:
    """The text under a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_a_second_reader_reads_one_volume(cargo: Cargo, volume: Path) -> None:
    found = second_reader.read([volume.read_bytes()], *PUBLIC)
    assert found.blobs == {str(blob.digest): data for blob, data in cargo.blobs.items()}
    assert [image["source"] for image in found.bundle["images"]] == [image.source for image in cargo.images]


def test_a_second_reader_reads_several_volumes(volumes: tuple[Path, ...]) -> None:
    found = second_reader.read([path.read_bytes() for path in reversed(volumes)], *PUBLIC)
    with open_bundle(volumes) as bundle:
        for digest, content in found.blobs.items():
            blob = next(blob for blob in bundle.manifest.blobs if str(blob.digest) == digest)
            assert bundle.read(blob.digest) == content


def test_a_second_reader_refuses_what_ours_refuses(volume: Path) -> None:
    data = volume.read_bytes()
    for bit in random.Random(11).sample(range(len(data) * 8), 100):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        with pytest.raises((second_reader.RefusedError, ValueError)):
            second_reader.read([bytes(spoilt)], *PUBLIC)


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("bundle.json", BundleManifest),
        ("images", BundleImage),
        ("charts", BundleChart),
        ("documents", BundleDocument),
        ("bases", BundleBase),
        ("blobs", BundleBlob),
    ],
)
def test_every_key_is_described(title: str, kind: type[Value]) -> None:
    cells = [row.split("|")[1] for row in section(title).splitlines() if row.startswith("| `")]
    described = {name for cell in cells for name in re.findall(r"`([a-z_]+)`", cell)}
    assert described == set(fields(kind))


def test_members_stand_in_the_described_order() -> None:
    described = re.findall(r"^\| \d \| `([^`]+)`", section("A volume"), re.MULTILINE)
    assert described == [
        limits.SUMS,
        *limits.SLOTS,
        limits.BUNDLE_JSON,
        limits.OCI_LAYOUT,
        limits.INDEX_JSON,
        limits.MANIFEST_JSON,
    ]
    assert {name: int(size) for name, size in re.findall(r"`([^`]+)` \| slot, (\d+) bytes", TEXT)} == limits.SLOTS


def test_limits_are_the_described_ones() -> None:
    table = section("Limits")
    mib = 1024 * 1024
    for what, value in (
        ("`SHA256SUMS`", f"{limits.MAX_SUMS // mib} MiB"),
        ("`bundle.json`", f"{limits.MAX_BUNDLE_JSON // mib} MiB"),
        ("`index.json`, `manifest.json`", f"{limits.MAX_INDEX_JSON // mib} MiB each"),
        ("volumes", str(limits.MAX_VOLUMES)),
        ("blob held in memory as a whole", f"{limits.MAX_SMALL_BLOB // mib} MiB"),
    ):
        assert f"| {what} | {value} |" in table
    assert f"4 MiB ({limits.CHUNK:,} bytes)".replace(",", " ") in TEXT
    assert f"`{limits.FORMAT}`" in TEXT


@pytest.mark.parametrize("size", [0, 1234, 8**11 - 1, 8**11, 2**53 - 1])
def test_headers_are_the_described_ones(size: int) -> None:
    assert tar.header("blobs/sha256/x", size) == second_reader.header("blobs/sha256/x", size)


def test_the_worked_example_for_several_volumes(volumes: tuple[Path, ...], tmp_path: Path) -> None:
    for path in volumes:
        subprocess.run(["tar", "-x", "-f", path], cwd=tmp_path, check=True)
    check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    subprocess.run(check, cwd=tmp_path, check=True)
    (first,) = tmp_path.glob("blobs/sha256/*.000")
    join = f"cat blobs/sha256/{first.stem}.* > blobs/sha256/{first.stem} && sha256sum blobs/sha256/{first.stem}"
    said = subprocess.run(["sh", "-c", join], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert said.split()[0] == first.stem


def test_the_worked_example_for_a_frozen_file(volume: Path, tmp_path: Path) -> None:
    pinned = [PinnedKey.of(PUBLIC[0].read_text(), signing_key().public[0].fingerprint)]
    freeze(Path("/bin/busybox"), volume, tmp_path / "frozen", name="reference", keys=pinned, reporter=Silent())
    grep = ["grep", "-a", "-o", "-m", "1", r'"volume_size":[0-9]\+', "frozen"]
    said = subprocess.run(grep, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert " ".join(grep[:5]) in TEXT
    size = int(said.split(":")[1])
    assert size == volume.stat().st_size
    taken = subprocess.run(["tail", "-c", str(size), "frozen"], cwd=tmp_path, check=True, capture_output=True).stdout
    assert taken == volume.read_bytes()


def test_the_front_is_the_described_one() -> None:
    described = re.search(r'^\{"format":1.*\}$', section("A frozen file"), re.MULTILINE)
    assert described is not None
    assert set(re.findall(r'"([a-z_]+)":', described[0])) == {
        *fields(Front),
        *fields(PinnedKey),
    }

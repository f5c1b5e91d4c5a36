"""The grammar of SHA256SUMS."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from installer.bundle import sums
from installer.errors import BundleError
from installer.oci.digest import Digest

if TYPE_CHECKING:
    from pathlib import Path

HEX = Digest.of(b"").hex
NAMED = {
    name: Digest.of(b"") for name in ("bundle.json", "index.json", "manifest.json", "oci-layout", f"blobs/sha256/{HEX}")
}
TEXT = sums.encode(NAMED)
LINES = TEXT.splitlines(keepends=True)


def test_round_trip() -> None:
    assert sums.decode(TEXT) == NAMED
    assert [line.split(b"  ")[1] for line in LINES] == sorted(name.encode() + b"\n" for name in NAMED)


def test_sha256sum_takes_it(tmp_path: Path) -> None:
    for name in NAMED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for command in (["sha256sum", "--check", "--strict"], ["busybox", "sha256sum", "-c"]):
        subprocess.run(command, input=TEXT, cwd=tmp_path, check=True, capture_output=True)


HOSTILE = {
    "empty": b"",
    "one line feed": b"\n",
    "no line feed at the end": TEXT[:-1],
    "blank line at the end": TEXT + b"\n",
    "blank line inside": LINES[0] + b"\n" + b"".join(LINES[1:]),
    "comment": b"# comment\n" + TEXT,
    "unsorted": b"".join(reversed(LINES)),
    "line twice": LINES[0] + TEXT,
    "name twice": TEXT + b"0" * 64 + LINES[-1][64:],
    "upper-case digest": TEXT.replace(HEX.encode(), HEX.upper().encode()),
    "short digest": TEXT.replace(HEX.encode(), HEX[:-1].encode()),
    "long digest": TEXT.replace(HEX.encode(), HEX.encode() + b"0"),
    "one space": TEXT.replace(b"  ", b" "),
    "three spaces": TEXT.replace(b"  ", b"   "),
    "tab": TEXT.replace(b"  ", b"\t"),
    "binary mode": TEXT.replace(b"  ", b" *"),
    "space at the end": TEXT.replace(b"\n", b" \n"),
    "escaped name": b"\\" + TEXT,
    "dot in front": TEXT.replace(b"  bundle", b"  ./bundle"),
    "absolute": TEXT.replace(b"  bundle", b"  /bundle"),
    "BSD form": b"SHA256 (bundle.json) = " + HEX.encode() + b"\n",
    "byte order mark": b"\xef\xbb\xbf" + TEXT,
    "non-ASCII name": TEXT + HEX.encode() + "  zé\n".encode(),
    "NUL": TEXT + HEX.encode() + b"  z\0\n",
    "name of 100": TEXT + HEX.encode() + b"  " + b"z" * 100 + b"\n",
    "empty name": TEXT + HEX.encode() + b"  \n",
    "fixed name missing": b"".join(line for line in LINES if b"oci-layout" not in line),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_anything_else_is_refused(name: str) -> None:
    assert HOSTILE[name] != TEXT
    with pytest.raises(BundleError, match="SHA256SUMS"):
        sums.decode(HOSTILE[name])


def test_converted_line_ends_are_called_by_name() -> None:
    with pytest.raises(BundleError, match="line ends were converted"):
        sums.decode(TEXT.replace(b"\n", b"\r\n"))

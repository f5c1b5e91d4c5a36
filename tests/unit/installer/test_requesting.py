"""A QR code is shown where it fits, and where it does not, that is said."""

from __future__ import annotations

from installer.bundle.patch import Request
from installer.cli.requesting import _code
from installer.oci.digest import Digest

SUMS = Digest.of(b"sums")


def test_where_it_fits() -> None:
    text = Request.of(SUMS, [(0, 1), (7, 3)], [2]).text
    wide = _code(text, 0)
    width = len(wide[0])
    assert _code(text, width) == wide
    assert {len(line) for line in wide} == {width}
    assert _code(text, width - 1) == [f"its QR code needs a terminal of {width} columns, this has {width - 1}"]


def test_what_fits_into_none() -> None:
    assert _code(Request.of(SUMS, [(blob, 1) for blob in range(1000)]).text, 0) == [
        "too long for a QR code: carry the file, or type the line"
    ]

"""Canonical JSON: one spelling for one value; everything else is refused."""

from __future__ import annotations

from typing import Any

import pytest

from installer.bundle import canonical
from installer.errors import BundleError
from installer.oci.digest import Digest
from installer.oci.model import Platform
from installer.value import Value, replace


class Inner(Value):
    place: tuple[int, str]


class Sample(Value):
    count: int
    digest: Digest
    inner: tuple[Inner, ...]
    platform: Platform
    raw: bytes
    text: str


SAMPLE = Sample(
    count=7,
    digest=Digest.of(b""),
    inner=(Inner((0, "a")), Inner((2**53 - 1, ""))),
    platform=Platform("linux", "arm", "v7"),
    raw=b"\x00\xff",
    text='say "hi" \\ / ~',
)
SPELLING = (
    b'{"count":7,"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",'
    b'"inner":[{"place":[0,"a"]},{"place":[9007199254740991,""]}],"platform":"linux/arm/v7","raw":"00ff",'
    b'"text":"say \\"hi\\" \\\\ / ~"}'
)


def with_text(spelling: bytes) -> bytes:
    return SPELLING.replace(b'"say \\"hi\\" \\\\ / ~"', spelling)


def test_the_one_spelling() -> None:
    assert canonical.encode(SAMPLE) == SPELLING
    assert canonical.decode(SPELLING, Sample, "sample") == SAMPLE


HOSTILE = {
    "duplicate key, same value": SPELLING.replace(b'"count":7,', b'"count":7,"count":7,'),
    "duplicate key, other value first": SPELLING.replace(b'"count":7,', b'"count":8,"count":7,'),
    "keys unsorted": b'{"digest"' + SPELLING.split(b'"digest"')[1][:-1] + b',"count":7}',
    "unknown key": SPELLING[:-1] + b',"zzz":1}',
    "missing key": SPELLING.replace(b'"count":7,', b""),
    "key in other case": SPELLING.replace(b'"count"', b'"Count"'),
    "fraction": SPELLING.replace(b":7,", b":7.0,"),
    "exponent": SPELLING.replace(b":7,", b":7e0,"),
    "negative": SPELLING.replace(b":7,", b":-7,"),
    "negative zero": SPELLING.replace(b":7,", b":-0,"),
    "leading zero": SPELLING.replace(b":7,", b":07,"),
    "plus sign": SPELLING.replace(b":7,", b":+7,"),
    "too large": SPELLING.replace(b":7,", b":9007199254740992,"),
    "huge": SPELLING.replace(b":7,", b":" + b"9" * 5000 + b","),
    "true for 1": SPELLING.replace(b":7,", b":true,"),
    "null": SPELLING.replace(b":7,", b":null,"),
    "NaN": SPELLING.replace(b":7,", b":NaN,"),
    "Infinity": SPELLING.replace(b":7,", b":Infinity,"),
    "number as text": SPELLING.replace(b":7,", b':"7",'),
    "text as number": with_text(b"7"),
    "object for text": with_text(b"{}"),
    "list for object": b"[" + SPELLING + b"]",
    "object for list": SPELLING.replace(b'[{"place"', b'{"x":{"place"').replace(b'""]}]', b'""]}}'),
    "tuple too long": SPELLING.replace(b'[0,"a"]', b'[0,"a","b"]'),
    "tuple too short": SPELLING.replace(b'[0,"a"]', b"[0]"),
    "escaped letter": with_text(b'"\\u0061"'),
    "escaped slash": with_text(b'"\\/"'),
    "control character": with_text(b'"\\n"'),
    "raw control character": with_text(b'"\n"'),
    "delete character": with_text(b'"\x7f"'),
    "non-ASCII": with_text('"é"'.encode()),
    "escaped non-ASCII": with_text(b'"\\u00e9"'),
    "lone surrogate": with_text(b'"\\ud800"'),
    "invalid UTF-8": with_text(b'"\xff"'),
    "upper-case hex": SPELLING.replace(b'"00ff"', b'"00FF"'),
    "hex with a space": SPELLING.replace(b'"00ff"', b'"00 ff"'),
    "odd hex": SPELLING.replace(b'"00ff"', b'"00f"'),
    "other digest": SPELLING.replace(b"sha256:", b"sha512:"),
    "digest in upper case": SPELLING.replace(b"e3b0", b"E3B0"),
    "digest with a line feed": SPELLING.replace(b'855"', b'855\\n"'),
    "platform without architecture": SPELLING.replace(b"linux/arm/v7", b"linux"),
    "platform with an empty variant": SPELLING.replace(b"linux/arm/v7", b"linux/arm/"),
    "white space inside": SPELLING.replace(b",", b", ", 1),
    "white space before": b" " + SPELLING,
    "line feed at the end": SPELLING + b"\n",
    "byte order mark": b"\xef\xbb\xbf" + SPELLING,
    "UTF-16": SPELLING.decode().encode("utf-16"),
    "two documents": SPELLING + SPELLING,
    "cut off": SPELLING[:-1],
    "empty": b"",
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "NUL at the end": SPELLING + b"\0",
    "comment": SPELLING + b"//",
    "trailing comma": SPELLING[:-1] + b",}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_every_other_spelling_is_refused(name: str) -> None:
    assert HOSTILE[name] != SPELLING
    with pytest.raises(BundleError, match="sample"):
        canonical.decode(HOSTILE[name], Sample, "sample")


@pytest.mark.parametrize("change", [{"count": -1}, {"count": True}, {"text": 7}, {"text": None}])
def test_a_value_that_is_not_of_its_types_cannot_be_written(change: dict[str, Any]) -> None:
    with pytest.raises(BundleError):
        canonical.encode(replace(SAMPLE, **change))


@pytest.mark.parametrize(
    "value", ["Привет", "line\nfeed", "\x7f", "nbsp\u00a0", -1, 2**53, True, False, None, 1.0, {"k": True}, object()]
)
def test_values_outside_the_subset_cannot_be_written(value: object) -> None:
    with pytest.raises(BundleError):
        canonical.encode({"key": value})

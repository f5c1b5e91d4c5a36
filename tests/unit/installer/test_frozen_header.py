"""The block between program and volume."""

import pytest

from installer.errors import BundleError
from installer.frozen import header as frozen_header
from installer.frozen.header import ALIGNMENT, MAX_FRONT, Front, PinnedKey

PEM = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n"
MINISIGN = "untrusted comment: minisign public key 1234\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n"
KEYS = (PinnedKey.of(PEM, "ab" * 32), PinnedKey.of(MINISIGN, "cd" * 32))


def test_a_front_is_read_as_it_was_written() -> None:
    written = Front("platform 1.2", KEYS, 5 * 512)
    block = written.encode()
    assert len(block) == ALIGNMENT
    assert frozen_header.front_size(block[:64]) == ALIGNMENT
    assert frozen_header.decode(block) == written
    assert [key.text for key in frozen_header.decode(block).keys] == [PEM, MINISIGN]


def test_the_bytes_of_format_1_stay_as_they_are() -> None:
    block = Front("demo", (PinnedKey("ab", ("line",)),), 512).encode()
    text = b'{"format":1,"keys":[{"fingerprint":"ab","lines":["line"]}],"name":"demo","volume_size":512}'
    assert block == b"AIRFERRY-PROGRAM-1\n%010d\n%s" % (len(text), text) + bytes(ALIGNMENT - 30 - len(text))


def test_a_long_front_takes_more_blocks() -> None:
    long = Front("demo", tuple(PinnedKey("ab", (f"{number:04d}" * 100,)) for number in range(64)), 0)
    block = long.encode()
    assert len(block) == 7 * ALIGNMENT
    assert frozen_header.decode(block) == long
    for wrong in (block[:-ALIGNMENT], block + bytes(ALIGNMENT), block[:-1]):
        with pytest.raises(BundleError):
            frozen_header.decode(wrong)


@pytest.mark.parametrize(
    "header",
    [b"", b"AIRFERRY-PROGRAM-2\n0000000010\n", b"AIRFERRY-PROGRAM-1\n", b"AIRFERRY-PROGRAM-1\n+000000010\n",
     b"AIRFERRY-PROGRAM-1\n0000000010 ", b"AIRFERRY-PROGRAM-1\n00000000 1\n", b"AIRFERRY-PROGRAM-1\n9999999999\n",
     "AIRFERRY-PROGRAM-1\n000000001٣\n".encode()],
)  # fmt: skip
def test_a_malformed_header_is_refused(header: bytes) -> None:
    with pytest.raises(BundleError):
        frozen_header.front_size(header + b"{}" + bytes(64))


def block_of(text: bytes) -> bytes:
    raw = frozen_header.MAGIC + b"%010d\n" % len(text) + text
    return raw + bytes(-len(raw) % ALIGNMENT)


GOOD = b'{"format":1,"keys":[],"name":"demo","volume_size":512}'


def test_the_hand_made_block_is_good() -> None:
    assert frozen_header.decode(block_of(GOOD)) == Front("demo", (), 512)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        GOOD + b" ",
        GOOD.replace(b":1", b": 1"),
        GOOD.replace(b'"format":1', b'"format":2'),
        GOOD.replace(b'"format":1', b'"format":1,"format":1'),
        GOOD.replace(b'"format":1', b'"extra":1,"format":1'),
        GOOD.replace(b'"format":1,', b""),
        GOOD.replace(b"demo", b""),
        GOOD.replace(b"demo", b"\\u001b[2J"),
        GOOD.replace(b"demo", b"n" * 300),
        GOOD.replace(b"512", b"511"),
        GOOD.replace(b"512", b"-512"),
        GOOD.replace(b"512", b"512.0"),
        GOOD.replace(b"512", b'"512"'),
        GOOD.replace(b"512", b"9" * 400),
        GOOD.replace(b"[]", b"[{}]"),
        GOOD.replace(b"[]", b'[{"fingerprint":"","lines":["x"]}]'),
        GOOD.replace(b"[]", b'[{"fingerprint":"x","lines":[]}]'),
        GOOD.replace(b"[]", b"[" * 1000 + b"]" * 1000),
    ],
)
def test_anything_but_one_spelling_is_refused(text: bytes) -> None:
    with pytest.raises(BundleError):
        frozen_header.decode(block_of(text))


def test_padding_is_zeros() -> None:
    block = bytearray(block_of(GOOD))
    for place in (len(frozen_header.MAGIC) + 11 + len(GOOD), ALIGNMENT - 1):
        block[place] = 1
        with pytest.raises(BundleError):
            frozen_header.decode(bytes(block))
        block[place] = 0


@pytest.mark.parametrize(
    ("name", "keys", "size"),
    [("", (), 0), ("n" * 256, (), 0), ("demo", (KEYS[0],) * 65, 0), ("demo", (), 100), ("demo", (), -512),
     ("имя", (), 0), ("demo", (PinnedKey("ab", ("x" * MAX_FRONT,)),), 0), ("demo", (), 2**60)],
)  # fmt: skip
def test_what_no_front_can_hold_is_refused_when_written(name: str, keys: tuple[PinnedKey, ...], size: int) -> None:
    with pytest.raises(BundleError):
        Front(name, keys, size).encode()

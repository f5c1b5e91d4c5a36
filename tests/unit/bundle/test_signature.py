"""Who is believed: keys, slots, and everything that looks like a signature and is none."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from builder.release.sign import attach, sign, sums_of
from installer.bundle import canonical
from installer.bundle.limits import MINISIG, SIGNATURE, SIGNATURES, UNSIGNED
from installer.bundle.signature import (
    Ed25519Key,
    FurtherSignatures,
    Minisig,
    P256Key,
    Trust,
    keys_of,
    parse_keys,
    verify,
)
from installer.errors import BundleError, UntrustedError, UsageError
from installer.oci.digest import Digest
from installer.report import Silent
from installer.value import replace
from installer.verify import verification
from tests.parts.bundles import KEYS, open_bundle, signing_key, trust

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.parts.bundles import Cargo

MESSAGE = b"the bytes of SHA256SUMS\n"
KEY, OTHER = signing_key(), signing_key("other-test-only")
P256, ED = KEY.public
# The order of the group of P-256 (FIPS 186-5, SP 800-186).
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
REFUSED = (UntrustedError, BundleError)


def der(key: ec.EllipticCurvePrivateKey = KEY.p256, message: bytes = MESSAGE) -> bytes:
    return key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


def minisig(message: bytes = MESSAGE, comment: str = "a comment", key_id: bytes = ED.key_id) -> Minisig:
    signature = KEY.ed.sign(hashlib.blake2b(message).digest())
    return Minisig(key_id, signature, comment, KEY.ed.sign(signature + comment.encode()))


def slots(first: bytes = UNSIGNED, mini: bytes = UNSIGNED, further: bytes = UNSIGNED) -> dict[str, bytes]:
    return {SIGNATURE: first, MINISIG: mini, SIGNATURES: further}


def further(*pairs: tuple[str, bytes]) -> bytes:
    return canonical.encode(FurtherSignatures(tuple(sorted(pairs)))) + b"\n"


SIGNED = slots(der(), minisig().encode())


def test_both_families() -> None:
    verdict = verify(MESSAGE, SIGNED, trust())
    assert verdict.sums == Digest.of(MESSAGE)
    assert set(verdict.signers) == {P256.fingerprint, ED.fingerprint}
    assert verdict.notes == ()


@pytest.mark.parametrize("key", KEY.public, ids=("P-256", "Ed25519"))
def test_one_family_is_enough_where_only_one_is_trusted(key: P256Key | Ed25519Key) -> None:
    verdict = verify(MESSAGE, SIGNED, Trust((key,)))
    assert verdict.signers == (key.fingerprint,)
    assert len(verdict.notes) == 1
    assert "not checked" in verdict.notes[0]


def test_one_of_several_keys_in_a_family_is_enough() -> None:
    assert (
        verify(MESSAGE, SIGNED, Trust((*OTHER.public, *KEY.public))).signers == verify(MESSAGE, SIGNED, trust()).signers
    )


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (slots(), "unsigned"),
        (slots(der()), "no Ed25519"),
        (slots(b"unsigned\n", minisig().encode()), "no ECDSA"),
        (slots(der(OTHER.p256), minisig().encode()), "not made by a trusted key"),
        (slots(der(message=b"other"), minisig().encode()), "not made by a trusted key"),
        (slots(der(), minisig(b"other").encode()), "not made by a trusted key"),
        (slots(der(), minisig(key_id=OTHER.public[1].key_id).encode()), "not made by a trusted key"),
    ],
)
def test_stripped_or_foreign_signatures(found: dict[str, bytes], reason: str) -> None:
    with pytest.raises(UntrustedError, match=reason) as caught:
        verify(MESSAGE, found, trust())
    assert "never take a key from the medium" in caught.value.hint


def test_nobody_to_trust() -> None:
    with pytest.raises(UntrustedError, match="no key was given"):
        verify(MESSAGE, SIGNED, Trust())


def test_the_typed_digest() -> None:
    assert verify(MESSAGE, slots(), Trust(sums=Digest.of(MESSAGE))).signers == ()
    with pytest.raises(UntrustedError, match="expected"):
        verify(MESSAGE, SIGNED, Trust(KEY.public, Digest.of(b"other")))
    with pytest.raises(UntrustedError, match="unsigned"):
        verify(MESSAGE, slots(), Trust(KEY.public, Digest.of(MESSAGE)))


def test_further_signatures_count() -> None:
    both = slots(der(OTHER.p256), minisig().encode(), further((P256.fingerprint, der())))
    assert P256.fingerprint in verify(MESSAGE, both, trust()).signers


def test_a_further_signature_in_the_name_of_a_trusted_key_must_be_its_own() -> None:
    claimed = slots(der(), minisig().encode(), further((P256.fingerprint, der(OTHER.p256))))
    with pytest.raises(UntrustedError, match="not its own"):
        verify(MESSAGE, claimed, trust())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"{}\n",
        b'{"p256":[]',
        b'{"p256":[["a","00"]]}\n',
        b'{"p256":[["' + b"A" * 64 + b'","3006020101020101"]]}\n',
        b'{"p256":[["' + b"a" * 64 + b'","3006020101020101"],["' + b"a" * 64 + b'","3006020101020101"]]}\n',
        b'{"p256":[["' + b"b" * 64 + b'","3006020101020101"],["' + b"a" * 64 + b'","3006020101020101"]]}\n',
        b'{"p256":[["' + b"a" * 64 + b'","300602010102010100"]]}\n',
        b'{"p256":[["' + b"a" * 64 + b'","00"]]}\n',
        b'{"ed25519":[],"p256":[]}\n',
        b'{"p256":[],"p256":[]}\n',
        b"[" * 8000 + b"\n",
    ],
)
def test_further_signatures_have_one_form(text: bytes) -> None:
    with pytest.raises(BundleError):
        verify(MESSAGE, slots(der(), minisig().encode(), text), trust())


R, S = decode_dss_signature(der())


def integer(value: bytes) -> bytes:
    return b"\x02" + bytes([len(value)]) + value


def sequence(*parts: bytes) -> bytes:
    body = b"".join(parts)
    return b"\x30" + bytes([len(body)]) + body


def minimal(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


# The kinds of malformed and special ECDSA signatures that Wycheproof's test vectors collect.
HOSTILE_DER = {
    "empty": b"",
    "trailing byte": der() + b"\0",
    "trailing zeros as padding": der() + bytes(20),
    "cut off": der()[:-1],
    "long form of the length": b"\x30\x81" + der()[1:],
    "indefinite length": b"\x30\x80" + der()[2:] + b"\0\0",
    "r with a leading zero": sequence(integer(b"\0" + minimal(R)), integer(minimal(S))),
    "s with a leading zero": sequence(integer(minimal(R)), integer(b"\0" + minimal(S))),
    "negative r": sequence(
        integer(minimal(R)[1:] if minimal(R)[0] == 0 else b"\xff" + minimal(R)), integer(minimal(S))
    ),
    "three integers": sequence(integer(minimal(R)), integer(minimal(S)), integer(b"\1")),
    "one integer": sequence(integer(minimal(R))),
    "set for sequence": b"\x31" + der()[1:],
    "r and s exchanged": encode_dss_signature(S, R),
    "r = 0": encode_dss_signature(0, S),
    "s = 0": encode_dss_signature(R, 0),
    "both 0": encode_dss_signature(0, 0),
    "both 1": encode_dss_signature(1, 1),
    "r = order": encode_dss_signature(ORDER, S),
    "s = order": encode_dss_signature(R, ORDER),
    "r + order": encode_dss_signature(R + ORDER, S),
    "s + order": encode_dss_signature(R, S + ORDER),
    "negative s": sequence(integer(minimal(R)), integer((2**264 - S).to_bytes(33, "big"))),
    "huge r": encode_dss_signature(2**2000, S),
    "raw form": R.to_bytes(32, "big") + S.to_bytes(32, "big"),
    "base64": base64.b64encode(der()),
    "PEM": b"-----BEGIN SIGNATURE-----\n" + base64.b64encode(der()) + b"\n-----END SIGNATURE-----\n",
    "unsigned without line feed": b"unsigned",
    "unsigned in capitals": b"UNSIGNED\n",
    "other hash": KEY.p256.sign(MESSAGE, ec.ECDSA(hashes.SHA384())),
    "other curve": ec.generate_private_key(ec.SECP384R1()).sign(MESSAGE, ec.ECDSA(hashes.SHA256())),
}


@pytest.mark.parametrize("name", HOSTILE_DER)
def test_hostile_ecdsa(name: str) -> None:
    assert not P256.verifies(HOSTILE_DER[name], MESSAGE)
    with pytest.raises(REFUSED):
        verify(MESSAGE, slots(HOSTILE_DER[name], minisig().encode()), Trust((P256,)))


def test_the_other_valid_signature_is_valid() -> None:
    """ECDSA has two for each message; FORMAT.md therefore lets nothing depend on the bytes."""
    twin = encode_dss_signature(R, ORDER - S)
    assert verify(MESSAGE, slots(twin), Trust((P256,))).sums == verify(MESSAGE, slots(der()), Trust((P256,))).sums


GENUINE = minisig().encode()
LINES = GENUINE.split(b"\n")


def lines(**changes: bytes) -> bytes:
    return b"\n".join(changes.get(f"line{number}", line) for number, line in enumerate(LINES))


def signed_blob(algorithm: bytes = b"ED", key_id: bytes = ED.key_id, extra: bytes = b"") -> bytes:
    return base64.b64encode(algorithm + key_id + minisig().signature + extra)


HOSTILE_MINISIG = {
    "empty": b"",
    "foreign first line": lines(line0=b"untrusted comment: signature from minisign secret key"),
    "escape sequence in the first line": lines(line0=LINES[0] + b"\x1b[2J"),
    "other comment": lines(line2=b"trusted comment: another comment"),
    "no comment line": b"\n".join([*LINES[:2], *LINES[3:]]),
    "comment without its name": lines(line2=b"a comment"),
    "escape sequence in the comment": minisig(comment="\x1b[31mred").encode(),
    "carriage return in the comment": minisig(comment="a\rb").encode(),
    "long comment": minisig(comment="a" * 201).encode(),
    "line feed in the comment": minisig(comment="a\nb").encode(),
    "CRLF": GENUINE.replace(b"\n", b"\r\n"),
    "no line feed at the end": GENUINE[:-1],
    "text behind": GENUINE + b"more\n",
    "line feed behind": GENUINE + b"\n",
    "legacy, not prehashed": lines(line1=signed_blob(b"Ed")),
    "unknown algorithm": lines(line1=signed_blob(b"XX")),
    "other key id": lines(line1=signed_blob(key_id=bytes(8))),
    "too long": lines(line1=signed_blob(extra=b"\0")),
    "not base64": lines(line1=b"!" + LINES[1][1:]),
    "base64 with a space": lines(line1=LINES[1][:10] + b" " + LINES[1][10:]),
    "base64 without padding": lines(line3=LINES[3].rstrip(b"=")),
    "base64 with unused bits": lines(line3=LINES[3][:-3] + bytes([LINES[3][-3] + 1]) + b"=="),
    "no global signature": b"\n".join(LINES[:3]) + b"\n",
    "first signature as the global one": lines(line3=base64.b64encode(minisig().signature)),
    "signed without prehash": Minisig(
        ED.key_id, KEY.ed.sign(MESSAGE), "c", KEY.ed.sign(KEY.ed.sign(MESSAGE) + b"c")
    ).encode(),
    "all zero": Minisig(ED.key_id, bytes(64), "c", bytes(64)).encode(),
    "non-ASCII": lines(line2="trusted comment: é".encode()),
}


@pytest.mark.parametrize("name", HOSTILE_MINISIG)
def test_hostile_minisig(name: str) -> None:
    assert HOSTILE_MINISIG[name] != GENUINE
    with pytest.raises(REFUSED):
        verify(MESSAGE, slots(der(), HOSTILE_MINISIG[name]), Trust((ED,)))


def test_malformed_slots_are_refused_also_where_their_family_is_not_trusted() -> None:
    for found, key in ((slots(der() + b"\0", GENUINE), ED), (slots(der(), GENUINE + b"x\n"), P256)):
        with pytest.raises(BundleError):
            verify(MESSAGE, found, Trust((key,)))


def test_ed25519_is_not_malleable() -> None:
    """Adding the order of the group to S makes a second encoding, which RFC 8032 forbids."""
    signature = minisig().signature
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(signature[32:], "little") + order
    assert ED.verifies(signature, hashlib.blake2b(MESSAGE).digest())
    assert not ED.verifies(signature[:32] + s.to_bytes(32, "little"), hashlib.blake2b(MESSAGE).digest())


def test_key_files_tell_the_same_keys() -> None:
    pem = (KEYS / "test-only.pub").read_bytes()
    assert parse_keys(pem, "pem") == KEY.public
    assert parse_keys((KEYS / "test-only.minisign.pub").read_bytes(), "minisign") == (ED,)
    assert parse_keys(pem.replace(b"\n", b"\r\n"), "pem") == KEY.public
    assert keys_of(key.text for key in KEY.public) == KEY.public


def test_fingerprints_are_those_of_openssl(tmp_path: Path) -> None:
    keys: tuple[P256Key | Ed25519Key, ...] = KEY.public
    for number, key in enumerate(keys):
        block = (KEYS / "test-only.pub").read_text().split("-----END PUBLIC KEY-----\n")[number]
        (tmp_path / "key.pem").write_text(block + "-----END PUBLIC KEY-----\n")
        command: list[str | Path] = ["openssl", "pkey", "-pubin", "-in", tmp_path / "key.pem", "-outform", "DER"]
        spki = subprocess.run(command, check=True, capture_output=True).stdout
        assert hashlib.sha256(spki).hexdigest() == key.fingerprint


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nothing",
        b"untrusted comment:",
        b"untrusted comment: x\nAAAA\n",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        (KEYS / "test-only.key").read_bytes(),
        "ключ".encode(),
        bytes(100),
    ],
)
def test_files_that_are_no_public_keys(data: bytes) -> None:
    with pytest.raises(UsageError):
        parse_keys(data, "key.pub")


def openssl_key(tmp_path: Path, *options: str) -> bytes:
    private = tmp_path / "private.pem"
    subprocess.run(["openssl", "genpkey", *options, "-out", private], check=True, capture_output=True)
    return subprocess.run(["openssl", "pkey", "-in", private, "-pubout"], check=True, capture_output=True).stdout


@pytest.mark.parametrize(
    "options",
    [
        ("-algorithm", "RSA"),
        ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"),
        ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"),
        ("-algorithm", "X25519"),
    ],
)
def test_keys_of_other_kinds(tmp_path: Path, options: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        parse_keys(openssl_key(tmp_path, *options), "key.pub")


# --- signing volumes ---


@pytest.fixture
def unsigned(cargo: Cargo, tmp_path: Path) -> Path:
    (path,) = cargo.write(tmp_path)
    return path


def test_signing_twice_changes_nothing(unsigned: Path) -> None:
    with pytest.raises(UntrustedError, match="unsigned"):
        open_bundle([unsigned])
    sums = sums_of(unsigned)
    sign([unsigned], KEY)
    first = unsigned.read_bytes()
    sign([unsigned], KEY)
    assert unsigned.read_bytes() == first
    assert sums_of(unsigned) == sums
    with open_bundle([unsigned]) as bundle:
        assert len(bundle.verdict.signers) == 2


def test_signing_all_volumes(cargo: Cargo, tmp_path: Path, volumes: tuple[Path, ...]) -> None:
    with open_bundle(volumes) as bundle:
        assert bundle.volumes.missing == frozenset()
    for path in volumes:
        with open_bundle([path]) as bundle:
            assert len(bundle.volumes.missing) == 2


def test_all_volumes_or_none_are_signed(cargo: Cargo, tmp_path: Path) -> None:
    """One of them has no room for this signature."""
    larger = replace(cargo, blobs=dict(cargo.blobs), documents=list(cargo.documents))
    larger.document("large", bytes(10_000_000))
    paths = larger.write(tmp_path, volume_size=4_300_000)
    sign(paths[1:2], OTHER)
    before = [path.read_bytes() for path in paths]
    with pytest.raises(UntrustedError, match="room for one"):
        sign(paths, KEY)
    assert [path.read_bytes() for path in paths] == before


def test_a_second_signer(unsigned: Path) -> None:
    sign([unsigned], KEY)
    attach([unsigned], OTHER.p256.sign(sums_of(unsigned), ec.ECDSA(hashes.SHA256())), OTHER.public[0])
    for keys in (KEY.public, OTHER.public[:1]):
        with open_bundle([unsigned], Trust(keys)) as bundle:
            assert len(bundle.verdict.signers) == len(keys)
    with pytest.raises(UntrustedError, match="room for one"):
        sign([unsigned], OTHER)
    with open_bundle([unsigned]):
        pass


def test_room_for_many_signers(unsigned: Path) -> None:
    signed = sums_of(unsigned)
    sign([unsigned], KEY)

    def attach_others(first: int, last: int) -> None:
        for number in range(first, last + 1):
            key = ec.derive_private_key(number, ec.SECP256R1())
            spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            attach([unsigned], der(key, signed), P256Key(spki))

    attach_others(1, 30)
    with pytest.raises(UsageError, match="no room"):
        attach_others(31, 60)
    with open_bundle([unsigned]) as bundle:
        verification.verify(bundle, Silent())


def test_signatures_of_openssl_and_minisign(unsigned: Path, tmp_path: Path) -> None:
    """Made elsewhere, by tools that know nothing of bundles."""
    sums, private = tmp_path / "SHA256SUMS", tmp_path / "p256.pem"
    sums.write_bytes(sums_of(unsigned))
    public = openssl_key(tmp_path, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    (tmp_path / "private.pem").rename(private)
    run: list[str | Path] = ["openssl", "dgst", "-sha256", "-sign", private, "-out", tmp_path / "sig", sums]
    subprocess.run(run, check=True, capture_output=True)
    mini: list[str | Path] = ["minisign", "-G", "-W", "-p", tmp_path / "m.pub", "-s", tmp_path / "m.key"]
    subprocess.run(mini, check=True, capture_output=True)
    subprocess.run(["minisign", "-S", "-s", tmp_path / "m.key", "-m", sums], check=True, capture_output=True)
    (p256,) = parse_keys(public, "p256")
    (ed,) = parse_keys((tmp_path / "m.pub").read_bytes(), "minisign")
    attach([unsigned], (tmp_path / "sig").read_bytes(), p256)
    attach([unsigned], (tmp_path / "SHA256SUMS.minisig").read_bytes(), ed)
    with open_bundle([unsigned], Trust((p256, ed))) as bundle:
        assert bundle.verdict.signers == (p256.fingerprint, ed.fingerprint)


@pytest.mark.parametrize(
    "attempt",
    [
        lambda path: attach([path], der(), P256),
        lambda path: attach([path], b"", P256),
        lambda path: attach([path], der(message=sums_of(path)) + b"\0", P256),
        lambda path: attach([path], minisig().encode(), ED),
        lambda path: attach([path], b"", ED),
    ],
)
def test_nothing_wrong_is_attached(unsigned: Path, attempt: Callable[[Path], object]) -> None:
    before = unsigned.read_bytes()
    with pytest.raises(REFUSED):
        attempt(unsigned)
    assert unsigned.read_bytes() == before


def test_volumes_of_two_bundles_are_not_signed_together(unsigned: Path, volumes: tuple[Path, ...]) -> None:
    with pytest.raises(BundleError, match="different bundles"):
        sign([unsigned, volumes[0]], KEY)

"""Certificates in PEM files: of authorities that a site trusts, and of the site's own server."""

import datetime as dt
import re
import shlex
from collections.abc import Iterable
from pathlib import PurePath

from installer.errors import SiteError
from installer.site.secret import Secret
from installer.value import Value

# A ConfigMap holds 1 MiB at most; the controller's chart and the platform's chart put all certificates into one.
MAX_CERTIFICATES = 1_000_000
# The object identifiers of PKCS #7 signed data (a .p7b file) and of the data in a PKCS #12 store, in DER (RFC 5652).
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
_STORED_DATA = bytes.fromhex("06092a864886f70d010701")
_DER_HEAD = 64
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----[^-]{0,100000}-----END \1-----")


class Certificates(Value):
    """Single certificates in PEM, in the order given and without repetitions, and remarks about them."""

    pems: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def parse(cls, data: bytes, name: str, now: dt.datetime) -> "Certificates":
        """The certificates in the PEM file `name`; what stands between the blocks is dropped.

        An expired certificate gets a remark: old authorities are often kept in such files. Raises SiteError if there
        is none, if one is malformed, or if the file holds anything else, above all a private key.
        """
        if b"PRIVATE KEY-----" in data:
            raise SiteError(f"{name}: holds a private key", hint="give only certificates, and keep the key safe.")
        pems, notes = [], []
        for block in _BLOCK.finditer(data):
            kind = block[1].decode()
            if kind in ("PKCS7", "CMS"):
                raise _to_convert(name, "a PKCS #7 file", "pkcs7 -print_certs")
            if kind not in ("CERTIFICATE", "X509 CERTIFICATE"):
                raise SiteError(f"{name}: holds a {kind.lower()}", hint="give only certificates in PEM.")
            pem, note = _one(block[0], name, now)
            pems.append(pem)
            if note:
                notes.append(note)
        if not pems:
            _recognise(data, name)
            raise SiteError(f"{name}: no certificate in PEM", hint="it starts with -----BEGIN CERTIFICATE-----.")
        return cls(tuple(dict.fromkeys(pems)), tuple(dict.fromkeys(notes)))

    @classmethod
    def joined(cls, parts: Iterable["Certificates"]) -> "Certificates":
        """All `parts`, repetitions left out. Raises SiteError if they exceed what a ConfigMap holds."""
        parts = list(parts)
        pems = tuple(dict.fromkeys(pem for part in parts for pem in part.pems))
        if sum(map(len, pems)) > MAX_CERTIFICATES:
            raise SiteError(
                f"certificates: {sum(map(len, pems))} bytes; {MAX_CERTIFICATES} fit into a ConfigMap",
                hint="give only the authorities that this site needs.",
            )
        return cls(pems, tuple(dict.fromkeys(note for part in parts for note in part.notes)))


class ServerCertificate(Value):
    """The certificate of a server and those up to its authority, in one PEM text; `names` are what it is for."""

    chain: str
    names: tuple[str, ...]

    @classmethod
    def parse(cls, data: bytes, name: str, now: dt.datetime) -> "ServerCertificate":
        """The server's certificate, which stands first in the PEM file `name`, with those that follow.

        Raises SiteError if it is expired, and for what Certificates.parse refuses.
        """
        from cryptography import x509

        found = Certificates.parse(data, name, now)
        first = x509.load_pem_x509_certificate(found.pems[0].encode())
        if first.not_valid_after_utc < now:
            raise SiteError(f"{name}: expired on {first.not_valid_after_utc:%Y-%m-%d}", hint="have it renewed.")
        try:
            extension = first.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            names = tuple(str(item).lower() for item in extension.value.get_values_for_type(x509.DNSName))
        except (x509.ExtensionNotFound, ValueError):
            names = ()
        return cls("".join(found.pems), names)

    def covers(self, host: str) -> bool:
        """Whether a browser takes the certificate for one of `host`."""
        return host in self.names or f"*.{host.partition('.')[2]}" in self.names

    def check_key(self, key: Secret, path: str) -> None:
        """Raises SiteError naming the site's key `path` if `key` is not the certificate's, or not usable as it is."""
        from cryptography import x509
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            own = load_pem_private_key(key.reveal().encode(), None).public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm):
            hint = "give it as it is: unencrypted, -----BEGIN PRIVATE KEY----- and so on."
            raise SiteError(f"{path}: not a private key in PEM, or an encrypted one", hint=hint) from None
        if own != x509.load_pem_x509_certificate(self.chain.encode()).public_key():
            raise SiteError(f"{path}: not the key of the certificate", hint="give both of the same order.")


def _recognise(data: bytes, name: str) -> None:
    """Raises SiteError with the command that converts `data` if it is one of the usual forms other than PEM."""
    from cryptography import x509

    if not data.startswith(b"\x30"):  # a sequence in DER
        return
    if _SIGNED_DATA in data[:_DER_HEAD]:
        raise _to_convert(name, "a PKCS #7 file in DER", "pkcs7 -inform DER -print_certs")
    if _STORED_DATA in data[:_DER_HEAD]:
        raise _to_convert(name, "a PKCS #12 store", "pkcs12 -nokeys")
    try:
        x509.load_der_x509_certificate(data)
    except ValueError:
        return
    raise _to_convert(name, "a certificate in DER", "x509 -inform DER")


def _to_convert(name: str, what: str, way: str) -> SiteError:
    new = PurePath(name).with_suffix(".pem")
    if str(new) == name:
        new = new.with_name(f"{new.stem}-text.pem")
    command = f"openssl {way} -in {shlex.quote(name)} -out {shlex.quote(str(new))}"
    return SiteError(f"{name}: is {what}, not PEM; convert it: {command}", hint="name the new file in site.yaml.")


def _one(block: bytes, name: str, now: dt.datetime) -> tuple[str, str]:
    """The certificate in `block`, written anew, and a remark or an empty text."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        certificate = x509.load_pem_x509_certificate(block)
        subject = certificate.subject.rfc4514_string()
        expires = certificate.not_valid_after_utc
    except ValueError as exc:
        raise SiteError(f"{name}: a certificate is malformed: {exc}", hint="export it again.") from exc
    pem = certificate.public_bytes(Encoding.PEM).decode()
    return pem, f"{name}: the certificate of {subject} expired on {expires:%Y-%m-%d}" if expires < now else ""

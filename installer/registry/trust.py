"""Which certificates a connection trusts, and what to say when it does not."""

import hashlib
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from installer.errors import AirferryError, RegistryAccessError, UsageError
from installer.report import printable

if TYPE_CHECKING:
    from cryptography import x509

# Where distributions keep the system's authorities, as Go's crypto/x509 looks for them (root_linux.go). A program
# with an OpenSSL of its own has only one of these compiled in, and that may not be where this system keeps them.
SYSTEM_AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
PROBE_SECONDS = 5.0


class TrustStore:
    """TLS contexts: the system's authorities, and with a private authority those and that one. Safe for threads."""

    def __init__(self) -> None:
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def context(self, ca: bytes | None) -> ssl.SSLContext:
        """The context that also trusts the PEM certificates in `ca`. Raises UsageError if there is none in it."""
        key = hashlib.sha256(ca).hexdigest() if ca else ""
        with self._lock:
            if key not in self._contexts:
                self._contexts[key] = _context(ca)
            return self._contexts[key]


def _context(ca: bytes | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        for path in SYSTEM_AUTHORITIES:
            if Path(path).is_file():
                context.load_verify_locations(cafile=path)
                break
    if ca:
        try:
            context.load_verify_locations(cadata=ca.decode("ascii"))
        except (ssl.SSLError, UnicodeDecodeError, ValueError) as exc:
            raise UsageError("the private authority is no PEM certificate", hint="give the CA as PEM.") from exc
    return context


def untrusted(exc: ssl.SSLCertVerificationError, host: str, port: int, *, direct: bool) -> AirferryError:
    """The error for a certificate that does not verify; a second look (if `direct`) names issuer and fingerprint."""
    reason = exc.verify_message or "certificate verify failed"
    message = f"{host}:{port}: the certificate is not trusted: {reason.rstrip('.')}"
    shown = _shown_certificate(host, port) if direct else None
    if shown is not None:
        issuer = printable(shown.issuer.rfc4514_string())[:200]
        message += f" (issuer {issuer!r}, SHA-256 of the certificate {hashlib.sha256(_der(shown)).hexdigest()})"
    if "expired" in reason or "not yet valid" in reason:
        hint = "renew the registry's certificate, or correct the clock of this machine."
    elif "mismatch" in reason or "not valid for" in reason:
        hint = "use the name that the certificate was issued for, or have one issued for this name."
    else:
        hint = (
            f"if this is your own authority, give its certificate (PEM) as `ca:` of {host}:{port}, or of the registry "
            "that sends there; one file may hold several."
        )
    return RegistryAccessError(message, hint=hint)


def _der(certificate: "x509.Certificate") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)


def _shown_certificate(host: str, port: int) -> "x509.Certificate | None":
    """The certificate that a server shows, unverified: only for the text of an error. Nothing is sent."""
    from cryptography import x509

    try:
        pem = ssl.get_server_certificate((host, port), timeout=PROBE_SECONDS)
        return x509.load_pem_x509_certificate(pem.encode())
    except (OSError, ValueError):
        return None

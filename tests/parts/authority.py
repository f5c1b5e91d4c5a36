"""A private certificate authority, as a site that has no public names runs one."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.parts.registry import Certificate

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Authority:
    """An authority whose certificate is `certificate` (a PEM file); issues certificates into its folder."""

    def __init__(self, folder: Path, name: str = "airferry test authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.certificate = folder / "ca.crt"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        signed = (
            self._draft(self._name, self._key.public_key(), timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        hosts: Iterable[str] = (),
        *,
        organization: str | None = None,
        lifetime: timedelta = timedelta(days=20),
        begins: timedelta = timedelta(days=-1),
    ) -> Certificate:
        """Issue `NAME.crt` and `NAME.key` for server names and addresses `hosts`; good for clients, too.

        A negative `lifetime` gives a certificate that has expired, a positive `begins` one that is not valid yet.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if organization is not None:
            subject.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        draft = (
            self._draft(x509.Name(subject), key.public_key(), lifetime, begins)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        )
        if alternatives := [_general_name(host) for host in hosts]:
            draft = draft.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        certificate = Certificate(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        certificate.certificate.write_bytes(
            draft.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        certificate.key.touch(mode=0o600)
        certificate.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        return certificate

    def _draft(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        lifetime: timedelta,
        begins: timedelta = timedelta(days=-1),
    ) -> x509.CertificateBuilder:
        end = datetime.now(UTC) + lifetime
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(datetime.now(UTC), end) + begins)
            .not_valid_after(end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)

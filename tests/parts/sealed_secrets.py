"""An operator that others wrote: sealed-secrets, its own chart as it is, and what its users do with `kubeseal`.

The controller turns a SealedSecret into a Secret if one of the keys in its namespace opens it.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.parts.application import Application
from tests.parts.charts import package
from tests.parts.go_programs import sealed_secrets
from tests.parts.images import File, Image, Layer, Run

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = "docker.io/bitnami/sealed-secrets-controller:0.27.0"
"""As the values of the chart spell it."""
CRD = "sealedsecrets.bitnami.com"


@cache
def controller_image() -> Image:
    """The controller where the chart looks for it: as `controller` on the path."""
    program = sealed_secrets()[0].read_bytes()
    return Image((Layer({"/usr/local/bin/controller": File(program, 0o755)}),), Run(user="1001"))


@dataclass(frozen=True)
class SiteKey:
    """The key pair of a site, which has its secrets sealed with the public half."""

    key: rsa.RSAPrivateKey

    @classmethod
    def make(cls) -> SiteKey:
        """A new one."""
        return cls(rsa.generate_private_key(65537, 2048))

    def seal(self, namespace: str, name: str, text: str) -> str:
        """What only the controller reads, and only for the Secret `namespace`/`name`.

        Source: sealed-secrets, docs/developer/crypto.md. A session key is used once, so the nonce may be zero.
        """
        session = secrets.token_bytes(32)
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), f"{namespace}/{name}".encode())
        wrapped = self.key.public_key().encrypt(session, oaep)
        content = AESGCM(session).encrypt(bytes(12), text.encode(), None)
        return b64encode(len(wrapped).to_bytes(2, "big") + wrapped + content).decode()

    def secret(self, namespace: str) -> dict[str, Any]:
        """The Secret from which the controller learns the key."""
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "site")])
        draft = x509.CertificateBuilder(name, name, self.key.public_key(), x509.random_serial_number())
        start = datetime.now(UTC) - timedelta(hours=1)
        lasting = draft.not_valid_before(start).not_valid_after(start + timedelta(days=30))
        form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        certificate = lasting.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        key = self.key.private_bytes(serialization.Encoding.PEM, *form)
        labels = {"sealedsecrets.bitnami.com/sealed-secrets-key": "active"}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": "site-key", "namespace": namespace, "labels": labels},
            "stringData": {"tls.crt": certificate.decode(), "tls.key": key.decode()},
        }


def sealed(folder: Path, name: str, key: SiteKey, namespace: str, version: int = 1) -> Application:
    """The operator's chart, a SealedSecret of the word `word-VERSION`, and a question about the label of its Secret."""
    application = Application(folder, name, version=str(version), sequence=version)
    application.images = {IMAGE: controller_image()}
    application.chart(package(sealed_secrets()[1], version=f"2.16.{version}"))
    word = key.seal(namespace, "database", f"word-{version}")
    resource = {
        "apiVersion": "bitnami.com/v1alpha1",
        "kind": "SealedSecret",
        "metadata": {"name": "database"},
        "spec": {"encryptedData": {"word": word}, "template": {"metadata": {"labels": {"owner": "nobody"}}}},
    }
    application.document("database.yaml", resource, "resource")
    application.resource("database.yaml", name="database", controller="sealed-secrets", ready={"condition": "Synced"})
    application.profile["questions"] = {
        "owner": {
            "type": "text",
            "help": "Whom the database belongs to.",
            "to": [{"step": "database", "path": "spec.template.metadata.labels.owner"}],
        }
    }
    return application

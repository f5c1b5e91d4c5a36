"""A token server for a real registry with `auth: token`: who logs in may pull and push, nobody may only pull.

Rules: distribution's "Docker Registry v2 authentication via central service" and its "Token Authentication
Implementation" (claims, `x5c` header). The registry trusts the server's certificate (`rootcertbundle`).
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from tests.parts.served import Served

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ISSUER = "airferry test tokens"
SERVICE = "airferry test registry"


class TokenServer(Served):
    """A token server at a free port of 127.0.0.1; `users` (name → password), tokens live `life` seconds.

    One that `creates` is like that of Quay: a repository comes into being when a token to push into it is asked for,
    and before that nothing is granted on it.
    """

    def __init__(self, folder: Path, users: Mapping[str, str], *, life: int = 300, creates: bool = False) -> None:
        self.users, self.life = dict(users), life
        self._made: set[str] | None = set() if creates else None
        self.refresh_tokens: dict[str, str] = {}
        self.scopes: list[list[str]] = []
        self._key = rsa.generate_private_key(65537, 2048)
        certificate = _certificate(self._key)
        self._der = certificate.public_bytes(serialization.Encoding.DER)
        self.bundle = folder / "tokens.crt"
        self.bundle.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), _handler(self)))
        self.realm = f"http://127.0.0.1:{self._server.server_address[1]}/token"

    @property
    def settings(self) -> dict[str, Any]:
        """The part of the registry's configuration that makes it ask for these tokens."""
        pairs = {"realm": self.realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(self.bundle)}
        return {"auth": {"token": pairs}}

    def token(self, user: str, scopes: list[str]) -> str:
        """A signed token for `scopes`; without a user only for pulling."""
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            granted = [action for action in actions.split(",") if user or action == "pull"]
            if self._made is not None:
                if "push" in granted:
                    self._made.add(name)
                granted = granted if name in self._made else []
            access.append({"type": kind, "name": name, "actions": granted})
        now = int(time.time())
        claims = {"iss": ISSUER, "sub": user, "aud": SERVICE, "exp": now + self.life, "nbf": now - 10, "iat": now}
        claims |= {"jti": secrets.token_hex(8), "access": access}
        header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(self._der).decode()]}
        text = f"{_part(header)}.{_part(claims)}"
        signature = self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def _certificate(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


def _part(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


def _handler(owner: TokenServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            """Nothing."""

        def do_GET(self) -> None:
            user = ""
            if given := self.headers.get("Authorization"):
                user, _, password = base64.b64decode(given.removeprefix("Basic ")).decode().partition(":")
                if owner.users.get(user) != password:
                    self._say(401, {"details": "incorrect username or password"})
                    return
            self._grant(user, parse_qs(urlsplit(self.path).query).get("scope", []))

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            user = owner.refresh_tokens.get(form["refresh_token"][0])
            if user is None:
                self._say(401, {"details": "invalid refresh token"})
                return
            self._grant(user, form.get("scope", [""])[0].split())

        def _grant(self, user: str, scopes: list[str]) -> None:
            owner.scopes.append(scopes)
            self._say(200, {"token": owner.token(user, scopes), "expires_in": owner.life})

        def _say(self, status: int, document: object) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler

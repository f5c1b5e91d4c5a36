"""How a request is authorized: basic credentials, or a bearer token from the token server that a registry names.

Sources: RFC 9110 section 11 (challenges), distribution's "Token Authentication Specification" (GET with basic
credentials) and "Oauth2 Token Authentication" (POST with an identity token).

A registry chooses its token server in its 401 answer. Credentials go there only over https, to the registry's own
host, a host below it, a sibling under the same parent domain (`registry-1.docker.io` and `auth.docker.io`), or one
that the user names (`token_hosts`); over plain http only to the own host of a registry that is itself plain http.
Without credentials a token server anywhere under https may be asked.
"""

import re
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from installer import strict_json
from installer.errors import RegistryAccessError
from installer.registry.credentials import Credentials
from installer.registry.endpoint import Endpoint, is_web_address
from installer.registry.proxies import ip_address
from installer.value import Value

MAX_TOKEN_ANSWER = 1 << 20
# What the specification tells clients to assume where `expires_in` is absent.
DEFAULT_LIFE = 60.0
LONGEST_LIFE = 3600.0
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110's name for a word
_SCHEME = re.compile(rf"[\s,]*({_TOKEN})(?=[\s,]|$)", re.ASCII)
_PARAMETER = re.compile(rf'[\s,]*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))\s*(?=,|$)', re.ASCII)
_BEARER = re.compile(r"[\x21-\x7e]{1,65536}", re.ASCII)


class Challenge(Value):
    """One way of authorizing that a server offers: the scheme in lower case, parameters by lower-case names."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(header: str) -> list[Challenge]:
    """The challenges in a `WWW-Authenticate` header; what is malformed ends the list."""
    found: list[Challenge] = []
    at = 0
    header = header[:16_384]
    while scheme := _SCHEME.match(header, at):
        at = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, at):
            at = parameter.end()
            quoted, plain = parameter[2], parameter[3]
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters.setdefault(parameter[1].lower(), value)
        found.append(Challenge(scheme[1].lower(), parameters))
    return found


class AskTokenServer(Protocol):
    """A request for a token for `registry`: GET, or POST of `form`; a 200 answer's body of at most `limit` bytes."""

    def __call__(
        self, registry: Endpoint, url: str, headers: Mapping[str, str], form: bytes | None, limit: int
    ) -> bytes: ...


class _Token(Value):
    header: str
    until: float


_Key = tuple[str, str, tuple[str, ...]]
"""What a token is good for: the registry's origin, its token server, scopes."""


class Authorizer:
    """The `Authorization` headers for any number of registries. Safe to use from several threads.

    A registry's challenge is remembered, so that only the first request to it is made in vain.
    """

    def __init__(
        self,
        ask: AskTokenServer,
        credentials: Callable[[str], Credentials | None],
        token_hosts: Callable[[str], tuple[str, ...]],
        clock: Callable[[], float],
    ) -> None:
        self._ask, self._credentials, self._token_hosts, self._clock = ask, credentials, token_hosts, clock
        self._challenges: dict[Endpoint, Challenge] = {}
        self._tokens: dict[_Key, _Token] = {}
        self._locks: defaultdict[_Key, threading.Lock] = defaultdict(threading.Lock)
        self._lock = threading.Lock()

    def header(self, endpoint: Endpoint, scopes: tuple[str, ...]) -> str:
        """What to send with a request that needs `scopes`; empty where nothing is known to be needed."""
        challenge = self._challenges.get(endpoint)
        return self._header(endpoint, scopes, challenge, "") if challenge else ""

    def answer(self, endpoint: Endpoint, scopes: tuple[str, ...], offers: list[Challenge], failed: str) -> str | None:
        """What to send after a 401 answer with `offers` to a request that was sent with `failed`.

        None if there is nothing else to try. Raises RegistryAccessError, TransientError.
        """
        for challenge in offers:
            if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                break
            if challenge.scheme == "basic" and self._credentials(endpoint.host) is not None:
                break
        else:
            return None
        header = self._header(endpoint, scopes, challenge, failed)
        self._challenges[endpoint] = challenge
        return header if header != failed else None

    def _header(self, endpoint: Endpoint, scopes: tuple[str, ...], challenge: Challenge, failed: str) -> str:
        credentials = self._credentials(endpoint.host)
        if challenge.scheme == "basic":
            return credentials.basic() if credentials and credentials.username else ""
        if not scopes and challenge.parameters.get("scope"):
            scopes = tuple(challenge.parameters["scope"].split()[:8])
        key = (endpoint.origin, challenge.parameters["realm"], scopes)
        # One thread asks for a token; the others that need the same one wait for it.
        with self._lock:
            lock = self._locks[key]
        with lock:
            token = self._tokens.get(key)
            if token is None or token.header == failed or token.until <= self._clock():
                token = self._new_token(endpoint, scopes, challenge, credentials)
                self._tokens[key] = token
            return token.header

    def _new_token(
        self, endpoint: Endpoint, scopes: tuple[str, ...], challenge: Challenge, credentials: Credentials | None
    ) -> _Token:
        realm = challenge.parameters["realm"]
        self._check_realm(realm, endpoint, secret=credentials is not None)
        service = challenge.parameters.get("service", "")
        start = self._clock()
        if credentials is not None and credentials.identity_token:
            form = {"grant_type": "refresh_token", "service": service, "client_id": "airferry"}
            form |= {"scope": " ".join(scopes), "refresh_token": credentials.identity_token}
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            raw = self._ask(endpoint, realm, headers, urlencode(form).encode(), MAX_TOKEN_ANSWER)
        else:
            pairs = ([("service", service)] if service else []) + [("scope", scope) for scope in scopes]
            query = urlencode(pairs)
            headers = {"Authorization": credentials.basic()} if credentials is not None else {}
            url = f"{realm}{'&' if urlsplit(realm).query else '?'}{query}" if query else realm
            raw = self._ask(endpoint, url, headers, None, MAX_TOKEN_ANSWER)
        return _parse_token(raw, urlsplit(realm).netloc, start)

    def _check_realm(self, realm: str, endpoint: Endpoint, *, secret: bool) -> None:
        if not is_web_address(realm):
            raise RegistryAccessError(f"{endpoint.host}: its token server is no web address: {realm[:100]!r}")
        host = urlsplit(realm).hostname or ""
        own = urlsplit(endpoint.origin).hostname or ""
        if realm.startswith("http:") and not (endpoint.origin.startswith("http:") and host == own):
            raise RegistryAccessError(
                f"{endpoint.host}: wants tokens fetched without TLS from {host}, which is refused",
                hint="the registry's configuration (realm of its token authentication) must name an https address.",
            )
        named = {host, urlsplit(realm).netloc} & set(self._token_hosts(endpoint.host))
        if secret and not named and not is_related(own, host):
            raise RegistryAccessError(
                f"{endpoint.host}: wants its credentials sent to {host}, which is refused",
                hint=f"if {host} is its token server, name it in `token_hosts` of the registry (`load --token-host`).",
            )


def is_related(own: str, other: str) -> bool:
    """Whether the host `other` is `own`, below it, or a sibling (or parent) under the domain that `own` is in.

    A domain of one label (`com`), or of two short ones (`co.uk`), relates nobody: such are sold to strangers.
    """
    if own == other:
        return True
    if ip_address(own) or ip_address(other):
        return False
    domains = [own] if "." in own else []
    parent = own.partition(".")[2]
    labels = parent.split(".")
    if len(labels) > 2 or (len(labels) == 2 and not (len(labels[1]) == 2 and len(labels[0]) <= 3)):
        domains.append(parent)
    return any(other == domain or other.endswith(f".{domain}") for domain in domains)


def _parse_token(raw: bytes, server: str, start: float) -> _Token:
    """The token in a token server's answer, usable from `start` on (seconds of the clock)."""
    answer: Any = strict_json.parse(raw, f"{server}: the token server's answer", RegistryAccessError)
    if not isinstance(answer, dict):
        raise RegistryAccessError(f"{server}: the token server's answer is not an object")
    token = answer.get("token") or answer.get("access_token")
    if not isinstance(token, str) or not _BEARER.fullmatch(token):
        raise RegistryAccessError(f"{server}: the token server's answer holds no token")
    life = answer.get("expires_in")
    if isinstance(life, bool) or not isinstance(life, int | float) or not 0 < life < 1e9:
        life = DEFAULT_LIFE
    life = min(float(life), LONGEST_LIFE)
    # Used up a little early: a request on its way must still find it valid.
    return _Token(f"Bearer {token}", start + life - min(10.0, life / 4))

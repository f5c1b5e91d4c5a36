"""How a request is authorized: basic credentials, or a bearer token from the token server that a registry names.

Sources: RFC 9110 section 11 (challenges), distribution's "Token Authentication Specification" (GET with basic
credentials) and "Oauth2 Token Authentication" (POST with an identity token).

A registry chooses its token server in its 401 answer. Credentials go there only over https, to the registry's own
host, a host below it, a sibling under the same parent domain (`registry-1.docker.io` and `auth.docker.io`), or one
that the user names (`token_hosts`); over plain http only to the own host of a registry that is itself plain http.
Without credentials a token server anywhere under https may be asked.

What is offered is tried in turn: a token for the scopes that a request needs, one for those that the challenge names
(a registry may call a repository otherwise than its clients do; oras-go#650), then the password itself. What the
registry takes is remembered.
"""

import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from installer import strict_json
from installer.errors import AirferryError, ContentError, RegistryAccessError
from installer.registry.credentials import Credentials
from installer.registry.endpoint import Endpoint, ip_address, is_web_address
from installer.registry.failures import LoginRefusedError, TransientError
from installer.value import Value

MAX_TOKEN_ANSWER = 1 << 20
# What the specification tells clients to assume where `expires_in` is absent.
DEFAULT_LIFE = 60.0
LONGEST_LIFE = 3600.0
_MOST_WAYS = 4
_MOST_SCOPES = 8
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
_Login = tuple[str, Credentials]
"""A token server, and who asks it."""


class Authorizer:
    """The `Authorization` headers for any number of registries. Safe to use from several threads.

    A registry's challenge is remembered, so that only the first request to it is made in vain.
    """

    def __init__(
        self,
        ask: AskTokenServer,
        credentials: Callable[[str, str], Credentials | None],
        token_hosts: Callable[[str], tuple[str, ...]],
        clock: Callable[[], float],
    ) -> None:
        self._ask, self._known, self._token_hosts, self._clock = ask, credentials, token_hosts, clock
        self._challenges: dict[Endpoint, Challenge] = {}
        # The scopes by which the registry itself knows what a request needs, where they are others.
        self._scopes: dict[tuple[Endpoint, tuple[str, ...]], tuple[str, ...]] = {}
        self._tokens: dict[_Key, _Token] = {}
        self._locks: defaultdict[_Key, threading.Lock] = defaultdict(threading.Lock)
        # Who was let in by which token server, and who was not: a password that is wrong is tried once, since many
        # servers lock an account after a few such tries.
        self._let_in = set[_Login]()
        self._denied: dict[_Login, LoginRefusedError] = {}
        self._doors: defaultdict[_Login, threading.Lock] = defaultdict(threading.Lock)
        self._lock = threading.Lock()

    def credentials(self, endpoint: Endpoint, scopes: tuple[str, ...]) -> Credentials | None:
        """The credentials for a request that needs `scopes`: those of the repository that the first one names."""
        kind, _, rest = scopes[0].partition(":") if scopes else ("", "", "")
        return self._known(endpoint.host, rest.rpartition(":")[0] if kind == "repository" else "")

    def header(self, endpoint: Endpoint, scopes: tuple[str, ...]) -> str:
        """What to send with a request that needs `scopes`; empty where nothing is known to be needed."""
        challenge = self._challenges.get(endpoint)
        if challenge is None:
            return ""
        stated = _stated(challenge) if not scopes else ()
        return self._header(endpoint, scopes, self._scopes.get((endpoint, scopes), scopes or stated), challenge)[0]

    def token_server(self, endpoint: Endpoint) -> str:
        """The address that the endpoint has tokens made at, as far as it has said so; else empty."""
        challenge = self._challenges.get(endpoint)
        return challenge.parameters.get("realm", "") if challenge and challenge.scheme == "bearer" else ""

    def expect(self, endpoint: Endpoint, scopes: tuple[str, ...], offers: list[Challenge]) -> bool:
        """Heed what the endpoint has offered to another request; whether there is something to answer it with."""
        for challenge, _ in self._ways(endpoint, scopes, offers):
            self._challenges[endpoint] = challenge
            return True
        return False

    def answer(
        self,
        endpoint: Endpoint,
        scopes: tuple[str, ...],
        offers: list[Challenge],
        failed: str,
        tried: dict[tuple[str, ...], Exception | None],
    ) -> str | None:
        """What to send after a 401 answer with `offers` to a request that was sent with `failed`.

        `tried` is empty at first, and keeps from answer to answer what was tried for this request, and why it did not
        come to that. None if there is nothing else to try. Raises RegistryAccessError, TransientError where no token is
        to be had.
        """
        first, denied = not tried, False
        for key in [key for key, token in [*self._tokens.items()] if token.header == failed]:
            self._tokens.pop(key, None)
        for challenge, wanted in self._ways(endpoint, scopes, offers):
            way = (challenge.scheme, *wanted)
            if way in tried or len(tried) == _MOST_WAYS or (denied and challenge.scheme == "bearer"):
                continue
            tried[way] = None
            try:
                header, fresh = self._header(endpoint, scopes, wanted, challenge)
            except (AirferryError, TransientError) as exc:
                tried[way] = exc
                # Who asked for too much (400) may ask for less; a password that is wrong is not sent there again.
                denied = not isinstance(exc, ContentError)
                continue
            if not fresh:
                # The registry may have forgotten a token that others have been given.
                del tried[way]
            if header != failed:
                self._challenges[endpoint] = challenge
                if challenge.scheme == "bearer" and scopes:
                    self._scopes[endpoint, scopes] = wanted
                return header
        # What is offered besides is of no use, but a token server that failed in passing is.
        for problem in tried.values():
            if problem and (first or isinstance(problem, TransientError)):
                raise problem
        return None

    def _ways(
        self, endpoint: Endpoint, scopes: tuple[str, ...], offers: list[Challenge]
    ) -> Iterator[tuple[Challenge, tuple[str, ...]]]:
        """What can be answered with, the likeliest first: a challenge, and the scopes of the token that it asks for."""
        bearer = [item for item in offers if item.scheme == "bearer" and item.parameters.get("realm")]
        for challenge in bearer:
            stated = _stated(challenge)
            known = self._scopes.get((endpoint, scopes))
            yield from ((challenge, wanted) for wanted in (known, scopes, stated) if wanted)
            if not scopes and not stated:
                yield challenge, ()
        for challenge in offers:
            if challenge.scheme == "basic":
                credentials = self.credentials(endpoint, scopes)
                if credentials and credentials.username:
                    yield challenge, ()

    def _header(
        self,
        endpoint: Endpoint,
        scopes: tuple[str, ...],
        wanted: tuple[str, ...],
        challenge: Challenge,
    ) -> tuple[str, bool]:
        """What to send, and whether nobody was given it before."""
        credentials = self.credentials(endpoint, scopes)
        if challenge.scheme == "basic":
            return credentials.basic() if credentials and credentials.username else "", True
        key = (endpoint.origin, challenge.parameters["realm"], wanted)
        # One thread asks for a token; the others that need the same one wait for it.
        with self._lock:
            lock = self._locks[key]
        with lock:
            token = self._tokens.get(key)
            fresh = token is None or token.until <= self._clock()
            if token is None or fresh:
                token = self._new_token(endpoint, wanted, challenge, credentials)
                self._tokens[key] = token
            return token.header, fresh

    def _new_token(
        self, endpoint: Endpoint, scopes: tuple[str, ...], challenge: Challenge, credentials: Credentials | None
    ) -> _Token:
        realm = challenge.parameters["realm"]
        self._check_realm(realm, endpoint, secret=credentials is not None)
        if credentials is None or (realm, credentials) in self._let_in:
            return self._asked(endpoint, scopes, challenge, credentials)
        login = realm, credentials
        with self._lock:
            door = self._doors[login]
        with door:
            if known := self._denied.get(login):
                raise LoginRefusedError(known.message, hint=known.hint) from known
            if login not in self._let_in:
                try:
                    token = self._asked(endpoint, scopes, challenge, credentials)
                except LoginRefusedError as exc:
                    self._denied[login] = exc
                    raise
                self._let_in.add(login)
                return token
        return self._asked(endpoint, scopes, challenge, credentials)

    def _asked(
        self, endpoint: Endpoint, scopes: tuple[str, ...], challenge: Challenge, credentials: Credentials | None
    ) -> _Token:
        realm = challenge.parameters["realm"]
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


def _stated(challenge: Challenge) -> tuple[str, ...]:
    """The scopes that a challenge names."""
    return tuple(challenge.parameters.get("scope", "").split()[:_MOST_SCOPES])


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

"""HTTP to registries: connections, trust, proxies, redirects, and the one retry layer of the program.

An *exchange* is one request with everything that belongs to it: authorization, redirects, errors turned into
`installer.errors`. `Transport.retrying` repeats what raises `TransientError`; nothing else in the program retries.

What is sent where: an `Authorization` header goes to the origin (scheme, host, port) it was made for and to no other;
redirects are followed for GET and HEAD only, never from https to http; cookies are neither kept nor sent; bodies are
asked for as they are (`Accept-Encoding: identity`). How long is waited, and how many requests are sent at a time,
`HostSettings` and `throttle` say.
"""

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

from installer.errors import AirferryError, RegistryAccessError, UsageError
from installer.parallel import pause
from installer.registry import failures
from installer.registry.authorization import Authorizer, parse_challenges
from installer.registry.connections import Connections
from installer.registry.credentials import Credentials, CredentialStore
from installer.registry.endpoint import Endpoint, HostSettings, endpoint, is_web_address, joined, origin, place
from installer.registry.failures import ConnectionRefused, TransientError
from installer.registry.messages import MAX_ERROR_BODY, Request, Response, retry_after, sliced
from installer.registry.throttle import Throttle
from installer.value import replace

# A registry hashes and moves a blob before it answers an upload; object stores copy it.
SLOWEST_COMMIT = 10e6
ATTEMPTS = 5
# Who waits for other requests of ours to end looks again after a second or so, for a minute or so.
SOON = 3
REFUSALS = 60
PROGRESS = 1 << 20
FIRST_WAIT = 0.1
LONGEST_WAIT = 30.0
TELL_SECONDS = 10.0
MAX_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
# What a registry may answer strangers with to hide what they may not see.
HIDING = frozenset({403, 404})
_DEFAULTS = HostSettings()

T = TypeVar("T")


class Transport:
    """HTTP to any number of hosts. Safe to use from several threads.

    `hosts` are settings by host as in image references; `proxies` the proxy variables of the environment (give none
    to go directly); `sleep` waits between tries, or ends them by an error; `clock` counts seconds; `tell` hears why
    work takes long.
    """

    def __init__(
        self,
        *,
        hosts: Mapping[str, HostSettings] | None = None,
        credentials: CredentialStore | None = None,
        proxies: Mapping[str, str] | None = None,
        sleep: Callable[[float], None] = pause,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._hosts = dict(hosts or {})
        self._store = credentials or CredentialStore()
        self._connections = Connections(proxies or {})
        self._sleep, self.clock, self.tell = sleep, clock, tell
        self._random = secrets.SystemRandom()
        self._throttles = _Throttles(sleep, clock, tell)
        self._authorizer = Authorizer(self._ask_token_server, self.credentials, self._token_hosts, clock)
        self._hiding = dict[Endpoint, bool]()
        self._lock = threading.Lock()

    def endpoint(self, host: str) -> Endpoint:
        """The endpoint of the registry that references call `host`."""
        return endpoint(host, self._hosts)

    def credentials(self, host: str, repository: str = "") -> Credentials | None:
        """The credentials for `host`, or for one repository there: from its settings, else from the store."""
        settings = self._hosts.get(host, _DEFAULTS)
        return settings.credentials or self._store.find(host, repository)

    def token_server(self, host: str) -> str:
        """Where the registry `host` has tokens made, as far as its answers have shown; else empty."""
        return self._authorizer.token_server(self.endpoint(host))

    def retrying(self, operation: Callable[[], T], position: Callable[[], int] = lambda: 0) -> T:
        """`operation()`, repeated while it raises TransientError, see `Tries`.

        What goes on where it broke off says by `position` how far it came: tries are counted anew after PROGRESS bytes.
        """
        tries = Tries(self, PROGRESS)
        while True:
            try:
                return operation()
            except TransientError as exc:
                tries.failed(exc, position())

    def pause(self, attempt: int) -> None:
        """Wait after failed try number `attempt` (from 1): four times as long each.

        A connection that broke by chance costs a moment, a server that starts anew has some seconds in all. The jitter
        keeps many clients of one server from coming back at the same moment.
        """
        longest = min(FIRST_WAIT * 4 ** (attempt - 1), LONGEST_WAIT)
        self._sleep(self._random.uniform(longest / 2, longest))

    def send(self, request: Request) -> Response:
        """`exchange` with retries. Only for requests that may be repeated."""
        return self.retrying(lambda: self.exchange(request))

    def exchange(self, request: Request) -> Response:
        """One request, authorized as its endpoint asks. Raises TransientError, AirferryError."""
        authorization = self._authorizer.header(request.endpoint, request.scopes)
        response = self._admitted(request, authorization)
        stranger = not authorization and "Authorization" not in request.headers
        if stranger and response.status in HIDING and _at_home(request, response):
            try:
                authorization = self._revealing(request)
            except BaseException:
                response.close()
                raise
            if authorization:
                response.close()
                response = self._admitted(request, authorization)
        tried = dict[tuple[str, ...], Exception | None]()
        while response.status == 401 and _at_home(request, response):
            with response:
                error = self._refusal(request, response)
            # Who asks for nothing by name is given the password, as Helm does.
            offers = parse_challenges(response.header("WWW-Authenticate")) or parse_challenges("Basic")
            again = self._authorizer.answer(request.endpoint, request.scopes, offers, authorization, tried)
            if again is None:
                raise error
            authorization = again
            response = self._admitted(request, authorization)
        if response.status in request.expect:
            return response
        with response:
            raise self._refusal(request, response)

    def fetch(self, url: str, limit: int, *, accept: str = "*/*", packed: bool = False) -> bytes:
        """The document at `url` (not of a registry: a chart repository), of at most `limit` bytes.

        `packed` as in `Response.read`. Credentials are those of the URL's host. Raises AirferryError.
        """
        if not is_web_address(url):
            raise UsageError(f"not a web address: {place(url)!r}", hint="like https://host/path, without a password.")
        endpoint = Endpoint(urlsplit(url).netloc, origin(url))
        request = Request(endpoint, "GET", url, frozenset({200}), {"Accept": accept})

        def once() -> bytes:
            with self.exchange(request) as response:
                return response.read(limit, packed=packed)

        return self.retrying(once)

    def throttle(self, host: str) -> Throttle:
        """The throttle that limits concurrent requests to `host`."""
        return self._throttles[host]

    def _admitted(self, request: Request, authorization: str, *, urgent: bool = False) -> Response:
        """`_follow`, as soon as the throttle of the host admits it."""
        turn = self._throttles[request.endpoint.host].enter(urgent=urgent)
        try:
            response = self._follow(request, authorization)
        except ConnectionRefused as exc:
            crowded = turn.refuse(0.0, said=False)
            turn.end()
            raise TransientError(exc.error, crowded=crowded) from exc
        except BaseException:
            turn.end()
            raise
        response.turn = turn
        return response

    def _refusal(self, request: Request, response: Response) -> Exception:
        """The error for a response that nobody hoped for; what it says of too many requests is heeded."""
        body, status = response.start(MAX_ERROR_BODY), response.status
        host, redirected = request.endpoint.host, not _is_from(response, request.url)
        error = failures.refusal(response.method, response.url, status, body, host, redirected=redirected)
        if not failures.may_pass(status, body):
            return error
        asked, limit = retry_after(response), self._settings(request).pause_seconds
        if asked is not None and asked > limit:
            return failures.overlong_pause(error, asked, limit)
        crowded = False
        if response.turn and (status in (429, 503) or asked):
            crowded = response.turn.refuse(asked or 0.0, said=status == 429 or asked is not None)
        return TransientError(error, crowded=crowded)

    def _revealing(self, request: Request) -> str:
        """What to send with `request`, which was refused without credentials as if nothing were there.

        Registries that hide their content challenge at `/v2/` only, and that is asked once (skopeo and crane begin
        with it). A chart repository is given the credentials, as Helm does. Empty where nothing is to be sent.
        """
        place = request.endpoint
        if not self._is_known(request):
            return ""
        with self._lock:
            if place not in self._hiding:
                self._hiding[place] = self._challenged(request)
        return self._authorizer.header(place, request.scopes) if self._hiding[place] else ""

    def _is_known(self, request: Request) -> bool:
        try:
            return self._authorizer.credentials(request.endpoint, request.scopes) is not None
        except AirferryError:
            # A helper that fails matters when it is needed.
            return False

    def _challenged(self, request: Request) -> bool:
        """Whether the endpoint asks for credentials at its root; the authorizer knows then how."""
        registry = f"{request.endpoint.origin}/v2/"
        if not request.url.startswith(registry):
            return self._authorizer.expect(request.endpoint, request.scopes, parse_challenges("Basic"))
        ping = Request(request.endpoint, "GET", registry, request.expect)
        with self._admitted(ping, "", urgent=True) as response:
            if failures.may_pass(response.status, b""):
                raise self._refusal(ping, response)
            offers = parse_challenges(response.header("WWW-Authenticate")) if response.status == 401 else []
        return self._authorizer.expect(request.endpoint, request.scopes, offers)

    def _follow(self, request: Request, authorization: str) -> Response:
        """Send a request and follow its redirects, the authorization staying with the origin it is for."""
        url = request.url
        for _ in range(MAX_REDIRECTS + 1):
            mine = origin(url) == origin(request.endpoint.origin)
            response = self._send(request, url, authorization if mine else "")
            if response.status not in REDIRECTS or response.status in request.expect:
                return response
            with response:
                url = _redirected(request, url, response.header("Location"))
        raise RegistryAccessError(f"{place(request.url)}: more than {MAX_REDIRECTS} redirects")

    def _send(self, request: Request, url: str, authorization: str) -> Response:
        headers = {"User-Agent": "airferry", "Accept-Encoding": "identity", **request.headers}
        if authorization:
            headers["Authorization"] = authorization
        patience = self._settings(request).answer_seconds
        body, seconds = None, float(patience)
        if request.body is not None:
            headers["Content-Length"] = str(request.length)
            body, seconds = sliced(request.body()), patience + max(request.length, request.handled) / SLOWEST_COMMIT
        parts = urlsplit(url)
        ca = self._authority(parts.netloc, parts.hostname or "", request.endpoint.host)
        asked = self._connections.ask(
            request.method, url, headers, body, ca=ca, seconds=seconds, slice_seconds=float(patience)
        )
        return Response(asked, request.method, url, seconds)

    def _settings(self, request: Request) -> HostSettings:
        return self._hosts.get(request.endpoint.host, _DEFAULTS)

    def _authority(self, *names: str) -> bytes | None:
        """The private authority for a URL's host: the one given for the first of `names` that has settings.

        Its name and port, its name, and the registry that sends there: token servers and the stores that blobs are
        redirected to mostly have their certificates from where the registry has its own.
        """
        for key in names:
            settings = self._hosts.get(key)
            if settings is not None:
                return settings.ca
        return None

    def _token_hosts(self, host: str) -> tuple[str, ...]:
        settings = self._hosts.get(host)
        return settings.token_hosts if settings is not None else ()

    def _ask_token_server(
        self, registry: Endpoint, url: str, headers: Mapping[str, str], form: bytes | None, limit: int
    ) -> bytes:
        """One try of a request for a token. Redirects are not followed: they would carry the credentials away."""
        request = Request(registry, "GET", url, frozenset({200}), headers)
        if form is not None:
            request = replace(request, method="POST", body=lambda: [form], length=len(form))
        turn = self._throttles[registry.host].enter(urgent=True)
        try:
            with self._send(request, url, "") as response:
                response.turn = turn
                if response.status != 200:
                    raise self._refusal(request, response)
                return response.read(limit)
        finally:
            turn.end()


class Tries:
    """The tries of one piece of work: ATTEMPTS in a row that come no further than `progress` bytes are all.

    What is refused because of other requests of ours has not failed: they end, and then it is tried again.
    """

    def __init__(self, transport: Transport, progress: int, position: int = 0) -> None:
        self._transport, self._progress, self._reached = transport, progress, position
        self._failed = self._refused = 0
        self._since = transport.clock()

    def failed(self, exc: TransientError, position: int) -> None:
        """Wait for the next try, to be made from `position` on. Raises the error of `exc` if there is none."""
        if position >= self._reached + self._progress:
            self._failed, self._reached = 0, position
        self._refused += exc.crowded
        self._failed += not exc.crowded or self._refused > REFUSALS
        if self._failed == ATTEMPTS:
            raise exc.error from exc
        if self._transport.clock() - self._since > TELL_SECONDS:
            self._transport.tell(f"{exc.error.message}; trying again")
        self._transport.pause(max(self._failed, min(self._refused, SOON)))


class _Throttles(dict[str, Throttle]):
    """The throttle of each host, made when it is first asked for."""

    def __init__(self, sleep: Callable[[float], None], clock: Callable[[], float], tell: Callable[[str], None]) -> None:
        self._sleep, self._clock, self._tell = sleep, clock, tell

    def __missing__(self, host: str) -> Throttle:
        return self.setdefault(host, Throttle(host, self._sleep, self._clock, self._tell))


def _is_from(response: Response, url: str) -> bool:
    return origin(response.url) == origin(url)


def _at_home(request: Request, response: Response) -> bool:
    """Whether the endpoint itself has answered, not where it sends."""
    return _is_from(response, request.endpoint.origin)


def _redirected(request: Request, url: str, location: str) -> str:
    """The target of a redirect from `url`. Raises RegistryAccessError for one that is not followed."""
    if request.method not in ("GET", "HEAD"):
        raise RegistryAccessError(f"{place(url)}: redirects a {request.method}, which is not followed")
    # Header fields are bytes; those of UTF-8 stay what they are (RFC 9110, section 5.5).
    target = joined(url, location.encode("latin-1", "replace").decode(errors="surrogateescape"))
    if not target:
        raise RegistryAccessError(f"{place(url)}: redirects to something that is no web address")
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme == "http":
        raise RegistryAccessError(f"{place(url)}: redirects from https to http ({place(target)})")
    return target

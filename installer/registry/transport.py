"""HTTP to registries: connections, trust, proxies, redirects, and the one retry layer of the program.

An *exchange* is one request with everything that belongs to it: authorization, redirects, errors turned into
`installer.errors`. `Transport.retrying` repeats what raises `TransientError`; nothing else in the program retries.

What is sent where: an `Authorization` header goes to the origin (scheme, host, port) it was made for and to no other;
redirects are followed for GET and HEAD only, never from https to http; cookies are neither kept nor sent; bodies are
taken as they are (`Accept-Encoding: identity`), never decompressed.
"""

import base64
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection

from installer.errors import RegistryAccessError, UsageError
from installer.parallel import pause
from installer.registry import failures
from installer.registry.authorization import Authorizer, parse_challenges
from installer.registry.credentials import Credentials, CredentialStore
from installer.registry.endpoint import Endpoint, HostSettings, endpoint, is_web_address, joined, origin, place
from installer.registry.failures import TransientError
from installer.registry.messages import MAX_ERROR_BODY, NETWORK_ERRORS, Request, Response, refusal, retry_after, sliced
from installer.registry.proxies import Proxies, Proxy
from installer.registry.throttle import Throttle
from installer.registry.trust import TrustStore
from installer.value import replace

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
# A registry hashes and moves a blob before it answers an upload; object stores copy it.
SLOWEST_COMMIT = 10e6
# What the kernel holds of a body beyond what is on its way: bytes that wait for long have left the processor's caches,
# and a receiver on the same machine fetches them from afar. The window stays as large as the line wants it (Linux,
# tcp_notsent_lowat).
UNSENT = 128 << 10
SOCKET_OPTIONS = (*HTTPConnection.default_socket_options, (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT))
ATTEMPTS = 5
PROGRESS = 1 << 20
FIRST_WAIT = 0.1
LONGEST_WAIT = 30.0
LONGEST_RETRY_AFTER = 120.0
MAX_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
POOLED_CONNECTIONS = 128
POOLED_HOSTS = 64

T = TypeVar("T")


class Transport:
    """HTTP to any number of hosts. Safe to use from several threads.

    `hosts` are settings by host as in image references; `proxies` the proxy variables of the environment (give none
    to go directly); `sleep` waits between tries, or ends them by an error; `clock` counts seconds for the life of
    tokens.
    """

    def __init__(
        self,
        *,
        hosts: Mapping[str, HostSettings] | None = None,
        credentials: CredentialStore | None = None,
        proxies: Mapping[str, str] | None = None,
        sleep: Callable[[float], None] = pause,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hosts = dict(hosts or {})
        self._store = credentials or CredentialStore()
        self._proxies = Proxies(proxies or {})
        self._sleep = sleep
        self._trust = TrustStore()
        self._random = secrets.SystemRandom()
        self._managers: dict[tuple[int, Proxy | None], urllib3.PoolManager] = {}
        self._lock = threading.Lock()
        self._throttles = _Throttles(sleep, clock)
        self._authorizer = Authorizer(self._ask_token_server, self.credentials, self._token_hosts, clock)

    def endpoint(self, host: str) -> Endpoint:
        """The endpoint of the registry that references call `host`."""
        return endpoint(host, self._hosts)

    def credentials(self, host: str) -> Credentials | None:
        """The credentials for `host`: from its settings, else from the credential store."""
        settings = self._hosts.get(host)
        if settings is not None and settings.credentials is not None:
            return settings.credentials
        return self._store.find(host)

    def retrying(self, operation: Callable[[], T], position: Callable[[], int] = lambda: 0) -> T:
        """`operation()`, repeated while it raises TransientError, with growing pauses, ATTEMPTS times in all.

        What goes on where it broke off says by `position` how far it came: tries are counted anew after PROGRESS bytes.
        """
        failed = reached = 0
        while True:
            try:
                return operation()
            except TransientError as exc:
                if position() >= reached + PROGRESS:
                    failed, reached = 0, position()
                failed += 1
                if failed == ATTEMPTS:
                    raise exc.error from exc
                self.pause(failed, exc.wait)

    def pause(self, attempt: int, wait: float | None) -> None:
        """Wait after failed try number `attempt` (from 1): as long as the server asked, else four times as long each.

        A connection that broke by chance costs a moment, a server that starts anew has some seconds in all. The jitter
        keeps many clients of one server from coming back at the same moment.
        """
        longest = min(FIRST_WAIT * 4 ** (attempt - 1), LONGEST_WAIT)
        asked = 0.0 if wait is None else min(wait, LONGEST_RETRY_AFTER)
        self._sleep(asked + self._random.uniform(longest / 2, longest))

    def send(self, request: Request) -> Response:
        """`exchange` with retries. Only for requests that may be repeated."""
        return self.retrying(lambda: self.exchange(request))

    def exchange(self, request: Request) -> Response:
        """One request, authorized as its endpoint asks. Raises TransientError, AirferryError."""
        authorization = self._authorizer.header(request.endpoint, request.scopes)
        response = self._admitted(request, authorization)
        if response.status == 401 and origin(response.url) == origin(request.endpoint.origin):
            with response:
                body = response.start(MAX_ERROR_BODY)
            challenges = parse_challenges(response.header("WWW-Authenticate"))
            again = self._authorizer.answer(request.endpoint, request.scopes, challenges, authorization)
            if again is None:
                raise refusal(request, response, body)
            response = self._admitted(request, again)
        if response.status in request.expect:
            return response
        with response:
            raise refusal(request, response, response.start(MAX_ERROR_BODY))

    def fetch(self, url: str, limit: int, *, accept: str = "*/*") -> bytes:
        """The document at `url` (not of a registry: a chart repository), of at most `limit` bytes.

        Credentials are those of the URL's host. Raises AirferryError.
        """
        if not is_web_address(url):
            raise UsageError(f"not a web address: {place(url)!r}", hint="like https://host/path, without a password.")
        endpoint = Endpoint(urlsplit(url).netloc, origin(url))
        request = Request(endpoint, "GET", url, frozenset({200}), {"Accept": accept})

        def once() -> bytes:
            with self.exchange(request) as response:
                return response.read(limit)

        return self.retrying(once)

    def throttle(self, host: str) -> Throttle:
        """The throttle that limits concurrent requests to `host`."""
        return self._throttles[host]

    def _admitted(self, request: Request, authorization: str) -> Response:
        """`_follow`, as soon as the throttle of the host admits it."""
        throttle = self._throttles[request.endpoint.host]
        with throttle.admitted() as turn:
            response = self._follow(request, authorization)
            if response.status == 429 or (response.status == 503 and response.header("Retry-After")):
                throttle.refuse(turn, min(retry_after(response) or 0.0, LONGEST_RETRY_AFTER))
            return response

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
        body, wait = None, READ_SECONDS
        if request.body is not None:
            headers["Content-Length"] = str(request.length)
            body, wait = sliced(request.body()), READ_SECONDS + max(request.length, request.handled) / SLOWEST_COMMIT
        # urllib3 sends a body under the timeout for connecting, counted for each part of the body.
        connect = CONNECT_SECONDS if body is None else READ_SECONDS
        manager, direct = self._manager(url, request.endpoint.host)
        try:
            inner = manager.urlopen(
                request.method,
                url,
                redirect=False,
                body=body,
                headers=headers,
                retries=False,
                timeout=urllib3.Timeout(connect=connect, read=wait),
                preload_content=False,
                decode_content=False,
            )
        except NETWORK_ERRORS as exc:
            raise failures.network_failure(exc, url, direct=direct) from exc
        return Response(inner, request.method, url)

    def _manager(self, url: str, registry: str) -> tuple[urllib3.PoolManager, bool]:
        """The connection pools for `url`, asked on behalf of the host `registry`; whether they connect directly."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        # Reading the system's authorities takes longer than a small exchange.
        context = (
            self._trust.context(self._authority(parts.netloc, host, registry)) if parts.scheme == "https" else None
        )
        proxy = self._proxies.select(parts.scheme, host, port)
        key = (id(context), proxy)
        with self._lock:
            if key not in self._managers:
                self._managers[key] = _new_manager(context, proxy, self._trust)
            return self._managers[key], proxy is None

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
        with self._send(request, url, "") as response:
            if response.status != 200:
                raise refusal(request, response, response.start(MAX_ERROR_BODY))
            return response.read(limit)


class _Throttles(dict[str, Throttle]):
    """The throttle of each host, made when it is first asked for."""

    def __init__(self, sleep: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._sleep, self._clock = sleep, clock

    def __missing__(self, host: str) -> Throttle:
        return self.setdefault(host, Throttle(self._sleep, self._clock))


def _new_manager(context: ssl.SSLContext | None, proxy: Proxy | None, trust: TrustStore) -> urllib3.PoolManager:
    if proxy is None:
        return urllib3.PoolManager(
            POOLED_HOSTS, maxsize=POOLED_CONNECTIONS, ssl_context=context, socket_options=SOCKET_OPTIONS
        )
    headers = None
    if proxy.username:
        # urllib3's own way knows Latin-1 only.
        login = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
        headers = {"Proxy-Authorization": f"Basic {login}"}
    return urllib3.ProxyManager(
        proxy.url,
        POOLED_HOSTS,
        proxy_headers=headers,
        proxy_ssl_context=trust.context(None),
        maxsize=POOLED_CONNECTIONS,
        ssl_context=context,
        socket_options=SOCKET_OPTIONS,
    )


def _redirected(request: Request, url: str, location: str) -> str:
    """The target of a redirect from `url`. Raises RegistryAccessError for one that is not followed."""
    if request.method not in ("GET", "HEAD"):
        raise RegistryAccessError(f"{place(url)}: redirects a {request.method}, which is not followed")
    target = joined(url, location)
    if not target:
        raise RegistryAccessError(f"{place(url)}: redirects to something that is no web address")
    if url.startswith("https:") and target.startswith("http:"):
        raise RegistryAccessError(f"{place(url)}: redirects from https to http ({place(target)})")
    return target

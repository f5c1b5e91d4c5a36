"""HTTP to one API server: credentials, TLS, bounded answers, and the retries of this client."""

import base64
import datetime as dt
import itertools
import os
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import partial
from urllib.parse import unquote, urlencode

import msgspec
import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, InsecureRequestWarning, NewConnectionError, ProxyError
from urllib3.util import parse_url

from installer.cluster.endpoint import Endpoint, check_token, renewed
from installer.cluster.failures import RefusedError, TooLargeError, is_certificate_problem
from installer.errors import SiteError
from installer.files import read_bounded
from installer.registry.trust import TrustStore
from installer.value import Value

CONNECT_SECONDS = 10.0
# The API server gives an admission webhook up to 30 s, and a request 60 s.
READ_SECONDS = 65.0
ATTEMPTS = 4
# A server that has answered before is being restarted rather than gone: it is given half a minute to come back.
RESTART_ATTEMPTS = 30
MAX_PAUSE = 30.0
MAX_ANSWER = 64 * 1024 * 1024
MAX_TOKEN = 256 * 1024
APPLY = "application/apply-patch+yaml"


class _Cause(Value):
    reason: str = ""
    field: str = ""


class _Details(Value):
    causes: tuple[_Cause, ...] | None = None


class _Status(Value):
    """What counts of a `Status` (Kubernetes API conventions, "Response Status Kind")."""

    message: str
    reason: str = ""
    details: _Details | None = None


class Channel:
    """The connection to an API server, with credentials, bounded answers and the retries of this client.

    Credentials that a plugin gave are renewed before they expire, and when the server does not accept them any more.
    `hide` is told of every secret that is sent. `time` is what the last answer says it is (UTC).
    """

    def __init__(
        self, endpoint: Endpoint, sleep: Callable[[float], None], hide: Callable[[Iterable[str]], None]
    ) -> None:
        """Raises SiteError for certificates or keys that cannot be read."""
        self._endpoint, self._sleep, self._hide = endpoint, sleep, hide
        self._hide(endpoint.secrets)
        self.time: dt.datetime | None = None
        self._answered = False
        self._pools = _connections(endpoint)

    def ask(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: object = None, media: str = ""
    ) -> bytes:
        """The answer to a request; `body` is sent as JSON that says of itself that it is `media`.

        Raises RefusedError, TooLargeError, and HTTPError where no answer comes.
        """
        url = f"{self._endpoint.server}{path}" + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else msgspec.json.encode(body)
        if fresh := self._endpoint.expired:
            self._renew()
        status, answer = self._exchange(method, url, data, media)
        if status == 401 and self._endpoint.login and not fresh:
            self._renew()
            status, answer = self._exchange(method, url, data, media)
        if not 200 <= status < 300:
            raise _refused(status, answer)
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._pools.clear()

    def _renew(self) -> None:
        former, self._endpoint = self._endpoint, renewed(self._endpoint)
        self._hide(self._endpoint.secrets)
        if (former.certificate, former.key) != (self._endpoint.certificate, self._endpoint.key):
            self._pools.clear()
            self._pools = _connections(self._endpoint)

    def _exchange(self, method: str, url: str, data: bytes | None, media: str) -> tuple[int, bytes]:
        """Status and body of the answer; asked again where that can do no harm."""
        # Server-side apply states what shall be, and can be said twice.
        harmless = method == "GET" or media == APPLY
        headers = {"User-Agent": "airferry", "Accept": "application/json, */*", "Accept-Encoding": "identity"}
        if media:
            headers["Content-Type"] = media
        if authorization := self._authorization():
            headers["Authorization"] = authorization
        for attempt in itertools.count(1):
            try:
                response = self._pools.urlopen(
                    method, url, body=data, headers=headers, redirect=False, preload_content=False, decode_content=False
                )
                body = _bounded(response)
            except HTTPError as exc:
                unsent = isinstance(exc, NewConnectionError | ConnectTimeoutError | ProxyError)
                restarting = isinstance(exc, NewConnectionError) and self._answered
                limit = RESTART_ATTEMPTS if restarting else ATTEMPTS
                if attempt >= limit or not (unsent or harmless) or is_certificate_problem(exc):
                    raise
                self._sleep(min(0.5 * attempt, 1.0))
                continue
            self._answered, self.time = True, _date(response.headers.get("Date", ""))
            if response.status not in (429, 503) or attempt >= ATTEMPTS:
                return response.status, body
            self._sleep(_pause(response.headers.get("Retry-After", ""), attempt))
        raise AssertionError("counting has no end")

    def _authorization(self) -> str:
        """The header's value. A token file is read each time: the kubelet replaces it."""
        endpoint = self._endpoint
        if endpoint.token_file:
            token = read_bounded(endpoint.token_file, MAX_TOKEN).decode("ascii", "replace").strip()
            check_token(token, endpoint.context)
            self._hide([token])
            return f"Bearer {token}"
        if endpoint.token:
            return f"Bearer {endpoint.token}"
        if endpoint.username:
            return _basic(endpoint.username, endpoint.password)
        return ""


def _basic(username: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"


def _connections(endpoint: Endpoint) -> urllib3.PoolManager:
    manager: Callable[..., urllib3.PoolManager] = urllib3.PoolManager
    if endpoint.proxy:
        username, _, password = (parse_url(endpoint.proxy).auth or "").partition(":")
        login = {"Proxy-Authorization": _basic(unquote(username), unquote(password))} if username else None
        trusted = TrustStore().context(None)
        manager = partial(urllib3.ProxyManager, endpoint.proxy, proxy_headers=login, proxy_ssl_context=trusted)
    if not endpoint.verify:
        # The kubeconfig wants it so.
        urllib3.disable_warnings(InsecureRequestWarning)
    return manager(
        num_pools=1,
        ssl_context=_tls(endpoint),
        server_hostname=endpoint.server_name or None,
        timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
        retries=False,
    )


def _tls(endpoint: Endpoint) -> ssl.SSLContext:
    """The TLS context of `endpoint`. Raises SiteError for certificates or keys that cannot be read."""
    try:
        if endpoint.ca:
            context = ssl.create_default_context(cadata=endpoint.ca.decode("ascii"))
        else:
            context = TrustStore().context(None)
        if not endpoint.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if endpoint.certificate:
            with _in_memory(endpoint.certificate + b"\n" + endpoint.key) as path:
                context.load_cert_chain(path)
    except (ssl.SSLError, ValueError) as exc:
        raise SiteError(
            f"context {endpoint.context!r}: its certificates or key cannot be used ({type(exc).__name__})",
            hint="check certificate-authority, client-certificate and client-key in the kubeconfig.",
        ) from None
    return context


@contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """A path at which OpenSSL can read `data`, which never reaches a disk."""
    fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(fd, data)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _bounded(response: urllib3.BaseHTTPResponse) -> bytes:
    parts, size = list[bytes](), 0
    # A connection whose answer was read to its end is free again by then; any other is closed.
    with response:
        for part in response.stream(1 << 16, decode_content=False):
            size += len(part)
            if size > MAX_ANSWER:
                raise TooLargeError(MAX_ANSWER)
            parts.append(part)
    return b"".join(parts)


def _pause(text: str, attempt: int) -> float:
    return min(float(text), MAX_PAUSE) if text.isascii() and text.isdigit() and len(text) < 6 else float(attempt)


def _date(text: str) -> dt.datetime | None:
    """The time of an answer (RFC 9110, section 6.6.1); None where it is not readable."""
    try:
        return parsedate_to_datetime(text).astimezone(dt.UTC)
    except ValueError:
        return None


def _refused(code: int, body: bytes) -> RefusedError:
    """The refusal in `body`: a `Status` object, or whatever a proxy in between says."""
    try:
        status = msgspec.json.decode(body, type=_Status)
    except (ValueError, RecursionError):
        return RefusedError(code, "", body[:200].decode("utf-8", "replace"))
    causes = (status.details and status.details.causes) or ()
    return RefusedError(code, status.reason, status.message, [(cause.reason, cause.field) for cause in causes])

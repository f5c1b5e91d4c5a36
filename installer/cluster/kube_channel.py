"""HTTP to one API server: credentials, TLS, bounded answers, and the retries of this client."""

import base64
import itertools
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import httpx2

from installer import strict_json
from installer.cluster.kubeconfig import MAX_FILE, Endpoint, renewed
from installer.errors import ClusterError, SiteError
from installer.files import read_bounded

ATTEMPTS = 4
# A server that has answered before is being restarted rather than gone: it is given half a minute to come back.
RESTART_ATTEMPTS = 30
MAX_PAUSE = 30.0
MAX_ANSWER = 64 * 1024 * 1024
# Server-side apply states what shall be, and can be said twice.
_APPLY = "application/apply-patch+yaml"


class RefusedError(Exception):
    """An answer with a status of 400 or more, as the API server words it."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message


class TooLargeError(Exception):
    """An answer beyond the count of bytes that is the argument."""


class Channel(httpx2.BaseTransport):
    """One connection pool with credentials, bounded answers and the retries of this client.

    Credentials that a plugin gave are renewed before they expire, and when the server does not accept them any more;
    `tell` is called with the new ones.
    """

    def __init__(self, endpoint: Endpoint, sleep: Callable[[float], None], tell: Callable[[Endpoint], None]) -> None:
        self._endpoint, self._sleep, self._tell = endpoint, sleep, tell
        self._answered = False
        self._inner = _connections(endpoint)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.headers["Accept-Encoding"] = "identity"
        if self._endpoint.server_name:
            request.extensions = {**request.extensions, "sni_hostname": self._endpoint.server_name}
        if fresh := self._endpoint.expired:
            self._renew()
        response, body = self._exchange(self._authorized(request))
        if response.status_code == 401 and self._endpoint.login and not fresh:
            self._renew()
            response, body = self._exchange(self._authorized(request))
        if response.status_code >= 400:
            raise _refused(response.status_code, body)
        return httpx2.Response(response.status_code, headers=response.headers, content=body, request=request)

    def _renew(self) -> None:
        former, self._endpoint = self._endpoint, renewed(self._endpoint)
        self._tell(self._endpoint)
        if (former.certificate, former.key) != (self._endpoint.certificate, self._endpoint.key):
            self._inner.close()
            self._inner = _connections(self._endpoint)

    def _authorized(self, request: httpx2.Request) -> httpx2.Request:
        if authorization := self._authorization():
            request.headers["Authorization"] = authorization
        return request

    def _exchange(self, request: httpx2.Request) -> tuple[httpx2.Response, bytes]:
        """The answer and its body; asked again where that can do no harm."""
        harmless = request.method == "GET" or request.headers.get("Content-Type", "") == _APPLY
        for attempt in itertools.count(1):
            try:
                response = self._inner.handle_request(request)
                body = _bounded(response)
            except httpx2.TransportError as exc:
                refused = isinstance(exc, httpx2.ConnectError)
                unsent = refused or isinstance(exc, httpx2.ConnectTimeout)
                limit = RESTART_ATTEMPTS if refused and self._answered else ATTEMPTS
                if attempt >= limit or not (unsent or harmless) or certificate_problem(exc):
                    raise
                self._sleep(min(0.5 * attempt, 1.0))
                continue
            self._answered = True
            if response.status_code not in (429, 503) or attempt >= ATTEMPTS:
                return response, body
            self._sleep(_pause(response.headers.get("Retry-After", ""), attempt))
        raise AssertionError("counting has no end")

    def close(self) -> None:
        self._inner.close()

    def _authorization(self) -> str:
        """The header's value. A token file is read each time: the kubelet replaces it."""
        endpoint = self._endpoint
        if endpoint.token_file:
            return f"Bearer {read_bounded(endpoint.token_file, MAX_FILE).decode('ascii', 'replace').strip()}"
        if endpoint.token:
            return f"Bearer {endpoint.token}"
        if endpoint.username:
            pair = f"{endpoint.username}:{endpoint.password}".encode()
            return f"Basic {base64.b64encode(pair).decode()}"
        return ""


def _connections(endpoint: Endpoint) -> httpx2.HTTPTransport:
    return httpx2.HTTPTransport(
        verify=_tls(endpoint),
        trust_env=False,
        proxy=endpoint.proxy or None,
        limits=httpx2.Limits(max_connections=8),
    )


def _tls(endpoint: Endpoint) -> ssl.SSLContext:
    """The TLS context of `endpoint`. Raises SiteError for certificates or keys that cannot be read."""
    try:
        if not endpoint.verify:
            context = httpx2.create_ssl_context(verify=False, trust_env=False)
        elif endpoint.ca:
            context = ssl.create_default_context(cadata=endpoint.ca.decode("ascii"))
        else:
            context = httpx2.create_ssl_context(trust_env=False)
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


def _bounded(response: httpx2.Response) -> bytes:
    parts, size = [], 0
    try:
        for part in cast("httpx2.SyncByteStream", response.stream):
            size += len(part)
            if size > MAX_ANSWER:
                raise TooLargeError(MAX_ANSWER)
            parts.append(part)
    finally:
        response.close()
    return b"".join(parts)


def _pause(text: str, attempt: int) -> float:
    return min(float(text), MAX_PAUSE) if text.isascii() and text.isdigit() and len(text) < 6 else float(attempt)


def _refused(code: int, body: bytes) -> RefusedError:
    """The refusal in `body`: a `Status` object (Kubernetes API conventions), or whatever a proxy in between says."""
    try:
        status = strict_json.parse(body, "status", ClusterError)
    except ClusterError:
        status = None
    if isinstance(status, dict) and isinstance(status.get("message"), str):
        return RefusedError(code, str(status.get("reason", "")), status["message"])
    return RefusedError(code, "", body[:200].decode("utf-8", "replace"))


def certificate_problem(exc: BaseException) -> bool:
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False

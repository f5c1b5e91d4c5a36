"""What went wrong over HTTP, as errors of this program: failed connections and refusing answers."""

import errno
import re
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    ProxyError,
    ReadTimeoutError,
)

from installer import strict_json
from installer.errors import (
    REFUSALS,
    AirferryError,
    ContentError,
    NotFoundError,
    RegistryAccessError,
    RegistryUnreachableError,
)
from installer.registry import trust
from installer.registry.endpoint import place
from installer.report import printable

MAX_REASON = 600
# 499 is what nginx and its kin make of a connection that broke behind them.
_TRANSIENT_STATUSES = frozenset({408, 425, 429, 499})
_BEHIND_A_PORTAL = 511
_LASTING_STATUSES = frozenset({501, 505})
_BLOB_UNKNOWN = b"MANIFEST_BLOB_UNKNOWN"
_PORTAL = (
    "that is the log-in page of a network or a proxy, or another server's address: look at it in a browser, and check "
    "the name, the port and HTTPS_PROXY."
)
_NETWORK = "check the network, the name and the port; a proxy is taken from HTTPS_PROXY and NO_PROXY."


class BlobUnknownError(ContentError):
    """A registry does not know a part of the manifest that it was given."""


class LoginRefusedError(RegistryAccessError):
    """Credentials are refused, or wanted (401)."""


class RegistryFailedError(RegistryUnreachableError):
    """A registry answers each time that it fails (5xx): as a whole, or over what it is asked for."""


OF_ONE_REQUEST = (*REFUSALS, RegistryFailedError)
"""What may be of one request alone: for one image, or in one repository."""


class TransientError(Exception):
    """A failure that may pass: `error` is what to raise when it does not.

    `crowded`: it came of other requests of ours to the same host, and passes with them.
    """

    def __init__(self, error: AirferryError, *, crowded: bool = False) -> None:
        super().__init__(error.message)
        self.error, self.crowded = error, crowded


class ConnectionRefused(TransientError):  # noqa: N818 - one of them, told apart
    """Nobody listens, or a host that limits connections has enough of them."""


def network_failure(exc: Exception, url: str, *, seconds: float, direct: bool = True) -> Exception:
    """The error for a request to `url` that brought no answer: TransientError, or an AirferryError that stays.

    `seconds` is how long its answer was waited for. `direct`: no proxy stands between, so that a second look at the
    server's certificate is possible.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    where = f"{host}:{port}"
    for cause in _causes(exc):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return trust.untrusted(cause, host, port, direct=direct)
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return _tls_failure(cause, where)
    if isinstance(exc, ProxyError):
        return _proxy_failure(exc, where)
    causes = list(_causes(exc))
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return ConnectionRefused(RegistryUnreachableError(f"{where}: {_reason(exc)}", hint=_NETWORK))
    if any(isinstance(cause, ReadTimeoutError | TimeoutError) for cause in causes) and not any(
        isinstance(cause, ConnectTimeoutError) for cause in causes
    ):
        hint = "if it needs longer, set `answer_seconds` of this registry (`load --answer-seconds`)."
        return TransientError(RegistryUnreachableError(f"{where}: no answer within {seconds:.0f} s", hint=hint))
    return TransientError(RegistryUnreachableError(f"{where}: {_reason(exc)}", hint=_NETWORK))


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """`exc` and what led to it; urllib3 keeps causes in arguments, too."""
    seen: list[BaseException] = [exc]
    for item in seen:
        yield item
        inner = [item.__cause__, item.__context__, *item.args]
        seen.extend(more for more in inner if isinstance(more, BaseException) and more not in seen)


def _tls_failure(exc: ssl.SSLError, where: str) -> AirferryError:
    reason = exc.reason or "TLS fails"
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        return RegistryAccessError(
            f"{where}: answers without TLS",
            hint="if this registry is meant to be plain HTTP, say so in its settings (`plain_http`).",
        )
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        hint = "the server may want a client certificate, or share no cipher with this machine."
    else:
        hint = "the server must speak TLS 1.2 or later."
    return RegistryAccessError(f"{where}: TLS fails: {printable(reason)}", hint=hint)


def _proxy_failure(exc: ProxyError, where: str) -> Exception:
    for cause in _causes(exc):
        # http.client tells the status of a refused CONNECT in the text only.
        refused = re.search(r"Tunnel connection failed: ([0-9]{3})", str(cause))
        if refused and refused[1] == "407":
            hint = "put them into the proxy variable: http://user:password@proxy:port."
            return RegistryAccessError(f"{where}: the proxy wants credentials", hint=hint)
        if refused:
            hint = "the proxy must allow this host; NO_PROXY names hosts that are reached without it."
            error = RegistryUnreachableError(f"{where}: the proxy refuses to connect ({refused[1]})", hint=hint)
            return error if refused[1] == "403" else TransientError(error)
    hint = "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY."
    return TransientError(RegistryUnreachableError(f"{where}: the proxy does not answer: {_reason(exc)}", hint=hint))


def _reason(exc: BaseException) -> str:
    """One clause on a failed connection, without addresses of objects and without URLs."""
    causes = list(_causes(exc))
    for cause in causes:
        match cause:
            case NameResolutionError():
                return "the name cannot be resolved"
            case ConnectionRefusedError():
                return "connection refused"
            case ConnectionResetError() | BrokenPipeError():
                return "the connection was reset"
            case OSError() if cause.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
                return "no route to the host"
    for cause in causes:
        match cause:
            case ConnectTimeoutError():
                return "no connection in time"
            case TimeoutError():
                return "no answer in time"
            case OSError() if cause.strerror and not isinstance(cause, HTTPError):
                return printable(cause.strerror)
    return f"the connection broke ({type(exc).__name__})"


def may_pass(status: int, body: bytes) -> bool:
    """Whether the same request may be answered otherwise in a moment.

    All of 5xx may, also what no RFC knows (Cloudflare's 520 to 524), but what says that it never will. A manifest is
    pushed after all that it names. A registry that does not know a part of it then (distribution-spec, error code-5)
    stores that part anew for another client, for which distribution 2 empties the link to it first, or has replicas
    that have not all heard of it.
    """
    passing = status >= 500 and status not in _LASTING_STATUSES
    return passing or status in _TRANSIENT_STATUSES or _BLOB_UNKNOWN in body


def refusal(method: str, url: str, status: int, body: bytes, registry: str, *, redirected: bool) -> AirferryError:
    """The error for an answer with `status` that was not hoped for; `body` is the start of its body.

    It was asked on behalf of the host `registry`, which `redirected` the request there, or whose credentials it had.
    """
    said = registry_words(body)
    message = f"{place(url)}: {method} answered with {status}" + (f": {said}" if said else "")
    if status in (401, 403) and redirected:
        hint = f"{registry} sends there for its content: check the clocks, and how it is set up with that store."
        return RegistryAccessError(message, hint=hint)
    if status in (401, 403):
        kind, what = (
            (LoginRefusedError, "check the credentials")
            if status == 401
            else (RegistryAccessError, "check that this account may do this")
        )
        return kind(message, hint=f"{what}: docker login {registry}, or credentials in the settings.")
    if status == 407:
        return RegistryAccessError(message, hint="the proxy wants credentials: http://user:password@proxy:port.")
    # Cloudflare's registry leaves out the first word.
    if _BLOB_UNKNOWN in body or (method == "PUT" and b'"BLOB_UNKNOWN"' in body):
        hint = "it had all of that a moment ago: is it clearing up? Then run the same command again."
        return BlobUnknownError(message, hint=hint)
    if status in (404, 410):
        return NotFoundError(message, hint="check the name and the tag, and that it is not private.")
    if status == 400 and b"https" in body.lower() and b"http request" in body.lower():
        hint = "the server speaks TLS: remove `plain_http` of this host."
        return RegistryAccessError(message, hint=hint)
    if status == 413:
        hint = "a proxy before the registry limits uploads: raise its limit (nginx: client_max_body_size 0)."
        return ContentError(message, hint=hint)
    if status == 429:
        return RegistryUnreachableError(message, hint="the registry limits requests: wait, or log in.")
    if may_pass(status, body):
        hint = "look at the registry's own log (full disk, read-only?), then run the same command again."
        portal = status == _BEHIND_A_PORTAL
        return RegistryUnreachableError(message, hint=_PORTAL) if portal else RegistryFailedError(message, hint=hint)
    return ContentError(message, hint="the registry does not take or give this; its log may say why.")


def web_page(url: str) -> AirferryError:
    """The error for a web page in the place of a document or blob."""
    return RegistryAccessError(f"{place(url)}: a web page comes in place of a registry's answer", hint=_PORTAL)


def overlong_pause(error: AirferryError, asked: float, limit: float) -> AirferryError:
    """The error for a host that answers with `error` and asks for a pause of more seconds than may be waited."""
    return RegistryUnreachableError(
        f"{error.message}; it asks for a pause of {asked:.0f} s, and at most {limit:.0f} s are waited",
        hint="come back then, or log in; `pause_seconds` of this registry (`load --pause-seconds`) sets the limit.",
    )


def registry_words(body: bytes) -> str:
    """What a registry says in an error body: `CODE message` of each error (distribution-spec, "Error Codes").

    A body of another form is shown by its beginning, if it is text. At most MAX_REASON printable characters.
    """
    try:
        doc: Any = strict_json.parse(body, "error", ContentError)
        errors = doc["errors"]
        parts = [f"{item.get('code', '')} {item.get('message', '')}".strip() + _detail(item) for item in errors[:3]]
        text = "; ".join(parts)
    except (ContentError, KeyError, TypeError, AttributeError):
        text = body[:200].decode("utf-8", errors="replace").strip()
        if text.startswith("<"):
            text = "a web page, not a registry's answer"
    return printable(" ".join(text.split()))[:MAX_REASON]


def _detail(item: dict[str, Any]) -> str:
    detail = item.get("detail")
    return f" ({detail})" if isinstance(detail, str) and detail else ""

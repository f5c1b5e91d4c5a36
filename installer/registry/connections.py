"""Connections to hosts: by which proxy, with which trust, and the targets of requests sent byte for byte.

Which proxy leads to a host, the usual environment variables say. The rules are those of Go's
golang.org/x/net/http/httpproxy, which docker, containerd, skopeo and crane follow, so that an environment that works
for them works here: loopback is never proxied; `NO_PROXY` holds host names (with their subdomains), names with a
leading dot (subdomains only), addresses, networks and `*`, each with an optional port.
"""

import base64
import http.client
import ipaddress
import re
import socket
import ssl
import string
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import quote, unquote, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError

from installer.errors import UsageError
from installer.registry import failures
from installer.registry.endpoint import ip_address, is_loopback
from installer.registry.trust import TrustStore

CONNECT_SECONDS = 10.0
# What the kernel holds of a body beyond what is on its way: bytes that wait for long have left the processor's caches,
# and a receiver on the same machine fetches them from afar. The window stays as large as the line wants it (Linux,
# tcp_notsent_lowat).
UNSENT = 128 << 10
SOCKET_OPTIONS = (*HTTPConnection.default_socket_options, (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT))
POOLED_CONNECTIONS = 128
POOLED_HOSTS = 64
NETWORK_ERRORS = (HTTPError, http.client.HTTPException, OSError)
# No header can have this name.
_URL = ":url"
_AUTHORITY = re.compile(r"https?://[^/?#]*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy: its URL without user information, and the credentials, in no repr."""

    url: str
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str) -> "Proxy":
        """A proxy from `[http[s]://][user:password@]host[:port]`. Raises UsageError, without the text: a secret."""
        try:
            parts = urlsplit(text if "://" in text else f"http://{text}")
            host, port = parts.hostname, parts.port
        except ValueError:
            raise UsageError("the proxy variable holds no URL", hint="write it like http://proxy:3128.") from None
        if parts.scheme not in ("http", "https") or not host:
            raise UsageError(
                f"proxy with scheme {parts.scheme[:20]!r}: only http and https proxies can be used",
                hint="write it like http://proxy:3128.",
            )
        name = f"[{host}]" if ":" in host else host
        url = f"{parts.scheme}://{name}" + (f":{port}" if port else "")
        return cls(url, unquote(parts.username or ""), unquote(parts.password or ""))


class Proxies:
    """The proxies that an environment asks for: HTTP_PROXY, HTTPS_PROXY, NO_PROXY, in either case of letters."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        def value(name: str) -> str:
            return environment.get(name) or environment.get(name.lower()) or ""

        self._by_scheme = {
            scheme: Proxy.parse(text)
            for scheme, text in (("http", value("HTTP_PROXY")), ("https", value("HTTPS_PROXY")))
            if text
        }
        self._exempt = [item.strip().lower() for item in value("NO_PROXY").split(",") if item.strip()]

    def select(self, scheme: str, host: str, port: int) -> Proxy | None:
        """The proxy for a connection to `host` (a name or an address without brackets), or None: go directly."""
        proxy = self._by_scheme.get(scheme)
        host = host.lower().rstrip(".")
        if proxy is None or is_loopback(host) or any(_exempts(item, host, port) for item in self._exempt):
            return None
        return proxy


def _exempts(item: str, host: str, port: int) -> bool:
    if item == "*":
        return True
    address = ip_address(host)
    if "/" in item:
        try:
            return address is not None and address in ipaddress.ip_network(item, strict=False)
        except ValueError:
            return False
    if ip_address(item) is None:
        name, colon, wanted = item.rpartition(":")
        if colon:
            if wanted != str(port):
                return False
            item = name
    exempt = ip_address(item)
    if exempt is not None or address is not None:
        return exempt == address
    item = item.removeprefix("*")
    return host.endswith(item) if item.startswith(".") else host == item or host.endswith(f".{item}")


class _Verbatim(HTTPConnection):
    """Sends the target of a request as it was given, since a signature may cover each byte of it.

    urllib3 spells targets anew (`%2f` as `%2F`, without `./`; urllib3#1677, #3081). The URL comes past that among the
    headers.
    """

    def request(
        self,
        method: str,
        url: str,  # noqa: ARG002 - spelled anew
        body: Any = None,
        headers: Any = None,
        **options: Any,
    ) -> None:
        """See urllib3. A proxy that passes requests on is sent the whole URL (RFC 9112, section 3.2)."""
        rest = dict(headers)
        whole = rest.pop(_URL)
        target = whole if self.proxy_is_forwarding else _AUTHORITY.sub("", whole, count=1)
        super().request(method, target, body, rest, **options)


class _VerbatimTLS(_Verbatim, HTTPSConnection):
    def connect(self) -> None:
        """See urllib3, for which a silence while TLS begins is one of the server's answer."""
        try:
            super().connect()
        except TimeoutError as exc:
            raise ConnectTimeoutError(self, "TLS does not begin in time") from exc


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Verbatim


class _PoolTLS(urllib3.HTTPSConnectionPool):
    ConnectionCls = _VerbatimTLS


class Connections:
    """Connections to any number of hosts, kept for further requests. Safe to use from several threads.

    `proxies` are the proxy variables of the environment; without any, connections are direct.
    """

    _POOLS: ClassVar = {"http": _Pool, "https": _PoolTLS}

    def __init__(self, proxies: Mapping[str, str]) -> None:
        self._proxies = Proxies(proxies)
        self._trust = TrustStore()
        self._managers: dict[tuple[int, Proxy | None], urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Iterable[memoryview] | None,
        *,
        ca: bytes | None,
        seconds: float,
        slice_seconds: float,
    ) -> urllib3.BaseHTTPResponse:
        """Send a request; its response as soon as the headers are there, within `seconds` after the request.

        `ca`: PEM certificates that are trusted besides the system's; `slice_seconds` is for each part of `body`.
        Raises TransientError, AirferryError.
        """
        manager, direct = self._manager(url, ca)
        # urllib3 sends a body under the timeout for connecting, counted for each part of the body.
        connect = CONNECT_SECONDS if body is None else slice_seconds
        try:
            return manager.urlopen(
                method,
                url,
                redirect=False,
                body=body,
                headers={**headers, _URL: as_sent(url)},
                retries=False,
                timeout=urllib3.Timeout(connect=connect, read=seconds),
                preload_content=False,
                decode_content=False,
            )
        except NETWORK_ERRORS as exc:
            raise failures.network_failure(exc, url, seconds=seconds, direct=direct) from exc

    def _manager(self, url: str, ca: bytes | None) -> tuple[urllib3.PoolManager, bool]:
        """The connection pools for `url`; whether they connect directly."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        # Reading the system's authorities takes longer than a small exchange.
        context = self._trust.context(ca) if parts.scheme == "https" else None
        proxy = self._proxies.select(parts.scheme, host, port)
        key = (id(context), proxy)
        with self._lock:
            if key not in self._managers:
                self._managers[key] = self._new_manager(context, proxy)
            return self._managers[key], proxy is None

    def _new_manager(self, context: ssl.SSLContext | None, proxy: Proxy | None) -> urllib3.PoolManager:
        manager: urllib3.PoolManager
        if proxy is None:
            manager = urllib3.PoolManager(
                POOLED_HOSTS, maxsize=POOLED_CONNECTIONS, ssl_context=context, socket_options=SOCKET_OPTIONS
            )
        else:
            headers = None
            if proxy.username:
                # urllib3's own way knows Latin-1 only.
                login = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
                headers = {"Proxy-Authorization": f"Basic {login}"}
            manager = urllib3.ProxyManager(
                proxy.url,
                POOLED_HOSTS,
                proxy_headers=headers,
                proxy_ssl_context=self._trust.context(None),
                maxsize=POOLED_CONNECTIONS,
                ssl_context=context,
                socket_options=SOCKET_OPTIONS,
            )
        manager.pool_classes_by_scheme = self._POOLS
        return manager


def as_sent(url: str) -> str:
    """`url` as it is sent: as it is, without its fragment; only what no request can hold is encoded (RFC 3986)."""
    whole = quote(url.partition("#")[0], safe=string.punctuation, errors="surrogateescape")
    authority = _AUTHORITY.match(whole)
    end = authority.end() if authority else 0
    return whole if whole[end:].startswith("/") else f"{whole[:end]}/{whole[end:]}"

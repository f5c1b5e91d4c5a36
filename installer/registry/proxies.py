"""Which proxy leads to a host, from the usual environment variables.

The rules are those of Go's golang.org/x/net/http/httpproxy, which docker, containerd, skopeo and crane follow, so
that an environment that works for them works here: loopback is never proxied; `NO_PROXY` holds host names (with
their subdomains), names with a leading dot (subdomains only), addresses, networks and `*`, each with an optional port.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from installer.errors import UsageError


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


def is_loopback(host: str) -> bool:
    """Whether `host` (a name or an address without brackets) is this machine by definition."""
    if host == "localhost":
        return True
    address = ip_address(host)
    return address is not None and address.is_loopback


def ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that `text` is (brackets allowed), or None."""
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None


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

"""Where and how a registry is reached."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from installer.errors import UsageError
from installer.oci.reference import DOCKER_HUB
from installer.value import Value

if TYPE_CHECKING:
    from installer.registry.credentials import Credentials

# Docker Hub answers registry requests under this name; its references do not say so.
HUB_ORIGIN = "https://registry-1.docker.io"
ANSWER_SECONDS = 60
PAUSE_SECONDS = 600
MOST_SECONDS = 86400
_HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?", re.ASCII)
_PATH = re.compile("[/?#]")
_PREFIX = re.compile(r"(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*/?", re.ASCII)


@dataclass(frozen=True, slots=True)
class HostSettings:
    """How to reach one host (`name[:port]` as in image references). Raises UsageError if contradictory.

    plain_http: HTTP without TLS. None decides by the host: only loopback (`localhost`, 127.0.0.0/8, `[::1]`) without
    a `ca` is plain, as it never leaves the machine. There is no fallback from one to the other.
    ca: PEM certificates that are trusted for this host besides the system's, and for a host without settings that it
    sends to: its token server, the store of its blobs.
    mirror: base URL (`http://host:port[/prefix]`) of the registry that is asked in this one's place, with the
    settings and credentials of the mirror's host; `prefix` is put before each repository.
    credentials: used instead of what the credential store knows.
    token_hosts: further hosts that may be given these credentials as token servers.
    answer_seconds: how long an answer, and each part of it, is waited for.
    pause_seconds: the longest pause that the host may ask for.
    """

    plain_http: bool | None = None
    ca: bytes | None = field(default=None, repr=False)
    mirror: str = ""
    credentials: "Credentials | None" = None
    token_hosts: tuple[str, ...] = ()
    answer_seconds: int = ANSWER_SECONDS
    pause_seconds: int = PAUSE_SECONDS

    def __post_init__(self) -> None:
        if self.plain_http and self.ca:
            raise UsageError("a host cannot have both plain HTTP and a certificate authority", hint="leave one out.")
        if self.mirror and not is_base_url(self.mirror):
            raise UsageError(f"not the base URL of a mirror: {self.mirror[:200]!r}", hint="like https://host/prefix.")


class Endpoint(Value):
    """Where the API of a registry is.

    `host` is what settings and credentials are kept under, `origin` starts each URL (`https://host:port`), `prefix`
    stands before each repository (empty, or `name/`).
    """

    host: str
    origin: str
    prefix: str = ""


def endpoint(host: str, hosts: Mapping[str, HostSettings]) -> Endpoint:
    """Where the registry that references call `host` is asked. Raises UsageError for an impossible port."""
    if not is_web_address(f"https://{host}"):
        raise UsageError(f"not a registry host: {host[:80]!r}", hint="write it like registry.example:5000.")
    settings = hosts.get(host, HostSettings())
    if settings.mirror:
        parts = urlsplit(settings.mirror)
        prefix = parts.path.strip("/")
        return Endpoint(parts.netloc, f"{parts.scheme}://{parts.netloc}", f"{prefix}/" if prefix else "")
    if host == DOCKER_HUB:
        return Endpoint(host, HUB_ORIGIN)
    plain = settings.plain_http
    if plain is None:
        plain = settings.ca is None and is_loopback(urlsplit(f"//{host}").hostname or "")
    return Endpoint(host, f"{'http' if plain else 'https'}://{host}")


def is_base_url(text: str) -> bool:
    """Whether `text` is `http[s]://host[:port][/path]` and nothing more: no user, no query."""
    if not is_web_address(text):
        return False
    parts = urlsplit(text)
    return bool(_PREFIX.fullmatch(parts.path)) and not parts.query and not parts.fragment


def is_web_address(url: str) -> bool:
    """Whether `url` is absolute, of http or https, with a host, a possible port and no user information."""
    try:
        parts = urlsplit(url)
        possible = parts.port != 0
    except ValueError:
        return False
    return possible and parts.scheme in ("http", "https") and bool(_HOST.fullmatch(parts.netloc))


def joined(url: str, location: str) -> str:
    """Where a `Location` in an answer to `url` leads; empty unless that is a web address (RFC 9110, section 10.2.2).

    What is given from the root on stays as it is, byte for byte: it may be signed.
    """
    if location.startswith("/"):
        scheme, _, rest = url.partition("//")
        target = (
            f"{scheme}{location}" if location.startswith("//") else f"{scheme}//{_PATH.split(rest, 1)[0]}{location}"
        )
    elif is_web_address(location):
        target = location
    else:
        try:
            target = urljoin(url, location)
        except ValueError:
            return ""
    return target if location and is_web_address(target) else ""


def origin(url: str) -> str:
    """Scheme, host and port of `url` in one spelling (RFC 6454, section 4), default ports written out."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def place(url: str) -> str:
    """Host and path of `url` for messages: its query may hold a signature, that is a secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is none"
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}"[:300]


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

"""Image references: where an image is, by tag or by digest.

Grammar and the docker.io rules follow the distribution project's reference grammar (github.com/distribution/reference):
the first path component is a host only if it holds a dot or a colon, or is `localhost`; a name without a host means
docker.io, and a single component there means `library/`.
"""

import ipaddress
import re
from functools import cache

from installer.errors import AirferryError, UsageError
from installer.oci.digest import Digest
from installer.value import Value

DOCKER_HUB = "docker.io"
_HOST = re.compile(
    r"(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*"
    r"|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?",
    re.ASCII,
)
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
MAX_NAME = 255


class Repository(Value, order=True):
    """A repository at a registry: `host` with optional port, and `path`. Raises UsageError if malformed."""

    host: str
    path: str

    def __post_init__(self) -> None:
        if not _HOST.fullmatch(self.host) or (self.host.startswith("[") and not ip6(self.host)):
            raise UsageError(f"not a registry host: {self.host[:80]!r}", hint="write it like registry.example:5000.")
        if not _PATH.fullmatch(self.path):
            raise UsageError(f"not a repository path: {self.path[:80]!r}", hint="paths are lower case.")
        if len(self.path) > MAX_NAME:
            raise UsageError(f"repository path of {len(self.path)} characters; {MAX_NAME} are allowed")

    def __str__(self) -> str:
        return f"{self.host}/{self.path}"


class TagRef(Value, order=True):
    """A repository and a tag: it may name other content tomorrow. Raises UsageError if malformed."""

    repository: Repository
    tag: str

    def __post_init__(self) -> None:
        if not _TAG.fullmatch(self.tag):
            raise UsageError(f"not a tag: {self.tag[:140]!r}")

    @property
    def selector(self) -> str:
        """What follows `manifests/` in the registry API."""
        return self.tag

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}"


class DigestRef(Value, order=True):
    """A repository and a digest, with the tag it was known by where there was one. Always names the same content."""

    repository: Repository
    digest: Digest
    tag: str = ""

    def __post_init__(self) -> None:
        if self.tag and not _TAG.fullmatch(self.tag):
            raise UsageError(f"not a tag: {self.tag[:140]!r}")

    @property
    def selector(self) -> str:
        """What follows `manifests/` in the registry API."""
        return self.digest.text

    def __str__(self) -> str:
        return f"{self.repository}{':' + self.tag if self.tag else ''}@{self.digest}"


Reference = TagRef | DigestRef


def ip6(host: str) -> ipaddress.IPv6Address | None:
    """The address that begins `host` in brackets, or None."""
    try:
        return ipaddress.IPv6Address(host[1:].partition("]")[0]) if host.startswith("[") else None
    except ValueError:
        return None


def parse_repository(text: str) -> Repository:
    """`[host/]path` with the docker.io rules applied. Raises UsageError."""
    host, slash, rest = text.partition("/")
    if not slash or not (("." in host) or (":" in host) or host == "localhost" or host != host.lower()):
        host, rest = DOCKER_HUB, text
    if host == "index.docker.io":
        host = DOCKER_HUB
    if host == DOCKER_HUB and "/" not in rest:
        rest = f"library/{rest}"
    return Repository(host, rest)


@cache
def parse_reference(text: str) -> Reference:
    """`[host/]path[:tag][@digest]`; without either the tag is `latest`. Raises UsageError.

    A bundle names a thousand images, each in many places: what was parsed is kept.
    """
    name, at, digest = text.partition("@")
    colon = name.rfind(":")
    tag = ""
    if colon > name.rfind("/"):
        name, tag = name[:colon], name[colon + 1 :]
        if not tag:
            raise UsageError(f"not an image reference: {text[:200]!r}")
    try:
        repository = parse_repository(name)
        if at:
            return DigestRef(repository, Digest(digest), tag)
        return TagRef(repository, tag or "latest")
    except AirferryError as exc:
        raise UsageError(f"not an image reference: {text[:200]!r}: {exc.message}") from exc

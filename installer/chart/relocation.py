"""Where the images and charts of a bundle lie in the enclave's registry.

An image `host/path:tag` lies in the enclave at `<registry>/<project>/<host>/<path>:tag`: reversible and free of
collisions. Controllers that put a prefix before the names which they read, as these are written there, ask for others,
without a host for example. For them an image has a second name, at the host NOWHERE, which is left out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from installer.chart.spelling.rules import NO_RULES, Rules
from installer.errors import AirferryError
from installer.oci.digest import Digest
from installer.oci.reference import DigestRef, Reference, Repository, TagRef, ip6, parse_reference, parse_repository

PROJECT = "airferry"
"""The path before all images in the enclave, unless a site says another one."""

NOWHERE = "nowhere.invalid"
"""The host of second names, which no registry can have (RFC 2606)."""


def path_of(repository: Repository) -> str:
    """The name of `repository` below the enclave's registry and project: `<host>/<path>`, or `<path>` at NOWHERE.

    What no path can hold is spelt as no host name can be: a port is joined by two underscores, and an address of IPv6
    is `ipv6__` and its eight groups, `[fd00::1]:5000` so `ipv6__fd00-0-0-0-0-0-0-1__5000`.
    """
    if repository.host == NOWHERE:
        return repository.path
    host, address = repository.host.lower(), ip6(repository.host)
    if address:
        groups = "-".join(f"{int(group, 16):x}" for group in address.exploded.split(":"))
        host = f"ipv6__{groups}{host.partition(']')[2]}"
    return f"{host.replace(':', '__')}/{repository.path}"


def target(repository: Repository, registry: str, project: str) -> Repository:
    """Where `repository` lies in the enclave: `<registry>/<project>/<host>/<path>`.

    An empty `project` is left out. Raises UsageError if the result is no repository.
    """
    return Repository(registry, "/".join(filter(None, (project, path_of(repository)))))


@dataclass(frozen=True)
class Relocation:
    """The images of a bundle, by their upstream names, and the registry and project they are loaded into.

    `digests` are the digests of those that are known by a tag, where somebody has to know them. With `names_stay`
    pods ask for upstream names, since the nodes know the registry as the mirror of all upstream ones. `rules` are those
    of the profile, by which its objects name images.
    """

    registry: str
    project: str
    images: frozenset[Reference]
    digests: Mapping[TagRef, Digest] = field(default_factory=dict, compare=False)
    names_stay: bool = False
    rules: Rules = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        for image in self.images:
            self.target(image)

    @classmethod
    def of(
        cls,
        images: Iterable[tuple[str, Digest]],
        registry: str,
        project: str,
        *,
        names_stay: bool = False,
        rules: Rules = NO_RULES,
    ) -> Self:
        """The relocation of `images`, each a reference and the digest of what it names in the bundle.

        The same content may then also be asked for by that digest. Raises UsageError.
        """
        known: set[Reference] = set()
        digests: dict[TagRef, Digest] = {}
        for text, digest in images:
            reference = parse_reference(text)
            known |= {reference, DigestRef(reference.repository, digest)}
            if reference.tag:
                digests[TagRef(reference.repository, reference.tag)] = digest
        return cls(registry, project, frozenset(known), digests, names_stay, rules)

    @property
    def prefix(self) -> str:
        """What goes before the full name of an image: `<registry>/<project>/`."""
        return "".join(f"{part}/" for part in (self.registry, self.project) if part)

    def target(self, image: Reference) -> Reference:
        """The name of `image` in the enclave; its tag and digest stay. Raises UsageError."""
        if self.names_stay:
            return image
        repository = target(image.repository, self.registry, self.project)
        if isinstance(image, DigestRef):
            return DigestRef(repository, image.digest, image.tag)
        return TagRef(repository, image.tag)

    def repository(self, name: str) -> Repository:
        """Where the upstream repository `name` lies in the enclave, whether images of it are known or not."""
        return target(parse_repository(name), self.registry, self.project)

    def chart(self, name: str, version: str) -> TagRef:
        """Where a chart lies in the enclave as an OCI artifact: `<registry>/<project>/charts/<name>`.

        HIP 6: a version's plus sign, which no tag may hold, is written as an underscore. Raises UsageError.
        """
        path = "/".join(part for part in (self.project, "charts", name) if part)
        return TagRef(Repository(self.registry, path), version.replace("+", "_"))

    @property
    def floors(self) -> Repository:
        """Where the enclave keeps which release is the newest: `<registry>/<project>/airferry/floors`.

        No host has such a name, so no image lies there. Raises UsageError.
        """
        return Repository(self.registry, "/".join(filter(None, (self.project, "airferry", "floors"))))

    def moved(self, name: str) -> Repository | None:
        """Where the repository that `name` means is in the enclave; None if the bundle has no image of it."""
        try:
            repository = parse_repository(name)
        except AirferryError:
            return None
        known = any(image.repository == repository for image in self.images)
        return target(repository, self.registry, self.project) if known else None

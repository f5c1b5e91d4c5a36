"""What lies beside an image and speaks about it: signatures, attestations, SBOMs.

Registries list what has a `subject`. Older versions of cosign find theirs by tags that begin with the digest of what
they are about, and by nothing else (specs/SIGNATURE_SPEC.md, "Tag-based Discovery"; pkg/oci/remote/remote.go).
An image is of use without them. So one that cannot be had is left out, and whoever locks is told.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from builder.images.platforms import Upstream
from builder.images.resolve import Carried, Resolved, Wanted, walk
from builder.images.source import Places
from builder.recipe.lock import MAX_DEPTH, Origin
from installer.errors import REFUSALS, ContentError
from installer.oci.digest import Digest
from installer.oci.model import Index, Manifest
from installer.registry.referrers import tag_for
from installer.value import replace

MAX_REFERRERS = 1000
SHOWN = 3
"""Those left out that are told one by one."""
SUFFIXES = ("sig", "att", "sbom")
"""What cosign puts behind a digest: signatures, attestations, an SBOM."""


def with_referrers(places: Places, wanted: Wanted, found: Resolved) -> Resolved:
    """`found` with all manifests about it, and with those about them in turn; only registries keep any.

    Raises ContentError if there are too many, and the errors of a registry that cannot be reached.
    """
    if wanted.origin.kind != "registry":
        return found
    search = _Search(places, wanted.origin, found.carried)
    search.run()
    upstream, notes = found.image.upstream, []
    if upstream != found.image.digest and (search.listed(upstream) or any(search.tagged_about(upstream))):
        notes.append(
            f"{wanted.source}: what is signed or attested there is its index {upstream}, of which a part is carried; "
            "name the image with this digest, or several platforms, to carry the index with all about it"
        )
    notes += [f"{wanted.source}: not carried with it: {text}" for text in search.left_out[:SHOWN]]
    if len(search.left_out) > SHOWN:
        notes.append(f"{wanted.source}: and {len(search.left_out) - SHOWN} more that speak about it")
    image = replace(found.image, referrers=tuple(sorted(search.found)), tagged=tuple(sorted(search.tagged.items())))
    return Resolved(image, found.carried, (*found.notes, *notes))


@dataclass
class _Search:
    """What is `found` by lists, and `tagged`, about the manifests in `carried`, to which it is added.

    `left_out` says what is not, and why.
    """

    places: Places
    origin: Origin
    carried: Carried
    found: set[Digest] = field(default_factory=set)
    tagged: dict[str, Digest] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def run(self) -> None:
        level = list(self.carried.manifests)
        for _ in range(MAX_DEPTH):
            level = [digest for subject in level for digest in self._about(subject)]
            if len(self.found) + len(self.tagged) > MAX_REFERRERS:
                raise ContentError(
                    f"{self.origin}: more than {MAX_REFERRERS} manifests refer to it",
                    hint="set `referrers: false`, and name those that are needed in images, by digest.",
                )

    def listed(self, subject: Digest) -> tuple[str, ...]:
        """What is listed as being about `subject`; nothing where that is refused."""
        try:
            return self.places.referrers(self.origin, subject)
        except REFUSALS as exc:
            self.left_out.append(exc.message)
            return ()

    def tagged_about(self, subject: Digest) -> Iterator[tuple[str, Manifest | Index]]:
        """What is about `subject` by its tag, with that tag."""
        for suffix in SUFFIXES:
            tag = f"{tag_for(subject)}.{suffix}"
            try:
                manifest = self.places.tagged(self.origin, tag)
            except REFUSALS as exc:
                self.left_out.append(exc.message)
                continue
            if manifest:
                yield tag, manifest

    def _about(self, subject: Digest) -> list[Digest]:
        """The manifests about `subject` that were not carried before."""
        known, new = set(self.carried.manifests), []
        for text in self.listed(subject):
            manifest = self._about_it(text, subject)
            if manifest and manifest.descriptor.digest not in self.found and self._take(manifest):
                self.found.add(manifest.descriptor.digest)
                new.append(manifest.descriptor.digest)
        for tag, manifest in self.tagged_about(subject):
            if self._take(manifest):
                self.tagged[tag] = manifest.descriptor.digest
                new.append(manifest.descriptor.digest)
        return [digest for digest in dict.fromkeys(new) if digest not in known]

    def _about_it(self, listed: str, subject: Digest) -> Manifest | Index | None:
        """The manifest with the digest `listed` if it can be had, and is about `subject`."""
        try:
            digest = Digest(listed)
            manifest = self.places.manifest(self.origin, digest)
        except REFUSALS as exc:
            self.left_out.append(exc.message)
            return None
        if manifest.subject is None or manifest.subject.digest != subject:
            self.left_out.append(f"{digest} is listed as being about {subject}, and is not")
            return None
        return manifest

    def _take(self, manifest: Manifest | Index) -> bool:
        """Whether a manifest can be had with all that it consists of; then it is carried."""
        part = Carried()
        try:
            walk(Upstream(self.places, self.origin), manifest, part)
        except REFUSALS as exc:
            self.left_out.append(exc.message)
            return False
        self.carried.merge(part)
        return True

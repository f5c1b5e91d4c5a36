"""One image: from a name to the manifest that is carried and everything that manifest needs.

The platform rule: a recipe for one platform carries that platform's manifest of an index, under the digest it has
upstream, and the tag points to it. A recipe for several platforms, or a name with a digest, carries the index whole:
whoever asks for the digest of an index must find the index.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from builder.images.source import Places
from builder.recipe.findings import Reason
from builder.recipe.lock import MAX_DEPTH, LockedBlob, LockedImage, LockedManifest, Origin, is_mutable
from installer.bundle.limits import MAX_SMALL_BLOB
from installer.errors import AirferryError, ContentError, NotFoundError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Descriptor, Index, Manifest, Platform
from installer.oci.reference import DigestRef, Reference, parse_reference
from installer.value import Value

UNKNOWN = "unknown"
"""Operating system of index entries that are no images, such as BuildKit's attestations."""


class Wanted(Value):
    """An image to be resolved: its full name, where to fetch it, why, and the digest it is already pinned to."""

    source: str
    origin: Origin
    reasons: tuple[Reason, ...]
    pin: Digest | None = None

    @property
    def reference(self) -> Reference:
        """`source` as a reference."""
        return parse_reference(self.source)


@dataclass
class Carried:
    """Manifests and blobs, collected while trees are walked; generated manifests are kept as text."""

    manifests: dict[Digest, LockedManifest] = field(default_factory=dict)
    blobs: dict[Digest, LockedBlob] = field(default_factory=dict)

    def add_blob(self, blob: LockedBlob) -> None:
        """Take a blob in. Two names for one content may differ in type: the smaller one stays, so order is no matter.

        Raises ContentError if sizes differ.
        """
        held = self.blobs.get(blob.digest)
        if held is not None and held.size != blob.size:
            raise ContentError(f"{blob.digest}: said to have {held.size} bytes and {blob.size} bytes")
        if held is None or blob.media_type < held.media_type:
            self.blobs[blob.digest] = blob

    def add(self, manifest: Manifest | Index, *, text: str = "") -> None:
        """Take in a manifest or index, with its blobs. Raises ContentError for layers that no registry holds."""
        digest = manifest.descriptor.digest
        self.add_blob(LockedBlob(digest, manifest.descriptor.media_type, manifest.descriptor.size, text))
        if isinstance(manifest, Index):
            content = tuple(child.digest for child in manifest.manifests)
            if not content:
                raise ContentError(f"{digest}: an index of nothing", hint="its publisher has to push the image again.")
        else:
            content = (manifest.config.digest, *(layer.digest for layer in manifest.layers))
            foreign = [layer for layer in manifest.layers if layer.media_type in media_types.FOREIGN_LAYERS]
            if foreign:
                raise ContentError(
                    f"{digest}: layer {foreign[0].digest} stays at its vendor and is in no registry",
                    hint="such an image (usually Windows) cannot be carried; exclude it.",
                )
            for blob in manifest.blobs:
                self.add_blob(LockedBlob(blob.digest, blob.media_type, blob.size))
        self.manifests[digest] = LockedManifest(digest, content)

    def merge(self, other: "Carried") -> None:
        """Take in all of `other`."""
        self.manifests.update(other.manifests)
        for blob in other.blobs.values():
            self.add_blob(blob)


class Resolved(Value):
    """An image as the lock will say it, what it needs, and remarks for the person who locks."""

    image: LockedImage
    carried: Carried
    notes: tuple[str, ...]


def resolve(places: Places, wanted: Wanted, platforms: Sequence[Platform]) -> Resolved:
    """Resolve one image. Raises NotFoundError, ContentError, errors of its place."""
    reference = wanted.reference
    asked = reference.digest if isinstance(reference, DigestRef) else wanted.pin
    upstream = places.manifest(wanted.origin, asked)
    whole = isinstance(reference, DigestRef) or len(platforms) > 1
    root = upstream if whole else _choose(places, wanted, upstream, platforms[0])
    carried = Carried()
    walk(places, wanted.origin, root, carried)
    runs_on = _platforms(places, wanted.origin, root)
    notes = _check_platforms(wanted, runs_on, platforms)
    if is_mutable(wanted.source):
        notes.append(f"{wanted.source}: `latest` is whatever was pushed last; locked to {upstream.descriptor.digest}")
    if carried.blobs[root.descriptor.digest].text:
        notes.append(f"{wanted.source}: its digest is made here from {wanted.origin}; no registry knows it")
    descriptor = root.descriptor
    image = LockedImage(
        source=wanted.source,
        digest=descriptor.digest,
        media_type=descriptor.media_type,
        size=descriptor.size,
        upstream=upstream.descriptor.digest,
        single=_single(places, wanted, root, platforms[0]),
        platforms=tuple(sorted(runs_on)),
        origin=wanted.origin,
        reasons=wanted.reasons,
    )
    return Resolved(image, carried, tuple(notes))


def _single(places: Places, wanted: Wanted, root: Manifest | Index, platform: Platform) -> Digest:
    try:
        return _choose(places, wanted, root, platform).descriptor.digest
    except NotFoundError:
        return root.descriptor.digest


def _choose(
    places: Places, wanted: Wanted, upstream: Manifest | Index, platform: Platform, depth: int = 0
) -> Manifest | Index:
    """The manifest for `platform`."""
    if isinstance(upstream, Manifest):
        return upstream
    if depth == MAX_DEPTH:
        raise ContentError(f"{wanted.source}: indexes inside indexes, more than {MAX_DEPTH} deep")
    chosen = upstream.entry_for(platform)
    if chosen is None:
        raise _not_for(wanted, _named(upstream.manifests), [platform])
    return _choose(places, wanted, places.child(wanted.origin, chosen), platform, depth + 1)


def walk(places: Places, origin: Origin, manifest: Manifest | Index, carried: Carried, depth: int = 0) -> None:
    """Collect `manifest` and all below it; one that no place holds is kept as text. Raises as `resolve` does."""
    carried.add(manifest, text=manifest.raw.decode("ascii") if places.generates(origin, manifest) else "")
    if isinstance(manifest, Manifest):
        return
    if depth == MAX_DEPTH:
        raise ContentError(f"{manifest.descriptor.digest}: indexes inside indexes, more than {MAX_DEPTH} deep")
    for child in manifest.manifests:
        if not child.is_index and not child.is_manifest:
            raise ContentError(f"{manifest.descriptor.digest}: its entry of type {child.media_type:.100} is no image")
        if child.digest not in carried.manifests:
            walk(places, origin, places.child(origin, child), carried, depth + 1)


def _platforms(places: Places, origin: Origin, root: Manifest | Index) -> set[Platform]:
    """What `root` runs on; empty for content that is no container image.

    A manifest says it only in its configuration; nested indexes without platforms are left unread.
    """
    if isinstance(root, Index):
        return _named(root.manifests)
    if root.config.media_type not in media_types.IMAGE_CONFIGS:
        return set()
    raw = places.read(origin, root.config, MAX_SMALL_BLOB)
    try:
        # Not the strict reader: labels may differ in case only, and nothing but the platform is read here.
        config = json.loads(raw)
        parts = [config.get(key) or "" for key in ("os", "architecture", "variant")]
        return {Platform(*parts)}
    except (ValueError, AttributeError, TypeError, RecursionError, AirferryError) as exc:
        raise ContentError(f"{origin}: the image's configuration {root.config.digest} names no platform") from exc


def _named(descriptors: Iterable[Descriptor]) -> set[Platform]:
    return {item.platform for item in descriptors if item.platform and item.platform.os != UNKNOWN}


def _check_platforms(wanted: Wanted, runs_on: set[Platform], platforms: Sequence[Platform]) -> list[str]:
    """Remarks about platforms that are missing. Raises NotFoundError if none of those wanted is there."""
    missing = [want for want in platforms if not any(have.serves(want) for have in runs_on)]
    if not runs_on or not missing:
        return []
    if len(missing) == len(platforms):
        raise _not_for(wanted, runs_on, platforms)
    return [f"{wanted.source}: not published for {', '.join(map(str, missing))}"]


def _not_for(wanted: Wanted, runs_on: Iterable[Platform], platforms: Sequence[Platform]) -> NotFoundError:
    there = ", ".join(sorted(map(str, runs_on))) or "no platform that it names"
    return NotFoundError(
        f"{wanted.source}: not for {', '.join(map(str, platforms))}; it is published for {there}",
        hint="ask for another tag, exclude the image, or change `platforms` in the recipe.",
    )


def substituted(reference: Reference, substitutions: Mapping[str, str]) -> Reference:
    """Where the bytes of `reference` are fetched from.

    A key with a tag or digest stands for exactly that image. Any other key is a repository, or with `/` at its end a
    folder of repositories; the longest one that fits wins, and tag or digest stay. Raises UsageError.
    """
    exact = {str(parse_reference(key)): value for key, value in substitutions.items() if _is_exact(key)}
    if str(reference) in exact:
        return parse_reference(exact[str(reference)])
    text = str(reference.repository)
    fitting = [
        key
        for key in substitutions
        if not _is_exact(key) and (text == key or text.startswith(key if key.endswith("/") else f"{key}/"))
    ]
    if not fitting:
        return reference
    key = max(fitting, key=len)
    selector = f"@{reference.digest}" if isinstance(reference, DigestRef) else f":{reference.tag}"
    return parse_reference(f"{substitutions[key]}{text[len(key) :]}{selector}")


def _is_exact(key: str) -> bool:
    return "@" in key or ":" in key.rpartition("/")[2]


def origin_of(reference: Reference) -> Origin:
    """The origin of an image at a registry."""
    return Origin("registry", str(reference.repository), reference.tag)

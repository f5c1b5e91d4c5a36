"""One image: from a name to the manifest that is carried and everything that manifest needs.

The platform rule: a recipe for one platform carries that platform's manifest of an index, under the digest it has
upstream, and the tag points to it. A recipe for several platforms, or a name with a digest, carries the index whole:
whoever asks for the digest of an index must find the index.

An index may name what cannot be carried: a layer that stays at its vendor, content of a type that nobody knows, a
manifest that is gone. By digest such an index stays what it is, and travels without that. By tag the rest of it becomes
an index of its own, since many registries take none of which they lack something.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from builder.images.platforms import ANY, NEWER, Upstream, fit, too_deep
from builder.images.source import Places
from builder.recipe.findings import Reason
from builder.recipe.lock import MAX_DEPTH, LockedBlob, LockedImage, LockedManifest, Origin, is_mutable
from installer.errors import ContentError, NotFoundError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Descriptor, Index, Manifest, Platform, parse_manifest
from installer.oci.reference import DigestRef, Reference, parse_reference
from installer.value import Value


class Wanted(Value):
    """An image to be resolved: its full name, where to fetch it, why, and the digest it is already pinned to.

    One that is data is not run by any node: it is carried as it is, an index whole, whatever it is for.
    """

    source: str
    origin: Origin
    reasons: tuple[Reason, ...]
    pin: Digest | None = None
    data: bool = False

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
        """Take a blob in. Of two types for one content one stays, whatever the order: see `_preference`.

        Raises ContentError if sizes differ.
        """
        held = self.blobs.get(blob.digest)
        if held is not None and held.size != blob.size:
            raise ContentError(f"{blob.digest}: said to have {held.size} bytes and {blob.size} bytes")
        if held is None or _preference(blob.media_type) < _preference(held.media_type):
            self.blobs[blob.digest] = blob

    def add(self, manifest: Manifest | Index, *, text: str = "", without: Collection[Digest] = ()) -> None:
        """Take in a manifest or index, with its blobs except those that it is carried `without`.

        Raises ContentError for an index of nothing.
        """
        digest = manifest.descriptor.digest
        self.add_blob(LockedBlob(digest, manifest.descriptor.media_type, manifest.descriptor.size, text))
        if isinstance(manifest, Index):
            named = manifest.manifests
            if not named:
                raise ContentError(f"{digest}: an index of nothing", hint="its publisher has to push the image again.")
        else:
            named = (manifest.config, *manifest.layers)
        for blob in manifest.blobs:
            if blob.digest not in without:
                self.add_blob(LockedBlob(blob.digest, blob.media_type, blob.size))
        content = tuple(item.digest for item in named if item.digest not in without)
        self.manifests[digest] = LockedManifest(digest, content)

    def merge(self, other: "Carried") -> None:
        """Take in all of `other`."""
        self.manifests.update(other.manifests)
        for blob in other.blobs.values():
            self.add_blob(blob)


def _preference(media_type: str) -> tuple[bool, bool, str]:
    """The smallest type stays: one that says what its content is for, and not what else somebody uses it as.

    The installer knows by the types alone what is a manifest, and what a node can unpack.
    """
    is_manifest = media_type in media_types.INDEXES | media_types.MANIFESTS
    return not is_manifest, not media_type.startswith(media_types.LAYERS), media_type


class Resolved(Value):
    """An image as the lock will say it, what it needs, and remarks for the person who locks."""

    image: LockedImage
    carried: Carried
    notes: tuple[str, ...]


def resolve(places: Places, wanted: Wanted, platforms: Sequence[Platform]) -> Resolved:
    """Resolve one image. Raises NotFoundError, ContentError, errors of its place."""
    reference = wanted.reference
    asked = reference.digest if isinstance(reference, DigestRef) else wanted.pin
    root = upstream = places.manifest(wanted.origin, asked)
    source, notes, made = Upstream(places, wanted.origin), list[str](), ""
    if isinstance(upstream, Index) and not isinstance(reference, DigestRef) and not wanted.data:
        if len(platforms) == 1:
            root = _choose(source, wanted, upstream, platforms[0])
        else:
            root, notes = _reduced(source, wanted, upstream, platforms)
            made = root.raw.decode("ascii") if root is not upstream else ""
    carried = Carried()
    notes += [f"{wanted.source}: {note}" for note in walk(source, root, carried, made)]
    runs_on = set[Platform]()
    if wanted.data:
        pass  # nobody runs it
    elif (runs_on := source.platforms(root)) or source.platforms(root, lacking=True):
        notes += _check_platforms(wanted, root, runs_on, platforms, notes)
    elif isinstance(root, Index) or root.config.media_type in media_types.IMAGE_CONFIGS:
        notes.append(f"{wanted.source}: says no platform; it is carried whatever it runs on")
    if is_mutable(wanted.source):
        notes.append(f"{wanted.source}: `latest` is whatever was pushed last; locked to {upstream.descriptor.digest}")
    if carried.blobs[root.descriptor.digest].text and not made:
        notes.append(f"{wanted.source}: its digest is made here from {wanted.origin}; no registry knows it")
    descriptor = root.descriptor
    image = LockedImage(
        source=wanted.source,
        digest=descriptor.digest,
        media_type=descriptor.media_type,
        size=descriptor.size,
        upstream=upstream.descriptor.digest,
        single=_single(source, root, platforms[0]),
        platforms=tuple(sorted(runs_on)),
        origin=wanted.origin,
        reasons=wanted.reasons,
    )
    return Resolved(image, carried, tuple(notes))


def _choose(source: Upstream, wanted: Wanted, index: Index, platform: Platform) -> Manifest | Index:
    """The manifest for `platform`; `index` itself if nothing in it is bound to a platform. Raises NotFoundError."""
    chosen = source.choose(index, platform)
    if chosen is None and (there := source.platforms(index)):
        raise _not_for(wanted, there, [platform])
    return chosen or index


def _single(source: Upstream, root: Manifest | Index, platform: Platform) -> Digest:
    """The manifest that docker is given (FORMAT.md, "manifest.json"); `root` where there is none, or not all of it."""
    node = root
    for _ in range(MAX_DEPTH):
        if isinstance(node, Manifest):
            return root.descriptor.digest if source.absent(node) else node.descriptor.digest
        entry = node.entry_for(platform)
        if entry is None or entry not in node.children:
            break
        node = source.child(entry)
    return root.descriptor.digest


def _reduced(source: Upstream, wanted: Wanted, index: Index, platforms: Sequence[Platform]) -> tuple[Index, list[str]]:
    """`index` without the entries that cannot be carried whole, and what to say of them.

    Itself if there are none, or if nothing else is in it. Raises NotFoundError if a member for `platforms` is gone.
    """
    reasons = {entry.digest: reason for entry in index.manifests if (reason := _obstacle(source, entry, platforms))}
    if not reasons or all(entry.digest in reasons for entry in index.manifests):
        return index, []
    document = json.loads(index.raw)
    both = zip(document["manifests"], index.manifests, strict=True)
    document["manifests"] = [item for item, entry in both if entry.digest not in reasons]
    raw = json.dumps(document, separators=(",", ":")).encode()
    left = [f"{wanted.source}: {reason}; left out" for reason in reasons.values()]
    made = f"{wanted.source}: the index of the others is made here, with another digest than {index.descriptor.digest}"
    reduced = parse_manifest(raw, index.descriptor.media_type)
    return (reduced if isinstance(reduced, Index) else index), [*left, made]


def _obstacle(source: Upstream, entry: Descriptor, platforms: Sequence[Platform]) -> str:
    """Why an entry of an index cannot be carried as what it is; empty if it can."""
    if not (entry.is_index or entry.is_manifest):
        return f"its entry {entry.digest} is of type {entry.media_type:.100}, which is no image"
    try:
        node = source.child(entry)
    except NotFoundError as exc:
        if entry.platform and any(fit(entry.platform, want) is not None for want in platforms):
            raise
        return f"its entry {entry.digest} is gone ({exc.message})"
    return _vendors(source, node, entry) if isinstance(node, Manifest) else ""


def _vendors(source: Upstream, node: Manifest, entry: Descriptor) -> str:
    """The layers of a manifest that its place does not hold, for people; empty if it holds all."""
    absent = source.absent(node)
    what = entry.platform or source.platform(node) or entry.digest
    return f"layer {absent[0].digest} of {what} stays at its vendor and is in no registry" if absent else ""


def _about_vendors(source: Upstream, node: Manifest) -> list[str]:
    """What to say of layers that may stay at their vendor."""
    kept = [layer for layer in node.layers if not node.needs(layer)]
    if not kept:
        return []
    said = _vendors(source, node, node.descriptor)
    what = f"{said}; it is carried without" if said else f"layer {kept[0].digest} has the type of one that stays there"
    return [f"{what}; the registry `registry:2` or `:3` takes such an image only without validation"]


def walk(source: Upstream, node: Manifest | Index, carried: Carried, text: str = "", depth: int = 0) -> list[str]:
    """Collect `node` and all below it, and say what of it is absent; a manifest that no place holds is kept as text.

    Raises ContentError for a manifest that is carried by itself and lacks a layer, and as `resolve` does.
    """
    absent = source.absent(node)
    if not text and source.places.generates(source.origin, node):
        text = node.raw.decode("ascii")
    carried.add(node, text=text, without={blob.digest for blob in absent})
    if isinstance(node, Manifest):
        if absent and not depth:
            raise ContentError(
                f"{source.origin}: {_vendors(source, node, node.descriptor)}",
                hint="such an image, usually an old Windows, cannot be carried: ask for a later one, or exclude it.",
            )
        return _about_vendors(source, node)
    if depth == MAX_DEPTH:
        raise too_deep(str(source.origin))
    notes = [
        f"its entry {item.digest} of type {item.media_type:.100} cannot be had; it is carried without"
        for item in absent
    ]
    for child in node.children:
        if child.digest not in carried.manifests:
            notes += walk(source, _member(source, node, child), carried, depth=depth + 1)
    return notes


def _member(source: Upstream, index: Index, entry: Descriptor) -> Manifest | Index:
    try:
        return source.child(entry)
    except NotFoundError as exc:
        raise NotFoundError(
            f"{source.origin}: {entry.digest} is gone, a member of the index {index.descriptor.digest}: {exc.message}",
            hint="its publisher has removed it: name the image by tag, or the member that is needed by its digest.",
        ) from exc


def _check_platforms(
    wanted: Wanted,
    root: Manifest | Index,
    runs_on: set[Platform],
    platforms: Sequence[Platform],
    notes: Sequence[str],
) -> list[str]:
    """Remarks about platforms that are missing, or there for newer processors only.

    Raises NotFoundError if none of those wanted is there; `notes` say what else was left out.
    """
    found, missing = [], []
    for want in platforms:
        fitting = [(rank, have) for have in runs_on if (rank := fit(have, want)) is not None]
        rank, have = min(fitting, default=(None, want))
        if rank is None:
            missing.append(want)
        elif NEWER <= rank < ANY:
            more = ", and which containerd does not take from an index" if isinstance(root, Index) else ""
            found.append(f"{wanted.source}: for {want} there is only {have}, which not every such processor runs{more}")
    if len(missing) == len(platforms):
        raise _not_for(wanted, runs_on, platforms, notes)
    if missing:
        found.append(f"{wanted.source}: not published for {', '.join(map(str, missing))}")
    return found


def _not_for(
    wanted: Wanted, runs_on: Iterable[Platform], platforms: Sequence[Platform], notes: Sequence[str] = ()
) -> NotFoundError:
    there = ", ".join(sorted(map(str, runs_on))) or "no platform"
    more = "".join(f"\n  {note}" for note in notes)
    return NotFoundError(
        f"{wanted.source}: not for {', '.join(map(str, platforms))}; it is published for {there}{more}",
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

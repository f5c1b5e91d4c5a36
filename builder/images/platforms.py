"""Which manifest of an image runs where.

Spellings and variants follow containerd (`platforms/database.go`, `platforms/compare.go`): a processor runs what was
made for older ones of its kind.
"""

import json
from collections.abc import Iterable, Sequence

from builder.images.source import Places
from builder.recipe.lock import MAX_DEPTH, Origin
from installer.bundle.limits import MAX_SMALL_BLOB
from installer.errors import ContentError, RegistryAccessError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Descriptor, Index, Manifest, Platform

UNKNOWN = "unknown"
"""Operating system of index entries that are no images, such as BuildKit's attestations."""
WASM = "wasm"
"""How architectures begin that every node runs for which somebody has set it up: `wasm`, `wasm32`."""
NEWER, ANY = 100, 200
"""Ranks of `fit` from where on processors may not run it, and for what is not made for any in particular."""
_VARIANTS = {"amd64": ("v1", "v2", "v3", "v4"), "arm": ("v5", "v6", "v7", "v8"), "arm64": ("v8", "v9")}
_USUAL = {"amd64": "v1", "arm": "v7", "arm64": "v8"}
"""What no variant means."""
_SPELLINGS = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "i386": "386",
    "aarch64": "arm64",
    "armhf": "arm/v7",
    "armel": "arm/v6",
}
"""Architectures as some tools write them, and as the specification does."""
_ALSO = {("amd64", "386"): 50, ("arm64", "arm"): NEWER + 50}
"""Ranks of other architectures that processors run, as good as all of them or some."""


def fit(have: Platform, want: Platform) -> int | None:
    """How well what was made for `have` serves `want`: 0 is best, None not at all.

    From NEWER on not every processor of `want` runs it, as a later variant than it stands for by saying none; ANY is
    for no platform in particular.
    """
    have, want = _normal(have), _normal(want)
    if have.architecture.startswith(WASM):
        return ANY
    if have.os != want.os:
        return None
    if have.architecture != want.architecture:
        return _ALSO.get((want.architecture, have.architecture))
    usual, known = _USUAL.get(want.architecture, ""), _VARIANTS.get(want.architecture, ())
    mine, theirs = have.variant or usual, want.variant or usual
    if mine == theirs:
        return 0
    if mine in known and theirs in known and known.index(mine) < known.index(theirs):
        return known.index(theirs) - known.index(mine)
    if want.variant:
        return None
    return NEWER + (known.index(mine) if mine in known else len(known))


def _normal(platform: Platform) -> Platform:
    """`platform` as the specification spells it: `x86_64` is amd64, `arm/7` is arm/v7."""
    spelled = platform.architecture.lower()
    architecture, _, implied = _SPELLINGS.get(spelled, spelled).partition("/")
    variant = (platform.variant.lower() or implied).removesuffix(".0")
    return Platform(platform.os.lower(), architecture, f"v{variant}" if variant.isdecimal() else variant)


class Upstream:
    """The manifests of one image at `origin`, each read once. All methods raise the errors of the place."""

    def __init__(self, places: Places, origin: Origin) -> None:
        self.places, self.origin = places, origin
        self._children = dict[Digest, Manifest | Index]()
        self._platforms = dict[Digest, Platform | None]()
        self._held = dict[Digest, bool]()

    def child(self, entry: Descriptor) -> Manifest | Index:
        """The manifest that an index names."""
        if entry.digest not in self._children:
            self._children[entry.digest] = self.places.child(self.origin, entry)
        return self._children[entry.digest]

    def absent(self, node: Manifest | Index) -> tuple[Descriptor, ...]:
        """What the place does not hold of that which `node` can be carried without."""
        return tuple(blob for blob in node.blobs if not node.needs(blob) and not self._holds(blob))

    def _holds(self, blob: Descriptor) -> bool:
        if blob.digest not in self._held:
            try:
                self._held[blob.digest] = self.places.holds(self.origin, blob)
            except (ContentError, RegistryAccessError):
                # The manifest was given away, this was not: some answer so for what they do not have.
                self._held[blob.digest] = False
        return self._held[blob.digest]

    def platform(self, manifest: Manifest) -> Platform | None:
        """The platform in the configuration; None where it says none, and for what is no container image.

        Nobody can run a configuration that is no JSON; but registries keep it, and so it is carried.
        """
        config = manifest.config
        if config.media_type not in media_types.IMAGE_CONFIGS or config.size > MAX_SMALL_BLOB:
            return None
        if config.digest not in self._platforms:
            raw = self.places.read(self.origin, config, MAX_SMALL_BLOB)
            try:
                # Not the strict reader: nothing but the platform is read here.
                self._platforms[config.digest] = Platform.of(json.loads(raw))
            except (ValueError, TypeError, RecursionError):
                self._platforms[config.digest] = None
        return self._platforms[config.digest]

    def platforms(self, node: Manifest | Index, *, lacking: bool = False) -> set[Platform]:
        """What `node` runs on; empty for content that is bound to no platform, or no container image.

        What lacks a layer counts only with `lacking`.
        """
        if isinstance(node, Manifest):
            return _known([None if self.absent(node) and not lacking else self.platform(node)])
        found: set[Platform] = set()
        for entry in node.children:
            if entry.platform is None:
                found |= self.platforms(self.child(entry), lacking=lacking)
            elif lacking or entry.is_index or not self.absent(self.child(entry)):
                found |= _known([entry.platform])
        return found

    def choose(self, index: Index, want: Platform, depth: int = 0) -> Manifest | None:
        """The manifest for `want`; None if there is none.

        An entry that names no platform comes after those that do, and has that of its configuration.
        Raises ContentError for indexes that are nested too deep.
        """
        if depth == MAX_DEPTH:
            raise too_deep(str(self.origin))
        named = [(fit(entry.platform, want), entry) for entry in index.children if entry.platform]
        found = self._best(named, want, depth)
        if found is None:
            unnamed = [entry for entry in index.children if not entry.platform]
            found = self._best([(self._fit(entry, want, unnamed), entry) for entry in unnamed], want, depth)
        return found

    def _best(self, ranked: Iterable[tuple[int | None, Descriptor]], want: Platform, depth: int) -> Manifest | None:
        fitting = [(rank, entry) for rank, entry in ranked if rank is not None]
        for _, entry in sorted(fitting, key=lambda item: item[0]):
            node = self.child(entry)
            found = self.choose(node, want, depth + 1) if isinstance(node, Index) else node
            if found is not None:
                return found
        return None

    def _fit(self, entry: Descriptor, want: Platform, unnamed: Sequence[Descriptor]) -> int | None:
        """How well an entry fits that names no platform. An artifact is somebody's choice only where it is alone."""
        node = self.child(entry)
        if isinstance(node, Index):
            return ANY
        have = self.platform(node)
        if have is None:
            image = node.config.media_type in media_types.IMAGE_CONFIGS
            return ANY if image or len(unnamed) == 1 else None
        return fit(have, want)


def too_deep(what: str) -> ContentError:
    """The error for an index that holds indexes on too many levels."""
    return ContentError(
        f"{what}: indexes inside indexes, more than {MAX_DEPTH} deep", hint="name an inner one by its digest."
    )


def _known(platforms: Iterable[Platform | None]) -> set[Platform]:
    return {item for item in platforms if item and item.os != UNKNOWN}

"""Pushing one blob, one image or one chart into the repositories of a registry that need it."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from installer.buffers import Buffers
from installer.bundle.limits import CHUNK
from installer.bundle.manifest import BundleChart, BundleImage
from installer.bundle.reader import Bundle
from installer.errors import AirferryError, ContentError, NotFoundError, RegistryAccessError
from installer.oci.digest import Digest
from installer.oci.model import Descriptor, Index, Manifest
from installer.oci.reference import Reference, Repository, TagRef
from installer.parallel import take_part
from installer.registry.client import Registry
from installer.registry.failures import OF_ONE_REQUEST, BlobUnknownError, RegistryFailedError
from installer.report import Reporter
from installer.transfer.blob_body import BlobBody, body_from_registry
from installer.transfer.existing_images import chart_as_image, held_at, tag_or_digest
from installer.transfer.load_result import LoadedChart
from installer.value import Value

_FAILURES = 2
"""A blob that a registry has failed over in so many repositories is tried in no other: each takes a while."""
_REPOSITORIES = 6
"""Repositories handled concurrently per shared blob."""


@dataclass
class Tally:
    """Bytes of blobs: sent, mounted from a neighbour, present, and resumed (brought by an earlier load).

    Safe to use from several threads.
    """

    sent: int = 0
    mounted: int = 0
    present: int = 0
    resumed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, *, sent: int = 0, mounted: int = 0, present: int = 0, resumed: int = 0) -> None:
        """Add to the counts."""
        with self._lock:
            self.sent += sent
            self.mounted += mounted
            self.present += present
            self.resumed += resumed


class Job(Value):
    """A blob and the repositories that need it."""

    descriptor: Descriptor
    repositories: tuple[Repository, ...]


class _Attempts:
    """What is tried in several repositories for one blob. Safe to use from several threads."""

    def __init__(self) -> None:
        self.refused: dict[Repository, AirferryError] = {}
        self._failures: list[RegistryFailedError] = []

    def guarded(self, step: Callable[[Repository], bool]) -> Callable[[Repository], bool]:
        """`step`, but True with the reason in `refused` where it is refused, and once the registry fails anywhere."""

        def once(place: Repository) -> bool:
            try:
                if len(self._failures) >= _FAILURES:
                    raise self._failures[-1]
                return step(place)
            except OF_ONE_REQUEST as exc:
                self.refused[place] = exc
                if isinstance(exc, RegistryFailedError):
                    self._failures.append(exc)
                return True

        return once


class Pusher:
    """Pushes one thing at a time into all repositories that need it. Safe to use from several threads.

    `holders` are repositories that hold blobs which the bundle leaves out. `tally` counts bytes. What runs gives up
    soon after `stop` is set. All methods raise the errors of `installer.transfer.load.load`; with those in
    OF_ONE_REQUEST the others may go on.
    """

    def __init__(
        self,
        bundle: Bundle,
        registry: Registry,
        reporter: Reporter,
        holders: Mapping[Digest, Repository],
        *,
        sha256: bool,
    ) -> None:
        self.bundle, self.registry, self.reporter = bundle, registry, reporter
        self._holders, self._sha256 = holders, sha256
        self.tally, self.stop = Tally(), threading.Event()
        self.unattached: dict[str, str] = {}
        self._buffers = Buffers(CHUNK)

    # --- blobs ---

    def push_blob(self, job: Job, *, across: bool = False) -> dict[Repository, AirferryError] | None:
        """Have a blob in all repositories of `job`: leave it where it is, mount it where possible, else send it.

        Returns the repositories that refuse it, with the reason. None if it must be sent and a volume for it is not at
        hand; with `across` that volume is asked for instead.
        """
        blob, known = job.descriptor, self._holders.get(job.descriptor.digest)
        attempts = _Attempts()

        def each_place(step: Callable[[Repository], bool], places: Sequence[Repository]) -> list[bool]:
            once = attempts.guarded(step)
            # Whoever asks for other media must read alone.
            return [once(place) for place in places] if across else self._in_each(once, places)

        held = each_place(lambda place: place == known or self.registry.has_blob(place, blob), job.repositories)
        asked = [place for place in job.repositories if place not in attempts.refused]
        holders = [place for place, has in zip(job.repositories, held, strict=True) if has and place in asked]
        lacking = [place for place in asked if place not in holders]
        present = blob.size * len(holders)
        if known and not holders:
            holders = [known]
        reported = bool(holders)
        while lacking and not holders:
            first = lacking.pop(0)
            if not all(each_place(partial(self._supply, blob=blob, holder=None, across=across), [first])):
                return None
            holders = [] if first in attempts.refused else [first]
        if reported or not holders:
            self.reporter.advance(blob.size)
        if holders and not all(each_place(partial(self._supply, blob=blob, holder=holders[0], across=across), lacking)):
            if reported:
                self.reporter.advance(-blob.size)
            return None
        self.tally.add(present=present)
        return attempts.refused

    def _supply(self, repository: Repository, blob: Descriptor, holder: Repository | None, *, across: bool) -> bool:
        """Bring a blob into one repository, mounted from `holder` if possible; False if a volume is not at hand."""
        if holder and self.registry.mount(repository, blob.digest, holder):
            self.tally.add(mounted=blob.size)
            return True
        return self._send(repository, blob, self.reporter if holder is None else None, across=across)

    def _send(self, repository: Repository, blob: Descriptor, reporter: Reporter | None, *, across: bool) -> bool:
        """Send a blob into a repository; False if a volume is not at hand."""
        if known := self._holders.get(blob.digest):
            self.registry.upload(repository, blob, partial(body_from_registry, self.registry, known, blob))
            self.tally.add(sent=blob.size)
            return True
        absent = bool(self.bundle.absent(blob.digest))
        if absent and not across:
            return False
        with self._buffers.holding(blob.size) as buffer:
            body = BlobBody(self.bundle, blob, buffer, reporter, self.stop, sha256=self._sha256, across=absent)
            try:
                earlier = self.registry.upload(repository, blob, body, slowly=absent)
            except OF_ONE_REQUEST:
                body.refused()
                raise
            body.arrived()
        self.tally.add(resumed=earlier, sent=blob.size - earlier)
        return True

    def _in_each(self, step: Callable[[Repository], bool], places: Sequence[Repository]) -> list[bool]:
        """`step` for each of the repositories that need a blob, a few at a time: each is a round trip or two."""
        if len(places) < 2:
            return [step(place) for place in places]
        with ThreadPoolExecutor(_REPOSITORIES, initializer=take_part, initargs=(self.stop,)) as pool:
            return list(pool.map(step, places))

    # --- images and charts, whose blobs are there ---

    def push_image(self, target: Reference, image: BundleImage) -> None:
        """Push the manifests of an image, children first, its own under its tag, then what is about it. Confirm it.

        Not every registry takes what is about images: a refusal of that is noted, and kept in `unattached`.
        """
        if image.parts and self.bundle.volumes.missing:
            self.bundle.images.closure(image)  # nobody had all manifests at once before
        nodes = self.bundle.images.manifests(image)
        own = [node.descriptor.digest for node in nodes].index(image.digest) + 1
        for node in nodes[:own]:
            self._put_node(target, image, node)
        for node in nodes[own:]:
            try:
                self._put_node(target, image, node)
            except OF_ONE_REQUEST as exc:
                name = f"{image.source}: {node.descriptor.digest}"
                self.unattached[name] = exc.message
                self.reporter.note(f"note: {name}, which is about it, is refused: {exc.message}")
        self.registry.confirm(tag_or_digest(target), image.digest)

    def _put_node(self, target: Reference, image: BundleImage, node: Manifest | Index) -> None:
        """Put a manifest of an image, or about it, under all its names; list it where the registry keeps no list."""
        digest = node.descriptor.digest
        tags = [target.tag] if digest == image.digest and target.tag else []
        tags += [tag for tag, about in image.tagged if about == digest and self._is_ours(target, tag, node)]
        listed = [self._put_as(target.repository, node, selector) for selector in tags or [digest.text]]
        if digest in image.referrers and not all(listed):
            self.registry.list_referrer(target.repository, node)

    def _put_as(self, repository: Repository, node: Manifest | Index, selector: str) -> bool:
        """Put a manifest under a tag or its digest; whether the registry lists it as a referrer."""
        try:
            return self._put(repository, node, selector)
        except (ContentError, RegistryAccessError) as exc:
            if selector != node.descriptor.digest.text:
                self._explain_fixed_tag(TagRef(repository, selector), node.descriptor.digest, exc)
            raise

    def _put(self, repository: Repository, node: Manifest | Index, selector: str) -> bool:
        """Put a manifest; what the registry has claimed to hold of it, and does not know then, is sent."""
        try:
            return self.registry.put_manifest(repository, node.raw, node.descriptor.media_type, selector)
        except BlobUnknownError as exc:
            if others := [blob.digest for blob in node.blobs if not node.needs(blob)]:
                raise ContentError(
                    f"{exc.message}\nit names {others[0]}, which a registry need not hold, and this one insists on it",
                    hint="name it by tag and for one platform in the recipe, or relax `validation` in the registry.",
                ) from exc
            if not self._send_again(repository, node):
                raise
            return self.registry.put_manifest(repository, node.raw, node.descriptor.media_type, selector)

    def _send_again(self, repository: Repository, node: Manifest | Index) -> bool:
        """Send the blobs of a manifest that the registry does not deliver, or all; False if one is not at hand."""
        carried = {blob.digest for blob in self.bundle.manifest.blobs}
        blobs = [blob for blob in node.blobs if blob.digest in carried] if isinstance(node, Manifest) else []
        self.registry.doubt(repository)
        lacking = [blob for blob in blobs if not self.registry.has_blob(repository, blob)] or blobs
        return bool(blobs) and all(self._send(repository, blob, None, across=False) for blob in lacking)

    def _is_ours(self, target: Reference, tag: str, node: Manifest | Index) -> bool:
        """Whether `tag` may name `node`: not if the site has added to what it names, such as a signature of its own."""
        try:
            there = self.registry.manifest(TagRef(target.repository, tag))
        except NotFoundError:
            return True
        if not _content(there) - _content(node):
            return True
        if _content(node) - _content(there):
            digest = node.descriptor.digest
            self.reporter.note(f"note: {target.repository}:{tag} holds more than the bundle's {digest}, and stays")
        return False

    def _explain_fixed_tag(self, tag: TagRef, digest: Digest, exc: AirferryError) -> None:
        """Raise what says more than `exc` if the registry refuses to move the tag."""
        found = self.registry.head_manifest(tag)
        if found not in (None, digest):
            raise ContentError(
                f"{tag}: names {found} there, and the registry refuses to have it name {digest}\n{exc.message}",
                hint="its tags are immutable: have this tag deleted or the rule lifted, or load into another project.",
            ) from exc

    def push_chart(self, target: TagRef, chart: BundleChart) -> LoadedChart:
        """Push a chart with its layer, unless it is there. A refusal by the registry is part of the result."""
        image = chart_as_image(self.bundle, chart, target)
        try:
            held = held_at(self.bundle, self.registry, target, image)
            if not held.whole:
                (node,) = self.bundle.images.manifests(image)
                for blob in node.blobs if isinstance(node, Manifest) else ():
                    for refusal in (self.push_blob(Job(blob, (target.repository,))) or {}).values():
                        raise refusal
                self.push_image(target, image)
        except OF_ONE_REQUEST as exc:
            return LoadedChart(chart.name, chart.version, target, chart.artifact, present=False, refusal=exc.message)
        return LoadedChart(chart.name, chart.version, target, chart.artifact, held.whole, before=held.before)


def _content(node: Manifest | Index) -> set[object]:
    """What a manifest is made for. cosign keeps each signature in the annotations of a layer, which is what is signed:
    the same for several signatures."""
    parts = node.layers if isinstance(node, Manifest) else node.manifests
    return {(part.digest, frozenset(part.annotations.items())) for part in parts}

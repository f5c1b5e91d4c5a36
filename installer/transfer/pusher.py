"""Bringing one blob, or the name of one image, into the repositories of a registry that need it."""

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from installer.bundle.buffers import Buffers
from installer.bundle.limits import CHUNK
from installer.bundle.manifest import BundleChart, BundleImage
from installer.bundle.reader import Bundle
from installer.errors import (
    AirferryError,
    ContentError,
    RegistryAccessError,
)
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Descriptor
from installer.oci.reference import DigestRef, Reference, Repository, TagRef
from installer.parallel import take_part
from installer.registry.client import Registry
from installer.report import Reporter
from installer.transfer.blob_body import Outgoing
from installer.value import Value

_ASIDE = 6
"""Repositories that are seen to at a time, for each blob that several of them need."""


@dataclass
class Tally:
    """Counts of bytes, from several threads."""

    sent: int = 0
    mounted: int = 0
    present: int = 0
    resumed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, count: int) -> None:
        with self.lock:
            setattr(self, kind, getattr(self, kind) + count)


class Job(Value):
    """A blob and the repositories that need it."""

    descriptor: Descriptor
    repositories: tuple[Repository, ...]


class Sender:
    """Brings one thing at a time into all repositories that need it. Safe to use from several threads."""

    def __init__(
        self,
        bundle: Bundle,
        registry: Registry,
        reporter: Reporter,
        tally: Tally,
        stop: threading.Event,
        known: Mapping[Digest, Repository],
        *,
        sha256: bool,
    ) -> None:
        self.bundle, self._registry, self._reporter = bundle, registry, reporter
        self._tally, self.stop, self._known, self._sha256 = tally, stop, known, sha256
        self._buffers = Buffers()

    def artifact(self, chart: BundleChart, target: TagRef) -> BundleImage:
        """The OCI artifact of `chart`, seen as an image called `target`."""
        size = self.bundle.blob(chart.artifact).size
        return BundleImage(str(target), chart.artifact, media_types.OCI_MANIFEST, size, chart.artifact, ())

    def is_there(self, target: Reference, image: BundleImage) -> bool:
        """Whether the registry names the image already; a registry accepts a manifest only with all its parts.

        It must list what refers to the image, too: who was interrupted has pushed that and not yet entered it.
        """
        found = self._registry.head_manifest(_by_tag(target) or target)
        return (
            found is not None
            and found.digest == image.digest
            and all(self._registry.head_manifest(DigestRef(target.repository, each)) for each in image.referrers)
            and self._listed(target.repository, image)
        )

    def _listed(self, repository: Repository, image: BundleImage) -> bool:
        """Whether all that refers to the image is found there. Reads nothing: its volume need not be at hand."""
        sought = set(image.referrers)
        parts = self.bundle.parts(image).values() if sought else ()
        for subject in sorted(parts, key=lambda blob: blob.digest != image.digest):
            if sought and subject.is_manifest:
                sought -= {listed.digest for listed in self._registry.referrers(repository, subject.digest)}
        return not sought

    def bring(self, job: Job, *, across: bool = False) -> bool:
        """Leave what is there, mount from a neighbour where possible, send what remains.

        False if something remains and a volume for it is not at hand; `across` has it brought in the middle.
        """
        blob, known = job.descriptor, self._known.get(job.descriptor.digest)
        held = self._together(lambda place: place == known or self._registry.has_blob(place, blob), job.repositories)
        holders = [place for place, has in zip(job.repositories, held, strict=True) if has]
        lacking = [place for place in job.repositories if place not in holders]
        present = blob.size * len(holders)
        if known and not holders:
            holders = [known]
        if holders:
            self._reporter.advance(blob.size)
        elif not self._supply(lacking[0], blob, None, across=across):
            return False
        source, rest = (holders[0], lacking) if holders else (lacking[0], lacking[1:])
        supply = partial(self._supply, blob=blob, holder=source, across=across)
        # Whoever is asked for other media reads alone.
        if not all([supply(place) for place in rest] if across else self._together(supply, rest)):
            if holders:
                self._reporter.advance(-blob.size)
            return False
        self._tally.add("present", present)
        return True

    def _supply(self, repository: Repository, blob: Descriptor, holder: Repository | None, *, across: bool) -> bool:
        """Bring a blob into one repository, from `holder` if there is one; False if a volume for it is not at hand."""
        known, show = self._known.get(blob.digest), holder is None
        if holder and self._registry.mount(repository, blob.digest, holder):
            self._tally.add("mounted", blob.size)
            return True
        if known:
            self._registry.upload(repository, blob, partial(self._taken_from, blob, known))
            self._tally.add("sent", blob.size)
        elif not self.bundle.absent(blob.digest):
            self._upload(repository, blob, show=show)
        elif across:
            self._upload(repository, blob, show=show, across=True)
        else:
            return False
        return True

    def name(self, target: Reference, image: BundleImage) -> None:
        """Push the manifests of an image, children first, then its tag, then what refers to it, and look at it."""
        if image.parts and self.bundle.missing:
            self.bundle.closure(image)  # nobody had all manifests at once before
        for node in self.bundle.manifests(image):
            digest = node.descriptor.digest
            last = digest == image.digest
            selector = target.tag if last and target.tag else digest.text
            try:
                listed = self._registry.put_manifest(target.repository, node.raw, node.descriptor.media_type, selector)
            except (ContentError, RegistryAccessError) as exc:
                if selector == target.tag:
                    self._explain_fixed_tag(TagRef(target.repository, target.tag), image.digest, exc)
                raise
            if digest in image.referrers and not listed:
                self._registry.list_referrer(target.repository, node)
        self._registry.confirm(_by_tag(target) or target, image.digest)

    def _explain_fixed_tag(self, tag: TagRef, digest: Digest, exc: AirferryError) -> None:
        """Raise what says more than `exc` if the registry keeps a tag at what it names."""
        found = self._registry.head_manifest(tag)
        if found is not None and found.digest != digest:
            raise ContentError(
                f"{tag}: names {found.digest} there, and the registry refuses to have it name {digest}\n{exc.message}",
                hint="its tags are immutable: have this tag deleted or the rule lifted, or load into another project.",
            ) from exc

    def _together(self, step: Callable[[Repository], bool], places: Sequence[Repository]) -> list[bool]:
        """`step` for each of the repositories that need a blob, a few at a time: each is a round trip or two."""
        if len(places) < 2:
            return [step(place) for place in places]
        with ThreadPoolExecutor(_ASIDE, initializer=take_part, initargs=(self.stop,)) as pool:
            return list(pool.map(step, places))

    def _taken_from(self, blob: Descriptor, repository: Repository, position: int) -> Iterator[memoryview]:
        """A blob from `position` on out of the registry itself, where that does not mount it.

        The last chunk is held back until the whole is known to be right.
        """
        whole, done = hashlib.sha256(), 0
        buffer = memoryview(bytearray(min(CHUNK, blob.size)))
        with self._registry.open(repository, blob) as stream:
            while done < blob.size and (count := stream.readinto(buffer[: min(CHUNK, blob.size - done)])):
                whole.update(buffer[:count])
                done += count
                if done == blob.size and whole.hexdigest() != blob.digest.hex:
                    break
                if done > position:
                    yield buffer[max(count - (done - position), 0) : count]
        if done < blob.size or whole.hexdigest() != blob.digest.hex:
            raise ContentError(
                f"{repository}@{blob.digest}: the registry delivers other content",
                hint="its copy is damaged: have this blob deleted there, then run the same command again.",
            )

    def _upload(self, repository: Repository, blob: Descriptor, *, show: bool, across: bool = False) -> None:
        reporter = self._reporter if show else None
        with self._buffers.holding(blob.size) as buffer:
            content = Outgoing(self.bundle, blob, buffer, reporter, self.stop, sha256=self._sha256, across=across)
            earlier = self._registry.upload(repository, blob, content, slowly=across)
            content.arrived()
        self._tally.add("resumed", earlier)
        self._tally.add("sent", blob.size - earlier)


def _by_tag(target: Reference) -> TagRef | None:
    return TagRef(target.repository, target.tag) if target.tag else None

"""From the bundle into a registry: blobs, then manifests, then tags, each confirmed at the far end.

Images first, then the charts as OCI artifacts. Not every registry takes the latter, and not every site needs them
there: a refusal is told and does not end the load.

What the registry already holds is left alone, so an interrupted load continues when it is run again: it looks instead
of remembering. A tag is moved only after everything below it is in place, so it never names something incomplete.
"""

import hashlib
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from installer.bundle.manifest import BundleChart, BundleImage
from installer.bundle.reader import Bundle
from installer.chart.retarget import Relocation
from installer.errors import BundleError, ContentError, NotFoundError, RegistryAccessError
from installer.oci import media
from installer.oci.digest import Digest
from installer.oci.model import Descriptor, Index, Manifest
from installer.oci.reference import DigestRef, Reference, Repository, TagRef
from installer.oci.registry import Registry
from installer.parallel import each
from installer.report import Reporter, size

THREADS = 4


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image in the registry: `target` is its name there; `present` says that it was there before."""

    source: str
    target: Reference
    digest: Digest
    present: bool


@dataclass(frozen=True, slots=True)
class LoadedChart:
    """A chart as an OCI artifact in the registry, or why the registry does not take it: `refusal`."""

    name: str
    role: str
    target: TagRef
    digest: Digest
    present: bool
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What a load did: images, charts, and bytes of blobs that were sent, mounted from a neighbour, or present."""

    images: tuple[Loaded, ...]
    charts: tuple[LoadedChart, ...]
    sent: int
    mounted: int
    present: int

    def refusal(self, role: str) -> str:
        """Why the registry does not take the charts of `role`; empty if it has them."""
        return "; ".join(chart.refusal for chart in self.charts if chart.role == role and chart.refusal)


@dataclass
class _Tally:
    """Counts of bytes, from several threads."""

    sent: int = 0
    mounted: int = 0
    present: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, count: int) -> None:
        with self.lock:
            setattr(self, kind, getattr(self, kind) + count)


@dataclass(frozen=True, slots=True)
class _Job:
    """A blob and the repositories that need it."""

    descriptor: Descriptor
    repositories: tuple[Repository, ...]


def load(
    bundle: Bundle,
    registry: Registry,
    relocation: Relocation,
    reporter: Reporter,
    *,
    sha256: bool = False,
    threads: int = THREADS,
) -> LoadResult:
    """Bring all images and charts of `bundle` into the registry of `relocation`.

    Every chunk is verified in the buffer that is sent; with `sha256` every blob also against its digest before its
    last chunk leaves. Raises BundleError, IncompleteError, StorageError for the volumes, RegistryUnreachableError,
    RegistryAccessError, ContentError for the registry.
    """
    bundle.require_all()
    images = bundle.manifest.images
    targets = {image.source: relocation.target(image.reference) for image in images}
    stop = threading.Event()
    tally = _Tally()
    sender = _Sender(bundle, registry, reporter, tally, stop, sha256=sha256)
    there: set[str] = set()

    def look(image: BundleImage) -> None:
        if sender.is_there(targets[image.source], image):
            there.add(image.source)

    each(look, images, threads=threads, stop=stop)
    missing = [image for image in images if image.source not in there]
    jobs = _jobs(bundle, missing, targets)
    reporter.begin("load", sum(job.descriptor.size for job in jobs))
    each(sender.bring, jobs, threads=threads, stop=stop)
    each(lambda image: sender.name(targets[image.source], image), missing, threads=threads, stop=stop)
    reporter.end()
    charts = tuple(_chart(sender, relocation, chart) for chart in bundle.manifest.charts)
    return LoadResult(
        tuple(Loaded(image.source, targets[image.source], image.digest, image.source in there) for image in images),
        charts,
        tally.sent,
        tally.mounted,
        tally.present,
    )


def _chart(sender: "_Sender", relocation: Relocation, chart: BundleChart) -> LoadedChart:
    """Bring a chart: in the registry it is like an image with one layer. Raises what `load` does, but no refusal."""
    target = relocation.chart(chart.name, chart.version)
    image = sender.artifact(chart, target)
    present = False
    try:
        present = sender.is_there(target, image)
        if not present:
            for job in _jobs(sender.bundle, [image], {image.source: target}):
                sender.bring(job)
            sender.name(target, image)
    except (ContentError, NotFoundError, RegistryAccessError) as exc:
        return LoadedChart(chart.name, chart.role, target, chart.artifact, present=False, refusal=exc.message)
    return LoadedChart(chart.name, chart.role, target, chart.artifact, present)


def _by_tag(target: Reference) -> TagRef | None:
    return TagRef(target.repository, target.tag) if target.tag else None


def _jobs(bundle: Bundle, images: Iterable[BundleImage], targets: dict[str, Reference]) -> list[_Job]:
    """The blobs that `images` need, each once, large ones first."""
    wanted: dict[Digest, tuple[Descriptor, dict[Repository, None]]] = {}
    for image in images:
        for node in bundle.manifests(image):
            for blob in node.blobs if isinstance(node, Manifest) else ():
                if bundle.blob(blob.digest).size != blob.size:
                    raise BundleError(f"{image.source}: its blob {blob.digest} is held with another size")
                wanted.setdefault(blob.digest, (blob, {}))[1][targets[image.source].repository] = None
    jobs = [_Job(descriptor, tuple(repositories)) for descriptor, repositories in wanted.values()]
    return sorted(jobs, key=lambda job: (-job.descriptor.size, job.descriptor.digest))


class _Sender:
    """Brings one thing at a time into all repositories that need it. Safe to use from several threads."""

    def __init__(
        self,
        bundle: Bundle,
        registry: Registry,
        reporter: Reporter,
        tally: _Tally,
        stop: threading.Event,
        *,
        sha256: bool,
    ) -> None:
        self.bundle, self._registry, self._reporter = bundle, registry, reporter
        self._tally, self._stop, self._sha256 = tally, stop, sha256

    def artifact(self, chart: BundleChart, target: TagRef) -> BundleImage:
        """The OCI artifact of `chart`, seen as an image called `target`."""
        size = self.bundle.blob(chart.artifact).size
        return BundleImage(str(target), chart.artifact, media.OCI_MANIFEST, size, chart.artifact, ())

    def is_there(self, target: Reference, image: BundleImage) -> bool:
        """Whether the registry names the image already; a registry accepts a manifest only with all its parts."""
        found = self._registry.head_manifest(_by_tag(target) or target)
        return found is not None and found.digest == image.digest

    def bring(self, job: _Job) -> None:
        """Leave what is there, mount from a neighbour where possible, send what remains."""
        blob = job.descriptor
        holders = [repository for repository in job.repositories if self._registry.has_blob(repository, blob)]
        lacking = [repository for repository in job.repositories if repository not in holders]
        self._tally.add("present", blob.size * len(holders))
        if holders:
            self._reporter.advance(blob.size)
        for repository in lacking:
            if holders and self._registry.mount(repository, blob.digest, holders[0]):
                self._tally.add("mounted", blob.size)
            else:
                body = partial(self._body, blob, show=not holders)
                self._registry.upload(repository, blob, body)
                self._tally.add("sent", blob.size)
            holders.append(repository)

    def name(self, target: Reference, image: BundleImage) -> None:
        """Push the manifests of an image, children first, then its tag; then look whether the registry agrees."""
        nodes: list[Manifest | Index] = self.bundle.manifests(image)
        for node in nodes:
            digest = node.descriptor.digest
            last = digest == image.digest
            selector = target.tag if last and target.tag else digest.text
            self._registry.put_manifest(target.repository, node.raw, node.descriptor.media_type, selector)
        for reference in (DigestRef(target.repository, image.digest), _by_tag(target)):
            found = self._registry.head_manifest(reference) if reference else None
            if reference and (found is None or found.digest != image.digest):
                raise ContentError(
                    f"{reference}: the registry answers {found.digest if found else 'not found'} right after the push",
                    hint="a proxy or another client may be in between; run the same command again.",
                )

    def _body(self, blob: Descriptor, *, show: bool) -> Iterator[memoryview]:
        """The verified chunks of a blob; the last one is held back until the whole is known to be right."""
        whole = hashlib.sha256()
        done = 0
        try:
            for view in self.bundle.chunks(blob.digest):
                if self._stop.is_set():
                    raise ContentError(f"blob {blob.digest}: given up, since another one failed")
                if self._sha256:
                    whole.update(view)
                    if done + len(view) == blob.size and whole.hexdigest() != blob.digest.hex:
                        raise BundleError(f"blob {blob.digest}: its content has another SHA-256")
                yield view
                done += len(view)
                if show:
                    self._reporter.advance(len(view))
        except GeneratorExit:
            # The transport starts anew with another body.
            if show:
                self._reporter.advance(-done)
            raise


def summary(result: LoadResult) -> str:
    """One line for people."""
    new = sum(not image.present for image in result.images)
    charts = len([chart for chart in result.charts if not chart.refusal])
    return (
        f"{len(result.images)} images, {new} of them new{f', {charts} charts' if charts else ''}: "
        f"{size(result.sent)} sent, {size(result.mounted)} shared inside the registry, "
        f"{size(result.present)} already there"
    )

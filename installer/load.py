"""From the bundle into a registry: blobs, then manifests, then tags, each confirmed at the far end.

Images first, then the charts as OCI artifacts. Not every registry takes the latter, and not every site needs them
there: a refusal is told and does not end the load.

What the registry already holds is left alone, so an interrupted load continues when it is run again: it looks instead
of remembering. A tag is moved only after everything below it is in place, so it never names something incomplete.
"""

import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from installer.bundle.limits import CHUNK
from installer.bundle.manifest import BundleBlob, BundleChart, BundleImage, BundleManifest
from installer.bundle.reader import Bundle
from installer.bundle.receipt import Receipt
from installer.chart.relocation import Relocation
from installer.destinations import with_destinations
from installer.errors import (
    AirferryError,
    BundleError,
    ContentError,
    IncompleteError,
    NotFoundError,
    RegistryAccessError,
    StorageError,
)
from installer.oci import media
from installer.oci.digest import Digest
from installer.oci.learnt import Learnt
from installer.oci.model import Descriptor, Manifest
from installer.oci.reference import Reference, Repository, TagRef
from installer.oci.registry import Registry
from installer.outgoing import Outgoing
from installer.parallel import SMALL, each
from installer.presence import lacking_error, look_for
from installer.report import Reporter, size

THREADS = 4
_ASIDE = 6
"""Repositories that are seen to at a time, for each blob that several of them need."""


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
    """What a load did: images, charts, and bytes of blobs that were sent, mounted from a neighbour, or present.

    `resumed` counts those that an interrupted load had brought of blobs that this one completed. `left_out` are images
    and charts that were not loaded, with the reason; `lacking` are blobs that an update does not carry, and that the
    registry does not hold; `learnt` is what its answers told about the registry.
    """

    images: tuple[Loaded, ...]
    charts: tuple[LoadedChart, ...]
    sent: int
    mounted: int
    present: int
    resumed: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)
    lacking: tuple[BundleBlob, ...] = ()
    learnt: Learnt = field(default_factory=Learnt)

    def receipt(self, manifest: BundleManifest, registry: str) -> Receipt:
        """What `registry` holds now of the bundle that was loaded."""
        return Receipt.of(manifest, {image.source for image in self.images}, registry)

    def refusal(self, role: str) -> str:
        """Why the registry does not take the charts of `role`; empty if it has them."""
        return "; ".join(chart.refusal for chart in self.charts if chart.role == role and chart.refusal)


@dataclass
class _Tally:
    """Counts of bytes, from several threads."""

    sent: int = 0
    mounted: int = 0
    present: int = 0
    resumed: int = 0
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
    whole_only: bool = False,
    threads: int = THREADS,
) -> LoadResult:
    """Bring all images and charts of `bundle` into the registry of `relocation`.

    Every chunk is verified in the buffer that is sent; with `sha256` every blob also against its digest before its
    last chunk leaves. Volumes that are not at hand are asked for, one after the other, where the bundle knows whom to
    ask; else what those at hand allow is loaded before IncompleteError, and a call with others continues. With
    `whole_only`, images that need something damaged or missing are left out instead.

    What an update does not carry is looked for in the registry before anything is written there.

    Raises BundleError, IncompleteError, StorageError for the volumes, RegistryUnreachableError, RegistryAccessError,
    ContentError for the registry, LackingError if it lacks what an update builds on.
    """
    images = bundle.manifest.images
    targets = {image.source: relocation.target(image.reference) for image in images}
    stop = threading.Event()
    tally = _Tally()
    holders: dict[Digest, Repository] = {}
    sender = _Sender(bundle, registry, reporter, tally, stop, holders, sha256=sha256)
    there: set[str] = set()

    def look(image: BundleImage) -> None:
        if sender.is_there(targets[image.source], image):
            there.add(image.source)

    each(look, images, threads=threads, stop=stop, waits=lambda _: True)
    missing = [image for image in images if image.source not in there]
    jobs = _jobs(bundle, missing, targets)
    presence = look_for(bundle, registry, relocation, missing, threads=threads)
    if presence.lacking and not whole_only:
        raise lacking_error(bundle, presence.lacking)
    holders.update(presence.holders)
    rounds = _Rounds(sender, relocation, targets, jobs, missing, whole_only=whole_only, threads=threads)
    rounds.give_up(presence.lacking)
    reporter.begin("load", rounds.size)
    with_destinations(rounds.run, bundle.manifest, relocation)
    reporter.end()
    return LoadResult(
        tuple(
            Loaded(image.source, targets[image.source], image.digest, image.source in there)
            for image in images
            if image.source not in rounds.left_out
        ),
        tuple(rounds.loaded_charts),
        tally.sent,
        tally.mounted,
        tally.present,
        tally.resumed,
        rounds.left_out,
        presence.lacking,
        registry.learnt(relocation.registry),
    )


class _Rounds:
    """Loads what the volumes at hand allow, then has others brought, until nothing is left.

    Every blob is taken up as soon as its volume is there, whichever image it belongs to; an image is named as soon as
    its last blob has arrived, while others are still on their way. So each volume is needed once, but for blobs that
    are cut.
    """

    def __init__(
        self,
        sender: "_Sender",
        relocation: Relocation,
        targets: Mapping[str, Reference],
        jobs: Sequence[_Job],
        images: Sequence[BundleImage],
        *,
        whole_only: bool,
        threads: int,
    ) -> None:
        self._sender, self._bundle, self._stop = sender, sender.bundle, sender.stop
        self._relocation, self._targets = relocation, targets
        self._jobs = {job.descriptor.digest: job for job in jobs}
        self._unnamed = {image.source: image for image in images}
        self._awaited = _Awaited(sender.bundle, images, self._jobs)
        self._charts = list(sender.bundle.manifest.charts)
        self._whole_only, self._threads = whole_only, threads
        self.left_out: dict[str, str] = {}
        self.loaded_charts: list[LoadedChart] = []

    def run(self) -> None:
        """Load everything. Raises what `load` does."""
        self._look_at_manifests()
        self._send(list(self._jobs.values()))
        while True:
            self._name_images()
            self._bring_charts()
            if not self._jobs and not self._unnamed and not self._charts:
                return
            if self._whole_only and self._bundle.changer is None:
                self._leave_out()
                return
            begun = next((job for job in self._jobs.values() if self._begins_here(job)), None)
            try:
                if begun is None:
                    self._bundle.require(self._wanted(), self._why())
                else:
                    self._send_across(begun)
            except IncompleteError:
                # Nobody has these volumes.
                if not self._whole_only:
                    raise
                self._leave_out()
                return
            self._look_at_manifests()
            self._send([job for job in self._jobs.values() if not self._bundle.absent(job.descriptor.digest)])

    def give_up(self, blobs: Iterable[BundleBlob]) -> None:
        """Leave out the images that need `blobs`, which nobody has, and whatever only these images need."""
        for blob in blobs:
            self._lose(blob.digest, f"blob {blob.digest} is neither carried nor in the registry")
        if self.left_out:
            needed = set().union(*(self._bundle.parts(image) for image in self._unnamed.values()))
            self._jobs = {digest: job for digest, job in self._jobs.items() if digest in needed}

    @property
    def size(self) -> int:
        """Bytes of the blobs that are still to be brought."""
        return sum(job.descriptor.size for job in self._jobs.values())

    def _send(self, jobs: Sequence[_Job]) -> None:
        """Bring what the registry lacks; what it has already needs no volume."""
        finished: list[Digest] = []

        def bring(job: _Job) -> None:
            digest = job.descriptor.digest
            try:
                if not self._sender.bring(job):
                    return
                finished.append(digest)
            except (BundleError, StorageError) as exc:
                if not self._whole_only:
                    raise
                finished.append(digest)
                self._lose(digest, exc.message)
            for image in self._awaited.arrived(digest):
                self._name(image)

        each(bring, jobs, threads=self._threads, stop=self._stop, waits=lambda job: job.descriptor.size <= SMALL)
        for digest in finished:
            del self._jobs[digest]

    def _send_across(self, job: _Job) -> None:
        """Bring a blob whose pieces lie on several volumes, having these brought in the middle of it."""
        try:
            self._sender.bring(job, across=True)
        except (BundleError, StorageError) as exc:
            if not self._whole_only:
                raise
            self._lose(job.descriptor.digest, exc.message)
        self._awaited.arrived(job.descriptor.digest)
        del self._jobs[job.descriptor.digest]

    def _look_at_manifests(self) -> None:
        """Read the manifests at hand: damage is met early, and their volume may go before they are needed."""
        for image in list(self._unnamed.values()):
            try:
                if not self._bundle.missing:
                    self._bundle.closure(image)
                for blob in self._bundle.parts(image).values() if self._bundle.missing else ():
                    if _is_manifest(blob) and not self._bundle.absent(blob.digest):
                        self._bundle.read(blob.digest)
            except (BundleError, StorageError) as exc:
                if not self._whole_only:
                    raise
                self._leave(image, exc.message)

    def _lose(self, digest: Digest, reason: str) -> None:
        """Leave out the images that need a blob which nobody can read."""
        for image in self._awaited.waiting_for(digest):
            self._leave(image, reason)

    def _leave(self, image: BundleImage, reason: str) -> None:
        if self._unnamed.pop(image.source, None):
            self.left_out[image.source] = reason

    def _name_images(self) -> None:
        """Name the images that have waited for a manifest only, or for nothing."""
        ready = [image for image in self._unnamed.values() if self._awaited.complete(image)]
        each(self._name, ready, threads=self._threads, stop=self._stop, waits=lambda _: True)

    def _name(self, image: BundleImage) -> None:
        """Name an image whose blobs have all arrived, unless it was left out, or a manifest is not at hand."""
        if image.source in self._unnamed and not self._absent(self._bundle.parts(image).values()):
            self._sender.name(self._targets[image.source], image)
            del self._unnamed[image.source]

    def _bring_charts(self) -> None:
        """Bring the charts at hand, and note those that are there already; the others come later."""
        brought: dict[BundleChart, LoadedChart | None] = {}

        def bring(chart: BundleChart) -> None:
            if self._bundle.absent(chart.artifact) | self._bundle.absent(chart.archive):
                target = self._relocation.chart(chart.name, chart.version)
                if self._sender.is_there(target, self._sender.artifact(chart, target)):
                    brought[chart] = LoadedChart(chart.name, chart.role, target, chart.artifact, present=True)
                return
            try:
                brought[chart] = _chart(self._sender, self._relocation, chart)
            except (BundleError, StorageError) as exc:
                if not self._whole_only:
                    raise
                brought[chart] = None
                self.left_out[f"chart {chart.name}"] = exc.message

        each(bring, self._charts, threads=self._threads, stop=self._stop, waits=lambda _: True)
        self.loaded_charts += [loaded for chart in self._charts if (loaded := brought.get(chart))]
        self._charts = [chart for chart in self._charts if chart not in brought]

    def _absent(self, blobs: Iterable[BundleBlob]) -> frozenset[int]:
        """The volumes that are needed for the manifests among `blobs`."""
        return frozenset().union(*(self._bundle.absent(blob.digest) for blob in blobs if _is_manifest(blob)))

    def _wanted(self) -> frozenset[int]:
        """The volumes that hold something which is still needed."""
        wanted = frozenset().union(*(self._bundle.absent(digest) for digest in self._jobs))
        for image in self._unnamed.values():
            wanted |= self._absent(self._bundle.parts(image).values())
        for chart in self._charts:
            wanted |= self._bundle.absent(chart.artifact) | self._bundle.absent(chart.archive)
        return wanted

    def _why(self) -> str:
        count = len(self._unnamed)
        return f"{count} image{'' if count == 1 else 's'} not loaded yet" if count else "it holds a chart"

    def _begins_here(self, job: _Job) -> bool:
        """Whether a blob that is cut begins on a volume at hand and goes on elsewhere."""
        blob = self._bundle.blob(job.descriptor.digest)
        return self._bundle.changer is not None and blob.pieces[0][0] in self._bundle.at_hand

    def _leave_out(self) -> None:
        """What is left cannot be loaded."""
        text = f"on a missing volume ({', '.join(str(number + 1) for number in sorted(self._wanted()))})"
        self.left_out |= dict.fromkeys(self._unnamed, text)
        self.left_out |= {f"chart {chart.name}": text for chart in self._charts}


class _Awaited:
    """The blobs that images wait for. Safe to use from several threads."""

    def __init__(self, bundle: Bundle, images: Iterable[BundleImage], blobs: Collection[Digest]) -> None:
        self._of = {image.source: bundle.parts(image).keys() & blobs for image in images}
        self._by: dict[Digest, list[BundleImage]] = {}
        for image in images:
            for digest in self._of[image.source]:
                self._by.setdefault(digest, []).append(image)
        self._lock = threading.Lock()

    def complete(self, image: BundleImage) -> bool:
        """Whether nothing that `image` needs is awaited any more."""
        return not self._of[image.source]

    def waiting_for(self, digest: Digest) -> Sequence[BundleImage]:
        """The images that need a blob which has not arrived."""
        return self._by.get(digest, ())

    def arrived(self, digest: Digest) -> list[BundleImage]:
        """Take note that a blob is there; the images that waited for nothing else."""
        with self._lock:
            waiting = self._by.pop(digest, [])
            for image in waiting:
                self._of[image.source].discard(digest)
            return [image for image in waiting if self.complete(image)]


def _is_manifest(blob: BundleBlob) -> bool:
    return blob.descriptor.is_manifest or blob.descriptor.is_index


def _chart(sender: "_Sender", relocation: Relocation, chart: BundleChart) -> LoadedChart:
    """Bring a chart: in the registry it is like an image with one layer. Raises what `load` does, but no refusal."""
    target = relocation.chart(chart.name, chart.version)
    image = sender.artifact(chart, target)
    present = False
    try:
        present = sender.is_there(target, image)
        if not present:
            (node,) = sender.bundle.manifests(image)
            for blob in node.blobs if isinstance(node, Manifest) else ():
                sender.bring(_Job(blob, (target.repository,)))
            sender.name(target, image)
    except (ContentError, NotFoundError, RegistryAccessError) as exc:
        return LoadedChart(chart.name, chart.role, target, chart.artifact, present=False, refusal=exc.message)
    return LoadedChart(chart.name, chart.role, target, chart.artifact, present)


def _together(step: Callable[[Repository], bool], places: Sequence[Repository]) -> list[bool]:
    """`step` for each of the repositories that need a blob, a few at a time: each is a round trip or two."""
    if len(places) < 2:
        return [step(place) for place in places]
    with ThreadPoolExecutor(_ASIDE) as pool:
        return list(pool.map(step, places))


def _by_tag(target: Reference) -> TagRef | None:
    return TagRef(target.repository, target.tag) if target.tag else None


def _jobs(bundle: Bundle, images: Iterable[BundleImage], targets: Mapping[str, Reference]) -> list[_Job]:
    """The blobs that `images` need, each once, large ones first; manifests are none of them."""
    wanted: dict[Digest, tuple[Descriptor, dict[Repository, None]]] = {}
    for image in images:
        for blob in bundle.parts(image).values():
            if not _is_manifest(blob):
                entry = wanted.setdefault(blob.digest, (blob.descriptor, {}))
                entry[1][targets[image.source].repository] = None
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
        known: Mapping[Digest, Repository],
        *,
        sha256: bool,
    ) -> None:
        self.bundle, self._registry, self._reporter = bundle, registry, reporter
        self._tally, self.stop, self._known, self._sha256 = tally, stop, known, sha256

    def artifact(self, chart: BundleChart, target: TagRef) -> BundleImage:
        """The OCI artifact of `chart`, seen as an image called `target`."""
        size = self.bundle.blob(chart.artifact).size
        return BundleImage(str(target), chart.artifact, media.OCI_MANIFEST, size, chart.artifact, ())

    def is_there(self, target: Reference, image: BundleImage) -> bool:
        """Whether the registry names the image already; a registry accepts a manifest only with all its parts."""
        found = self._registry.head_manifest(_by_tag(target) or target)
        return found is not None and found.digest == image.digest

    def bring(self, job: _Job, *, across: bool = False) -> bool:
        """Leave what is there, mount from a neighbour where possible, send what remains.

        False if something remains and a volume for it is not at hand; `across` has it brought in the middle.
        """
        blob, known = job.descriptor, self._known.get(job.descriptor.digest)
        held = _together(lambda place: place == known or self._registry.has_blob(place, blob), job.repositories)
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
        if not all([supply(place) for place in rest] if across else _together(supply, rest)):
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
        """Push the manifests of an image, children first, then its tag; then look whether the registry agrees."""
        if image.parts and self.bundle.missing:
            self.bundle.closure(image)  # nobody had all manifests at once before
        for node in self.bundle.manifests(image):
            digest = node.descriptor.digest
            last = digest == image.digest
            selector = target.tag if last and target.tag else digest.text
            try:
                self._registry.put_manifest(target.repository, node.raw, node.descriptor.media_type, selector)
            except (ContentError, RegistryAccessError) as exc:
                if selector == target.tag:
                    self._explain_fixed_tag(TagRef(target.repository, target.tag), image.digest, exc)
                raise
        reference = _by_tag(target) or target
        found = self._registry.head_manifest(reference)
        if found is None or found.digest != image.digest:
            raise ContentError(
                f"{reference}: the registry answers {found.digest if found else 'not found'} right after the push",
                hint="a proxy or another client may be in between; run the same command again.",
            )

    def _explain_fixed_tag(self, tag: TagRef, digest: Digest, exc: AirferryError) -> None:
        """Raise what says more than `exc` if the registry keeps a tag at what it names."""
        found = self._registry.head_manifest(tag)
        if found is not None and found.digest != digest:
            raise ContentError(
                f"{tag}: names {found.digest} there, and the registry refuses to have it name {digest}\n{exc.message}",
                hint="its tags are immutable: have this tag deleted or the rule lifted, or load into another project.",
            ) from exc

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
        content = Outgoing(self.bundle, blob, reporter, self.stop, sha256=self._sha256, across=across)
        earlier = self._registry.upload(repository, blob, content, slowly=across)
        self._tally.add("resumed", earlier)
        self._tally.add("sent", blob.size - earlier)


def summary(result: LoadResult) -> str:
    """One line for people."""
    new = sum(not image.present for image in result.images)
    charts = len([chart for chart in result.charts if not chart.refusal])
    return (
        f"{len(result.images)} images, {new} of them new{f', {charts} charts' if charts else ''}: "
        f"{size(result.sent)} sent, {f'{size(result.resumed)} by an interrupted load, ' if result.resumed else ''}"
        f"{size(result.mounted)} shared inside the registry, "
        f"{size(result.present)} already there"
    )

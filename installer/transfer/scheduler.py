"""The order in which a load goes over what volumes hold, whichever of them are at hand."""

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence

from installer.bundle.manifest import BundleBlob, BundleChart, BundleImage
from installer.bundle.reader import Bundle
from installer.chart.relocation import Relocation
from installer.errors import (
    BundleError,
    ContentError,
    IncompleteError,
    NotFoundError,
    RegistryAccessError,
    StorageError,
)
from installer.oci.digest import Digest
from installer.oci.model import Descriptor, Manifest
from installer.oci.reference import Reference, Repository
from installer.parallel import SMALL, each
from installer.transfer.load_result import LoadedChart
from installer.transfer.pusher import Job, Sender


class Rounds:
    """Loads what the volumes at hand allow, then has others brought, until nothing is left.

    Every blob is taken up as soon as its volume is there, whichever image it belongs to; an image is named as soon as
    its last blob has arrived, while others are still on their way. So each volume is needed once, but for blobs that
    are cut.
    """

    def __init__(
        self,
        sender: Sender,
        relocation: Relocation,
        targets: Mapping[str, Reference],
        jobs: Sequence[Job],
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

    def _send(self, jobs: Sequence[Job]) -> None:
        """Bring what the registry lacks; what it has already needs no volume."""
        finished: list[Digest] = []

        def bring(job: Job) -> None:
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

    def _send_across(self, job: Job) -> None:
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
                    if blob.is_manifest and not self._bundle.absent(blob.digest):
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
                    brought[chart] = LoadedChart(chart.name, chart.version, target, chart.artifact, present=True)
                return
            try:
                brought[chart] = _chart(self._sender, self._relocation, chart)
            except (BundleError, StorageError) as exc:
                if not self._whole_only:
                    raise
                brought[chart] = None
                self.left_out[f"chart {chart.name} {chart.version}"] = exc.message

        each(bring, self._charts, threads=self._threads, stop=self._stop, waits=lambda _: True)
        self.loaded_charts += [loaded for chart in self._charts if (loaded := brought.get(chart))]
        self._charts = [chart for chart in self._charts if chart not in brought]

    def _absent(self, blobs: Iterable[BundleBlob]) -> frozenset[int]:
        """The volumes that are needed for the manifests among `blobs`."""
        return frozenset().union(*(self._bundle.absent(blob.digest) for blob in blobs if blob.is_manifest))

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

    def _begins_here(self, job: Job) -> bool:
        """Whether a blob that is cut begins on a volume at hand and goes on elsewhere."""
        blob = self._bundle.blob(job.descriptor.digest)
        return self._bundle.changer is not None and blob.pieces[0][0] in self._bundle.at_hand

    def _leave_out(self) -> None:
        """What is left cannot be loaded."""
        text = f"on a missing volume ({', '.join(str(number + 1) for number in sorted(self._wanted()))})"
        self.left_out |= dict.fromkeys(self._unnamed, text)
        self.left_out |= {f"chart {chart.name} {chart.version}": text for chart in self._charts}


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


def jobs_for(bundle: Bundle, images: Iterable[BundleImage], targets: Mapping[str, Reference]) -> list[Job]:
    """The blobs that `images` need, each once, large ones first; manifests are none of them."""
    wanted: dict[Digest, tuple[Descriptor, dict[Repository, None]]] = {}
    for image in images:
        for blob in bundle.parts(image).values():
            if not blob.is_manifest:
                entry = wanted.setdefault(blob.digest, (blob.descriptor, {}))
                entry[1][targets[image.source].repository] = None
    jobs = [Job(descriptor, tuple(repositories)) for descriptor, repositories in wanted.values()]
    return sorted(jobs, key=lambda job: (-job.descriptor.size, job.descriptor.digest))


def _chart(sender: Sender, relocation: Relocation, chart: BundleChart) -> LoadedChart:
    """Bring a chart: in the registry it is like an image with one layer. Raises what `load` does, but no refusal."""
    target = relocation.chart(chart.name, chart.version)
    image = sender.artifact(chart, target)
    present = False
    try:
        present = sender.is_there(target, image)
        if not present:
            (node,) = sender.bundle.manifests(image)
            for blob in node.blobs if isinstance(node, Manifest) else ():
                sender.bring(Job(blob, (target.repository,)))
            sender.name(target, image)
    except (ContentError, NotFoundError, RegistryAccessError) as exc:
        return LoadedChart(chart.name, chart.version, target, chart.artifact, present=False, refusal=exc.message)
    return LoadedChart(chart.name, chart.version, target, chart.artifact, present)

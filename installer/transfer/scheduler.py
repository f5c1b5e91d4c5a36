"""The order of a load: which blob, image or chart is pushed next, with whatever volumes are at hand.

1. Push every blob whose volume is there, large ones first, whichever image needs it.
2. Push an image's manifests and tag as soon as its last blob has arrived, while other blobs are still on their way.
3. Push the charts whose volumes are there.
4. Ask for a volume that is still needed, and begin again.

So each volume is needed once, unless a blob is cut across volumes.
"""

import contextlib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial

from installer.bundle.manifest import BundleBlob, BundleChart, BundleImage
from installer.bundle.reader import Bundle
from installer.chart.bundled import check_chart
from installer.chart.relocation import Relocation
from installer.errors import AirferryError, BundleError, IncompleteError, StorageError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.reference import Reference, Repository
from installer.parallel import SMALL, each
from installer.registry.failures import OF_ONE_REQUEST, RegistryFailedError
from installer.transfer.existing_images import chart_exists
from installer.transfer.load_result import LoadedChart
from installer.transfer.pusher import Job, Pusher
from installer.value import replace

_PATIENCE = 4
"""A registry that fails over so many images in a row fails over all: its disk is full, or it is going down."""


class Scheduler:
    """Loads `images` to their `targets` (by source), and all charts of the bundle.

    Images that need a blob in `lacking`, which nobody has, are left out. With `whole_only`, so are those that need
    something damaged or missing; else that is an error. `left_out` gives the reason by image or chart. An image that
    the registry refuses stops no other: `refused` tells why, by source. One that fails time and again ends the load.
    """

    def __init__(
        self,
        pusher: Pusher,
        relocation: Relocation,
        targets: Mapping[str, Reference],
        images: Iterable[BundleImage],
        lacking: Iterable[BundleBlob],
        *,
        whole_only: bool,
        threads: int,
    ) -> None:
        self._pusher, self._bundle = pusher, pusher.bundle
        self._relocation, self._targets = relocation, targets
        self._whole_only, self._threads = whole_only, threads
        self.left_out: dict[str, str] = {}
        self.refused: dict[str, AirferryError] = {}
        self._failures = 0
        self.loaded_charts: list[LoadedChart] = []
        self._images = {image.source: image for image in images}
        nowhere = {blob.digest for blob in lacking}
        for image in list(self._images.values()):
            if gap := next((blob for blob in self._bundle.manifest.parts(image) if blob.digest in nowhere), None):
                self._leave_out(image, f"blob {gap.digest} is neither carried nor in the registry")
        self._jobs = {job.descriptor.digest: job for job in _jobs(self._bundle, self._images.values(), targets)}
        self._awaited = _AwaitedBlobs(self._bundle, self._images.values(), self._jobs)
        self._charts = list(self._bundle.manifest.charts)
        blobs = self._bundle.manifest.blobs
        self._chart_configs = [blob.digest for blob in blobs if blob.media_type == media_types.HELM_CONFIG]

    @property
    def jobs(self) -> Collection[Job]:
        """The blobs that are still to be pushed."""
        return self._jobs.values()

    def run(self) -> None:
        """Load everything. Raises what `load` does."""
        self._read_manifests()
        self._push_blobs(list(self._jobs.values()))
        while True:
            self._push_images()
            self._push_charts()
            self._drop_jobs()
            if not (self._jobs or self._images or self._charts):
                return
            try:
                self._change_volumes()
            except IncompleteError:
                # Nobody has these volumes.
                if not self._whole_only:
                    raise
                self._leave_out_rest()
                return
            self._read_manifests()
            self._push_blobs([job for job in self._jobs.values() if not self._bundle.absent(job.descriptor.digest)])

    # --- steps ---

    def _read_manifests(self) -> None:
        """Read manifests and charts at hand now: damage shows early, and their volume may go before they are needed."""
        for image in list(self._images.values()):
            with self._damage_leaves_out(partial(self._leave_out, image)):
                if not self._bundle.volumes.missing:
                    self._bundle.images.closure(image)
                    continue
                for blob in self._bundle.manifest.parts(image):
                    if blob.is_manifest and not self._bundle.absent(blob.digest):
                        self._bundle.read(blob.digest)
        for chart in list(self._charts):
            with self._damage_leaves_out(partial(self._leave_out_chart, chart)):
                if not self._volumes_of_chart(chart):
                    check_chart(self._bundle, chart)
                    continue
                for digest in self._parts_of_chart(chart):
                    if not self._bundle.absent(digest):
                        self._bundle.read(digest)

    def _push_blobs(self, jobs: Sequence[Job]) -> None:
        """Push blobs, and each image whose last blob arrives. What the registry has already needs no volume."""
        finished: list[Digest] = []

        def push(job: Job) -> None:
            digest = job.descriptor.digest
            if self._push_blob(job):
                finished.append(digest)
                for image in self._awaited.arrived(digest):
                    self._push_image(image)

        each(push, jobs, threads=self._threads, stop=self._pusher.stop, waits=lambda job: job.descriptor.size <= SMALL)
        for digest in finished:
            del self._jobs[digest]

    def _push_blob(self, job: Job, *, across: bool = False) -> bool:
        """Push a blob where it is still needed; False if a volume for it is not at hand."""
        digest = job.descriptor.digest
        if not (places := self._places(job)):
            self._pusher.reporter.advance(job.descriptor.size)
            return True
        refused: dict[Repository, AirferryError] | None = {}
        with self._damage_leaves_out(partial(self._leave_out_all, digest)):
            refused = self._pusher.push_blob(replace(job, repositories=places), across=across)
        for place, reason in (refused or {}).items():
            for image in self._awaited.waiting_for(digest):
                if self._targets[image.source].repository == place:
                    self._refuse(image, reason)
        return refused is not None

    def _places(self, job: Job) -> tuple[Repository, ...]:
        """The repositories of a job with images that are still to be loaded."""
        waiting = self._awaited.waiting_for(job.descriptor.digest)
        needed = {self._targets[image.source].repository for image in waiting if image.source in self._images}
        return tuple(place for place in job.repositories if place in needed)

    def _drop_jobs(self) -> None:
        """Forget the blobs that only refused images need: no volume is asked for to push them."""
        for digest, job in list(self._jobs.items()):
            if not self._places(job):
                self._pusher.reporter.advance(job.descriptor.size)
                del self._jobs[digest]

    def _push_images(self) -> None:
        """Push the images that have waited for a manifest only, or for nothing."""
        ready = [image for image in self._images.values() if self._awaited.complete(image)]
        each(self._push_image, ready, threads=self._threads, stop=self._pusher.stop, waits=lambda _: True)

    def _push_image(self, image: BundleImage) -> None:
        """Push an image whose blobs have all arrived, unless it was left out, or a manifest is not at hand."""
        if image.source in self._images and not self._volumes_of_manifests(image):
            try:
                self._pusher.push_image(self._targets[image.source], image)
                self._failures = 0
            except OF_ONE_REQUEST as exc:
                self._refuse(image, exc)
            self._images.pop(image.source, None)

    def _push_charts(self) -> None:
        """Push the charts at hand, and note those that exist already; the others follow with their volumes."""
        settled: dict[BundleChart, LoadedChart] = {}

        def push(chart: BundleChart) -> None:
            target = self._relocation.chart(chart.name, chart.version)
            if self._volumes_of_chart(chart):
                with contextlib.suppress(*OF_ONE_REQUEST):  # told when its volume is there
                    if chart_exists(self._bundle, self._pusher.registry, target, chart):
                        settled[chart] = LoadedChart(chart.name, chart.version, target, chart.artifact, present=True)
                return

            with self._damage_leaves_out(partial(self._leave_out_chart, chart)):
                settled[chart] = self._pusher.push_chart(target, chart)

        each(push, list(self._charts), threads=self._threads, stop=self._pusher.stop, waits=lambda _: True)
        self.loaded_charts += [settled[chart] for chart in self._charts if chart in settled]
        self._charts = [chart for chart in self._charts if chart not in settled]

    def _change_volumes(self) -> None:
        """Have a volume brought that is needed next. Raises IncompleteError if there is none.

        A blob that begins on a volume at hand and goes on elsewhere comes first: it is pushed across the change.
        """
        if cut := next((job for job in self._jobs.values() if self._begins_here(job)), None):
            self._push_across(cut)
        else:
            count = len(self._images)
            why = f"{count} image{'' if count == 1 else 's'} not loaded yet" if count else "it holds a chart"
            self._bundle.require(self._needed_volumes(), why)

    def _begins_here(self, job: Job) -> bool:
        begins = self._bundle.blob(job.descriptor.digest).pieces[0][0]
        return self._bundle.can_ask and begins in self._bundle.volumes.at_hand

    def _push_across(self, job: Job) -> None:
        """Push a blob whose pieces lie on several volumes, which are asked for in the middle of it."""
        digest = job.descriptor.digest
        self._push_blob(job, across=True)
        self._awaited.arrived(digest)
        del self._jobs[digest]

    # --- which volumes are needed ---

    def _volumes_of_manifests(self, image: BundleImage) -> frozenset[int]:
        parts = self._bundle.manifest.parts(image)
        return frozenset().union(*(self._bundle.absent(blob.digest) for blob in parts if blob.is_manifest))

    def _volumes_of_chart(self, chart: BundleChart) -> frozenset[int]:
        return frozenset().union(*map(self._bundle.absent, self._parts_of_chart(chart)))

    def _parts_of_chart(self, chart: BundleChart) -> Sequence[Digest]:
        """The blobs of a chart, with the configurations of all charts: which is whose, only its artifact says."""
        return chart.artifact, chart.archive, *self._chart_configs

    def _needed_volumes(self) -> frozenset[int]:
        """The volumes that are not at hand and hold something which is still needed."""
        return frozenset().union(
            *map(self._bundle.absent, self._jobs),
            *map(self._volumes_of_manifests, self._images.values()),
            *map(self._volumes_of_chart, self._charts),
        )

    # --- what is left out ---

    @contextlib.contextmanager
    def _damage_leaves_out(self, leave_out: Callable[[str], object]) -> Iterator[None]:
        """With `whole_only`, `leave_out(reason)` in place of an error for damage in the block."""
        try:
            yield
        except (BundleError, StorageError) as exc:
            if not self._whole_only:
                raise
            leave_out(exc.message)

    def _refuse(self, image: BundleImage, reason: AirferryError) -> None:
        if self._images.pop(image.source, None):
            self.refused[image.source] = reason
            self._failures += isinstance(reason, RegistryFailedError)
            if self._failures >= _PATIENCE:
                raise reason

    def _leave_out(self, image: BundleImage, reason: str) -> None:
        if self._images.pop(image.source, None):
            self.left_out[image.source] = reason

    def _leave_out_chart(self, chart: BundleChart, reason: str) -> None:
        self._charts.remove(chart)
        self.left_out[f"chart {chart.name} {chart.version}"] = reason

    def _leave_out_all(self, digest: Digest, reason: str) -> None:
        """Leave out the images that wait for a blob."""
        for image in self._awaited.waiting_for(digest):
            self._leave_out(image, reason)

    def _leave_out_rest(self) -> None:
        """Leave out everything that is not loaded yet: its volumes are missing."""
        text = f"on a missing volume ({', '.join(str(number + 1) for number in sorted(self._needed_volumes()))})"
        self.left_out |= dict.fromkeys(self._images, text)
        self.left_out |= {f"chart {chart.name} {chart.version}": text for chart in self._charts}


class _AwaitedBlobs:
    """The blobs that images wait for. Safe to use from several threads."""

    def __init__(self, bundle: Bundle, images: Iterable[BundleImage], blobs: Collection[Digest]) -> None:
        self._blobs: dict[str, set[Digest]] = {}
        self._images: dict[Digest, list[BundleImage]] = {}
        for image in images:
            awaited = {blob.digest for blob in bundle.manifest.parts(image) if blob.digest in blobs}
            self._blobs[image.source] = awaited
            for digest in awaited:
                self._images.setdefault(digest, []).append(image)
        self._lock = threading.Lock()

    def complete(self, image: BundleImage) -> bool:
        """Whether `image` waits for nothing."""
        return not self._blobs[image.source]

    def waiting_for(self, digest: Digest) -> Sequence[BundleImage]:
        """The images that wait for a blob."""
        return self._images.get(digest, ())

    def arrived(self, digest: Digest) -> list[BundleImage]:
        """Note that a blob is there. Returns the images that waited for nothing else."""
        with self._lock:
            waiting = self._images.pop(digest, [])
            for image in waiting:
                self._blobs[image.source].discard(digest)
            return [image for image in waiting if self.complete(image)]


def _jobs(bundle: Bundle, images: Iterable[BundleImage], targets: Mapping[str, Reference]) -> list[Job]:
    """The blobs that `images` need, manifests excepted, each once, large ones first."""
    needed_in: dict[Digest, dict[Repository, None]] = {}
    for image in images:
        for blob in bundle.manifest.parts(image):
            if not blob.is_manifest:
                needed_in.setdefault(blob.digest, {})[targets[image.source].repository] = None
    jobs = [Job(bundle.blob(digest).descriptor, tuple(places)) for digest, places in needed_in.items()]
    return sorted(jobs, key=lambda job: (-job.descriptor.size, job.descriptor.digest))

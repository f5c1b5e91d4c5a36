"""Loading a bundle into a registry: blobs, then manifests, then tags, each confirmed at the far end.

1. Ask the registry which images it holds already (`existing_images`), whether it was given a newer bundle (`floor`),
   which blobs it has of those that an update leaves out (`existing_blobs`), and room for the rest (`room`).
2. Push what is missing: `scheduler` decides the order, `pusher` pushes one thing, `blob_body` is what it sends.

Images come first, then charts as OCI artifacts. Not every registry takes those, and not every site needs them there: a
refusal is reported and does not end the load. Neither does the refusal of an image; the result tells of it.

An interrupted load continues when it is run again: it looks what is there instead of remembering. A tag is moved only
after everything below it is in place, so it never names something incomplete.
"""

from installer.bundle.reader import Bundle
from installer.chart.relocation import Relocation
from installer.floor.guard import Guard
from installer.registry.client import Registry
from installer.report import Reporter
from installer.transfer.destinations import repositories
from installer.transfer.existing_blobs import find_existing_blobs, lacking_error
from installer.transfer.existing_images import existing_images
from installer.transfer.load_result import LoadedImage, LoadResult
from installer.transfer.pusher import Pusher
from installer.transfer.room import check_room
from installer.transfer.scheduler import Scheduler

THREADS = 4


def load(
    bundle: Bundle,
    registry: Registry,
    relocation: Relocation,
    reporter: Reporter,
    *,
    sha256: bool = False,
    whole_only: bool = False,
    ignore_quota: bool = False,
    threads: int = THREADS,
    guard: Guard | None = None,
) -> LoadResult:
    """Push all images and charts of `bundle` into the registry of `relocation`.

    Every chunk is verified in the buffer that is sent; with `sha256` every blob also against its digest before its
    last chunk leaves. Volumes that are not at hand are asked for, one after the other, if the bundle can ask; else
    what those at hand allow is loaded before IncompleteError, and a call with others continues. With `whole_only`,
    images that need something damaged or missing are left out instead. With `ignore_quota` nobody asks whether what is
    lacking fits into the registry's quota. `guard` watches over the way back.

    Raises BundleError, IncompleteError, StorageError for the volumes, RegistryUnreachableError, and what
    `LoadResult.check` raises if the registry takes no image at all; RegistryAccessError, ContentError, LackingError,
    before anything is sent, if it lets nobody in or lacks what an update builds on; PolicyError, too, if `guard` does.
    """
    images = bundle.manifest.images
    targets = {image.source: relocation.target(image.reference) for image in images}
    existing = existing_images(bundle, registry, targets, threads=threads)
    if guard:
        guard.check()
    missing = [image for image in images if not existing[image.source].whole]
    blobs = find_existing_blobs(bundle, registry, relocation, missing, threads=threads)
    if blobs.lacking and not whole_only:
        raise lacking_error(bundle, blobs.lacking)

    pusher = Pusher(bundle, registry, reporter, blobs.holders, sha256=sha256)
    scheduler = Scheduler(pusher, relocation, targets, missing, blobs.lacking, whole_only=whole_only, threads=threads)
    if not ignore_quota:
        check_room(registry, relocation.registry, scheduler.jobs, blobs.holders, threads=threads)
    reporter.begin("load", sum(job.descriptor.size for job in scheduler.jobs))
    scheduler.run()
    result = LoadResult(
        tuple(
            LoadedImage(image.source, targets[image.source], image.digest, held.whole, held.before)
            for image, held in ((image, existing[image.source]) for image in images)
            if image.source not in scheduler.left_out and image.source not in scheduler.refused
        ),
        tuple(scheduler.loaded_charts),
        sent=pusher.tally.sent,
        mounted=pusher.tally.mounted,
        present=pusher.tally.present,
        resumed=pusher.tally.resumed,
        left_out=scheduler.left_out,
        refused={
            image.source: scheduler.refused[image.source] for image in images if image.source in scheduler.refused
        },
        unattached=pusher.unattached,
        destinations=tuple(repositories(bundle.manifest, relocation)),
        lacking=blobs.lacking,
        capabilities=registry.capabilities(relocation.registry),
    )
    if result.refused and not result.images:
        result.check()
    reporter.end()
    if guard and not result.lacking:
        guard.keep()
    return result

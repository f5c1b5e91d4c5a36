"""From the bundle into a registry: blobs, then manifests, then tags, each confirmed at the far end.

Images first, then the charts as OCI artifacts. Not every registry takes the latter, and not every site needs them
there: a refusal is told and does not end the load.

What the registry already holds is left alone, so an interrupted load continues when it is run again: it looks instead
of remembering. A tag is moved only after everything below it is in place, so it never names something incomplete.
"""

import threading
from typing import TYPE_CHECKING

from installer.bundle.manifest import BundleImage
from installer.bundle.reader import Bundle
from installer.chart.relocation import Relocation
from installer.parallel import each
from installer.registry.client import Registry
from installer.report import Reporter
from installer.transfer.destinations import with_destinations
from installer.transfer.existing_blobs import lacking_error, look_for
from installer.transfer.load_result import Loaded, LoadResult
from installer.transfer.pusher import Sender, Tally
from installer.transfer.scheduler import Rounds, jobs_for

if TYPE_CHECKING:
    from installer.oci.digest import Digest
    from installer.oci.reference import Repository

THREADS = 4


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
    tally = Tally()
    holders: dict[Digest, Repository] = {}
    sender = Sender(bundle, registry, reporter, tally, stop, holders, sha256=sha256)
    there: set[str] = set()

    def look(image: BundleImage) -> None:
        if sender.is_there(targets[image.source], image):
            there.add(image.source)

    each(look, images, threads=threads, stop=stop, waits=lambda _: True)
    missing = [image for image in images if image.source not in there]
    jobs = jobs_for(bundle, missing, targets)
    presence = look_for(bundle, registry, relocation, missing, threads=threads)
    if presence.lacking and not whole_only:
        raise lacking_error(bundle, presence.lacking)
    holders.update(presence.holders)
    rounds = Rounds(sender, relocation, targets, jobs, missing, whole_only=whole_only, threads=threads)
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

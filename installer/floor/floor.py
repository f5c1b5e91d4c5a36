"""The floor of an application in one place: the newest release that was brought there.

An application is told by the name of its bundles alone, whoever signed them, as an installation in a cluster is: with a
key of its own for each floor, a key that was replaced would open the way back.
"""

import hashlib

from installer.bundle import canonical
from installer.bundle.manifest import BundleManifest
from installer.errors import PolicyError, UsageError
from installer.value import Value, replace

_DIGITS = 32


class Floor(Value, order=True):
    """A release by its number `sequence` and its content `release`, see `release_of`; empty where that is not known.

    `returns` counts how often somebody has gone back on purpose. Of several floors of one place the greatest counts:
    what came after more returns, then what has the higher number. So a new floor can stand beside the old ones.
    """

    returns: int
    sequence: int
    release: str


def release_of(manifest: BundleManifest) -> str:
    """What a release holds, as 32 hex digits, whenever it was made and however packed: in volumes, or as an update."""
    what = [
        manifest.version,
        [[image.source, list(image.roots)] for image in manifest.images],
        [[chart.name, chart.version, chart.archive] for chart in manifest.charts],
        [[document.name, document.digest] for document in manifest.documents],
    ]
    return hashlib.sha256(canonical.encode(what)).hexdigest()[:_DIGITS]


def floor_after(manifest: BundleManifest, floor: Floor | None, place: str, back_to: int | None) -> Floor:
    """The floor of `place`, where it is `floor` now, once the bundle is there; `back_to` is what a person said.

    Raises PolicyError for an older release, or another one of the same number, unless a person named its number;
    UsageError for a number that is not this bundle's.
    """
    number = manifest.sequence
    if back_to not in (None, number):
        raise UsageError(f"--back-to {back_to}: this bundle is number {number}", hint="name the bundle that is meant.")
    new = Floor(floor.returns if floor else 0, number, release_of(manifest))
    if floor is None or number > floor.sequence or (number == floor.sequence and floor.release in ("", new.release)):
        return new
    if back_to is not None:
        return replace(new, returns=floor.returns + 1)
    if number < floor.sequence:
        raise PolicyError(
            f"{place}: number {floor.sequence} of {manifest.name} was brought there; this bundle ({manifest.version}) "
            f"is number {number}, which is older",
            hint=f"use the newer bundle; --back-to {number} goes back on purpose.",
        )
    raise PolicyError(
        f"{place}: another release of {manifest.name} was brought there as number {number} than this bundle "
        f"({manifest.version}), so neither is the newer one",
        hint=f"its sender lets `sequence` rise with each release; --back-to {number} takes this one all the same.",
    )

"""Failures of reading a bundle: what the messages say, and the next step that they name."""

from collections.abc import Mapping
from pathlib import Path

from installer.bundle.manifest import BundleBlob
from installer.errors import BundleError, IncompleteError

_COPY_AGAIN = "copy this file again from its source"


class OtherBundleError(BundleError):
    """A genuine volume, but of another bundle than the volumes that are open already."""


class ContradictionError(BundleError):
    """A bundle that is as it was signed, and contradicts itself."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="it was signed like this, and copying it again does not help: tell its sender.")


def missing_volumes(names: Mapping[int, str], count: int) -> IncompleteError:
    """Volumes are not at hand: `names` are their file names by number (from 0); there are `count` in all."""
    if len(names) == 1:
        ((number, name),) = names.items()
        text, it, is_ = f"volume {number + 1} of {count} ({name}) is missing", "it", "it is"
    else:
        listed = ", ".join(f"{number + 1} ({names[number]})" for number in sorted(names))
        text, it, is_ = f"volumes {listed} of {count} are missing", "them", "they are"
    again = "run the same command again with its file or folder, too"
    lost = f"If {is_} lost, `verify --request FILE` of the installer asks for {it}."
    return IncompleteError(text, hint=f"bring {it}, and {again}. {lost}")


def damaged_chunk(path: Path, start: int, length: int, blob: BundleBlob, number: int) -> BundleError:
    """Chunk `number` of `blob`, `length` bytes from `start` of the file, is not what was signed."""
    text = f"{path}: damaged between byte {start} and {start + length} (blob {blob.digest.hex[:12]}, chunk {number})"
    return BundleError(text, hint=f"{_COPY_AGAIN}, and compare its checksum.")


def damaged_frame(path: Path, start: int, blob: BundleBlob) -> BundleError:
    """The tar header before `blob`, which begins at byte `start` of the file, or the padding after it is wrong."""
    text = f"{path}: the frame of blob {blob.digest.hex[:12]} at byte {start} is damaged"
    return BundleError(text, hint=f"{_COPY_AGAIN}.")


def not_carried(blob: BundleBlob, needed_by: str) -> BundleError:
    """`blob` is left out of this update, and no patch brings it. `needed_by` names its images, see ImageGraph."""
    return BundleError(
        f"blob {blob.digest}: not carried by this update{needed_by}",
        hint="load the bundle that the update builds on, or bring a patch: `load --request FILE` asks for one.",
    )

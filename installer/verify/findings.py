"""The outcome of a verification: what is damaged, what nobody has looked at, and what to do about it."""

from collections.abc import Sequence
from typing import Any

from installer.bundle.failures import ContradictionError
from installer.bundle.patch import Request
from installer.bundle.reader import Bundle
from installer.errors import BundleError
from installer.value import Value
from installer.verify.damage import Damage

_ONE_WAY = (
    "copy again what is damaged and bring what is missing, on one way; if that is far away: `verify --request FILE` of "
    "the installer asks for both."
)
_MAX_LINES = 20
"""Damages that an error lists."""


class Findings(Value):
    """The outcome of a verification: damages, and the volumes (numbers from 0) that nobody has looked at."""

    damages: tuple[Damage, ...]
    unseen: frozenset[int]

    def document(self) -> dict[str, Any]:
        """As plain values; volumes count from 1."""
        return {
            "verified": not self.damages and not self.unseen,
            "damages": [damage.document() for damage in self.damages],
            "unseen_volumes": [number + 1 for number in sorted(self.unseen)],
        }

    def request(self, bundle: Bundle, *, partial: bool = False) -> Request | None:
        """The request for a patch that mends the damage; None if there is nothing that a patch can mend.

        It asks for volumes that nobody has looked at, too, unless the verification was meant to be `partial`.
        """
        numbers = {blob.digest.text: number for number, blob in enumerate(bundle.manifest.blobs)}
        chunks = [(numbers[item.blob], item.chunk) for item in self.damages if item.chunk >= 0 and item.length]
        lost = () if partial else tuple(number + 1 for number in sorted(self.unseen))
        return Request.of(bundle.verdict.sums, chunks, lost) if chunks or lost else None

    @property
    def text(self) -> str:
        """The verdict, if nothing is damaged."""
        return "genuine, and every byte of these volumes is whole" if self.unseen else "genuine and whole"

    def check(self, bundle: Bundle, *, partial: bool) -> None:
        """Raises BundleError if something is damaged, IncompleteError unless all volumes were seen or `partial`; the
        one names the other's volumes as well, to be fetched on the same way."""
        lacking = bundle.volumes.incomplete(self.unseen) if self.unseen and not partial else None
        if self.damages:
            error = damage_error(bundle, self.damages)
            if lacking:
                raise type(error)(f"{error.message}\n{lacking.message}", hint=_ONE_WAY)
            raise error
        if lacking:
            raise lacking


def damage_error(bundle: Bundle, found: Sequence[Damage]) -> BundleError:
    """The error that lists the damage, and says how many images are whole in spite of it.

    It is a ContradictionError if the bytes themselves are what was signed.
    """
    lines = [damage.message for damage in found[:_MAX_LINES]]
    if len(found) > _MAX_LINES:
        lines.append(f"and {len(found) - _MAX_LINES} more")
    images = [image.source for image in bundle.manifest.images]
    hurt = {source for damage in found for source in damage.images}
    if images:
        lines.append(f"{len(images) - len(hurt)} of {len(images)} images need nothing of that")
    if not any(damage.file or damage.blob for damage in found):
        return ContradictionError("\n".join(lines))
    far = "if that is far away: `verify --request FILE` of the installer."
    return BundleError("\n".join(lines), hint=f"copy it again; {far}")

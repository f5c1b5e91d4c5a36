"""Verifying a bundle: every byte of its volumes is read and compared with what was signed."""

from typing import TYPE_CHECKING

from installer.bundle.reader import Bundle
from installer.errors import IncompleteError
from installer.report import Reporter
from installer.verify.agreement import contradictions, keep_compared
from installer.verify.damage import Damage, damages
from installer.verify.findings import Findings, damage_error

if TYPE_CHECKING:
    from installer.verify.verification_report import Witness


def verify(bundle: Bundle, reporter: Reporter, *, sha256: bool = False, threads: int = 2) -> None:
    """Verify the volumes at hand, and what they say of each other if all are; with `sha256`, also each blob's SHA-256.

    Reads to the end even if it finds damage. Raises BundleError that lists all of it; ContradictionError if every byte
    is as it was signed.
    """
    found = damages(bundle, reporter, bundle.volumes.at_hand, sha256=sha256, threads=threads)
    if found := found or ([] if bundle.volumes.missing else contradictions(bundle)):
        raise damage_error(bundle, found)


def verify_by_turns(
    bundle: Bundle, reporter: Reporter, *, sha256: bool = False, witness: "Witness | None" = None
) -> Findings:
    """Verify the volumes at hand, then have the others brought, as far as the bundle can ask for them.

    `witness` sees each turn and the outcome.
    """
    found: list[Damage] = []
    unseen = frozenset(range(len(bundle.manifest.volumes)))
    while True:
        now = bundle.volumes.at_hand & unseen
        if witness:
            witness.attend(bundle)
        found += damages(bundle, reporter, now, sha256=sha256)
        unseen -= now
        if not found:
            keep_compared(bundle)
        if not unseen or not bundle.can_ask:
            break
        try:
            bundle.require(unseen, "not verified yet")
        except IncompleteError:
            break
    if not found and not unseen:
        found = contradictions(bundle)
    findings = Findings(tuple(found), unseen)
    if witness:
        witness.conclude(bundle, findings, sha256=sha256)
    return findings

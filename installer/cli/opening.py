"""Which bundle a command works on, and whom it trusts: from arguments, or from the frozen file itself."""

import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path

from installer.bundle.open_bundle import check_current, trust_in
from installer.bundle.reader import Bundle
from installer.bundle.signature import Trust, keys_of
from installer.cli.volume_search import Shelf
from installer.frozen import program
from installer.report import Reporter
from installer.value import replace


def open_bundle(
    executable: Path | None,
    places: Sequence[Path],
    keys: Sequence[Path],
    sums: str,
    now: dt.datetime,
    reporter: Reporter,
    ask: Callable[[str], bool] | None = None,
) -> Bundle:
    """The bundle in `places` (files and folders), or that of the frozen file `executable`, authenticated and current.

    Trust comes from `keys` (public key files) and `sums` (the typed SHA-256 of SHA256SUMS); without either, from the
    keys pinned in the frozen file. `ask` shows a text and returns when a person has changed the media, False if there
    are no others; without it what is missing is an error.

    Raises UntrustedError, BundleError, PolicyError, UsageError, StorageError.
    """
    embedded = program.locate(executable) if executable else None
    trusted = trust_in(keys, sums)
    if trusted == Trust() and embedded:
        trusted = Trust(keys_of(key.text for key in embedded.keys))
    shelf = replace(Shelf.of(places, executable, embedded), remark=reporter.note)
    bundle = check_current(shelf.open(trusted), now)
    if ask is not None and bundle.missing:
        bundle.changer = Changer(shelf, ask)
    return bundle


class Changer:
    """Asks a person for volumes, one after the other, and finds them on the shelf: see installer.bundle.reader."""

    def __init__(self, shelf: Shelf, ask: Callable[[str], bool]) -> None:
        self._shelf, self._ask = shelf, ask

    def __call__(self, bundle: Bundle, volumes: frozenset[int], why: str) -> None:
        """Return when one of `volumes` is at hand; files are closed meanwhile, so that a drive can be opened.

        Raises IncompleteError if the person has none of them.
        """
        count = len(bundle.manifest.volumes)
        first, *others = sorted(volumes)
        text = f"volume {first + 1} of {count} is needed next ({bundle.file_name(first)}): {why}"
        if others:
            text += f"; then {', '.join(str(number + 1) for number in others)}, in any order"
        while not bundle.at_hand & volumes:
            bundle.release(except_file=self._shelf.program)
            there = self._ask(text)
            self._shelf.look_again(bundle)
            if not there:
                raise bundle.incomplete(volumes)

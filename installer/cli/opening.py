"""Which bundle a command works on, and whom it trusts: from arguments, or from the frozen file itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from installer.bundle.open_bundle import check_current, trust_in
from installer.bundle.reader import Bundle
from installer.bundle.signature import Trust, keys_of
from installer.cli.volume_search import Shelf
from installer.commands import FILE, PATH, together
from installer.frozen import program
from installer.shell import Session
from installer.value import replace


@dataclass(frozen=True)
class BundleChoice:
    """Where a bundle lies (`places`: files and folders), and whom to trust: public key files, a typed SHA-256."""

    places: tuple[Path, ...]
    keys: tuple[Path, ...]
    sums: str

    def open(self, session: Session) -> Bundle:
        """The bundle in these places, or that of the frozen file, authenticated and current.

        Without keys and sum those are trusted that are pinned in the frozen file. Where a person is there, it is
        asked for volumes that are missing; else they are an error when they are needed.
        Raises UntrustedError, BundleError, PolicyError, UsageError, StorageError.
        """
        embedded = program.locate(session.executable) if session.executable else None
        trusted = trust_in(self.keys, self.sums)
        if trusted == Trust() and embedded:
            trusted = Trust(keys_of(key.text for key in embedded.keys))
        shelf = replace(Shelf.of(self.places, session.executable, embedded), remark=session.reporter.note)
        bundle = check_current(shelf.open(trusted), session.now())
        if session.interactive and bundle.missing:
            bundle.changer = Changer(shelf, session.ask)
        return bundle

    def looked_at(self, session: Session) -> Sequence[Path]:
        """Where the bundle is looked for first: the places, or the frozen file."""
        return self.places or ([session.executable] if session.executable else [])


bundle_options = together(
    "choice",
    BundleChoice,
    [
        click.option(
            "--bundle",
            "places",
            type=PATH,
            multiple=True,
            help="File of the bundle, or folder with its volumes; may be repeated.",
        ),
        click.option(
            "-k", "--key", "keys", type=FILE, multiple=True, help="Public key to trust instead of the pinned ones."
        ),
        click.option(
            "--sums", default="", metavar="HEX", help="Trust by the SHA-256 of SHA256SUMS as its sender states."
        ),
    ],
)
"""The command gets `choice`."""


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

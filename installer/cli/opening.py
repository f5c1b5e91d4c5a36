"""Which bundle a command works on, and whom it trusts: from arguments, or from the frozen file itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from installer.bundle.reader import Bundle
from installer.commands import FILE, PATH, together
from installer.opening.open_bundle import open_bundle
from installer.shell import Session


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
        ask = session.ask if session.interactive else None
        return open_bundle(session.executable, self.places, self.keys, self.sums, session.now(), session.reporter, ask)

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

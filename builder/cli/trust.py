"""What commands share that open a bundle: its argument, whom to trust, and the opening."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from installer.bundle.envelope import envelope_of
from installer.bundle.reader import Bundle
from installer.bundle.volume import VolumeFile
from installer.commands import FILE, PATH, together
from installer.errors import UntrustedError
from installer.opening.open_bundle import open_current
from installer.opening.trust import trust_in
from installer.opening.volume_discovery import expand

bundle_argument = click.argument("bundle", type=PATH, nargs=-1, required=True)
"""Files of a bundle, or folders that hold them."""


@dataclass(frozen=True)
class TrustChoice:
    """Whom to trust: the public key files `keys`, or the typed SHA-256 of SHA256SUMS."""

    keys: tuple[Path, ...]
    sums: str


trust_options = together(
    "trust",
    TrustChoice,
    [
        click.option(
            "-k", "--key", "keys", type=FILE, multiple=True, help="Public key (.pub) to trust; may be repeated."
        ),
        click.option(
            "--sums",
            default="",
            metavar="SHA256",
            help="Instead of a key: the SHA-256 of SHA256SUMS, as its sender told it.",
        ),
    ],
)
"""The command gets `trust`."""


def open_trusted(places: Sequence[Path], trust: TrustChoice, now: dt.datetime) -> Bundle:
    """The bundle in `places`, authenticated by key files or by the typed SHA-256 of SHA256SUMS, and current.

    Raises UsageError, UntrustedError, BundleError, IncompleteError, PolicyError, StorageError.
    """
    files = expand(places)
    try:
        return open_current([VolumeFile(path) for path in files], trust_in(trust.keys, trust.sums), now)
    except UntrustedError as exc:
        if envelope_of(files[0]).signed:
            raise
        raise UntrustedError(exc.message, hint=f"sign it: `airferry sign {files[0]} --key NAME.key`.") from exc

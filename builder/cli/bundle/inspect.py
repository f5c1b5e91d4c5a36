"""The command `inspect`."""

from pathlib import Path

import click

from builder.cli.trust import TrustChoice, bundle_argument, trust_options
from builder.images.previous_bundle import open_own
from installer.bundle.reader import Bundle
from installer.bundle.volume import VolumeFile
from installer.commands import Command
from installer.opening.trust import trust_in
from installer.opening.volume_discovery import expand
from installer.shell import Session
from installer.verify.describe import description, summary


@click.command(cls=Command)
@bundle_argument
@trust_options
def inspect(session: Session, *, bundle: tuple[Path, ...], trust: TrustChoice) -> None:
    """Show what BUNDLE holds. Without a key the answer is marked as unverified.

    \b
      airferry inspect app-1.0.tar --key release.pub
      airferry inspect app-1.0.tar --output json | jq -r '.images[].image'
    """
    trusted = bool(trust.keys or trust.sums)
    files = expand(bundle)
    given = trust_in(trust.keys, trust.sums) if trusted else None
    with Bundle.open([VolumeFile(path) for path in files], given) if given else open_own(files) as opened:
        head = "" if trusted else "UNVERIFIED: no key was given, anyone may have written this\n"
        session.emit({**description(opened), "authentic": trusted}, head + summary(opened, images=True))

"""The command `explain`."""

from pathlib import Path

import click

from builder.cli.key_names import key_names
from builder.cli.trust import TrustChoice, bundle_argument, open_trusted, trust_options
from installer.commands import Command, language_option
from installer.page import Language, plain, text
from installer.shell import Session
from installer.verify.manual_verification import explanation


@click.command(cls=Command)
@bundle_argument
@trust_options
@language_option
def explain(session: Session, *, bundle: tuple[Path, ...], trust: TrustChoice, language: Language) -> None:
    """Say how to reach the verdict of `verify` with stock tools only: openssl, minisign, tar, sha256sum, grep.

    \b
      airferry explain app-1.0.tar --key release.pub
      airferry explain volumes/ --key release.pub --language ko
    """
    with open_trusted(bundle, trust, session.now()) as opened:
        page = explanation(opened, key_names(trust.keys))
    session.emit(plain(page, language), text(page, language))

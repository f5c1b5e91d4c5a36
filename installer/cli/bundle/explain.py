"""The command `explain`."""

import click

from installer.cli.opening import BundleChoice, bundle_options
from installer.commands import Command, language_option
from installer.page import Language, plain, text
from installer.shell import Session
from installer.verify.manual_verification import explanation


@click.command(cls=Command)
@bundle_options
@language_option
def explain(session: Session, *, choice: BundleChoice, language: Language) -> None:
    """Say how to reach the verdict of `verify` without this program, with openssl, minisign, tar, sha256sum and grep.

    \b
    Examples:
      PROGRAM explain
      PROGRAM explain --bundle /media/disc --language ko
    """
    with choice.open(session) as bundle:
        page = explanation(bundle)
    session.emit(plain(page, language), text(page, language))

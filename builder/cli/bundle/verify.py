"""The command `verify`."""

from contextlib import nullcontext
from pathlib import Path

import click

from builder.cli.trust import TrustChoice, bundle_argument, open_trusted, trust_options
from installer.commands import Command, language_option, proof_option
from installer.page import Language
from installer.shell import Session
from installer.verify.describe import description, summary
from installer.verify.verification import verify_by_turns
from installer.verify.verification_report import kept


@click.command(cls=Command)
@bundle_argument
@trust_options
@click.option("--sha256", is_flag=True, help="Compare every blob with its SHA-256 as well; takes longer.")
@click.option("--partial", is_flag=True, help="Some of the volumes are enough: each can be verified alone.")
@proof_option
@language_option
def verify(
    session: Session,
    *,
    bundle: tuple[Path, ...],
    trust: TrustChoice,
    sha256: bool,
    partial: bool,
    proof: Path | None,
    language: Language,
) -> None:
    """Check signature, structure and every byte of BUNDLE, as the installer does.

    \b
      airferry verify app-1.0.tar --key release.pub
      airferry verify /media/disc --partial --key release.pub   # one of several
    """
    with (
        kept(proof, bundle, session.now, session.reporter, language) if proof else nullcontext() as witness,
        open_trusted(bundle, trust, session.now()) as opened,
    ):
        found = verify_by_turns(opened, session.reporter, sha256=sha256, witness=witness)
        if session.output == "json":
            session.emit({**description(opened, strict=False), **found.document()}, "")
        found.check(opened, partial=partial)
        if session.output != "json":
            session.emit(None, f"{summary(opened)}\n{found.text}")

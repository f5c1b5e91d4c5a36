"""The command `verify`."""

from contextlib import nullcontext
from pathlib import Path

import click

from installer.cli.opening import BundleChoice, bundle_options
from installer.cli.requesting import hand_over
from installer.commands import FILE, Command, language_option, proof_option
from installer.errors import BundleError, IncompleteError
from installer.page import Language
from installer.shell import Session
from installer.verify.describe import description, summary
from installer.verify.verification import verify_by_turns
from installer.verify.verification_report import kept


@click.command(cls=Command)
@proof_option
@language_option
@bundle_options
@click.option("--sha256", is_flag=True, help="Compare every blob with its SHA-256 as well; takes longer.")
@click.option("--partial", is_flag=True, help="Some of the volumes are enough: each can be verified alone.")
@click.option(
    "--request", type=FILE, help="Write what is damaged or lost to this file; the sender answers with a patch."
)
@click.option("--qr/--no-qr", default=None, help="Show the request as a QR code, too. [default: on a terminal]")
def verify(
    session: Session,
    *,
    proof: Path | None,
    language: Language,
    choice: BundleChoice,
    sha256: bool,
    partial: bool,
    request: Path | None,
    qr: bool | None,
) -> None:
    """Read every byte of the bundle and compare it with what was signed; and what stands in it twice with each other.

    It goes on to the end whatever it meets, and says which images need what is damaged. A request asks for that, and
    for all of the volumes that are missing, unless --partial says that these are elsewhere. A proof says what was
    verified, when, by whose key, on which media, and how it ended, for the file of whoever has to answer for it.

    \b
    Examples:
      PROGRAM verify
      PROGRAM verify --proof proof.json
      PROGRAM verify --bundle /media/disc --partial
      PROGRAM verify --bundle /media/discs --request request.json

    Exit code 0: genuine and whole; 10: damaged, or it contradicts itself; 11: not signed by a trusted key; 12: a volume
    is missing.
    """
    places = choice.looked_at(session)
    with (
        kept(proof, places, session.now, session.reporter, language) if proof else nullcontext() as witness,
        choice.open(session) as bundle,
    ):
        # Before it: volumes that come in turns are gone after it.
        as_json = session.output == "json"
        facts = description(bundle, strict=False) if as_json else {}
        text = "" if as_json else summary(bundle, strict=False)
        found = verify_by_turns(bundle, session.reporter, sha256=sha256, witness=witness)
        wanted = found.request(bundle, partial=partial)
        if wanted and (request or qr):
            hand_over(session, wanted, request, qr=qr)
        document = {**facts, **found.document(), "request": wanted.text if wanted else ""}
        if as_json:
            session.emit(document, "")
        try:
            found.check(bundle, partial=partial)
        except (BundleError, IncompleteError) as exc:
            if wanted and (request or qr):
                hint = "send the request; what comes back is named with --bundle, too."
                raise type(exc)(exc.message, hint=hint) from exc
            raise
        if not as_json:
            session.emit(document, f"{text}\n{found.text}")

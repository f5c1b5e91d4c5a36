"""The command `sheet`."""

from pathlib import Path

import click

from builder.cli.key_names import key_names
from builder.cli.trust import TrustChoice, bundle_argument, open_trusted, trust_options
from builder.recipe.checksum import sha256_of, size_of
from builder.release.html_page import html
from builder.release.run_sheet import Program, RunSheet
from installer.bundle.envelope import read_envelope
from installer.bundle.reader import Bundle
from installer.bundle.volume import VolumeFile
from installer.commands import FILE, NEW_FILE, Command, language_option
from installer.errors import UsageError
from installer.files import check_output, write_atomic
from installer.frozen.program import locate
from installer.oci.digest import Digest
from installer.opening.volume_discovery import expand
from installer.page import Language, plain, text
from installer.report import Reporter
from installer.shell import Session


@click.command(cls=Command)
@bundle_argument
@trust_options
@click.option("--installer", type=FILE, help="The frozen file, or the program without a bundle, that goes along.")
@click.option(
    "--rate", default=20, show_default=True, type=click.IntRange(1, 10_000), help="MB/s of media and network."
)
@click.option("--also", type=FILE, multiple=True, help="Another file to carry, such as parity; may be repeated.")
@click.option("--html", "as_html", is_flag=True, help="As HTML, which prints on one A4 page.")
@click.option("-o", "--file", "out", type=NEW_FILE, help="Write the page to this file.  [default: print it]")
@language_option
def sheet(
    session: Session,
    *,
    bundle: tuple[Path, ...],
    trust: TrustChoice,
    installer: Path | None,
    also: tuple[Path, ...],
    rate: int,
    as_html: bool,
    out: Path | None,
    language: Language,
) -> None:
    """Make the run sheet of BUNDLE: one page for the carrier, the people on site and the security officer.

    What to carry, checksums to compare by eye, the commands in order with their expected times, how to check one
    volume without airferry, and what each failure means. Print it, and send it another way than the media.

    \b
      airferry sheet app-1.0.tar --key release.pub --installer app-installer
      airferry sheet volumes/ --key release.pub --also parity.par2
      airferry sheet volumes/ --key release.pub --language ko -o page.txt
    """
    if out is not None:
        check_output(out, [*expand(bundle), *also, *trust.keys, *([installer] if installer else [])])
    others = tuple((path.name, size_of(path)) for path in also)
    with open_trusted(bundle, trust, session.now()) as opened:
        program = _program(installer, opened, session.reporter) if installer else None
        page = RunSheet(opened, program, others, rate * 1_000_000, key_names(trust.keys)).page
    content = html(page, language) if as_html else text(page, language)
    if out is None:
        session.emit(plain(page, language), content)
        return
    write_atomic(out, content.encode())
    session.emit({"file": str(out)}, f"written {out}")


def _program(path: Path, bundle: Bundle, reporter: Reporter) -> Program:
    """What is to be said about the installer at `path`.

    Raises UsageError if it is none, or carries another bundle, BundleError if it is damaged, StorageError.
    """
    found = locate(path)
    if found is None:
        raise UsageError(f"{path}: not a file that `airferry freeze` made", hint="name that file with --installer.")
    if found.volume_size:
        inside = VolumeFile(path, found.volume_offset, found.volume_size)
        try:
            same = Digest.of(read_envelope(inside).sums) == bundle.verdict.sums
        finally:
            inside.close()
        if not same:
            raise UsageError(
                f"{path}: carries another bundle, {found.name}", hint="make it anew from this one: `airferry freeze`."
            )
    return Program(path.name, size_of(path), sha256_of(path, reporter), carries=found.volume_size > 0)

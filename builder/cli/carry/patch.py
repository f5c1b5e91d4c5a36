"""The command `patch`."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from builder.assemble.patch import write_patch
from builder.cli.places import places_of
from builder.images.previous_bundle import EarlierBundles, open_own
from builder.images.source import LockSource
from builder.recipe.lock import Lock
from installer.bundle.patch import MAX_PATCH_JSON, REQUEST, Request
from installer.commands import EXISTING, FILE, NEW_FILE, Command
from installer.files import check_output, read_bounded
from installer.oci.source import BlobSource
from installer.opening.volume_discovery import expand
from installer.report import size as human
from installer.shell import Session


@click.command(cls=Command)
@click.argument("bundle", type=EXISTING, nargs=-1, required=True)
@click.option("--request", required=True, help="The file that `verify --request` wrote, or its line of text.")
@click.option("-o", "--file", "out", type=NEW_FILE, required=True, help="The patch to write.")
@click.option(
    "--from",
    "earlier",
    type=EXISTING,
    multiple=True,
    metavar="BUNDLE",
    help="An earlier bundle that holds what an update leaves out; may be repeated.",
)
@click.option("--lock", type=FILE, help="The lock of the bundle: what it leaves out is fetched.")
def patch(
    session: Session,
    *,
    bundle: tuple[Path, ...],
    request: str,
    out: Path,
    earlier: tuple[Path, ...],
    lock: Path | None,
) -> None:
    """Answer a request from the enclave with a small file that holds just what is damaged there.

    It also answers `load --request` for an update: with what the registry there turned out not to hold. BUNDLE are the
    sender's own volumes. Inside, the patch is named beside them; nobody has to sign it. The request may be typed in:
    its end tells whether it was copied right.

    \b
      airferry patch volumes/ --request request.json -o patch.tar
      airferry patch app-2.0-update.tar --from app-1.0.tar
                 --request request.json -o patch.tar

    On the other side:

    \b
      ./FILE load --bundle /media/discs --bundle patch.tar
    """
    typed = request.lower().lstrip().startswith(REQUEST)
    wanted = Request.decode(request.encode() if typed else read_bounded(Path(request), MAX_PATCH_JSON))
    check_output(
        out, [*expand(bundle), *expand(earlier), *([] if typed else [Path(request)]), *([lock] if lock else [])]
    )
    with open_own(bundle) as opened, _left_out(session, earlier, lock, out.parent) as source:
        size, chunks = write_patch(opened, wanted, out, source)
        for info in opened.volumes.infos():
            if info.volume in wanted.volumes:
                session.reporter.note(f"all of volume {info.volume} is wanted: {info.path} itself would do, too")
    session.emit({"file": str(out), "bytes": size, "chunks": chunks}, f"{out}: {size} bytes ({human(size)})")
    session.reporter.note("next: carry it over, and name it with --bundle beside the volumes.")


@contextmanager
def _left_out(session: Session, earlier: Sequence[Path], lock: Path | None, spool: Path) -> Iterator[BlobSource | None]:
    """Where blobs come from that an update does not carry; None if no place is named."""
    with ExitStack() as stack:
        fetched = None
        if lock is not None:
            read = Lock.load(lock)
            fetched = LockSource(read, stack.enter_context(places_of(session, read.registries, lock.parent, spool)))
        bundles = [open_own([place]) for place in earlier]
        found = stack.enter_context(EarlierBundles(bundles, fetched, session.reporter))
        yield found if bundles or fetched else None

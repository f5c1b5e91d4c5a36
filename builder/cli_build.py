"""The command that fetches: build."""

from pathlib import Path

import click

from builder.build import THREADS
from builder.build import build as build_bundle
from builder.cli_places import FILE, lock_argument, places_of
from builder.contents import contents
from builder.lock import Lock
from builder.source import LockSource, check_files
from installer.report import size
from installer.shell import Session, common


@click.command()
@lock_argument
@click.option("-o", "--file", "out", type=FILE, help="The bundle to write; NAME-VERSION.tar by default.")
@click.option("--threads", type=click.IntRange(1, 32), default=THREADS, show_default=True, help="Downloads at a time.")
@click.option("--no-sync", is_flag=True, help="Return before the disk has it, without reading it back.")
@common
def build(session: Session, *, lock: Path, out: Path | None, threads: int, no_sync: bool) -> None:
    """Fetch everything that LOCK names and write one bundle, then read it back.

    Nothing is resolved by name. Interrupted, the same command continues. The bundle is unsigned: see `airferry sign`.

    \b
      airferry build
      airferry build -o /media/stick/platform-1.0.tar
    """
    read = Lock.load(lock)
    out = out or Path(f"{read.name}-{read.version}.tar")
    check_files(read, lock.parent)
    total = sum(contents(read).volume_sizes)
    with places_of(session, read.registries, lock.parent, out.parent) as places:
        source = LockSource(read, places)
        digest = build_bundle(read, source, out, session.reporter, threads=threads, sync=not no_sync)
    session.emit(
        {"file": str(out), "bytes": total, "sums": digest.text},
        f"{out}: {total} bytes ({size(total)})\nSHA256SUMS: {digest}",
    )
    session.reporter.note(f"next: `airferry sign {out} --key NAME.key` (`airferry keygen NAME` makes one).")


COMMANDS: tuple[click.Command, ...] = (build,)

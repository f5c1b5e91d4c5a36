"""The command `build`."""

from collections.abc import Sequence
from pathlib import Path

import click

from builder.assemble.build import THREADS
from builder.assemble.build import build as build_bundle
from builder.assemble.contents import Contents, contents
from builder.assemble.delta_base import named_files, omission_of
from builder.assemble.outputs import check_replaceable, distribute, make_folder
from builder.assemble.plan import left_out, left_out_line
from builder.cli.options import lock_argument
from builder.cli.places import places_of
from builder.cli.recipe.content_options import ContentOptions, content_options
from builder.images.previous_bundle import EarlierBundles, open_own
from builder.images.source import LockSource
from builder.recipe.lock import Lock
from builder.recipe.locked_files import check_files, locked_files
from installer.bundle.envelope import envelope_of
from installer.commands import EXISTING, NEW_PATH, Command, force_option
from installer.errors import UsageError
from installer.files import check_output
from installer.opening.volume_discovery import expand
from installer.report import size as human
from installer.shell import Session


@click.command(cls=Command)
@lock_argument
@click.option(
    "-o",
    "--file",
    "outs",
    type=NEW_PATH,
    multiple=True,
    help="The bundle to write, or the folder for NAME-VERSION.tar; with --volume-size folders, made if need be.",
)
@content_options
@click.option(
    "--reuse",
    type=EXISTING,
    multiple=True,
    metavar="BUNDLE",
    help="Take the bytes of blobs that this earlier bundle holds from it, verified, instead of fetching them.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 32),
    default=THREADS,
    show_default=True,
    help="Large downloads at a time, where the source is slower than this machine; six times as many small ones.",
)
@force_option
@click.option("--no-sync", is_flag=True, help="Return before the disk has it, without reading it back.")
def build(
    session: Session,
    *,
    lock: Path,
    outs: tuple[Path, ...],
    content: ContentOptions,
    reuse: tuple[Path, ...],
    threads: int,
    force: bool,
    no_sync: bool,
) -> None:
    """Fetch everything that LOCK names and write one bundle, then read it back.

    Nothing is resolved by name. Interrupted, the same command continues. The bundle is unsigned: see `airferry sign`.

    \b
      airferry build
      airferry build -o /media/stick/app-1.0.tar
      airferry build --volume-size bd25     several files, each for one disc
      airferry build --volume-size fat32 -o /media/a -o /media/b
                                            each goes where there is room
      airferry build --base app-1.0.lock    an update for those who have 1.0
      airferry build --have receipt.json    an update for the registry that
                                            this came from
    """
    read = Lock.load(lock)
    planned = contents(read, content.size, omission_of(read, content.have, content.bases))
    paths = output_paths(planned, outs, several=content.size is not None)
    check_files(read, lock.parent)
    named = [*named_files(content.have), *expand(content.bases), *expand(reuse)]
    inputs = [lock, *locked_files(read, lock.parent), *named]
    for path in paths:
        check_output(path, inputs)
    if not force:
        check_replaceable(paths)
    with places_of(session, read.registries, lock.parent, lock.parent if content.size else paths[0].parent) as places:
        fetched = LockSource(read, places)
        with EarlierBundles([open_own([place]) for place in reuse], fetched, session.reporter) as source:
            digest = build_bundle(planned, source, paths, session.reporter, threads=threads, sync=not no_sync)
    sizes = planned.volume_sizes
    lines = [f"{path}: {length} bytes ({human(length)})" for path, length in zip(paths, sizes, strict=True)]
    volumes = [{"file": str(path), "bytes": length} for path, length in zip(paths, sizes, strict=True)]
    document = {"file": str(paths[0]), "bytes": sum(sizes), "sums": digest.text, "volumes": volumes}
    document["left_out"] = omitted = left_out(planned)
    if content.have or content.bases:
        lines.append(left_out_line(omitted))
    session.emit(document, "\n".join([*lines, f"SHA256SUMS: {digest}"]))
    names = " ".join(map(str, paths))
    if all(envelope_of(path).signed for path in paths):
        session.reporter.note(f"signed already: `airferry verify {names} --key NAME.pub` says by whom.")
    else:
        session.reporter.note(f"next: `airferry sign {names} --key NAME.key` (`airferry keygen NAME` makes one).")


def output_paths(planned: Contents, outs: Sequence[Path], *, several: bool) -> list[Path]:
    """The files to write: `outs` names one file or its folder, or with `several` the folders for all.

    Raises UsageError.
    """
    if not several:
        if len(outs) > 1:
            raise UsageError("-o is given twice, and there is one file", hint="for several files: --volume-size.")
        (out,) = outs or (Path(),)
        return [out / planned.file_names[0] if out.is_dir() else out]
    for folder in outs:
        make_folder(folder)
    return distribute(dict(zip(planned.file_names, planned.volume_sizes, strict=True)), outs or [Path()])

"""Files that travel along in a bundle, taken out again: verified chunk by chunk as they are written."""

from collections.abc import Collection, Iterator
from pathlib import Path

from installer.bundle.manifest import BundleDocument, BundleManifest
from installer.bundle.reader import Bundle
from installer.errors import NothingHereError, UsageError
from installer.files import look_at, new_file, storage_error
from installer.report import Reporter

KIND = "file"


def files_of(manifest: BundleManifest) -> list[BundleDocument]:
    """The files that travel along, by name."""
    return [document for document in manifest.documents if document.kind == KIND]


def extract(
    bundle: Bundle, names: Collection[str], folder: Path, reporter: Reporter, *, replace: bool = False
) -> Iterator[Path]:
    """Write the files `names` (all, if there are none) into `folder`, each whole or not at all; their paths.

    Raises NothingHereError for a name that the bundle does not have, UsageError for a file that is there already unless
    it is to be replaced, BundleError for damage, StorageError.
    """
    held = {document.name: document for document in files_of(bundle.manifest)}
    if unknown := sorted(set(names) - held.keys()):
        known = ", ".join(held) or "none"
        raise NothingHereError(f"the bundle has no file {', '.join(unknown)}", hint=f"files in it: {known}.")
    wanted = [held[name] for name in sorted(names or held)]
    there = [str(folder / item.name) for item in wanted if look_at(folder / item.name)]
    if there and not replace:
        raise UsageError(f"there already: {', '.join(there)}", hint="choose another folder, or --force.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise storage_error(exc, folder, "make") from exc
    reporter.begin("extract", sum(bundle.blob(item.digest).size for item in wanted))
    for item in wanted:
        yield _written(bundle, item, folder / item.name, reporter)
    reporter.end()


def _written(bundle: Bundle, document: BundleDocument, path: Path, reporter: Reporter) -> Path:
    with new_file(path) as file:
        for view in bundle.chunks(document.digest):
            try:
                file.write(view)
            except OSError as exc:
                raise storage_error(exc, path, "write") from exc
            reporter.advance(len(view))
    return path

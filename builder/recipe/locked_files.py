"""The files that a lock names and that lie beside it."""

from pathlib import Path

from builder.recipe.lock import Lock
from installer.bundle.limits import MAX_SMALL_BLOB
from installer.errors import RecipeError
from installer.files import read_bounded
from installer.oci.digest import Digest


def locked_files(lock: Lock, folder: Path) -> list[Path]:
    """The local files that a lock in `folder` names: documents, charts, archives of images, authorities."""
    origins = [item.origin for items in (lock.documents, lock.charts, lock.images) for item in items]
    names = [origin.location for origin in origins if origin.kind in ("file", "archive")]
    return [folder / name for name in (*names, *(registry.ca for registry in lock.registries if registry.ca))]


def check_files(lock: Lock, folder: Path) -> None:
    """Raises RecipeError naming every document and chart of `folder` that is not what it was when it was locked."""
    sizes = {blob.digest: blob.size for blob in lock.blobs}
    named = [(document.origin, document.digest) for document in lock.documents]
    named += [(chart.origin, chart.archive) for chart in lock.charts]
    changed = []
    for origin, digest in named:
        path = folder / origin.location
        if origin.kind == "file" and not (
            path.is_file()
            and path.stat().st_size == sizes[digest]
            and Digest.of(read_bounded(path, MAX_SMALL_BLOB)) == digest
        ):
            changed.append(origin.location)
    if changed:
        raise RecipeError(
            f"changed since they were locked, or gone: {', '.join(changed)}",
            hint="run `airferry lock`, or restore them from version control.",
        )

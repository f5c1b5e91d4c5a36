"""The files that a lock names and that lie beside it."""

from pathlib import Path

from builder.recipe.lock import Lock, Origin
from installer.bundle.limits import MAX_SMALL_BLOB
from installer.errors import RecipeError
from installer.files import is_folder, read_bounded
from installer.oci.digest import Digest


def locked_files(lock: Lock, folder: Path) -> list[Path]:
    """The local files that a lock in `folder` names: documents, charts, schemas, archives of images, authorities."""
    origins = [item.origin for items in (lock.documents, lock.charts, lock.images) for item in items]
    names = [origin.location for origin in origins if origin.kind in ("file", "archive")]
    names += [schema.file for chart in lock.charts for schema in chart.schemas]
    return [folder / name for name in (*names, *(registry.ca for registry in lock.registries if registry.ca))]


def check_files(lock: Lock, folder: Path) -> None:
    """Raises RecipeError naming every document, chart and schema of `folder` that is not what was locked.

    Of documents that may be large only the size is looked at: their content is checked while it is copied.
    """
    sizes = {blob.digest: blob.size for blob in lock.blobs}
    named = [(item.origin, item.digest, sizes[item.digest], item.kind == "file") for item in lock.documents]
    named += [(chart.origin, chart.published, chart.size, False) for chart in lock.charts]
    inside = {schema for chart in lock.charts for schema in chart.schemas}
    named += [(Origin("file", schema.file), schema.digest, schema.size, False) for schema in sorted(inside)]
    changed = []
    for origin, digest, size, large in named:
        path = folder / origin.location
        if origin.kind == "folder":
            from installer.chart.helm import packed_folder

            same = is_folder(path) and Digest.of(packed_folder(path, RecipeError)) == digest
        else:
            same = origin.kind != "file" or (
                path.is_file()
                and path.stat().st_size == size
                and (large or Digest.of(read_bounded(path, MAX_SMALL_BLOB)) == digest)
            )
        if not same:
            changed.append(origin.location)
    if changed:
        raise RecipeError(
            f"changed since they were locked, or gone: {', '.join(changed)}",
            hint="run `airferry lock`, or restore them from version control.",
        )

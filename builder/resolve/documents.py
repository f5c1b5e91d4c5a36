"""The files that travel along, as documents of the bundle: read, made here, or only measured where they are large."""

import json
import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from builder.images.source import Places
from builder.recipe.checksum import sha256_of, size_of
from builder.recipe.lock import LockedBlob, LockedDocument, Origin
from installer.bundle.limits import MAX_SMALL_BLOB
from installer.chart.helm import Object, documents, parse_values
from installer.errors import BundleError, RecipeError
from installer.files import is_folder, read_bounded
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.report import Reporter

MAX_FILES = 5000
"""Files of one folder of manifests."""
_KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_MANIFESTS = (".yaml", ".yml", ".json")


class Documents:
    """Documents by name; two of one name must be the same file. `folder` is that of the file that names them."""

    def __init__(self, places: Places, folder: str = "") -> None:
        self._places, self._folder = places, folder
        self._found: dict[str, tuple[LockedDocument, LockedBlob]] = {}

    def beside(self, path: str) -> "Documents":
        """The same, for names that are relative to the file `path`."""
        other = Documents(self._places, posixpath.dirname(path))
        other._found = self._found
        return other

    def found(self) -> tuple[tuple[LockedDocument, LockedBlob], ...]:
        """All documents, sorted by name."""
        return tuple(self._found[name] for name in sorted(self._found))

    def path(self, path: str) -> str:
        """`path`, relative to the folder of the recipe."""
        return posixpath.normpath(posixpath.join(self._folder, path))

    def read(self, path: str) -> bytes:
        """The content of the file `path`. Raises RecipeError, StorageError."""
        return read_bounded(self._places.path(self.path(path)), MAX_SMALL_BLOB, RecipeError)

    def values(self, path: str) -> dict[str, Any]:
        """The values in the file `path`. Raises RecipeError."""
        return parse_values(self.read(path), path, RecipeError)

    def add_file(self, path: str, kind: str, name: str = "") -> bytes:
        """Take in the file `path`; its content."""
        raw = self.read(path)
        origin = Origin("file", self.path(path))
        self._add(name or Path(path).name, kind, LockedBlob(Digest.of(raw), media_types.OCTETS, len(raw)), origin)
        return raw

    def add_large(self, path: str, reporter: Reporter) -> None:
        """Take in the file `path`, however large it is, as a document of kind `file`."""
        place = self._places.path(self.path(path))
        if is_folder(place):
            raise RecipeError(f"{path}: is a folder", hint="name single files, or pack it.")
        blob = LockedBlob(Digest(f"sha256:{sha256_of(place, reporter)}"), media_types.OCTETS, size_of(place))
        self._add(place.name, "file", blob, Origin("file", self.path(path)))

    def add_made(self, name: str, kind: str, content: Mapping[str, Any]) -> None:
        """Take in a document that is made here, as JSON, which is YAML."""
        self.add_text(name, kind, json.dumps(content, sort_keys=True, ensure_ascii=True))

    def add_text(self, name: str, kind: str, text: str) -> None:
        """Take in a text that is made here."""
        self._add(name, kind, LockedBlob.made(text.encode()), Origin("inline", ""))

    def add_manifests(self, path: str) -> Iterator[tuple[str, list[Object]]]:
        """Take in the file of manifests `path`, or those in the folder and below it: document and objects of each.

        Raises RecipeError for what is no object of Kubernetes, and for a kustomization.
        """
        place = self._places.path(self.path(path))
        for file in _manifest_files(place, path) if is_folder(place) else [path]:
            name = _plain_name(file)
            objects = documents(_text(self.add_file(file, "manifests", name), file), file, RecipeError)
            for number, item in enumerate(objects, 1):
                metadata = item.get("metadata")
                named = isinstance(metadata, dict) and isinstance(metadata.get("name"), str)
                if not isinstance(item.get("apiVersion"), str) or not item.get("kind") or not named:
                    raise RecipeError(
                        f"{file}: object {number} lacks apiVersion, kind or metadata.name",
                        hint="write complete objects: in an enclave nothing gives them names.",
                    )
            yield name, objects

    def _add(self, name: str, kind: str, blob: LockedBlob, origin: Origin) -> None:
        try:
            document = LockedDocument(name, kind, blob.digest, origin)
        except BundleError as exc:
            raise RecipeError(exc.message, hint="rename the file: letters, digits, `.`, `_` and `-`.") from exc
        held, _ = self._found.get(name, (document, blob))
        if held.digest != blob.digest or (held.kind != kind and "other" not in (held.kind, kind)):
            raise RecipeError(f"two documents are called {name}", hint="rename one: names must differ in a bundle.")
        if held is document or kind != "other":
            self._found[name] = (document, blob)


def _manifest_files(folder: Path, path: str) -> list[str]:
    """The files of manifests in `folder`, which the recipe calls `path`, and below it, sorted."""
    found = sorted(item.relative_to(folder).as_posix() for item in folder.rglob("*") if item.is_file())
    if kustomization := next((name for name in found if name.rpartition("/")[2] in _KUSTOMIZATIONS), ""):
        raise RecipeError(
            f"{path}: holds {kustomization}, which only kustomize understands",
            hint=f"run `kubectl kustomize {path} > {folder.name}.yaml`, and name that file.",
        )
    names = [name for name in found if name.endswith(_MANIFESTS)]
    if not names or len(names) > MAX_FILES:
        raise RecipeError(f"{path}: {len(names)} files of manifests", hint="name a folder with *.yaml or *.json files.")
    return [f"{path.rstrip('/')}/{name}" for name in names]


def _plain_name(path: str) -> str:
    """A document's name for `path`: unlike file names alone, paths differ."""
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    return "-".join(parts[-1:] if path.startswith("/") else parts)


def _text(raw: bytes, file: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as exc:
        raise RecipeError(f"{file}: not UTF-8 at byte {exc.start}", hint="save it as plain text in UTF-8.") from exc

"""Libraries and programs that the frozen program keeps compressed until the module that needs them is imported.

The Helm library alone has 85 MB, and most commands never call it. The build lists such libraries in packed.json:
`[{"module": M, "path": P, "form": F, "sizes": [[compressed, plain], ...]}, ...]`, where P.F in the program's folder
holds the library P as a row of streams of the form `xz` (small) or `zlib` (quickly unpacked), one for each pair of
sizes, so that all processors can unpack at once.
"""

import fcntl
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from installer.errors import AirferryError, StorageError

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

LIST = "packed.json"


@dataclass(frozen=True)
class PackedLibrary:
    """A library in `path`.`form` that belongs at `path`; `sizes` = (compressed, plain) bytes of each part."""

    path: Path
    form: str
    sizes: tuple[tuple[int, int], ...]

    def unpack(self) -> None:
        """Write the library to its path, unless another process has done so. Raises StorageError."""
        from concurrent.futures import ThreadPoolExecutor

        decompress, damage = _decompressor(self.form)
        temp = self.path.with_name(self.path.name + ".new")
        try:
            source = os.open(self.path.with_name(f"{self.path.name}.{self.form}"), os.O_RDONLY)
            try:
                fcntl.flock(source, fcntl.LOCK_EX)
                if self.path.exists():
                    return
                target = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o700)
                try:
                    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
                        parts = [pool.submit(_unpack_part, decompress, source, target, *part) for part in self._parts()]
                        for part in parts:
                            part.result()
                finally:
                    os.close(target)
                temp.replace(self.path)
            finally:
                os.close(source)
        except (OSError, ValueError, damage) as exc:
            hint = "free space in the temporary folder, or set TMPDIR to another one, and run it again."
            raise StorageError(f"{self.path}: cannot unpack: {exc}", hint=hint) from exc

    def _parts(self) -> Iterator[tuple[int, int, int, int]]:
        packed = plain = 0
        for size, plain_size in self.sizes:
            yield packed, size, plain, plain_size
            packed, plain = packed + size, plain + plain_size


def _decompressor(form: str) -> tuple[Callable[[bytes], bytes], type[Exception]]:
    """The function for one stream, and what it raises for a damaged one."""
    if form == "xz":
        import lzma

        return partial(lzma.decompress, format=lzma.FORMAT_XZ), lzma.LZMAError
    import zlib

    return zlib.decompress, zlib.error


def _unpack_part(
    decompress: Callable[[bytes], bytes],
    source: int,
    target: int,
    start: int,
    size: int,
    offset: int,
    plain_size: int,
) -> None:
    plain = decompress(os.pread(source, size, start))
    if len(plain) != plain_size:
        raise ValueError(f"a part has {len(plain)} bytes instead of {plain_size}")
    rest = memoryview(plain)
    while rest:
        done = os.pwrite(target, rest, offset)
        rest, offset = rest[done:], offset + done


class PackedLibraries:
    """Finds no module itself: it unpacks a library just before the module that loads it is searched."""

    def __init__(self, packed: dict[str, PackedLibrary]) -> None:
        self._packed = packed

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the signature is importlib's
        target: "ModuleType | None" = None,  # noqa: ARG002
    ) -> "ModuleSpec | None":
        """Unpack what the module `fullname` needs, and leave finding it to the others. Raises StorageError."""
        library = self._packed.pop(fullname, None)
        if library is not None:
            library.unpack()
            importlib.invalidate_caches()
        return None


def install(folder: Path) -> None:
    """Watch all imports from now on for the libraries that `folder`/packed.json lists."""
    try:
        packed = {
            str(entry["module"]): PackedLibrary(
                folder / entry["path"],
                str(entry["form"]),
                tuple((int(size), int(plain)) for size, plain in entry["sizes"]),
            )
            for entry in json.loads((folder / LIST).read_bytes())
        }
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise AirferryError(f"{folder / LIST}: {exc}", hint="the program was built wrongly, or is damaged.") from exc
    sys.meta_path.insert(0, PackedLibraries(packed))

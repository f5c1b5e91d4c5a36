"""Archives as charts are published in: their files, and a chart made of files."""

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from installer.errors import AirferryError
from installer.strict_yaml import load_yaml

MAX_UNPACKED = 64 << 20
MAX_MEMBERS = 20_000
_ANY = re.compile(".*", re.DOTALL)
_METADATA = re.compile(r"[^/]+/Chart\.yaml")


def unpacked(
    archive: bytes,
    source: str,
    error: type[AirferryError],
    wanted: re.Pattern[str] = _ANY,
    *,
    plain: bool = False,
) -> dict[str, bytes]:
    """The regular files of `archive` by name, those whose whole name fits `wanted`; a `plain` one is not compressed.

    Raises `error`, which names `source`, for what is no such archive.
    """
    found: dict[str, bytes] = {}
    try:
        with io.BytesIO(archive) if plain else gzip.open(io.BytesIO(archive)) as stream:
            raw = stream.read(MAX_UNPACKED + 1)
        if len(raw) > MAX_UNPACKED:
            raise error(f"{source}: more than {MAX_UNPACKED} bytes unpacked")
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as tar:
            for number, member in enumerate(tar):
                if number >= MAX_MEMBERS:
                    raise error(f"{source}: more than {MAX_MEMBERS} files")
                name = member.name.removeprefix("./")
                content = tar.extractfile(member) if member.isreg() and wanted.fullmatch(name) else None
                if content is not None:
                    found[name] = content.read()
    except (OSError, EOFError, zlib.error, tarfile.TarError) as exc:
        raise error(f"{source}: no archive that can be unpacked: {exc}", hint="fetch it again.") from exc
    return found


def stated(archive: bytes, source: str, error: type[AirferryError]) -> tuple[Any, Any] | None:
    """Name and version in Chart.yaml, as far as plain YAML says them; None where only Helm can tell what it reads.

    It takes any folder for the chart's, and the files in it one over the other (pkg/chart/loader/archive).
    """
    files = list(unpacked(archive, source, error, _METADATA).values())
    document = load_yaml(files[0], source, error) if len(files) == 1 else None
    return (document.get("name"), document.get("version")) if isinstance(document, dict) else None


def packed(files: Mapping[str, bytes], *, level: int) -> bytes:
    """A chart of `files`, compressed with gzip's `level`; the same input gives the same bytes."""
    # Helm takes the chart's name from the first member.
    names = sorted(files, key=lambda name: (name.count("/"), name))
    members = b"".join([_member(name, files[name]) for name in names]) + bytes(2 * tarfile.BLOCKSIZE)
    return gzip.compress(members + bytes(-len(members) % tarfile.RECORDSIZE), compresslevel=level, mtime=0)


@lru_cache(maxsize=4096)
def _member(name: str, data: bytes) -> bytes:
    """A file in a tar. Charts are packed again and again with nearly the same files."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    return info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)

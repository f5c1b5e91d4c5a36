"""Libraries that are unpacked when their module is imported."""

import importlib
import json
import lzma
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from installer.errors import AirferryError, StorageError
from installer.frozen import compressed_libs

COMPRESS: dict[str, Callable[[bytes], bytes]] = {"xz": lzma.compress, "zlib": zlib.compress}
PARTS = (os.urandom(100_000), b"", b"second " * 50_000, b"x")


@pytest.fixture(params=["xz", "zlib"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path, form: str) -> Path:
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "__init__.py").write_text("")
    streams = [COMPRESS[form](part) for part in PARTS]
    (tmp_path / "late" / f"native.py.{form}").write_bytes(b"".join(streams))
    sizes = [[len(stream), len(part)] for stream, part in zip(streams, PARTS, strict=True)]
    (tmp_path / compressed_libs.LIST).write_text(
        json.dumps([{"module": "late.native", "path": "late/native.py", "form": form, "sizes": sizes}])
    )
    return tmp_path


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.syspath_prepend(folder)
    yield
    for name in [name for name in sys.modules if name.startswith("late")]:
        del sys.modules[name]


@pytest.mark.usefixtures("imports")
def test_a_library_appears_when_its_module_is_imported(folder: Path, form: str) -> None:
    source = "VALUE = 42\n"
    stream = COMPRESS[form](source.encode())
    (folder / "late" / f"native.py.{form}").write_bytes(stream)
    entry = {"module": "late.native", "path": "late/native.py", "form": form, "sizes": [[len(stream), len(source)]]}
    (folder / compressed_libs.LIST).write_text(json.dumps([entry]))
    compressed_libs.install(folder)
    importlib.import_module("late")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("late.other")  # the listing of the folder is now known without the library
    assert not (folder / "late" / "native.py").exists()
    assert importlib.import_module("late.native").VALUE == 42


def library(folder: Path) -> compressed_libs.PackedLibrary:
    (entry,) = json.loads((folder / compressed_libs.LIST).read_text())
    return compressed_libs.PackedLibrary(folder / entry["path"], entry["form"], tuple(map(tuple, entry["sizes"])))


def test_parts_come_together_in_their_order(folder: Path, form: str) -> None:
    library(folder).unpack()
    assert (folder / "late" / "native.py").read_bytes() == b"".join(PARTS)
    assert (folder / "late" / "native.py").stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in (folder / "late").iterdir()) == [
        "__init__.py",
        "native.py",
        f"native.py.{form}",
    ]


def test_what_another_process_has_unpacked_stays(folder: Path) -> None:
    found = library(folder)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(found.unpack) for _ in range(2)]:
            done.result()
    before = found.path.stat().st_ino
    found.unpack()
    assert found.path.stat().st_ino == before
    assert found.path.read_bytes() == b"".join(PARTS)


@pytest.mark.parametrize("damage", ["flip", "cut", "size", "gone"])
def test_a_damaged_library_is_an_error_with_the_next_step(folder: Path, form: str, damage: str) -> None:
    path = folder / "late" / f"native.py.{form}"
    raw = bytearray(path.read_bytes())
    found = library(folder)
    match damage:
        case "flip":
            raw[50_000] ^= 1
            path.write_bytes(raw)
        case "cut":
            path.write_bytes(raw[:-4])
        case "size":
            found = compressed_libs.PackedLibrary(found.path, form, (*found.sizes[:-1], (found.sizes[-1][0], 2)))
        case _:
            path.unlink()
    with pytest.raises(StorageError, match="cannot unpack") as caught:
        found.unpack()
    assert "TMPDIR" in caught.value.hint
    assert not found.path.exists()


@pytest.mark.parametrize("text", ["", "{}}", '[{"module": "a"}]', '[{"module": "a", "path": "b", "sizes": [1]}]'])
def test_a_bad_list_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / compressed_libs.LIST).write_text(text)
    with pytest.raises(AirferryError, match=r"packed\.json"):
        compressed_libs.install(tmp_path)

"""Files that travel along: listed, taken out whole, served."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from installer.bundle.limits import CHUNK
from installer.errors import BundleError, NothingHereError, UsageError
from installer.report import Silent
from installer.serving.answer import Answer, Refusal
from installer.serving.catalogue import Catalogue
from installer.transfer.extract import extract, files_of
from tests.parts.bundles import open_bundle, reference_cargo, signing_key

if TYPE_CHECKING:
    from pathlib import Path

LARGE = bytes(range(256)) * (CHUNK // 128)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    cargo = reference_cargo(tmp_path)
    cargo.document("handbook.pdf", LARGE, "file")
    cargo.document("tool.sh", b"echo tool\n", "file")
    (path,) = cargo.write(tmp_path, key=signing_key())
    return path


def test_files_are_taken_out_whole_all_or_some(volume: Path, tmp_path: Path) -> None:
    with open_bundle([volume]) as bundle:
        assert [item.name for item in files_of(bundle.manifest)] == ["handbook.pdf", "tool.sh"]
        assert len(list(extract(bundle, (), tmp_path / "all", Silent()))) == 2
        assert (tmp_path / "all" / "handbook.pdf").read_bytes() == LARGE
        assert list(extract(bundle, ["tool.sh"], tmp_path / "some", Silent())) == [tmp_path / "some" / "tool.sh"]
        with pytest.raises(UsageError, match="there already"):
            list(extract(bundle, (), tmp_path / "some", Silent()))
        assert len(list(extract(bundle, (), tmp_path / "some", Silent(), replace=True))) == 2
        with pytest.raises(NothingHereError, match=r"no file values\.yaml"):
            list(extract(bundle, ["values.yaml"], tmp_path / "none", Silent()))
        assert not (tmp_path / "none").exists()


def test_a_damaged_file_is_not_left_half_written(volume: Path, tmp_path: Path) -> None:
    raw = bytearray(volume.read_bytes())
    place = raw.index(LARGE[:4096]) + CHUNK + 7
    raw[place] ^= 1
    volume.write_bytes(raw)
    with open_bundle([volume]) as bundle:
        with pytest.raises(BundleError):
            list(extract(bundle, ["handbook.pdf"], tmp_path / "out", Silent()))
        assert list((tmp_path / "out").iterdir()) == []


def test_files_are_served(volume: Path) -> None:
    with open_bundle([volume]) as bundle:
        catalogue = Catalogue(bundle, Silent())
        answer = catalogue.find("/files/handbook.pdf")
        assert isinstance(answer, Answer)
        assert answer.size == len(LARGE)
        assert isinstance(catalogue.find("/files/values.yaml"), Refusal)

"""Local files on file systems that cannot do everything."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import pytest

from installer.errors import StorageError
from installer.files import is_folder, look_at, write_atomic

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EIO])
def test_folders_that_cannot_be_synchronized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    real = os.fsync

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(code, os.strerror(code))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    if code == errno.EINVAL:
        write_atomic(tmp_path / "file", b"data")
    else:
        with pytest.raises(StorageError):
            write_atomic(tmp_path / "file", b"data")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"data"]


def test_what_is_somewhere(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert look_at(tmp_path / "file") is not None
    assert look_at(tmp_path / "absent") is look_at(tmp_path / "file" / "below") is None
    assert [is_folder(tmp_path / name) for name in (".", "file", "absent")] == [True, False, False]
    with pytest.raises(StorageError, match="cannot look at it: File name too long"):
        look_at(tmp_path / ("x" * 300))

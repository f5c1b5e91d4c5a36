"""When the enclave program is built anew."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from builder.release.program import check_tools, program_key
from installer.errors import UsageError
from tests.parts.programs import ROOT


def test_the_folder_that_it_is_called_from_is_no_reason(tmp_path: Path) -> None:
    """In some a distribution is found twice, such as in that of the sources."""
    (tmp_path / "elsewhere").mkdir()
    found = tmp_path / "twice" / "airferry-0.1.0.dist-info"
    found.mkdir(parents=True)
    metadata = next(path for path in Path(sys.prefix).rglob("airferry-*.dist-info")) / "METADATA"
    (found / "METADATA").write_bytes(metadata.read_bytes())
    keys = {
        subprocess.run(
            [sys.executable, "-c", "from builder.release.program import program_key; print(program_key())"],
            cwd=folder,
            env={"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout.strip()
        for folder in (ROOT, tmp_path / "elsewhere", tmp_path / "twice")
    }
    assert keys == {program_key()}


def test_everything_that_is_missing_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    # As Debian's: it says that there is a shared library, which is in a package that is not installed.
    monkeypatch.setitem(sysconfig.get_config_vars(), "LIBDIR", str(tmp_path))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    with pytest.raises(UsageError) as caught:
        check_tools()
    names = f"binutils libc-bin libpython{sys.version_info.major}.{sys.version_info.minor}"
    assert (caught.value.exit_code, caught.value.hint) == (2, f"apt-get install {names}")


def test_nothing_is_missing_here() -> None:
    check_tools()

"""When the enclave program is built anew."""

import subprocess
import sys
from pathlib import Path

from builder.release.program import program_key
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

"""What a killed benchmark leaves is removed by the next one, and what another one uses is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.bench.workspace import workspace

ROOT = Path(__file__).parents[2]
_HOLD = """
import pathlib, sys, time
from tests.bench.workspace import workspace
with workspace(pathlib.Path(sys.argv[1])) as folder:
    (folder / "data").touch()
    print(folder, flush=True)
    time.sleep(60)
"""


def test_a_killed_benchmark_leaves_nothing_for_long(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as other:
        assert other.stdout
        folder = Path(other.stdout.readline().strip())
        with workspace(tmp_path) as own:
            assert {folder, own} == set(tmp_path.iterdir())
            assert (folder / "data").exists()
        other.kill()
    with workspace(tmp_path) as own:
        assert [own] == list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())

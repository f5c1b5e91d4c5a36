"""What others build of the sources: complete, and leaving nothing behind."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("builder", "installer", "templates")
BESIDE = ("CHANGELOG.md", "LICENSE", "Makefile", "README.md", "constraints.txt", "docs", "pyproject.toml", "tests")


def listed(*folders: str) -> set[str]:
    """The files of the project in these folders."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *folders],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).exists()}


def test_wheel_and_source_archive_hold_every_file(tmp_path: Path) -> None:
    before = {path.name for path in ROOT.iterdir()}
    subprocess.run([sys.executable, "-m", "hatchling", "build", "--directory", tmp_path], cwd=ROOT, check=True)
    assert {path.name for path in ROOT.iterdir()} == before
    [wheel], [source] = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == listed(*PACKAGES)
    with tarfile.open(source) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert packed - {"PKG-INFO", ".gitignore"} == listed(*PACKAGES, *BESIDE)

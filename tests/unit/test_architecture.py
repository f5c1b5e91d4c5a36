"""Who may import whom, who may touch the outside, and that the packages are ours."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import builder
import installer

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
CORE = {"installer.errors", "installer.files", "installer.parallel", "installer.report"}
# The bare package holds its version and nothing else.
SHARED = CORE | {"installer", "installer.oci", "installer.bundle", "installer.chart"}
MATRIX = {
    # What is shared between both sides, from the ground up.
    "installer.errors": set[str](),
    "installer.report": set[str](),
    "installer.files": {"installer.errors"},
    "installer.parallel": {"installer.errors"},
    "installer.schema": {"installer.errors"},
    "installer.oci": CORE,
    "installer.bundle": CORE | {"installer.oci"},
    "installer.chart": CORE | {"installer.oci", "installer.bundle"},
    "installer.shell": CORE | {"installer.oci"},
    # The connected side: what is shared, and nothing of the workflows inside an enclave.
    "builder": SHARED | {"installer.schema", "installer.shell", "builder", "templates"},
}
"""Unit → units whose modules it may import. Modules of `installer` that are no key may import all of `installer`."""

COMMAND_LINE = {
    "builder.cli",
    "builder.cli_build",
    "builder.cli_bundle",
    "builder.cli_places",
    "builder.cli_recipe",
    "installer.cli",
    "installer.cli_cluster",
    "installer.cli_options",
    "installer.loading",
    "installer.shell",
}
ONLY_IMPORTERS = {
    "docker": {"builder.engine"},
    "requests": {"builder.engine"},
    "PyInstaller": set[str](),
    "helm_python": {"installer.chart.helm", "installer.chart.releases"},
    "lightkube": {"installer.kube"},
    "urllib3": {"installer.oci.transport", "installer.oci.failures"},
    "tqdm": {"installer.report"},
    "click": COMMAND_LINE,
    "blake3": {"installer.bundle.reader", "installer.bundle.writer"},
    "cryptography": {"builder.sign", "installer.bundle.signature", "installer.certificates", "installer.oci.trust"},
}
READS_THE_ENVIRONMENT = COMMAND_LINE | {"installer.__main__", "installer.program"}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in ("builder", "installer"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            yield name, ast.parse(path.read_text())


def imported(tree: ast.Module) -> Iterator[str]:
    """The modules that a module names in its imports, wherever they stand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "installer":
            # `from installer import kube` names a module, `from installer import __version__` does not.
            yield from (f"installer.{alias.name}" for alias in node.names if not alias.name.startswith("_"))
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def unit(module: str) -> str:
    """`installer.oci.digest` → `installer.oci`, `builder.lock` → `builder`."""
    parts = module.split(".")
    return parts[0] if parts[0] != "installer" else ".".join(parts[:2])


def test_units_import_only_what_the_matrix_allows() -> None:
    found = []
    for name, tree in modules():
        own = unit(name)
        for other in {unit(module) for module in imported(tree)}:
            ours = other.partition(".")[0] in ("builder", "installer", "tests", "templates")
            allowed = MATRIX.get(own)
            fine = other == own or (other in allowed if allowed is not None else other.startswith("installer"))
            if ours and not fine:
                found.append(f"{name} imports {other}")
    assert found == []


@pytest.mark.parametrize("library", ONLY_IMPORTERS)
def test_a_library_is_imported_by_its_modules_alone(library: str) -> None:
    importers = {name for name, tree in modules() if library in {module.partition(".")[0] for module in imported(tree)}}
    assert importers <= ONLY_IMPORTERS[library]


def test_only_the_command_line_reads_the_environment() -> None:
    readers = {
        name
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        and node.attr in ("environ", "getenv", "environb")
    }
    assert readers <= READS_THE_ENVIRONMENT


def test_only_the_command_line_prints() -> None:
    printers = {
        name
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printers <= {"installer.shell", "installer.report"}


def test_the_packages_are_ours_and_not_those_of_the_index() -> None:
    for package in (builder, installer):
        assert Path(str(package.__file__)).is_relative_to(ROOT)


HEAVY = ("docker", "requests", "helm_python", "lightkube", "PyInstaller", "tqdm", "builder")


def test_a_start_loads_no_library_that_it_does_not_need() -> None:
    """Start-up time of the frozen program, and its surface: what is not loaded cannot go wrong."""
    script = f"import sys, installer.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"

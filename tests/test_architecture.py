"""Who may import whom, and who may touch the outside world: the tables are the rule, the tests read the sources."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import installer

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]

GROUPS: dict[str, str] = {
    "errors": "installer.errors",
    "value": "installer.value",
    "report": "installer.report installer.page",
    "files": "installer.files installer.device",
    "parallel": "installer.parallel installer.buffers",
    "documents": "installer.strict_json installer.strict_yaml installer.schema",
    "oci": "installer.oci.*",
    "registry": "installer.registry.*",
    "bundle": "installer.bundle.*",
    "chart": "installer.chart.*",
    "moving": "installer.moving.*",
    "verify": "installer.verify.*",
    "floor": "installer.floor.*",
    "frozen": "installer.frozen.*",
    "opening": "installer.opening.*",
    "shell": "installer.shell installer.commands",
    "transfer": "installer.transfer.*",
    "serving": "installer.serving.*",
    "cluster": "installer.cluster.*",
    "diagnosis": "installer.diagnosis.*",
    "site": "installer.site.*",
    "apps": "installer.apps installer.apps.profile installer.apps.questions installer.apps.question_model "
    "installer.apps.samples installer.apps.application",
    "wandb_answers": "installer.apps.wandb.application installer.apps.wandb.site.*",
    "wandb_v2_answers": "installer.apps.wandb_v2.application installer.apps.wandb_v2.answers "
    "installer.apps.wandb_v2.connections installer.apps.wandb_v2.samples",
    "objects": "installer.objects.*",
    "preflight": "installer.preflight.*",
    "workflows": "installer.workflows.*",
    "wandb": "installer.apps.wandb.*",
    "wandb_v2": "installer.apps.wandb_v2.*",
    "target": "installer.cli.target",
    "installer_cli": "installer.__main__ installer.cli.*",
    "templates": "templates",
    "recipe": "builder.recipe.*",
    "images": "builder.images.*",
    "charts": "builder.charts.*",
    "assemble": "builder.assemble.*",
    "rehearse": "builder.rehearse.*",
    "resolve": "builder.resolve.*",
    "observe": "builder.observe.*",
    "release": "builder.release.*",
    "builder_cli": "builder.__main__ builder.cli.*",
}
"""Every module belongs to one group, the first that fits; a name with a star means all modules of that package."""

MATRIX: dict[str, str] = {
    "errors": "",
    "value": "",
    "report": "value",
    "files": "errors value",
    "parallel": "errors",
    "documents": "errors",
    "oci": "errors value report files documents",
    "registry": "errors value report files parallel documents oci",
    "bundle": "errors value report files parallel oci",
    "chart": "errors value files documents oci bundle",
    "moving": "errors value oci chart",
    "verify": "errors value report files parallel documents oci bundle chart",
    "floor": "errors value files oci registry bundle",
    "frozen": "errors value files bundle",
    "opening": "errors value report files oci bundle frozen",
    "shell": "errors value report files registry frozen",
    "transfer": "errors value report files parallel documents oci registry chart bundle floor",
    "serving": "errors value report parallel oci registry chart bundle transfer",
    "cluster": "errors value report files documents registry chart",
    "diagnosis": "errors value report oci chart cluster",
    "site": "errors value files documents oci registry chart",
    "apps": "errors value documents oci chart bundle site",
    "wandb_answers": "errors value documents chart site apps",
    "wandb_v2_answers": "errors value documents chart site apps wandb_answers",
    "objects": "errors value report files documents oci registry chart moving bundle cluster diagnosis site apps",
    "preflight": "errors value report oci registry chart bundle transfer cluster diagnosis site objects",
    "workflows": "errors value report files documents oci registry chart bundle floor cluster diagnosis site apps "
    "objects preflight",
    "wandb": "errors value report documents oci registry chart bundle cluster diagnosis site wandb_answers objects "
    "preflight workflows",
    "wandb_v2": "errors oci chart cluster diagnosis apps wandb_v2_answers objects workflows",
    "target": "errors files frozen shell chart cluster",
    "installer_cli": "errors value report files parallel documents oci registry chart bundle floor verify frozen "
    "opening shell transfer serving cluster diagnosis site apps objects preflight workflows target",
    "templates": "",
    "recipe": "errors value report files documents oci registry chart moving bundle apps",
    "images": "errors value report files parallel documents oci registry chart bundle opening recipe",
    "charts": "errors value report files parallel documents oci registry chart apps recipe images",
    "assemble": "errors value report files parallel documents oci registry chart bundle verify transfer recipe images",
    "rehearse": "errors value oci chart moving bundle cluster site apps objects preflight workflows recipe images "
    "charts assemble",
    "resolve": "errors value report files parallel documents oci registry chart bundle site apps recipe images "
    "charts assemble rehearse",
    "observe": "errors value report oci chart cluster apps recipe",
    "release": "errors value report files parallel oci bundle verify frozen",
    "builder_cli": "errors value report files parallel documents oci registry chart bundle verify frozen opening shell "
    "transfer site apps target recipe images charts assemble rehearse resolve observe release",
}
"""Which groups a group may import besides itself; each stands after all that it imports, so there are no circles.

`installer` never imports `builder`. `builder` reads a site's answers and what a profile makes of them, which are data,
so that `airferry list --site` merges them into the values as the installer will; `rehearse` works out what would stand
in a cluster, without one; `observe` looks at a staging cluster and changes nothing there. Nobody imports what belongs
to one application: the loader finds it by its name.
"""

LIBRARIES: dict[str, str] = {
    "backports": "builder.images.compression",
    "blake3": "builder.release.media_copy installer.bundle.part_files installer.bundle.reader",
    "click": "builder.cli.* installer.cli.* installer.commands installer.shell",
    "cryptography": "builder.release.sign installer.bundle.signature installer.registry.trust "
    "installer.site.certificates",
    "docker": "builder.images.engine",
    "helm_python": "installer.chart.releases installer.chart.rendering_child",
    "msgspec": "installer.bundle.canonical installer.cluster.api_server installer.cluster.channel installer.value",
    "par2": "installer.verify.par2",
    "pydantic": (
        "builder.recipe.recipe installer.apps.profile installer.apps.question_model installer.apps.questions "
        "installer.apps.wandb.site.* installer.apps.wandb_v2.answers installer.schema installer.site.*"
    ),
    "pydantic_core": "installer.apps.question_model",
    "requests": "builder.images.engine",
    "segno": "installer.cli.requesting",
    "staticx": "builder.release.static_wrapper",
    "tqdm": "installer.report",
    "urllib3": (
        "installer.cluster.api_server installer.cluster.channel installer.cluster.endpoint installer.cluster.failures "
        "installer.registry.connections installer.registry.failures installer.registry.messages"
    ),
    "yaml": "installer.objects.render installer.strict_yaml",
    # Of the standard library: what starts processes, and what listens.
    "subprocess": (
        "builder.release.program installer.chart.rendering_process installer.verify.par2 installer.cluster.endpoint "
        "installer.registry.credentials installer.transfer.containerd"
    ),
    "http.server": "installer.serving.server",
}
"""The only importers of each library; one that is not listed has none. A star means modules of that package."""

APPLICATIONS: dict[str, tuple[str, str]] = {
    "W&B": (
        "installer/apps/wandb installer/apps/wandb_v2 templates/wandb templates/wandb-v2",
        r"wandb|w&b|weights\s*(and|&)\s*biases",
    ),
}
"""Applications that have code of their own: their folders, and the words that only those may hold."""

ENVIRONMENT = "installer.shell installer.__main__"
"""Readers of the process's environment; all others are given what they need."""
CLOCK = "installer.shell installer.__main__"
"""Callers of clocks and `sleep`. Others take a clock as an argument, whose default may be a real one."""
WRITERS: dict[str, str] = {
    "installer.files": "what appears whole or not at all: small files, the frozen file, patches",
    "installer.bundle.part_files": "volumes, each blob in its final place",
    "installer.registry.upload_sessions": "addresses of uploads that a later process goes on with",
    "installer.frozen.compressed_libs": "libraries of the frozen program, in its own temporary folder",
    "installer.frozen.program": "the mark in that folder, and the null device",
    "installer.shell": "the null device",
    "builder.release.sign": "the signature slots of a volume",
    "builder.release.media_copy": "copies on the carrier's media",
    "builder.release.program": "the cache of programs",
    "builder.release.static_wrapper": "the program in that cache",
    "builder.images.docker_archive": "an archive that is compressed, unpacked into a file without a name",
    "builder.images.engine": "images saved by the local engine, in a temporary folder",
}
"""Who opens files for writing, and which."""


@cache
def modules() -> dict[str, ast.Module]:
    """The sources by the name of their module."""
    found = {}
    for package in ("builder", "installer", "templates"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found[name] = ast.parse(path.read_text(), str(path))
    return found


def group_of(module: str) -> str:
    """The group that a module belongs to. Raises LookupError for a module without one."""
    for group, members in GROUPS.items():
        for member in members.split():
            if module == member or (member.endswith(".*") and f"{module}.".startswith(member[:-1])):
                return group
    raise LookupError(f"{module} belongs to no group: put it into one")


def imported(tree: ast.Module) -> Iterator[str]:
    """Full names of the modules that a module imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            assert node.module
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in modules() or full == "http.server" else node.module


@pytest.mark.parametrize("module", [name for name in modules() if name not in ("installer", "builder", "templates")])
def test_a_module_imports_only_what_its_group_may(module: str) -> None:
    group = group_of(module)
    # The package `installer` itself holds the version and nothing else.
    own = {name for name in imported(modules()[module]) if name.split(".")[0] in ("builder", "installer", "templates")}
    used = {group_of(name) for name in own - {"installer", "builder", "templates"}}
    assert used <= {group, *MATRIX[group].split()}


def test_the_matrix_has_no_circles() -> None:
    groups = list(MATRIX)
    assert groups == list(GROUPS)
    for number, group in enumerate(groups):
        assert set(MATRIX[group].split()) <= set(groups[:number])


def test_modules_have_no_circles() -> None:
    """Counted with imports inside functions and under TYPE_CHECKING: a type is a dependency, too."""
    arrows = {name: set(imported(tree)) & modules().keys() - {name} for name, tree in modules().items()}
    # What imports nothing that is left cannot be in a circle, and neither can what is imported by nothing that is left.
    while loose := {name for name, used in arrows.items() if not used} | arrows.keys() - set().union(*arrows.values()):
        arrows = {name: used - loose for name, used in arrows.items() if name not in loose}
    assert arrows == {}


MOST_LINES, MOST_MODULES = 400, 15


def test_modules_and_folders_are_small() -> None:
    """A module that is read in one sitting, a folder that is seen at a glance."""
    paths = [path for package in ("builder", "installer", "templates") for path in (ROOT / package).rglob("*.py")]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}
    assert [name for name, path in names.items() if len(path.read_text().splitlines()) > MOST_LINES] == []
    folders = Counter(name.rpartition(".")[0] for name in names if not name.endswith("__init__"))
    assert [folder for folder, count in folders.items() if count > MOST_MODULES] == []


def test_the_enclave_side_never_imports_the_connected_side() -> None:
    for name, tree in modules().items():
        if name.startswith("installer"):
            assert not [found for found in imported(tree) if found.split(".")[0] in ("builder", "tests", "templates")]


@pytest.mark.parametrize("application", APPLICATIONS)
def test_an_application_stays_in_its_rooms(application: str) -> None:
    """What is general knows no application: no import, no word of it, in code or comments or for users."""
    rooms, words = APPLICATIONS[application]
    named = re.compile(words, re.IGNORECASE)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "installer", "builder"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    names = {Path(name) for name in listed.stdout.split("\0") if name}
    general = [name for name in names if not any(name.is_relative_to(room) for room in rooms.split())]
    assert len(names) > len(general) > 100
    found = [
        f"{name}:{number}: {line}"
        for name in sorted(general)
        if (ROOT / name).is_file()
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1)
        if named.search(line)
    ]
    assert found == []


def test_libraries_have_few_importers() -> None:
    found: dict[str, set[str]] = {}
    for name, tree in modules().items():
        for full in imported(tree):
            top = full if full in LIBRARIES else full.split(".")[0]
            ours = top in ("builder", "installer", "templates")
            if not ours and (top in LIBRARIES or top not in sys.stdlib_module_names):
                listed = LIBRARIES.get(top, "").split()
                star = next((each for each in listed if each.endswith("*") and name.startswith(each[:-1])), name)
                found.setdefault(top, set()).add(star)
    assert found == {library: set(importers.split()) for library, importers in LIBRARIES.items()}


def test_the_imported_installer_is_ours() -> None:
    """A package of that name is in the public index; it must not be in the way."""
    assert Path(installer.__file__).parent == ROOT / "installer"
    found = subprocess.run([sys.executable, "-m", "pip", "show", "installer"], capture_output=True, text=True)
    assert found.returncode == 1, "remove the foreign package: pip uninstall installer"


def dotted(node: ast.AST) -> str:
    """`a.b.c` for an attribute of a name, else an empty text."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (left := dotted(node.value)):
        return f"{left}.{node.attr}"
    return ""


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """All calls, with the dotted name of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield dotted(node.func) or (node.func.attr if isinstance(node.func, ast.Attribute) else ""), node


def test_the_environment_is_read_in_one_place() -> None:
    names = ("os.environ", "os.environb", "os.getenv", "os.putenv")
    readers = {
        name for name, tree in modules().items() if any(dotted(node).startswith(names) for node in ast.walk(tree))
    }
    assert readers == set(ENVIRONMENT.split())


def test_clocks_are_read_in_one_place() -> None:
    forbidden = {
        "time": {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "sleep", "localtime", "gmtime"},
        "datetime": {"now", "utcnow", "today"},
        "date": {"today"},
    }

    def reads(name: str) -> bool:
        left, _, right = name.rpartition(".")
        return right in forbidden.get(left.rpartition(".")[2], set())

    readers = {name for name, tree in modules().items() if any(reads(called) for called, _ in calls(tree))}
    assert readers == set(CLOCK.split())


def writes(name: str, call: ast.Call) -> bool:
    """Whether a call opens a file for writing."""
    last = name.rpartition(".")[2]
    if name.startswith("formatter."):  # of click, for help
        return False
    if last in ("write_text", "write_bytes", "touch", "mkstemp", "NamedTemporaryFile", "TemporaryFile"):
        return True
    if name == "os.open":
        flags = {node.attr for argument in call.args for node in ast.walk(argument) if isinstance(node, ast.Attribute)}
        return bool(flags & {"O_WRONLY", "O_RDWR", "O_CREAT"})
    if last not in ("open", "fdopen") or any(word.arg == "fileobj" for word in call.keywords):
        return False
    modes = [item for item in [*call.args, *(word.value for word in call.keywords)] if isinstance(item, ast.Constant)]
    return any(
        isinstance(mode.value, str) and set(mode.value) <= set("rwaxbt+") and set(mode.value) & set("wax+")
        for mode in modes
    )


def test_files_are_written_by_few() -> None:
    found = {name for name, tree in modules().items() if any(writes(called, call) for called, call in calls(tree))}
    assert found == set(WRITERS)


def test_only_the_shell_and_the_reporter_print() -> None:
    printers = {name for name, tree in modules().items() if any(called == "print" for called, _ in calls(tree))}
    assert printers == {"installer.shell", "installer.report"}


_WITH_CLUSTER = "docker helm_python par2 requests segno tqdm cryptography"
_ALWAYS = "docker helm_python par2 pydantic requests segno tqdm yaml"
_WITH_NETWORK = f"{_ALWAYS} cryptography.x509 cryptography.hazmat.primitives.serialization"
_WITHOUT_NETWORK = f"{_WITH_NETWORK} cryptography email ssl subprocess tarfile urllib3"


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("installer.cli.main", f"builder msgspec {_WITHOUT_NETWORK}"),
        ("installer.cli.bundle.inspect", f"builder {_WITHOUT_NETWORK}"),
        ("installer.cli.bundle.verify", f"builder {_WITHOUT_NETWORK}"),
        ("installer.cli.bundle.explain", f"builder {_WITHOUT_NETWORK}"),
        ("installer.cli.bundle.template", f"builder {_WITHOUT_NETWORK}"),
        ("installer.cli.registry.load", f"builder {_WITH_NETWORK}"),
        ("installer.cli.registry.node_import", f"builder {_WITH_NETWORK}"),
        ("installer.cli.registry.serve", f"builder {_WITH_CLUSTER} pydantic"),
        ("installer.cli.cluster.render", f"builder {_WITH_CLUSTER}"),
        ("installer.cli.cluster.status", f"builder {_WITH_CLUSTER}"),
        ("installer.cli.cluster.install", f"builder {_WITH_CLUSTER}"),
        ("builder.cli.main", f"msgspec {_WITHOUT_NETWORK}"),
        ("builder.cli.recipe.build", _WITH_NETWORK),
        ("builder.cli.recipe.plan", _WITHOUT_NETWORK),
        ("builder.cli.recipe.observe", _WITH_CLUSTER),
        (
            "builder.cli.bundle.inspect",
            f"{_ALWAYS} cryptography.x509 ssl subprocess urllib3",
        ),
    ],
    ids=lambda value: value if value.startswith(("installer.", "builder.")) else "",
)
def test_a_command_loads_no_library_that_it_does_not_need(modules: str, heavy: str) -> None:
    """Start-up time, and the surface of the frozen program: what is not loaded cannot go wrong."""
    script = f"import sys, {modules.replace(' ', ', ')}; print([x for x in {heavy.split()!r} if x in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_no_module_imports_a_test_module() -> None:
    """What several of them need stands in `tests/parts` or a conftest."""
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [getattr(node, "module", ""), *(alias.name for alias in node.names)]
                assert not re.search(r"\btest_", " ".join(names)), f"{path}, line {node.lineno}"


def test_modules_are_named_after_what_they_hold() -> None:
    vague = {"util", "utils", "helper", "helpers", "common", "misc", "shared", "tools", "base", "core", "lib"}
    paths = [path for package in ("builder", "installer", "tests") for path in (ROOT / package).rglob("*.py")]
    assert not [path for path in paths if vague & set(path.relative_to(ROOT).with_suffix("").parts)]


def test_the_project_speaks_of_itself_only() -> None:
    """No trace of the machine that it was written on, nor of where packages come from: users have their own."""
    folders = ["/".join(("", *parts)) for parts in (("work", ""), ("tmp", "af", ""))]
    names = (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("proxy", "golang", "org"))
    hosts = [".".join(parts) for parts in names]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for path in (ROOT / name for name in listed.split("\0") if name):
        if path.is_file():
            text = path.read_bytes().decode("utf-8", "replace")
            assert not [word for word in folders + hosts if word in text], path

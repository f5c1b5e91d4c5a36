"""The page of odd images in real registries: `python -m tests.registries_matrix FILE`, as root, for containerd.

Exit code 1, and no page, if there is a cell where a peer can and airferry cannot, and nobody has argued why, or an
argument that no cell needs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.page import table
from tests.parts.containerd import Containerd
from tests.parts.go_programs import CONTAINERD, GITEA, PACKAGES, containerd
from tests.parts.odd_images import odd_images
from tests.parts.registry_kinds import FURTHER, REGISTRIES
from tests.parts.registry_matrix import AIRFERRY, ARGUED, Matrix, needless, pair, unargued

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.parts.registry_matrix import Cell, Step

CARRIERS = (AIRFERRY, "skopeo", "crane", "containerd")
KINDS = (*REGISTRIES, *FURTHER)
NODES = ("debian", "newer")
_HEAD = """\
# Odd images in real registries

Images of the kinds that people really publish, each in five registries, taken out of it and brought into another one
of its kind: by airferry, and beside it by skopeo, crane and containerd's `ctr`. A cell names who could. Success is not
what a program says of itself: what arrived is read by a reader that shares no code with airferry, and each part
compared with its digest. *Refused* is an image that the registry does not take from the barest of clients, with the
status that it gives.

airferry was called as people call it: `lock`, `build`, `sign`, then `load`, `serve` and `import`. skopeo copied with
`--preserve-digests` to a folder (`dir:`) and back, crane with `pull --format oci` and `push`, `ctr` with `content
fetch` and `images push`; of an image marked *whole* all platforms were asked for, else linux/amd64.

"""
_INSIDE = """\
A bundle was built {built} times above. But for the recipe in it, it is the same byte for byte whichever registry its
image comes from; so each of the {different} different ones is served and imported once. *Read by* names who reads from
`serve` what airferry carries; a peer that could not read it from the registry itself is no witness. *On a node* are
airferry's `import` and containerd's own `images pull`, with Debian's containerd and a newer one.

"""
_ARGUED = """\
Where another can and airferry cannot, there is a reason. `python -m tests.registries_matrix` ends with an error where
there is none, and so does `make test`, for the registries that are built in seconds.

"""
_NOT_TRIED = (
    ("zot, olareg", "Go's module proxy does not have them"),
    ("Harbor", "nor its core; its registry is distribution, and what it adds is played by `SmallHarbor` in our tests"),
    ("GitLab's registry", "nor this one, which grew out of distribution"),
    ("Forgejo", "an old version only; its registry is that of Gitea"),
    ("Quay, Nexus, Artifactory", "are published as images and installers, and in no package registry"),
    ("Pulp", "needs PostgreSQL, and answers the push of a manifest after seconds: this page would take an hour"),
)


def tried(kinds: Iterable[str] = KINDS) -> list[Cell]:
    """All cells, told on standard error as they come about."""
    found: list[Cell] = []
    with (
        tempfile.TemporaryDirectory(prefix="mx-") as name,
        Containerd(Path(name, "debian")) as debian,
        Containerd(Path(name, "newer"), containerd()) as newer,
    ):
        matrix = Matrix(Path(name), [debian, newer])
        for kind in kinds:
            with pair(kind, Path(name)) as two:
                for odd in odd_images():
                    row = list(matrix.row(two, odd))
                    told = "; ".join(f"{cell.step} {_told(cell)}" for cell in row)
                    print(f"{kind} {odd.name}: {told}", file=sys.stderr)
                    found += row
    return found


def page(cells: Sequence[Cell]) -> str:
    """The page, in Markdown."""
    parts = [
        _HEAD,
        f"{_score(cells)}\n",
        f"\n## Registries\n\n{_registries()}",
        f"\n## Out of a registry\n\n{_grid(cells, 'build')}\n",
        f"\n## Into a registry\n\n{_grid(cells, 'load')}\n",
        f"\n## Served, and on a node\n\n{_INSIDE.format(**_bundles(cells))}{_inside(cells)}\n",
        f"\n## Where airferry stands back\n\n{_ARGUED}{_arguments()}\n",
    ]
    return "".join(parts)


def _told(cell: Cell) -> str:
    """A cell in a few words."""
    if cell.refused:
        return f"refused ({cell.refused.partition(':')[0]})"
    if len(cell.went) == len(cell.ended):
        return "all"
    return ", ".join(cell.went) or "nobody"


def _score(cells: Sequence[Cell]) -> str:
    went = Counter((cell.step, name) for cell in cells for name in cell.went)
    of = Counter((cell.step, name) for cell in cells for name in cell.ended)
    header = ["Step", *CARRIERS]
    told: dict[Step, str] = {"build": "out of a registry", "load": "into a registry", "import": "onto a node"}
    rows = [
        [words, *(f"{went[step, name]} of {of[step, name]}" if of[step, name] else "" for name in CARRIERS)]
        for step, words in told.items()
    ]
    return table(header, rows)


def _registries() -> str:
    versions = {name: place.rpartition("@")[2] for name, place in PACKAGES.items()}
    programs = [
        (_version("skopeo", "--version"), ""),
        (f"crane {versions['crane']}", ""),
        (f"{_version('containerd', '--version')} (debian) and {CONTAINERD[1]} (newer)", ""),
    ]
    rows = [
        ("debian", "distribution, as Debian packages it", _version("docker-registry", "--version")),
        ("v3", "distribution", versions["registry"]),
        ("crane", "go-containerregistry (`crane registry serve`)", versions["crane"]),
        ("memory", "CUE's `ociregistry`, in memory", _required("ociregistry")),
        ("gitea", "Gitea, with a login", GITEA[1]),
    ]
    absent = [f"- {names}: {why}\n" for names, why in _NOT_TRIED]
    others = ", ".join(name for name, _ in programs)
    return f"{table(['Column', 'Registry', 'Version'], rows)}\n\nBeside them: {others}. Not tried:\n\n{''.join(absent)}"


def _grid(cells: Sequence[Cell], step: Step) -> str:
    found = {(cell.image, cell.registry): cell for cell in cells if cell.step == step or cell.refused}
    rows = [
        [odd.about, *(_told(found[odd.name, kind]) if (odd.name, kind) in found else "" for kind in KINDS)]
        for odd in odd_images()
    ]
    return table(["Image", *KINDS], rows)


def _bundles(cells: Sequence[Cell]) -> dict[str, int]:
    built = sum(cell.step == "build" and AIRFERRY in cell.went for cell in cells)
    return {"built": built, "different": sum(cell.step == "serve" for cell in cells)}


def _inside(cells: Sequence[Cell]) -> str:
    rows = []
    for odd in odd_images():
        mine = [cell for cell in cells if cell.image == odd.name]
        served = [_told(cell) for cell in mine if cell.step == "serve"]
        imported = [[_told(cell) for cell in mine if (cell.step, cell.registry) == ("import", node)] for node in NODES]
        rows.append([odd.about, *(", ".join(dict.fromkeys(told)) for told in (served, *imported))])
    return table(["Image", "Read by", *(f"On a node, {node}" for node in NODES)], rows)


def _arguments() -> str:
    about = {odd.name: odd.about for odd in odd_images()}
    return table(["Step", "Image", "Why"], [[step, about[image], why] for (step, image), why in ARGUED.items()])


def _required(module: str) -> str:
    """The version of a module that our own registry is built with."""
    lines = (Path(__file__).parent / "parts" / "memory_registry" / "go.mod").read_text().splitlines()
    return next(line.split()[-1] for line in lines if module in line and line.startswith("require"))


def _version(*command: str) -> str:
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return next((f"{command[0]} {word}" for word in said if word[:1].isdigit() or word[:2].strip("v").isdigit()), "")


if __name__ == "__main__":
    tried_cells = tried()
    if wrong := unargued(tried_cells, ARGUED) + needless(tried_cells, ARGUED):
        print(*wrong, sep="\n", file=sys.stderr)
        sys.exit(1)
    Path(sys.argv[1]).write_text(page(tried_cells))

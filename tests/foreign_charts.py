"""The page of charts of others that went all the way: `python -m tests.foreign_charts FILE`.

They are those in the folders that AIRFERRY_TEST_CHARTS and AIRFERRY_TEST_ASSETS name, as `NAME-VERSION.tgz`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.page import machine
from tests.parts.foreign_charts import FOREIGN, WANTS
from tests.parts.foreign_journey import Outcome, journey, steps_to
from tests.parts.programs import from_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_HEAD = """\
# Charts of others

Public charts as they are published, each locked with a recipe of a few lines, built, signed, and rendered for a site
with a registry of its own. A program that shares no code with airferry looks for images in what `helm template`
renders, before and after: what it sees has to be known to the lock, and may not lead out of the enclave, be it in an
installation, an upgrade or a hook. `tests/journeys/test_foreign_charts.py` goes the same way. The images came from a
registry on loopback that has whatever `helm template` shows to be one; digests in the charts were replaced by its own.

- *Needed* are the images that the lock carries with nothing but the chart in the recipe, *optional* those that other
  values switch on. *Suspected* are texts that may be images; those that the registry has were *accepted* then.
- Images *move by* values that name them, and by the means in that column besides.
- *Renderings* is how often `lock` renders charts. Seconds are of CPU, beside them those of `helm template` for an
  installation and an upgrade; on {machine}.

| Chart | Needed | Optional | Suspected | Accepted | Move by | Renderings | lock | helm | At the site |
|---|---|---|---|---|---|---|---|---|---|
"""
_WANTS = """
Values that a chart cannot be rendered without, and charts that have to come before it:

| Chart | Recipe | Why |
|---|---|---|
"""


def went() -> dict[str, Outcome]:
    """What came of each chart at hand, by the name of its file; said on standard error as it goes."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="airferry-foreign-") as name:
        root = Path(name)
        from_source("builder", root).result("keygen", "release", "--no-passphrase")
        for file in FOREIGN:
            (root / file).mkdir()
            found[file] = journey(steps_to(file), root / file, root / "release.key")
            print(f"{file}: {verdict(found[file])}", file=sys.stderr)
    return found


def page(found: Mapping[str, Outcome]) -> str:
    """The page, in Markdown."""
    rows = [_row(file, outcome) for file, outcome in found.items()]
    names = {outcome.name for outcome in found.values()}
    wants = [_wanted(name) for name in sorted(names & WANTS.keys())]
    return "".join([_HEAD.format(machine=machine()), *rows, *([_WANTS, *wants] if wants else []), *_left(found)])


def verdict(found: Outcome) -> str:
    """How the journey ended."""
    if found.refused:
        return f"refused by lock: {_error(found.refused)}"
    if found.refused_inside:
        return f"REFUSED INSIDE: {_error(found.refused_inside)}"
    wrong = {"missed": found.missed, "not seen as images": found.doubtful, "leads outside": found.outside}
    told = [f"{what}: {', '.join(sorted(names))}" for what, names in wrong.items() if names]
    return "; ".join(told) or "all inside"


def _error(said: str) -> str:
    return said[said.find("error: ") :].removeprefix("error: ").partition("\nnext: ")[0].replace("\n", " ")


def _row(file: str, found: Outcome) -> str:
    edits = f"{len(found.edits)} edited template{'s' if len(found.edits) > 1 else ''}"
    paths = [f"`{path}`" for path in found.prefixes]
    if len(paths) > 3:
        paths[2:] = [f"{len(paths) - 2} more values"]
    cells = [
        file,
        *(str(len(names)) for names in (found.needed, found.optional, found.suspected, found.decided)),
        ", ".join([*paths, *([edits] if found.edits else [])]),
        str(found.renderings),
        *(f"{seconds:.1f} s" for seconds in (found.lock, found.helm)),
        verdict(found).replace("|", "\\|"),
    ]
    return f"| {' | '.join(cells)} |\n"


def _wanted(name: str) -> str:
    wants = WANTS[name]
    told = f"after `{wants.after}`" if wants.after else ", ".join(f"`{path}`" for path in _paths(wants.values))
    return f"| {name} | {told} | {wants.why} |\n"


def _paths(values: Mapping[str, object], *above: str) -> Iterable[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _paths(value, *above, key)
        else:
            yield ".".join((*above, key))


def _left(found: Mapping[str, Outcome]) -> list[str]:
    rows = [(file, outcome.suspected - outcome.decided) for file, outcome in found.items()]
    lines = [f"- {file}: {', '.join(f'`{text}`' for text in sorted(texts))}\n" for file, texts in rows if texts]
    head = "\nSuspected and left behind, since only `helm test` asks for it, or the registry does not have it:\n\n"
    return [head, *lines] if lines else []


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(went()))

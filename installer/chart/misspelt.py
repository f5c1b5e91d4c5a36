"""Keys of values that a chart does not know and that are spelt much like one that it does."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from installer.chart.helm import Chart
from installer.chart.parts import defaults, files_of, parts_of
from installer.value import Value

_CLOSE = 0.8
# Where a chart says what it reads.
_TOLD = re.compile(r"/templates/|/values\.(yaml|schema\.json)$|/Chart\.yaml$|/requirements\.yaml$")
# Read by Helm itself.
_HELMS = frozenset({"global", "tags"})
# Maps whose keys are free, though they may have defaults; keys that are names of something; and what numbers things.
_FREE = re.compile(r"(annotations|labels|selector|env)$", re.IGNORECASE)
_NAME = re.compile(r"[A-Z0-9_]+|.*[./].*", re.DOTALL)
_DIGITS = re.compile(r"\d+")


class Misspelt(Value):
    """A dotted path in values that `chart` (name and version) does not know, and the key that was probably meant."""

    path: str
    meant: str
    chart: str

    def __str__(self) -> str:
        return f"{self.path}: chart {self.chart} has no such value; did you mean {self.meant}?"


def misspelt(chart: Chart, values: Mapping[str, Any]) -> Iterator[Misspelt]:
    """The keys in `values` of `chart` that were probably meant to be others.

    That is one beside keys with defaults, which it resembles, and which neither templates nor comments in values.yaml
    mention: many charts read values that have no default, and maps without defaults are free. Raises ContentError.
    """
    if not values:
        return
    files = files_of(chart)
    parts, _ = parts_of(chart, files)
    told = b"\n".join(data for name, data in files.items() if _TOLD.search(name))
    for path, meant in _unknown(values, defaults(chart, parts, {}), ()):
        if not re.search(rb"(?<![\w-])%s(?![\w-])" % re.escape(path[-1].encode()), told):
            yield Misspelt(".".join(path), meant, f"{chart.name} {chart.version}")


def _unknown(
    values: Mapping[str, Any], known: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """The paths of keys that are not among those `known` beside them, each with the one that it resembles."""
    for key, value in values.items():
        below = known.get(key)
        if key in known or key in _HELMS:
            if isinstance(value, Mapping) and isinstance(below, Mapping) and not _FREE.search(key):
                yield from _unknown(value, below, (*path, key))
            continue
        others = [name for name in known if name not in values and _DIGITS.sub("", name) != _DIGITS.sub("", key)]
        if not _NAME.fullmatch(key) and (near := difflib.get_close_matches(key, others, n=1, cutoff=_CLOSE)):
            yield (*path, key), near[0]

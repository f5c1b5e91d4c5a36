"""Keys of values that a chart does not know: some are spelt much like one that it does, others are read by nothing."""

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
_ACTION = re.compile(rb"\{\{.*?\}\}", re.DOTALL)
_DIGITS = re.compile(r"\d+")


class Misspelt(Value):
    """A dotted path in values that `chart` (name and version) does not know.

    `meant` is the key that was probably meant, empty if none resembles it.
    """

    path: str
    meant: str
    chart: str

    def __str__(self) -> str:
        told = f"has no such value; did you mean {self.meant}?" if self.meant else "reads no such value"
        return f"{self.path}: chart {self.chart} {told}"


def misspelt(chart: Chart, values: Mapping[str, Any]) -> Iterator[Misspelt]:
    """The keys in `values` of `chart` that have no effect.

    That is one beside keys with defaults, which neither templates nor comments in values.yaml mention, and which
    resembles one of these, or stands in a map that templates read key by key alone: many charts read values that have
    no default, maps without defaults are free, and so are those that a template takes whole. Raises ContentError.
    """
    if not values:
        return
    files = files_of(chart)
    parts, _ = parts_of(chart, files)
    told = b"\n".join(data for name, data in files.items() if _TOLD.search(name))
    read = b"\n".join(
        action for name, data in files.items() if "/templates/" in name for action in _ACTION.findall(data)
    )
    for path, meant in _unknown(values, defaults(chart, parts, {}), ()):
        above = path[-2] if path[1:] else "Values"
        whole = re.search(rb"\b%s\b(?!\.)" % re.escape(above.encode()), read)
        if (meant or not whole) and not re.search(rb"(?<![\w-])%s(?![\w-])" % re.escape(path[-1].encode()), told):
            yield Misspelt(".".join(path), meant, f"{chart.name} {chart.version}")


def _unknown(
    values: Mapping[str, Any], known: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """The paths of keys that are not among those `known` beside them, each with one that it resembles, or empty."""
    for key, value in values.items():
        below = known.get(key)
        if key in known or key in _HELMS:
            if isinstance(value, Mapping) and isinstance(below, Mapping) and not _FREE.search(key):
                yield from _unknown(value, below, (*path, key))
            continue
        others = [name for name in known if name not in values and _DIGITS.sub("", name) != _DIGITS.sub("", key)]
        if known and not _NAME.fullmatch(key):
            near = difflib.get_close_matches(key, others, n=1, cutoff=_CLOSE)
            yield (*path, key), near[0] if near else ""

"""The parts of a chart: itself and its subcharts, as they lie in the archive, and the defaults of all of them.

Source of the foreign rules: helm.sh/docs, "Charts", sections "Chart Dependencies" and "Tags and Condition fields in
dependencies" (a condition is a path in the values of the parent; several are separated by commas).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from installer.chart.archive import MAX_MEMBERS, MAX_UNPACKED, packed, unpacked
from installer.chart.helm import Chart
from installer.errors import ContentError
from installer.strict_yaml import load_yaml

MAX_DEPTH = 8
"""Subcharts inside subcharts."""


@dataclass(frozen=True, order=True)
class Part:
    """A chart or subchart in the tree: `instance` is the path of its files in what Helm renders.

    `path` is where its values stand, `switches` are the paths of booleans in the root's values that all have to be
    true for it to be there, those of its parents included.
    """

    instance: str
    path: tuple[str, ...]
    switches: tuple[str, ...]
    name: str = field(compare=False)


def parts_of(chart: Chart, files: Mapping[str, bytes]) -> tuple[tuple[Part, ...], tuple[str, ...]]:
    """The parts of `chart` that are among its `files`, and the paths of those that are declared and missing.

    Raises ContentError for an archive that is too deep.
    """
    root = min((name.partition("/")[0] for name in files), default="")
    reader = _Reader(files, chart.source)
    reader.read(root, Part(chart.name, (), (), chart.name))
    return tuple(reader.parts), tuple(sorted(reader.missing))


def defaults(chart: Chart, parts: Sequence[Part], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` over the defaults of all `parts` of `chart`, whether they are switched on or not, aliases resolved."""
    found = chart.defaults(values)
    for part in sorted(parts, key=lambda part: len(part.path)):
        if part.path and part.path[-1] != part.name:
            above = _at(found, part.path[:-1])
            above[part.path[-1]] = _over(above.get(part.name), above.get(part.path[-1]))
    paths = {part.path for part in parts}
    for part in parts:
        if (*part.path[:-1], part.name) not in paths and part.path:
            _at(found, part.path[:-1]).pop(part.name, None)
    return found


def part_of(parts: Sequence[Part], template: str) -> Part:
    """The one of `parts` that the rendered file `template` belongs to."""
    fitting = [part for part in parts if template.startswith(f"{part.instance}/")]
    return max(fitting, key=lambda part: len(part.instance), default=parts[0])


def folder_of(parts: Sequence[Part], part: Part) -> str:
    """The folder in the archive that holds `part`."""
    chain = [item for item in parts if f"{part.instance}/".startswith(f"{item.instance}/")]
    return "/charts/".join(item.name for item in sorted(chain, key=lambda item: len(item.instance)))


def file_of(parts: Sequence[Part], template: str) -> str:
    """The name in the archive of what a rendering calls `template`."""
    part = part_of(parts, template)
    return f"{folder_of(parts, part)}{template.removeprefix(part.instance)}"


def files_of(chart: Chart) -> Mapping[str, bytes]:
    """The files of a chart's archive, packed subcharts unpacked too; one that lies there unpacked as well goes first.

    Raises ContentError for an archive that is too large.
    """
    return _files(chart.archive, chart.source)


@lru_cache(maxsize=4)
def _files(archive: bytes, source: str) -> Mapping[str, bytes]:
    files = unpacked(archive, source, ContentError)
    for _ in range(MAX_DEPTH):
        archives = [name for name in files if re.search(r"/charts/[^/]+\.tgz$", name)]
        if not archives:
            break
        for name in sorted(archives):
            folder = name.rpartition("/")[0]
            for inner, data in unpacked(files.pop(name), f"{source}: {name}", ContentError).items():
                files.setdefault(f"{folder}/{inner}", data)
        if len(files) > MAX_MEMBERS or sum(map(len, files.values())) > MAX_UNPACKED:
            raise ContentError(f"{source}: more than {MAX_MEMBERS} files or {MAX_UNPACKED} bytes")
    return MappingProxyType(files)


def with_files(chart: Chart, files: Mapping[str, bytes]) -> Chart:
    """`chart` with other `files`, to be rendered at once: it is packed without compression."""
    return replace(chart, archive=packed(files, level=0))


class _Reader:
    """Goes through the charts of an archive."""

    def __init__(self, files: Mapping[str, bytes], source: str) -> None:
        self.files, self.source = files, source
        self.parts: list[Part] = []
        self.missing: list[str] = []

    def read(self, folder: str, part: Part) -> None:
        self.parts.append(part)
        if len(part.path) > MAX_DEPTH:
            raise ContentError(f"{self.source}: charts inside charts, more than {MAX_DEPTH} deep")
        declared = [item for item in self._declared(folder) if isinstance(item.get("name"), str)]
        held = {str(self._yaml(f"{path}/Chart.yaml").get("name")): path for path in self._subcharts(folder)}
        for name, path in sorted(held.items()):
            entries = [item for item in declared if item["name"] == name] or [{"name": name}]
            for entry in entries:
                self.read(path, _subpart(part, name, entry))
        for entry in declared:
            if entry["name"] not in held:
                self.missing.append(f"{part.instance}/charts/{entry.get('alias') or entry['name']}")

    def _subcharts(self, folder: str) -> list[str]:
        pattern = re.compile(rf"{re.escape(folder)}/charts/[^/._][^/]*/Chart\.yaml")
        return [name.removesuffix("/Chart.yaml") for name in sorted(self.files) if pattern.fullmatch(name)]

    def _declared(self, folder: str) -> list[dict[str, Any]]:
        listed = self._yaml(f"{folder}/Chart.yaml").get("dependencies")
        # Charts of apiVersion v1 have a file of their own for it.
        listed = listed or self._yaml(f"{folder}/requirements.yaml").get("dependencies")
        return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []

    def _yaml(self, name: str) -> dict[str, Any]:
        document = load_yaml(self.files.get(name, b""), f"{self.source}: {name}", ContentError)
        return document if isinstance(document, dict) else {}


def _subpart(parent: Part, name: str, entry: Mapping[str, Any]) -> Part:
    key = str(entry.get("alias") or name)
    conditions = [text.strip() for text in str(entry.get("condition") or "").split(",") if text.strip()]
    # Charts copy `global` downwards, so it is switched where it comes from.
    paths = [text if text.startswith("global.") else ".".join((*parent.path, text)) for text in conditions]
    switches = tuple(dict.fromkeys((*parent.switches, *paths)))
    return Part(f"{parent.instance}/charts/{key}", (*parent.path, key), switches, name)


def _at(values: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for key in path:
        below = values.get(key)
        values[key] = values = below if isinstance(below, dict) else {}
    return values


def _over(below: Any, above: Any) -> Any:
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return below if above is None else above
    return {key: _over(below.get(key), above.get(key)) for key in {**below, **above}}

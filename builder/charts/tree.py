"""What a chart is made of: its subcharts, what switches each on, and its templates as they lie in the archive.

Sources of the foreign rules: helm.sh/docs, "Charts", sections "Chart Dependencies" and "Tags and Condition fields in
dependencies" (a condition is a path in the values of the parent; several are separated by commas), and "Chart Template
Guide", "Template Functions and Pipelines" (`lookup`).
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from installer.chart.archive import MAX_MEMBERS, MAX_UNPACKED, packed, unpacked
from installer.chart.helm import Chart
from installer.errors import ContentError
from installer.strict_yaml import load_yaml

MAX_DEPTH = 8
"""Subcharts inside subcharts."""

_TEMPLATE = re.compile(r"/templates/.*\.(?:ya?ml|tpl)$|/templates/[^.]*$")
_ACTION = re.compile(rb"\{\{.*?\}\}", re.DOTALL)
_LOOKUP = re.compile(rb"(?<=[\s(])lookup(?=\s+[\"$.(])")
# `dict` takes keys and values in turn, so the four arguments of `lookup` become two more entries of what it "finds".
_FOUND = (
    b'dict "kind" "Found" "metadata" (dict "name" "found" "labels" (dict) "annotations" (dict)) '
    b'"data" (dict) "items" (list) "spec" (dict "replicas" 1) '
    b'"status" (dict "replicas" 1 "readyReplicas" 1 "currentReplicas" 1)'
)


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


@dataclass(frozen=True)
class ChartTree:
    """A chart's archive, taken apart.

    `missing` are subcharts that are declared, but not in the archive; `asking` are the templates that ask the cluster
    with `lookup`. Both are paths as in a rendering, aliases not resolved.
    """

    chart: Chart = field(repr=False)
    files: Mapping[str, bytes] = field(repr=False)
    parts: tuple[Part, ...]
    missing: tuple[str, ...]
    asking: tuple[str, ...]

    @classmethod
    def of(cls, chart: Chart) -> "ChartTree":
        """The tree of `chart`. Raises ContentError for an archive that is too large or too deep."""
        files = _unpacked(chart.archive, chart.source)
        root = min((name.partition("/")[0] for name in files), default="")
        reader = _Reader(files, chart.source)
        reader.read(root, Part(chart.name, (), (), chart.name))
        asking = tuple(name for name in sorted(files) if _TEMPLATE.search(name) and _asks(files[name]))
        return cls(chart, files, tuple(reader.parts), tuple(sorted(reader.missing)), asking)

    @property
    def switches(self) -> tuple[str, ...]:
        """All conditions of all parts."""
        return tuple(sorted({switch for part in self.parts for switch in part.switches}))

    def part(self, template: str) -> Part:
        """The part that the rendered file `template` belongs to."""
        fitting = [part for part in self.parts if template.startswith(f"{part.instance}/")]
        return max(fitting, key=lambda part: len(part.instance), default=self.parts[0])

    def answering(self, left: Collection[str] = ()) -> Chart:
        """The chart without notes, every `lookup` answered by an object without data except in the templates `left`."""
        found = {name: self.files[name] for name in self.asking if name not in left}
        return self._packed({**self._silent(), **{name: _replaced(data) for name, data in found.items()}})

    def without(self, templates: Collection[str], switches: Collection[str] | None = None) -> Chart:
        """The chart without notes, and with `templates` (paths as in a rendering) left empty.

        With `switches`, only the subcharts that these switch on are left, or if they switch on none, only the chart
        itself: a small part of a large chart is rendered in a small part of the time.
        """
        files = self._silent()
        if switches is not None:
            root = self.folder(self.parts[0])
            kept = [self.folder(part) for part in self.parts[1:] if set(part.switches) <= set(switches)]
            objects = "" if set(switches).isdisjoint(self.switches) else r"(?!templates/.*\.ya?ml$)"
            own = re.compile(rf"{re.escape(root)}/(?!charts/){objects}")
            files = {
                name: data
                for name, data in files.items()
                if own.match(name) or any(name.startswith(f"{folder}/") for folder in kept)
            }
        return self._packed({**files, **{self.file(name): b"" for name in templates}})

    def folder(self, part: Part) -> str:
        """The folder in the archive that holds `part`."""
        chain = [item for item in self.parts if f"{part.instance}/".startswith(f"{item.instance}/")]
        return "/charts/".join(item.name for item in sorted(chain, key=lambda item: len(item.instance)))

    def file(self, template: str) -> str:
        """The name in the archive of what a rendering calls `template`."""
        part = self.part(template)
        return f"{self.folder(part)}{template.removeprefix(part.instance)}"

    def defaults(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """`values` over the defaults of all parts, whether they are switched on or not, aliases resolved."""
        found = self.chart.defaults(values)
        for part in sorted(self.parts, key=lambda part: len(part.path)):
            if part.path and part.path[-1] != part.name:
                above = _at(found, part.path[:-1])
                above[part.path[-1]] = _over(above.get(part.name), above.get(part.path[-1]))
        paths = {part.path for part in self.parts}
        for part in self.parts:
            if (*part.path[:-1], part.name) not in paths and part.path:
                _at(found, part.path[:-1]).pop(part.name, None)
        return found

    def owner(self, path: tuple[str, ...]) -> Part:
        """The part whose values stand at `path`."""
        fitting = [part for part in self.parts if path[: len(part.path)] == part.path]
        return max(fitting, key=lambda part: len(part.path))

    def reads(self, part: Part, path: tuple[str, ...]) -> bool:
        """Whether a template of `part` reads the value at `path` of the root's values."""
        text = f".Values.{'.'.join(path[len(part.path) :])}".encode()
        folder = f"{self.folder(part)}/templates/"
        return any(text in data for name, data in self.files.items() if name.startswith(folder))

    def _silent(self) -> dict[str, bytes]:
        return {name: data for name, data in self.files.items() if not name.endswith("/templates/NOTES.txt")}

    def _packed(self, files: Mapping[str, bytes]) -> Chart:
        return replace(self.chart, archive=packed(files, level=0))


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


def _asks(data: bytes) -> bool:
    return any(_LOOKUP.search(action) for action in _ACTION.findall(data))


def _replaced(data: bytes) -> bytes:
    return _ACTION.sub(lambda action: _LOOKUP.sub(_FOUND, action[0]), data)


def _unpacked(archive: bytes, source: str) -> dict[str, bytes]:
    """The files of a chart archive, packed subcharts unpacked too; one that lies there unpacked as well goes first."""
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
    return files

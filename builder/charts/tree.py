"""What a chart is made of: its subcharts, what switches each on, and its templates as they lie in the archive.

Sources of the foreign rules: helm.sh/docs, "Chart Template Guide", "Template Functions and Pipelines" (`lookup`);
helm.sh/helm/v4, pkg/action/install.go, `CheckDependencies`, and pkg/chart/v2/util/dependencies.go (conditions, tags).
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from installer.apps.profile import at_path
from installer.chart.archive import packed
from installer.chart.helm import Chart
from installer.chart.parts import Part, defaults, files_of, parts_of

_TEMPLATE = re.compile(r"/templates/.*\.(?:ya?ml|tpl)$|/templates/[^.]*$")
_ACTION = re.compile(rb"\{\{.*?\}\}", re.DOTALL)
_LOOKUP = re.compile(rb"(?<=[\s(])lookup(?=\s+[\"$.(])")
# `dict` takes keys and values in turn, so the four arguments of `lookup` become two more entries of what it "finds".
_FOUND = (
    b'dict "kind" "Found" "metadata" (dict "name" "found" "labels" (dict) "annotations" (dict)) '
    b'"data" (dict) "items" (list) "spec" (dict "replicas" 1) '
    b'"status" (dict "replicas" 1 "readyReplicas" 1 "currentReplicas" 1)'
)


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
        files = files_of(chart)
        parts, missing = parts_of(chart, files)
        asking = tuple(name for name in sorted(files) if _TEMPLATE.search(name) and _asks(files[name]))
        return cls(chart, files, parts, missing, asking)

    @property
    def switches(self) -> tuple[str, ...]:
        """All conditions of all parts."""
        return tuple(sorted({switch for part in self.parts for switch in part.switches}))

    def lacking(self, values: Mapping[str, Any]) -> list[str]:
        """The subcharts of the chart itself that `values`, over those of all parts, switch on and that are not there.

        Helm refuses to install such a chart. It does not look further down.
        """
        entries = {str(entry.get("alias") or entry.get("name")): entry for entry in self._declared()}
        root = self.parts[0].instance
        return [
            key
            for key, entry in sorted(entries.items())
            if f"{root}/charts/{key}" in self.missing and _on(entry, values)
        ]

    def _declared(self) -> list[Mapping[str, Any]]:
        listed = self.chart.metadata.get("dependencies")
        return [entry for entry in listed if isinstance(entry, Mapping)] if isinstance(listed, list) else []

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
        return defaults(self.chart, self.parts, values)

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


def _on(entry: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Whether `values` enable the dependency `entry`: its first condition that is a boolean, else its tags."""
    conditions = [at_path(values, path.strip()) for path in str(entry.get("condition") or "").split(",")]
    for value in conditions:
        if isinstance(value, bool):
            return value
    tags = entry.get("tags")
    found = [at_path(values, f"tags.{tag}") for tag in (tags if isinstance(tags, list) else ())]
    return True in found or False not in found


def _asks(data: bytes) -> bool:
    return any(_LOOKUP.search(action) for action in _ACTION.findall(data))


def _replaced(data: bytes) -> bytes:
    return _ACTION.sub(lambda action: _LOOKUP.sub(_FOUND, action[0]), data)

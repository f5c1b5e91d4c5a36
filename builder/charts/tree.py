"""What a chart is made of: its subcharts, what switches each on, and its templates as they lie in the archive.

Source of the foreign rules: helm.sh/helm/v4, pkg/action/action.go, `CheckDependencies`, and
pkg/chart/v2/util/dependencies.go (conditions, tags).
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from installer.apps.profile import at_path
from installer.chart.helm import Chart
from installer.chart.parts import Part, defaults, file_of, files_of, folder_of, part_of, parts_of, with_files
from installer.chart.templates.drafts import drafted
from installer.chart.templates.lookups import answered, asking
from installer.chart.templates.readers import OBJECTS, narrowed, readers, without_definitions
from installer.value import Value

_CHECKS = ("/templates/NOTES.txt", "/values.schema.json")


class Cut(Value):
    """What of a chart is rendered: without the templates `empty` (paths as in a rendering).

    Unless `checked`, its notes and schemas are left out, which make no objects and may refuse values.

    With `switches`, only the subcharts that these switch on, or if they switch on none, only the chart itself: a small
    part of a large chart is rendered in a small part of the time.
    """

    empty: tuple[str, ...] = ()
    switches: tuple[str, ...] | None = None
    checked: bool = False


WHOLE = Cut(checked=True)
UNCHECKED = Cut()


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
        return cls(chart, files, parts, missing, asking(files))

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
        return part_of(self.parts, template)

    def variant(
        self,
        cut: Cut = WHOLE,
        *,
        only: Collection[str] | None = None,
        left: Collection[str] = (),
        held: Mapping[str, str] | None = None,
    ) -> Chart:
        """What `cut` leaves of the chart, as a draft.

        With `only`, all templates but these (files) are empty whose names tell that they make objects, and definitions
        left out. With `held`, every `lookup` finds an object with that data, except in the templates `left`.
        """
        files = {name: data for name, data in self._drafted.items() if cut.checked or not name.endswith(_CHECKS)}
        if cut.switches is not None:
            files = self._small(files, cut.switches)
        files = {**files, **{self.file(name): b"" for name in cut.empty}}
        if only is not None:
            files = narrowed(files, only)
        if held is not None:
            files = answered(files, [name for name in self.asking if name in files and name not in left], held)
        return with_files(self.chart, files)

    @cached_property
    def draft(self) -> Chart:
        """All of the chart, as a draft."""
        return self.variant(WHOLE)

    @cached_property
    def _drafted(self) -> dict[str, bytes]:
        return drafted(self.files)

    def _small(self, files: Mapping[str, bytes], switches: Collection[str]) -> dict[str, bytes]:
        """Those of `files` that `switches` need.

        A part may need helpers of the chart itself, and that helpers and defaults of all parts.
        """
        root = self.folder(self.parts[0])
        kept = tuple(f"{self.folder(part)}/" for part in self.parts[1:] if set(part.switches) <= set(switches))
        itself = set(switches).isdisjoint(self.switches)

        def needed(name: str) -> bool:
            if name.startswith(f"{root}/charts/"):
                return name.startswith(kept) or (itself and not OBJECTS.search(name))
            return itself or not OBJECTS.search(name)

        return without_definitions({name: data for name, data in files.items() if needed(name)})

    def folder(self, part: Part) -> str:
        """The folder in the archive that holds `part`."""
        return folder_of(self.parts, part)

    def file(self, template: str) -> str:
        """The name in the archive of what a rendering calls `template`."""
        return file_of(self.parts, template)

    def defaults(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """`values` over the defaults of all parts, whether they are switched on or not, aliases resolved."""
        return defaults(self.draft, self.parts, values)

    def owner(self, path: tuple[str, ...]) -> Part:
        """The part whose values stand at `path`."""
        fitting = [part for part in self.parts if path[: len(part.path)] == part.path]
        return max(fitting, key=lambda part: len(part.path))

    def readers(self, words: str, values: Mapping[str, Any]) -> frozenset[str]:
        """The templates that may come upon one of `words` (a pattern) when they are rendered with `values`."""
        return readers(self.files, words, json.dumps(values))

    def reads(self, part: Part, path: tuple[str, ...]) -> bool:
        """Whether a template of `part` reads the value at `path` of the root's values."""
        text = f".Values.{'.'.join(path[len(part.path) :])}".encode()
        folder = f"{self.folder(part)}/templates/"
        return any(text in data for name, data in self.files.items() if name.startswith(folder))


def _on(entry: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Whether `values` enable the dependency `entry`: its first condition that is a boolean, else its tags."""
    conditions = [at_path(values, path.strip()) for path in str(entry.get("condition") or "").split(",")]
    for value in conditions:
        if isinstance(value, bool):
            return value
    tags = entry.get("tags")
    found = [at_path(values, f"tags.{tag}") for tag in (tags if isinstance(tags, list) else ())]
    return True in found or False not in found

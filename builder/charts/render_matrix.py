"""All the renderings of one chart by which its images are found, and the references that were seen in each.

Each chart is rendered with the profile's values and with everything on, as a first installation and as an upgrade, and
both while the cluster is empty and while `lookup` finds what it looks for: templates may branch on each of these. Helm
answers `lookup` with nothing unless it talks to a cluster (pkg/engine, `Engine.clientProvider`), so for the other half
the word is replaced in the templates by an object without data.

"Everything" are the conditions of all subcharts, and the booleans `enabled` and `install` that stand beside or above an
image in the values. A part that fails with everything on is taken out and rendered alone; a template that fails even
then is named and left empty, so that the rest is seen all the same.
"""

import re
from collections.abc import Mapping
from copy import copy
from typing import Any

from builder.charts.fetch import FetchedChart
from builder.charts.operators import Sighted, sighted
from builder.charts.tree import ChartTree
from builder.charts.values_images import spellings, switches_above
from builder.images.parallel import RENDERINGS, in_parallel
from builder.recipe.findings import Failure
from builder.recipe.recipe import KubernetesEntry
from installer.apps.profile import at_path, placed
from installer.chart.helm import Chart, Object
from installer.chart.images import Found, references
from installer.chart.parts import Part
from installer.chart.retarget import merged
from installer.errors import AirferryError, RecipeError
from installer.oci.reference import Reference
from installer.value import Value

PROFILE, EVERYTHING = "profile", "everything"
MAX_ERROR = 300
MAX_EMPTY = 20
"""Templates of one part that may fail before the part is given up."""
_TEMPLATE = re.compile(r"[\w.+-]+(?:/[\w.+-]+)*/templates/[\w./+-]*\w", re.ASCII)


class Release(Value):
    """A chart as it is going to be installed.

    `document` is the name of the one that holds its values, or empty; `further` are values that its optional parts
    cannot do without.
    """

    fetched: FetchedChart
    tree: ChartTree
    name: str
    namespace: str
    values: Mapping[str, Any]
    document: str
    further: Mapping[str, Any] = {}


class Rendering(Value):
    """One rendering: with `overlay` over the values of the profile, and what was seen in it."""

    name: str
    overlay: Mapping[str, Any]
    upgrade: bool
    found_by_lookup: bool
    objects: int
    references: int


class Seen(Value):
    """A reference and the template that makes its object."""

    template: str
    found: Found

    @property
    def identity(self) -> tuple[str, ...]:
        """The same in every set of values: positions in lists are not."""
        found = self.found
        return self.template, found.kind, found.name, found.container, found.text

    @property
    def reference(self) -> Reference | None:
        """What is referred to, or None where that is no reference."""
        try:
            return self.found.reference()
        except AirferryError:
            return None

    @property
    def defect(self) -> str:
        """Why it is no reference; empty if it is one."""
        try:
            self.found.reference()
        except AirferryError as exc:
            return exc.message
        return ""


class Renderings:
    """The renderings of one chart: `seen` are references by the name of the values, `inner` the switches inside charts.

    `defaults` are the values over those of all parts, `spelt` the images in them.
    """

    def __init__(self, release: Release, kubernetes: KubernetesEntry) -> None:
        self.release, self.kubernetes = release, kubernetes
        self.chart = release.fetched.chart
        self.tree = release.tree
        self.defaults = self.tree.defaults(merged(release.values, release.further))
        self.spelt = tuple(spellings(self.defaults))
        self.inner = self._inner()
        self.seen: dict[str, set[Seen]] = {}
        self.failures = {
            Failure(self.chart.name, path, "the archive lacks this subchart", (), ()) for path in self.tree.missing
        }
        self.renderings: list[Rendering] = []
        # What brings images that are not rendered, with the profile's values.
        self.operators: set[Sighted] = set()
        # What each object names: rendered again, the same object comes again (see `documents`).
        self.looked: dict[tuple[str, int], tuple[Object, frozenset[Seen]]] = {}
        # In which templates `lookup` has to stay what it is, since they fail on an answer.
        self.unanswered: set[str] = set()

    def run(self) -> None:
        """Render the chart in all ways.

        Raises RecipeError if it cannot be rendered with the profile, or Helm would refuse to install it.
        """
        if lacking := self.tree.lacking(self.defaults):
            raise RecipeError(
                f"chart {self.chart.name} {self.chart.version}: its archive lacks the subcharts {', '.join(lacking)}, "
                "which are switched on",
                hint="run `helm dependency update` in the chart's folder and package it again, or switch them off.",
            )
        for upgrade in (False, True):
            self._render(PROFILE, {}, upgrade=upgrade)
            self._answered(PROFILE, {}, upgrade=upgrade)
        off = {
            switch for switch in self.tree.switches if at_path(self.defaults, switch) is not True
        } | self.inner.keys()
        if off or self.release.further:
            on, blamed = self._everything(off)
            groups = self._groups(on, blamed)
            for found in in_parallel(
                lambda group: self.apart().alone(*group, blamed), groups, "parts cannot be rendered", threads=RENDERINGS
            ):
                self._take(found)

    def _take(self, other: "Renderings") -> None:
        """Add what `other` has seen."""
        for name, seen in other.seen.items():
            self.seen.setdefault(name, set()).update(seen)
        self.failures |= other.failures
        self.renderings += other.renderings

    def _inner(self) -> dict[str, Part]:
        """The switches inside charts that are off, or unset but read, with the part that each belongs to."""
        found: dict[str, Part] = {}
        paths = {place for spelling in self.spelt for place in switches_above(self.defaults, spelling.path)}
        for path, value in sorted(paths, key=lambda item: item[0]):
            switch, part = ".".join(path), self.tree.owner(path)
            off = value is False or (value is None and self.tree.reads(part, path))
            if off and switch not in self.tree.switches:
                found[switch] = part
        return found

    def _everything(self, off: set[str]) -> tuple[set[str], set[str]]:
        """Render with everything on; which switches it came to be, and which had to be left out."""
        on, blamed, silent = set(off), set[str](), self.tree.without([])
        for upgrade in (False, True):
            while True:
                values = merged(self.release.further, switched(dict.fromkeys(on, True)))
                try:
                    self._render(EVERYTHING, values, upgrade=upgrade, chart=silent)
                except RecipeError as exc:
                    found = self._blamed(exc, on)
                    on, blamed = on - found, blamed | found
                    continue
                break
        self._answered(EVERYTHING, values, upgrade=True)
        return on, blamed

    def _blamed(self, exc: RecipeError, on: set[str]) -> set[str]:
        """The switches in `on` to turn off again after a failure: those of the failing part, or else all."""
        match = _TEMPLATE.search(exc.message)
        part = self.tree.part(match[0]) if match else None
        if part and (inner := {switch for switch, owner in self.inner.items() if owner == part} & on):
            return inner
        flipped = [switch for switch in part.switches if switch in on] if part else []
        if not on:
            raise RecipeError(f"with `optional_values`: {exc.message}", hint="correct them in the recipe.") from exc
        return {flipped[-1]} if flipped else on

    def _groups(self, on: set[str], blamed: set[str]) -> list[tuple[tuple[str, ...], set[str]]]:
        """The parts to be rendered alone, those left out and those with switches inside, to tell what each does.

        As the switches that turn a part on, and those inside it.
        """
        groups: dict[tuple[str, ...], set[str]] = {}
        for part in self.tree.parts:
            if blamed.intersection(part.switches):
                groups.setdefault(part.switches, set())
        for switch, part in self.inner.items():
            if switch in on | blamed:
                groups.setdefault(part.switches, set()).add(switch)
        return sorted(groups.items())

    def apart(self) -> "Renderings":
        """The same before anything was seen, for another thread."""
        other = copy(self)
        other.seen, other.failures, other.renderings = {}, set(), []
        return other

    def alone(self, switches: tuple[str, ...], inner: set[str], blamed: set[str]) -> "Renderings":
        """Render one part alone, and with each of the switches inside it; itself."""
        both = bool(blamed.intersection((*switches, *inner)))
        empty = self._part(switches, (), both=both)
        for switch in sorted(inner):
            self._part((*switches, switch), empty, both=both)
        if both and len(inner) > 1:
            self._part((*switches, *sorted(inner)), empty, both=both)
        return self

    def _part(self, switches: tuple[str, ...], empty: tuple[str, ...], *, both: bool) -> tuple[str, ...]:
        """Render with `switches` on and all other parts off; templates that fail are left empty, named, and returned.

        Those in `empty` are known to fail.
        """
        flips = {**dict.fromkeys(self.tree.switches, False), **dict.fromkeys(switches, True)}
        values = merged(self.release.further, switched(flips))
        small: tuple[str, ...] | None = switches
        for upgrade in (False, True) if both else (False,):
            while True:
                try:
                    chart = self.tree.without(empty, small)
                    self._render(only(switches), values, upgrade=upgrade, chart=chart)
                except RecipeError as exc:
                    if small is not None:
                        # Perhaps it needs what was left out of the chart.
                        small = None
                        continue
                    match = _TEMPLATE.search(exc.message)
                    self._failed(match[0] if match else "", exc, switches)
                    if not match or match[0] in empty or len(empty) == MAX_EMPTY:
                        return empty
                    empty = (*empty, match[0])
                    continue
                break
        return empty

    def _failed(self, template: str, exc: RecipeError, switches: tuple[str, ...]) -> None:
        part = self.tree.part(template)
        spelt = tuple(str(item) for item in self.spelt if self.tree.owner(item.path) == part and part.path)
        # What the chart says stands at the end, after the way there.
        text = " ".join(str(exc.__cause__ or exc.message).split()).rpartition("error calling ")[2][-MAX_ERROR:]
        text = text.encode("ascii", "replace").decode()
        self.failures.add(Failure(self.chart.name, template, text, switches, spelt))

    def _answered(self, name: str, values: Mapping[str, Any], *, upgrade: bool) -> None:
        """Render with `lookup` finding what it looks for; templates that fail on that keep the empty answer."""
        while asking := [file for file in self.tree.asking if file not in self.unanswered]:
            try:
                chart = self.tree.answering(self.unanswered)
                self._render(name, values, upgrade=upgrade, chart=chart, answered=True)
            except RecipeError as exc:
                named = _TEMPLATE.findall(exc.message)
                self._failed(named[0] if named else "", exc, ())
                files = {self.tree.file(path) for path in named}
                # Often only the template is named, and a helper beside it asks the cluster.
                folders = {file.partition("/templates/")[0] for file in files}
                beside = {file for file in asking if file.partition("/templates/")[0] in folders}
                self.unanswered |= files & set(asking) or beside or set(asking)
                continue
            return

    def _render(
        self,
        name: str,
        values: Mapping[str, Any],
        *,
        upgrade: bool,
        chart: Chart | None = None,
        answered: bool = False,
    ) -> None:
        rendering = (chart or self.chart).render(
            merged(self.release.values, values),
            release=self.release.name,
            namespace=self.release.namespace,
            kube_version=self.kubernetes.version,
            api_versions=self.kubernetes.api_versions,
            upgrade=upgrade,
        )
        manifests = rendering.manifests
        seen = frozenset[Seen]().union(*(self._looked(template, item) for template, item in manifests))
        self.seen.setdefault(name, set()).update(seen)
        if name == PROFILE:
            self.operators |= sighted(item for _, item in manifests)
        self.renderings.append(Rendering(name, values, upgrade, answered, len(manifests), len(seen)))

    def _looked(self, template: str, item: Object) -> frozenset[Seen]:
        key = template, id(item)
        if key not in self.looked:
            self.looked[key] = item, frozenset(Seen(template, found) for found in references([item]))
        return self.looked[key][1]


def only(switches: tuple[str, ...]) -> str:
    """The name of the rendering with only `switches` on."""
    return f"only {', '.join(switches) or 'the chart itself'}"


def switched(flips: Mapping[str, bool]) -> dict[str, Any]:
    """Values with nothing but these switches, by their dotted paths."""
    values: dict[str, Any] = {}
    for switch, value in sorted(flips.items()):
        values = merged(values, placed(switch, value))
    return values

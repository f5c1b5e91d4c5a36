"""All the renderings of one chart by which its images are found.

Each chart is rendered with the profile's values and with everything on, as a first installation and as an upgrade, and
both while the cluster is empty and while `lookup` finds what it looks for (`chart.templates.lookups`): templates may
branch on each of these. Some can be upgraded only in a cluster in which `lookup` finds something.

"Everything" are the conditions of all subcharts, and the booleans `enabled` and `install` that stand beside or above an
image in the values. A part that fails with everything on is taken out and rendered alone; a template that fails even
then is named and left empty, so that the rest is seen all the same.

A chart that looks at the version of the cluster is rendered for other versions too (`builder.charts.cluster_versions`).
"""

from collections.abc import Mapping
from typing import Any

from builder.charts.cluster_versions import Moving, moving
from builder.charts.rendering import PROFILE, TEMPLATE, Release, Renderer
from builder.charts.tree import WHOLE, Cut
from builder.charts.values_images import spellings, switches_above
from builder.images.parallel import RENDERINGS, in_parallel
from builder.recipe.findings import Failure
from builder.recipe.recipe import KubernetesEntry
from installer.apps.profile import at_path, placed
from installer.chart.parts import Part
from installer.chart.retarget import merged
from installer.errors import RecipeError

EVERYTHING = "everything"
MAX_EMPTY = 20
"""Templates of one part that may fail before the part is given up."""


class Renderings:
    """The renderings of one chart, made by `made`; `inner` are the switches inside charts.

    `defaults` are the values over those of all parts, `spelt` the images in them, and `moving` what differs with the
    version of the cluster.
    """

    def __init__(self, release: Release, kubernetes: KubernetesEntry) -> None:
        self.release, self.kubernetes = release, kubernetes
        self.tree = release.tree
        self.defaults = self.tree.defaults(merged(release.values, release.further))
        self.spelt = tuple(spellings(self.defaults))
        self.inner = self._inner()
        self.made = Renderer(release, kubernetes)
        self.moving: list[Moving] = []

    def run(self) -> None:
        """Render the chart in all ways.

        Raises RecipeError if it cannot be rendered with the profile, or Helm would refuse to install it.
        """
        chart = self.release.fetched.chart
        if lacking := self.tree.lacking(self.defaults):
            raise RecipeError(
                f"chart {chart.name} {chart.version}: its archive lacks the subcharts {', '.join(lacking)}, "
                "which are switched on",
                hint="run `helm dependency update` in the chart's folder and package it again, or switch them off.",
            )
        self.made.failures |= {
            Failure(chart.name, path, "the archive lacks this subchart", (), ()) for path in self.tree.missing
        }
        self.made.installed(PROFILE, {}, WHOLE)
        self.made.repeated(PROFILE, {}, WHOLE)
        self.made.upgraded(PROFILE, {}, WHOLE)
        off = {
            switch for switch in self.tree.switches if at_path(self.defaults, switch) is not True
        } | self.inner.keys()
        further: Mapping[str, Any] | None = None
        if off or self.release.further:
            on, blamed = self._everything(off)
            further = self._on(on)
            groups = self._groups(on, blamed)
            for found in in_parallel(
                lambda group: self._alone(*group, blamed), groups, "parts cannot be rendered", threads=RENDERINGS
            ):
                self.made.take(found)
        self.moving = moving(self.made, self.kubernetes, EVERYTHING, further)

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

    def _on(self, switches: set[str]) -> dict[str, Any]:
        """The values of optional parts, and these switches."""
        return merged(self.release.further, switched(dict.fromkeys(switches, True)))

    def _everything(self, off: set[str]) -> tuple[set[str], set[str]]:
        """Render with everything on; which switches it came to be, and which had to be left out."""
        on, blamed = set(off), set[str]()
        for upgrade in (False, True):
            while True:
                try:
                    if upgrade:
                        self.made.upgraded(EVERYTHING, self._on(on))
                    else:
                        self.made.installed(EVERYTHING, self._on(on))
                except RecipeError as exc:
                    if not on and not self.release.further:
                        self.made.failed("", exc, ())
                        break
                    found = self._blamed(exc, on)
                    on, blamed = on - found, blamed | found
                    continue
                break
        return on, blamed

    def _blamed(self, exc: RecipeError, on: set[str]) -> set[str]:
        """The switches in `on` to turn off again after a failure: those of the failing part, or else all."""
        match = TEMPLATE.search(exc.message)
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

    def _alone(self, switches: tuple[str, ...], inner: set[str], blamed: set[str]) -> Renderer:
        """Render one part alone, and with each of the switches inside it; what has seen it."""
        made, both = self.made.apart(), bool(blamed.intersection((*switches, *inner)))
        empty: tuple[str, ...] = ()
        if not both and not self.release.further and all(at_path(self.defaults, item) is True for item in switches):
            made.shown[only(switches), False, False] = self.made.shown[PROFILE, False, False]
        else:
            empty = self._part(made, switches, (), both=both)
        for switch in sorted(inner):
            self._part(made, (*switches, switch), empty, both=both)
        if both and len(inner) > 1:
            self._part(made, (*switches, *sorted(inner)), empty, both=both)
        return made

    def _part(
        self, made: Renderer, switches: tuple[str, ...], empty: tuple[str, ...], *, both: bool
    ) -> tuple[str, ...]:
        """Render with `switches` on; templates that fail are left empty, named, and returned.

        Those in `empty` are known to fail.
        """
        for upgrade in (False, True) if both else (False,):
            while (exc := self._tried(made, switches, empty, upgrade=upgrade)) is not None:
                match = TEMPLATE.search(exc.message)
                made.failed(match[0] if match else "", exc, switches)
                if not match or match[0] in empty or len(empty) == MAX_EMPTY:
                    return empty
                empty = (*empty, match[0])
        return empty

    def _tried(
        self, made: Renderer, switches: tuple[str, ...], empty: tuple[str, ...], *, upgrade: bool
    ) -> RecipeError | None:
        """Render with `switches` on: what they switch on alone, or where that fails, with all else that is on.

        Why that fails too, if it does.
        """
        failure: RecipeError | None = None
        for small in (switches, None):
            cut = Cut(empty=empty, switches=small)
            try:
                if upgrade:
                    made.upgraded(only(switches), self._on(set(switches)), cut, answered=False)
                else:
                    made.installed(only(switches), self._on(set(switches)), cut)
            except RecipeError as exc:
                failure = exc
                continue
            return None
        return failure


def only(switches: tuple[str, ...]) -> str:
    """The name of the rendering with only `switches` on."""
    return f"only {', '.join(switches) or 'the chart itself'}"


def switched(flips: Mapping[str, bool]) -> dict[str, Any]:
    """Values with nothing but these switches, by their dotted paths."""
    values: dict[str, Any] = {}
    for switch, value in sorted(flips.items()):
        values = merged(values, placed(switch, value))
    return values

"""Which images a chart needs, and which more it can ask for: it is rendered as the cluster will see it.

Each chart is rendered with the profile's values and with everything on, as a first installation and as an upgrade, and
both while the cluster is empty and while `lookup` finds what it looks for: templates may branch on each of these. Helm
answers `lookup` with nothing unless it talks to a cluster (pkg/engine, `Engine.clientProvider`), so for the other half
the word is replaced in the templates by an object without data.

"Everything" are the conditions of all subcharts, and the booleans `enabled` and `install` that stand beside or above an
image in the values. A part that fails with everything on is taken out and rendered alone; a template that fails even
then is named and left empty, so that the rest is seen all the same.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from builder.chart_tree import ChartTree, Part
from builder.charts import FetchedChart
from builder.lock import Failure, Reason
from builder.recipe import KubernetesEntry
from builder.spelling import Spelling, overlay, spellings, switches_above
from installer.chart.helm import Chart, parse_values
from installer.chart.images import Found, references
from installer.chart.retarget import merged as merged_values
from installer.errors import AirferryError, RecipeError
from installer.oci.reference import Reference

PROFILE, EVERYTHING = "profile", "everything"
MAX_ERROR = 300
_TEMPLATE = re.compile(r"[\w.+-]+(?:/[\w.+-]+)*/templates/[\w./+-]*\w", re.ASCII)


@dataclass(frozen=True)
class Release:
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
    further: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rendering:
    """One rendering: with `overlay` over the values of the profile, and what was seen in it."""

    name: str
    overlay: Mapping[str, Any]
    upgrade: bool
    found_by_lookup: bool
    objects: int
    references: int


@dataclass(frozen=True)
class Discovery:
    """What one chart asks for, each with its places.

    `images` are those of the profile by their full name, `optional` those that only further switches ask for;
    `suspected` is text that may be an image or that only `helm test` asks for, and `unused` are repositories that the
    values name, but no rendering, with the places there.
    """

    release: Release
    images: Mapping[str, tuple[Reason, ...]]
    optional: Mapping[str, tuple[Reason, ...]]
    suspected: Mapping[str, tuple[Reason, ...]]
    unused: tuple[str, ...]
    failures: tuple[Failure, ...]
    renderings: tuple[Rendering, ...]


def discover(release: Release, kubernetes: KubernetesEntry) -> Discovery:
    """The images of `release`.

    Raises RecipeError if the chart cannot be rendered with the profile, or then asks for something that is no image.
    """
    search = _Search(release, kubernetes)
    search.run()
    return search.discovery()


@dataclass(frozen=True)
class _Seen:
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


class _Search:
    """The search through one chart."""

    def __init__(self, release: Release, kubernetes: KubernetesEntry) -> None:
        self.release, self.kubernetes = release, kubernetes
        self.chart = release.fetched.chart
        self.tree = release.tree
        self.defaults = self.tree.defaults(merged_values(release.values, release.further))
        self.spelt = tuple(spellings(self.defaults))
        self.inner = self._inner()
        self.seen: dict[str, set[_Seen]] = {}
        self.failures = {
            Failure(self.chart.name, path, "the archive lacks this subchart", (), ()) for path in self.tree.missing
        }
        self.renderings: list[Rendering] = []
        # In which templates `lookup` has to stay what it is, since they fail on an answer.
        self.unanswered: set[str] = set()

    def run(self) -> None:
        for upgrade in (False, True):
            self._render(PROFILE, {}, upgrade=upgrade)
            self._answered(PROFILE, {}, upgrade=upgrade)
        off = {switch for switch in self.tree.switches if self._value(switch) is not True} | self.inner.keys()
        if off or self.release.further:
            on, blamed = self._everything(off)
            self._alone(on, blamed)

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

    def _value(self, switch: str) -> Any:
        node: Any = self.defaults
        for key in switch.split("."):
            node = node.get(key) if isinstance(node, Mapping) else None
        return node

    def _everything(self, off: set[str]) -> tuple[set[str], set[str]]:
        """Render with everything on; which switches it came to be, and which had to be left out."""
        on, blamed, silent = set(off), set[str](), self.tree.without([])
        for upgrade in (False, True):
            while True:
                values = merged_values(self.release.further, _switched(dict.fromkeys(on, True)))
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
            raise exc
        return {flipped[-1]} if flipped else on

    def _alone(self, on: set[str], blamed: set[str]) -> None:
        """Render parts alone: those that were left out, and those with switches inside, to tell what each does."""
        groups: dict[tuple[str, ...], set[str]] = {}
        for part in self.tree.parts:
            if blamed.intersection(part.switches):
                groups.setdefault(part.switches, set())
        for switch, part in self.inner.items():
            if switch in on | blamed:
                groups.setdefault(part.switches, set()).add(switch)
        for switches, inner in sorted(groups.items()):
            both = bool(blamed.intersection((*switches, *inner)))
            empty = self._part(switches, (), both=both)
            for switch in sorted(inner):
                self._part((*switches, switch), empty, both=both)
            if both and len(inner) > 1:
                self._part((*switches, *sorted(inner)), empty, both=both)

    def _part(self, switches: tuple[str, ...], empty: tuple[str, ...], *, both: bool) -> tuple[str, ...]:
        """Render with `switches` on and all other parts off; templates that fail are left empty, named, and returned.

        Those in `empty` are known to fail.
        """
        flips = {**dict.fromkeys(self.tree.switches, False), **dict.fromkeys(switches, True)}
        values = merged_values(self.release.further, _switched(flips))
        small: tuple[str, ...] | None = switches
        for upgrade in (False, True) if both else (False,):
            while True:
                try:
                    chart = self.tree.without(empty, small)
                    self._render(_name(switches), values, upgrade=upgrade, chart=chart)
                except RecipeError as exc:
                    if small is not None:
                        # Perhaps it needs what was left out of the chart.
                        small = None
                        continue
                    match = _TEMPLATE.search(exc.message)
                    self._failed(match[0] if match else "", exc, switches)
                    if not match or match[0] in empty:
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
                files = {self.tree.file(path) for path in _TEMPLATE.findall(exc.message)} & set(asking)
                self._failed(min(files, default=""), exc, ())
                self.unanswered |= files or set(asking)
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
        objects = (chart or self.chart).manifests(
            merged_values(self.release.values, values),
            release=self.release.name,
            namespace=self.release.namespace,
            kube_version=self.kubernetes.version,
            api_versions=self.kubernetes.api_versions,
            upgrade=upgrade,
        )
        seen = {_Seen(template, found) for template, item in objects for found in references([item])}
        self.seen.setdefault(name, set()).update(seen)
        self.renderings.append(Rendering(name, values, upgrade, answered, len(objects), len(seen)))

    def discovery(self) -> Discovery:
        """What was found."""
        needed: dict[str, set[Reason]] = {}
        optional: dict[str, set[Reason]] = {}
        suspected: dict[str, set[Reason]] = {}
        profile = {seen.identity for seen in self.seen[PROFILE]}
        for name, places in self.seen.items():
            for seen in places:
                if name != PROFILE and seen.identity in profile:
                    continue
                reason = self._reason(seen)
                found = suspected
                text = seen.found.text
                if seen.found.certain and not seen.found.test_only:
                    found = needed if name == PROFILE else optional
                    try:
                        text = str(seen.found.reference())
                    except AirferryError as exc:
                        if name == PROFILE:
                            hint = "set the image in the chart's values."
                            raise RecipeError(f"{reason}: {exc.message}", hint=hint) from exc
                        self.failures.add(
                            Failure(self.chart.name, seen.template, exc.message, reason.switches, reason.values)
                        )
                        continue
                found.setdefault(text, set()).add(reason)
        return Discovery(
            release=self.release,
            images=_sorted(needed),
            optional=_sorted({name: reasons for name, reasons in optional.items() if name not in needed}),
            suspected=_sorted(suspected),
            unused=self._unused(),
            failures=tuple(sorted(self.failures)),
            renderings=tuple(self.renderings),
        )

    def _unused(self) -> tuple[str, ...]:
        used = {
            reference.repository for places in self.seen.values() for seen in places if (reference := seen.reference)
        }
        return tuple(sorted({f"{item}: {item.repository}" for item in self.spelt if item.repository not in used}))

    def _reason(self, seen: _Seen) -> Reason:
        found = seen.found
        part = self.tree.part(seen.template)
        spelt = self._spelt(seen, part)
        return Reason(
            chart=self.chart.name,
            kind=found.kind,
            namespace=found.namespace,
            name=found.name,
            container=found.container,
            field=found.path,
            hooks=",".join(found.hooks),
            template=seen.template,
            switches=(*part.switches, *self._inner_switches(seen, part, spelt)),
            values=tuple(str(item) for item in spelt),
        )

    def _inner_switches(self, seen: _Seen, part: Part, spelt: Iterable[Spelling]) -> tuple[str, ...]:
        """The switches inside `part` that bring `seen` about."""
        inner = sorted(switch for switch, owner in self.inner.items() if owner.switches == part.switches)

        def made(*extra: str) -> bool:
            places = self.seen.get(_name((*part.switches, *extra)), set())
            return any(other.identity == seen.identity for other in places)

        in_profile = any(other.identity == seen.identity for other in self.seen[PROFILE])
        if in_profile or not inner or made():
            return ()
        alone = next(((switch,) for switch in inner if made(switch)), ())
        # Several are needed together: most likely those that stand above the image.
        above = {".".join(path) for item in spelt for path, _ in switches_above(self.defaults, item.path)}
        return alone or tuple(switch for switch in inner if switch in above)

    def _spelt(self, seen: _Seen, part: Part) -> list[Spelling]:
        if seen.reference is None:
            return []
        fitting = [item for item in self.spelt if item.repository == seen.reference.repository]
        own = [item for item in fitting if self.tree.owner(item.path) == part]
        # A part may take it from values of a part above it, but the chart itself has too many of them to tell.
        above = [item for item in fitting if part.path[:1] and item.path[:1] == part.path[:1]]
        return own or above


def _name(switches: tuple[str, ...]) -> str:
    return f"only {', '.join(switches) or 'the chart itself'}"


def _switched(flips: Mapping[str, bool]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for switch, value in sorted(flips.items()):
        values = merged_values(values, overlay(tuple(switch.split(".")), value))
    return values


def _sorted(found: Mapping[str, Iterable[Reason]]) -> dict[str, tuple[Reason, ...]]:
    return {name: tuple(sorted(found[name])) for name in sorted(found)}


def merged(parts: Iterable[Mapping[str, tuple[Reason, ...]]]) -> dict[str, tuple[Reason, ...]]:
    """Several maps of reasons as one."""
    found: dict[str, set[Reason]] = {}
    for part in parts:
        for name, reasons in part.items():
            found.setdefault(name, set()).update(reasons)
    return _sorted(found)


def resource_release(raw: bytes, file_name: str) -> tuple[str, str, dict[str, Any]]:
    """Release, namespace and values that the custom resource in `raw` means: its own name, namespace and spec.values.

    Raises RecipeError.
    """
    document = parse_values(raw, file_name, RecipeError)
    metadata, spec = document.get("metadata"), document.get("spec")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    namespace = metadata.get("namespace", "default") if isinstance(metadata, dict) else None
    values = spec.get("values", {}) if isinstance(spec, dict) else None
    if not isinstance(name, str) or not isinstance(namespace, str) or not isinstance(values, dict):
        raise RecipeError(
            f"{file_name}: not a custom resource with metadata.name, spec and spec.values",
            hint="start from the one that `airferry init` writes.",
        )
    return name, namespace, values

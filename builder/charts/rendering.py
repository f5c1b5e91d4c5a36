"""One chart rendered in one way, and what was seen in it."""

import re
from collections.abc import Mapping
from copy import copy
from typing import Any

from builder.charts.fetch import FetchedChart
from builder.charts.operators import Sighted, sighted
from builder.charts.tree import UNCHECKED, ChartTree, Cut
from builder.recipe.findings import Failure
from builder.recipe.recipe import KubernetesEntry
from installer.chart.helm import Object
from installer.chart.images import Found, references
from installer.chart.retarget import merged
from installer.chart.spelling.rules import NO_RULES, Rules
from installer.chart.templates.lookups import held
from installer.chart.templates.readers import OPERATION
from installer.errors import AirferryError, RecipeError
from installer.oci.reference import Reference
from installer.value import Value

Way = tuple[str, bool, bool]
"""The name of the values, whether it is an upgrade, and whether `lookup` finds anything."""
PROFILE = "profile"
MAX_ERROR = 300
TEMPLATE = re.compile(r"[\w.+-]+(?:/[\w.+-]+)*/templates/[\w./+-]*\w", re.ASCII)
"""A template in what Helm says of it."""


class Release(Value):
    """A chart as it is going to be installed.

    `document` is the name of the one that holds its values, or empty; `further` are values that its optional parts
    cannot do without. `rules` of the profile say where its objects name images.
    """

    fetched: FetchedChart
    tree: ChartTree
    name: str
    namespace: str
    values: Mapping[str, Any]
    document: str
    further: Mapping[str, Any] = {}
    rules: Rules = NO_RULES


class Rendering(Value):
    """One rendering: with `overlay` over the values of the profile, and what was seen in it.

    `kubernetes` is the version of the cluster; Helm's own default where empty. Without `whole`, only templates were
    rendered that look at what differs: the operation, what `lookup` finds, or that version.
    """

    name: str
    overlay: Mapping[str, Any]
    kubernetes: str
    upgrade: bool
    found_by_lookup: bool
    whole: bool
    objects: int
    references: int

    @property
    def way(self) -> Way:
        """How it was rendered."""
        return self.name, self.upgrade, self.found_by_lookup


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

    @property
    def pulled(self) -> bool:
        """Whether a cluster asks for it, as opposed to what may be no image, and to what only `helm test` runs."""
        return self.found.certain and not self.found.test_only


class Renderer:
    """Renders one chart, and keeps what was seen, and in `failures` what could not be looked into.

    `shown` are the references of each way of rendering (see `Rendering.way`), and `version` is the cluster's. Where
    other templates than `only` are known to make the same as elsewhere, they are left out.
    """

    def __init__(self, release: Release, kubernetes: KubernetesEntry) -> None:
        self.release, self.tree = release, release.tree
        self.version, self.api_versions = kubernetes.version, kubernetes.api_versions
        self.only: frozenset[str] | None = None
        self.shown: dict[Way, frozenset[Seen]] = {}
        self.failures: set[Failure] = set()
        self.renderings: list[Rendering] = []
        # What brings images that are not rendered, with the profile's values.
        self.operators: set[Sighted] = set()
        # What `lookup` finds, and the templates in which it has to stay what it is, since they fail on that.
        self._held: dict[str, str] = {}
        self._unanswered: set[str] = set()
        values = merged(release.values, release.further)
        self._asking = self.tree.readers("lookup", values)
        # What may be another thing in an upgrade, and why an empty cluster cannot be upgraded.
        self._changing = self.tree.readers(OPERATION, values)
        self._refused: RecipeError | None = None

    @property
    def seen(self) -> dict[str, frozenset[Seen]]:
        """What was seen, by the name of the values."""
        found: dict[str, frozenset[Seen]] = {}
        for (name, _, _), seen in self.shown.items():
            found[name] = found.get(name, frozenset()) | seen
        return found

    def apart(self) -> "Renderer":
        """The same before anything was seen, for another thread."""
        other = copy(self)
        other.shown, other.failures, other.renderings, other.operators = {}, set(), [], set()
        return other

    def at(self, version: str, looking: frozenset[str]) -> "Renderer":
        """The same before anything was seen, for another version of the cluster, at which the templates `looking` look.

        These alone are rendered.
        """
        other = self.apart()
        other.version, other.only = version, looking
        return other

    def take(self, other: "Renderer") -> None:
        """Add what `other` has seen."""
        for way, seen in other.shown.items():
            self.shown[way] = self.shown.get(way, frozenset()) | seen
        self.failures |= other.failures
        self.renderings += other.renderings
        self.operators |= other.operators

    def installed(self, name: str, values: Mapping[str, Any], cut: Cut = UNCHECKED) -> None:
        """Render a first installation in an empty cluster. Raises RecipeError."""
        objects = self._rendered(name, values, cut, self.only, upgrade=False)
        if self.only is None:
            self._held = held(objects)

    def upgraded(self, name: str, values: Mapping[str, Any], cut: Cut = UNCHECKED, *, answered: bool = True) -> None:
        """Render an upgrade after `installed`: where `lookup` finds nothing, and where it finds something.

        Without `answered`, the latter only if the first fails. Raises RecipeError if both fail.
        """
        failure = self._refused
        if failure is None:
            try:
                self._rendered(name, values, cut, self._among(self._changing), upgrade=True)
            except RecipeError as exc:
                failure = exc
        if failure is None:
            if answered:
                self._answered(name, values, cut, self._among(self._asking), upgrade=True)
            return
        if not self._answered(name, values, cut, self._among(self._asking | self._changing), upgrade=True):
            raise failure
        self._refused = failure

    def repeated(self, name: str, values: Mapping[str, Any], cut: Cut = UNCHECKED) -> None:
        """Render an installation after `installed`, where `lookup` finds something."""
        self._answered(name, values, cut, self._among(self._asking), upgrade=False)

    def _answered(self, name: str, values: Mapping[str, Any], cut: Cut, only: frozenset[str], *, upgrade: bool) -> bool:
        """Render `only` these with `lookup` finding what it looks for.

        Templates that fail on that keep the empty answer. False if none is left.
        """
        while asking := [file for file in self.tree.asking if file not in self._unanswered]:
            try:
                self._rendered(name, values, cut, only, upgrade=upgrade, answered=True)
            except RecipeError as exc:
                named = TEMPLATE.findall(exc.message)
                self.failed(named[0] if named else "", exc, ())
                files = {self.tree.file(path) for path in named}
                # Often only the template is named, and a helper beside it asks the cluster.
                folders = {file.partition("/templates/")[0] for file in files}
                beside = {file for file in asking if file.partition("/templates/")[0] in folders}
                self._unanswered |= files & set(asking) or beside or set(asking)
                continue
            return True
        return False

    def _among(self, files: frozenset[str]) -> frozenset[str]:
        return files if self.only is None else files & self.only

    def failed(self, template: str, exc: RecipeError, switches: tuple[str, ...]) -> None:
        """Keep that `template` could not be looked into with `switches` on."""
        # What the chart says stands at the end, after the way there.
        text = " ".join(str(exc.__cause__ or exc.message).split()).rpartition("error calling ")[2][-MAX_ERROR:]
        text = text.encode("ascii", "replace").decode()
        self.failures.add(Failure(self.tree.chart.name, template, text, switches, ()))

    def _rendered(
        self,
        name: str,
        values: Mapping[str, Any],
        cut: Cut,
        only: frozenset[str] | None,
        *,
        upgrade: bool,
        answered: bool = False,
    ) -> list[Object]:
        manifests: tuple[tuple[str, Object], ...] = ()
        if only is None or only:
            chart = self.tree.variant(cut, only=only, left=self._unanswered, held=self._held if answered else None)
            manifests = chart.render(
                merged(self.release.values, values),
                release=self.release.name,
                namespace=self.release.namespace,
                kube_version=self.version,
                api_versions=self.api_versions,
                upgrade=upgrade,
            ).manifests
        rules = self.release.rules
        seen = frozenset(Seen(path, found) for path, item in manifests for found in references([item], rules))
        if name == PROFILE:
            self.operators |= sighted(item for _, item in manifests)
        made = Rendering(name, values, self.version, upgrade, answered, only is None, len(manifests), len(seen))
        self.shown[made.way] = seen
        self.renderings.append(made)
        return [item for _, item in manifests]

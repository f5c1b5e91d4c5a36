"""One chart rendered in one way, and what was seen in it."""

import json
import re
from collections.abc import Mapping
from copy import copy
from typing import Any

from builder.charts.fetch import FetchedChart
from builder.charts.operators import Sighted, sighted
from builder.charts.tree import ChartTree
from builder.recipe.findings import Failure
from builder.recipe.recipe import KubernetesEntry
from installer.chart.helm import Chart, Object
from installer.chart.images import Found, references
from installer.chart.lookups import held
from installer.chart.retarget import merged
from installer.chart.spelling.rules import NO_RULES, Rules
from installer.errors import AirferryError, RecipeError
from installer.oci.reference import Reference
from installer.value import Value

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
    rendered that look at what differs: what `lookup` finds, or that version.
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
    def way(self) -> tuple[str, bool, bool]:
        """The name of the values, whether it is an upgrade, and whether `lookup` finds anything."""
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

    `shown` are the references of each way of rendering (see `Rendering.way`), and `version` is the cluster's. Without
    `whole`, it is given charts with empty templates.
    """

    def __init__(self, release: Release, kubernetes: KubernetesEntry) -> None:
        self.release, self.tree = release, release.tree
        self.chart = release.fetched.chart
        self.version, self.api_versions = kubernetes.version, kubernetes.api_versions
        self.whole = True
        self.shown: dict[tuple[str, bool, bool], frozenset[Seen]] = {}
        self.failures: set[Failure] = set()
        self.renderings: list[Rendering] = []
        # What brings images that are not rendered, with the profile's values.
        self.operators: set[Sighted] = set()
        # What each object names: most are the same in all renderings.
        self._looked: dict[tuple[str, str], frozenset[Seen]] = {}
        # What `lookup` finds, and the templates in which it has to stay what it is, since they fail on that.
        self._held: dict[str, str] = {}
        self._unanswered: set[str] = set()
        self._asking = self.tree.readers("lookup", merged(release.values, release.further))

    @property
    def seen(self) -> dict[str, frozenset[Seen]]:
        """What was seen, by the name of the values."""
        found: dict[str, frozenset[Seen]] = {}
        for (name, _, _), seen in self.shown.items():
            found[name] = found.get(name, frozenset()) | seen
        return found

    def apart(self, version: str = "") -> "Renderer":
        """The same before anything was seen, for another thread, or for another version of the cluster.

        For the latter, charts are meant in which other templates are empty.
        """
        other = copy(self)
        other.shown, other.failures, other.renderings, other.operators = {}, set(), [], set()
        if version:
            other.version, other.whole = version, False
        return other

    def take(self, other: "Renderer") -> None:
        """Add what `other` has seen."""
        for way, seen in other.shown.items():
            self.shown[way] = self.shown.get(way, frozenset()) | seen
        self.failures |= other.failures
        self.renderings += other.renderings
        self.operators |= other.operators

    def installed(self, name: str, values: Mapping[str, Any], chart: Chart | None = None) -> None:
        """Render a first installation in an empty cluster. Raises RecipeError."""
        objects = self._rendered(name, values, upgrade=False, chart=chart)
        if self.whole:
            self._held = held(objects)

    def upgraded(self, name: str, values: Mapping[str, Any], *, empty: Chart | None, answered: bool = True) -> None:
        """Render an upgrade where `lookup` finds nothing, with the chart `empty`, and where it finds something.

        Without `answered`, the latter only if the first fails. Raises RecipeError if both fail.
        """
        failure: RecipeError | None = None
        try:
            self._rendered(name, values, upgrade=True, chart=empty)
        except RecipeError as exc:
            failure = exc
        whole, notes = failure is not None, failure is not None and empty is None
        if (
            (failure or answered)
            and not self.answered(name, values, upgrade=True, whole=whole, notes=notes)
            and failure
        ):
            raise failure

    def answered(
        self, name: str, values: Mapping[str, Any], *, upgrade: bool, whole: bool = False, notes: bool = False
    ) -> bool:
        """Render with `lookup` finding what it looks for; templates that fail on that keep the empty answer.

        Without `whole` only those that look for anything. False if none is left.
        """
        only = None if whole else self._asking
        while asking := [file for file in self.tree.asking if file not in self._unanswered]:
            try:
                chart = self.tree.variant(only=only, left=self._unanswered, held=self._held, notes=notes)
                self._rendered(name, values, upgrade=upgrade, chart=chart, answered=True, whole=whole)
            except RecipeError as exc:
                if only is not None:
                    # Perhaps it needs what was left empty.
                    only = None
                    continue
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

    def failed(self, template: str, exc: RecipeError, switches: tuple[str, ...]) -> None:
        """Keep that `template` could not be looked into with `switches` on."""
        # What the chart says stands at the end, after the way there.
        text = " ".join(str(exc.__cause__ or exc.message).split()).rpartition("error calling ")[2][-MAX_ERROR:]
        text = text.encode("ascii", "replace").decode()
        self.failures.add(Failure(self.chart.name, template, text, switches, ()))

    def _rendered(
        self,
        name: str,
        values: Mapping[str, Any],
        *,
        upgrade: bool,
        chart: Chart | None = None,
        answered: bool = False,
        whole: bool = True,
    ) -> list[Object]:
        rendering = (chart or self.chart).render(
            merged(self.release.values, values),
            release=self.release.name,
            namespace=self.release.namespace,
            kube_version=self.version,
            api_versions=self.api_versions,
            upgrade=upgrade,
        )
        manifests = rendering.manifests
        seen = frozenset(found for template, item in manifests for found in self._names(template, item))
        if name == PROFILE:
            self.operators |= sighted(item for _, item in manifests)
        made = Rendering(name, values, self.version, upgrade, answered, self.whole and whole, len(manifests), len(seen))
        self.shown[made.way] = seen
        self.renderings.append(made)
        return rendering.objects

    def _names(self, template: str, item: Object) -> frozenset[Seen]:
        key = template, json.dumps(item)
        if key not in self._looked:
            self._looked[key] = frozenset(Seen(template, found) for found in references([item], self.release.rules))
        return self._looked[key]

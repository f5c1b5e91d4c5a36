"""What Helm is going to do with a chart, rendered: installation and upgrade.

For charts that ask the cluster with `lookup`, also the upgrade in a cluster that holds what was installed.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from operator import itemgetter
from typing import Any

from installer.chart.helm import Chart, Rendering
from installer.chart.parts import Part, file_of, files_of, parts_of, with_files
from installer.chart.templates.lookups import after_installation, asking
from installer.chart.templates.readers import OPERATION, narrowed, readers

Render = Callable[[Mapping[str, Any]], Rendering]
_KEPT = 4


class Operations:
    """The operations of `chart` as `release` in `namespace`, each rendered once for the same values.

    `kube_version` and `api_versions` are what the chart sees of the cluster. All raise the errors of `Chart.render`.
    """

    def __init__(
        self, chart: Chart, release: str, namespace: str, *, kube_version: str = "", api_versions: Sequence[str] = ()
    ) -> None:
        self.chart, self._release, self._namespace = chart, release, namespace
        self._kube_version, self._api_versions = kube_version, api_versions
        self._made: list[tuple[str, Mapping[str, Any], Rendering]] = []
        # Charts that make passwords cannot be upgraded in an empty cluster: for these it holds what was installed.
        self._refuses = False

    def install(self, values: Mapping[str, Any]) -> Rendering:
        """The first installation, in an empty cluster."""
        return self._once("install", values, lambda: self._render(self.chart, values))

    def upgrade(self, values: Mapping[str, Any]) -> Rendering:
        """An upgrade in an empty cluster; where the chart refuses that, the one after its installation."""
        return self._once("upgrade", values, lambda: self._upgraded(values))

    def later(self, values: Mapping[str, Any]) -> Rendering:
        """What may be other objects in an upgrade where `lookup` finds what was installed; see `renders`."""
        return self._once("later", values, lambda: self._answered(values, self._readers("lookup", values)))

    def renders(self) -> Iterator[Render]:
        """What renders each operation that is unlike the others."""
        yield self.install
        yield self.upgrade
        if not self._refuses and asking(self._files):
            yield self.later

    def rendered(self, render: Render, values: Mapping[str, Any]) -> Rendering | None:
        """What `render`, one of these, makes of `values`; None for `later` if the chart fails on what it finds."""
        try:
            return render(values)
        except self.chart.values_error:
            if render == self.later:
                return None
            raise

    def all(self, values: Mapping[str, Any]) -> list[Rendering]:
        """Every operation, `install` and `upgrade` first; without `later` if the chart fails on what it finds."""
        return [made for render in self.renders() if (made := self.rendered(render, values))]

    @cached_property
    def _files(self) -> Mapping[str, bytes]:
        return files_of(self.chart)

    @cached_property
    def _parts(self) -> Sequence[Part]:
        return parts_of(self.chart, self._files)[0]

    def _readers(self, words: str, values: Mapping[str, Any]) -> frozenset[str]:
        return readers(self._files, words, json.dumps(values))

    def _once(self, what: str, values: Mapping[str, Any], make: Callable[[], Rendering]) -> Rendering:
        for kind, known, rendering in self._made:
            if kind == what and known == values:
                return rendering
        rendering = make()
        self._made = [*self._made[1 - _KEPT :], (what, values, rendering)]
        return rendering

    def _upgraded(self, values: Mapping[str, Any]) -> Rendering:
        """The installation, with those templates rendered anew that can tell an upgrade from it."""
        installed, changing = self.install(values), self._readers(OPERATION, values)
        if not changing:
            return installed
        files = narrowed(self._files, changing)
        if not self._refuses:
            try:
                return self._over(installed, files, self._render(with_files(self.chart, files), values, upgrade=True))
            except self.chart.values_error:
                if not asking(self._files):
                    raise
                self._refuses = True
        changing |= self._readers("lookup", values)
        return self._over(installed, narrowed(self._files, changing), self._answered(values, changing))

    def _over(self, installed: Rendering, files: Mapping[str, bytes], made: Rendering) -> Rendering:
        """`installed`, with what the `files` that are not empty make in its place."""
        crds, others = installed.manifests[: len(installed.crds)], installed.manifests[len(installed.crds) :]
        kept = [pair for pair in others if not files.get(file_of(self._parts, pair[0]))]
        return replace(installed, manifests=(*crds, *sorted((*kept, *made.manifests), key=itemgetter(0))))

    def _answered(self, values: Mapping[str, Any], only: Collection[str]) -> Rendering:
        """An upgrade in a cluster that holds what was installed, of `only` these templates."""
        answered = after_installation(self.chart, self.install(values).objects, only)
        return self._render(answered or self.chart, values, upgrade=True)

    def _render(self, chart: Chart, values: Mapping[str, Any], *, upgrade: bool = False) -> Rendering:
        return chart.render(
            values,
            release=self._release,
            namespace=self._namespace,
            kube_version=self._kube_version,
            api_versions=self._api_versions,
            upgrade=upgrade,
        )

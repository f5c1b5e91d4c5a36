"""What Helm is going to do with a chart, rendered: installation and upgrade.

For charts that ask the cluster with `lookup`, also the upgrade in a cluster that holds what was installed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from installer.chart.helm import Chart, Rendering
from installer.chart.lookups import after_installation, asking
from installer.chart.parts import files_of

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
        self._answered: Chart | None = None

    def install(self, values: Mapping[str, Any]) -> Rendering:
        """The first installation, in an empty cluster."""
        return self._once("install", values, lambda: self._render(self.chart, values))

    def upgrade(self, values: Mapping[str, Any]) -> Rendering:
        """An upgrade in an empty cluster; where the chart refuses that, the one after its installation."""
        return self._once("upgrade", values, lambda: self._upgraded(values))

    def later(self, values: Mapping[str, Any]) -> Rendering:
        """What may be other objects in an upgrade where `lookup` finds what was installed; see `renders`."""
        return self._once("later", values, lambda: self._after(values))

    def renders(self) -> Iterator[Render]:
        """What renders each operation that is unlike the others."""
        yield self.upgrade
        yield self.install
        if self._answered is None and self._asks:
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
        """Every operation, `upgrade` and `install` first; without `later` if the chart fails on what it finds."""
        return [made for render in self.renders() if (made := self.rendered(render, values))]

    @cached_property
    def _asks(self) -> bool:
        return bool(asking(files_of(self.chart)))

    def _once(self, what: str, values: Mapping[str, Any], make: Callable[[], Rendering]) -> Rendering:
        for kind, known, rendering in self._made:
            if kind == what and known == values:
                return rendering
        rendering = make()
        self._made = [*self._made[1 - _KEPT :], (what, values, rendering)]
        return rendering

    def _upgraded(self, values: Mapping[str, Any]) -> Rendering:
        if self._answered is None:
            try:
                return self._render(self.chart, values, upgrade=True)
            except self.chart.values_error:
                self._answered = after_installation(self.chart, self.install(values).objects)
                if self._answered is None:
                    raise
        return self._render(self._answered, values, upgrade=True)

    def _after(self, values: Mapping[str, Any]) -> Rendering:
        answered = after_installation(self.chart, self.install(values).objects, values)
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

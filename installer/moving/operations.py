"""What Helm is going to do with a chart, rendered: installation and upgrade.

For charts that ask the cluster with `lookup`, also the upgrade in a cluster that holds what was installed.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any, Literal

from installer.chart.helm import Chart, Rendering
from installer.chart.lookups import after_installation

Operation = Literal["install", "upgrade"]
Render = Callable[[Mapping[str, Any]], Rendering]
_KEPT = 4


class Operations:
    """The operations of `chart`, each rendered once for the same values, with `render`, which is told what to render.

    All raise the errors of `render`.
    """

    def __init__(self, chart: Chart, render: Callable[[Chart, Mapping[str, Any], Operation], Rendering]) -> None:
        self.chart, self._render = chart, render
        self._made: list[tuple[str, Mapping[str, Any], Rendering]] = []
        # Charts that make passwords cannot be upgraded in an empty cluster: for these it holds what was installed.
        self._answered: Chart | None = None

    def install(self, values: Mapping[str, Any]) -> Rendering:
        """The first installation, in an empty cluster."""
        return self._once("install", values, lambda: self._render(self.chart, values, "install"))

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

    def all(self, values: Mapping[str, Any]) -> list[Rendering]:
        """Every operation; without `later` if the chart fails on what it finds."""
        made = [self.upgrade(values), self.install(values)]
        if self._answered is None and self._asks:
            with suppress(self.chart.values_error):
                made.append(self.later(values))
        return made

    @cached_property
    def _asks(self) -> bool:
        return after_installation(self.chart, ()) is not None

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
                return self._render(self.chart, values, "upgrade")
            except self.chart.values_error:
                self._answered = after_installation(self.chart, self.install(values).objects)
                if self._answered is None:
                    raise
        return self._render(self._answered, values, "upgrade")

    def _after(self, values: Mapping[str, Any]) -> Rendering:
        answered = after_installation(self.chart, self.install(values).objects, values)
        return self._render(answered or self.chart, values, "upgrade")

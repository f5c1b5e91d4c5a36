"""Images that move with the version of the cluster, such as `kubectl:{{ .Capabilities.KubeVersion.Version }}`.

The templates that look at the cluster are rendered for every minor version that the recipe says, since some ask for
something on one alone, and for the newest patch. Where two of these ask for other images, so they are for one in
between, until it is known between which two versions each change lies. Upgrades, and what is optional, are rendered for
the oldest and the newest version, and only if they move between these, for the others.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from builder.charts.rendering import PROFILE, Renderer, Seen, Way
from builder.recipe.recipe import KubernetesEntry
from installer.chart.retarget import merged
from installer.errors import RecipeError
from installer.value import Value

Asked = tuple[str, str]
"""A template, and the text that it asks for."""


class Moving(Value, order=True):
    """A template that asks for `texts` by the version of the cluster.

    With `open` they differ among the versions that one minor version stands for, so nobody can say which is needed.
    `pulled` is false for what only optional parts ask for, and for what may be no image. `versions` are those that ask
    for other texts than the version that counts.
    """

    template: str
    texts: tuple[str, ...]
    open: bool
    pulled: bool
    versions: tuple[str, ...]

    def __str__(self) -> str:
        texts = ", ".join(self.texts)
        if not self.open:
            return f"{self.template} asks by the minor version of the cluster: {texts}"
        told = f"{self.template} asks by the very version of the cluster: {texts}"
        return told if self.pulled else f"{told}; whoever needs it sets its tag in the values"


def moving(made: Renderer, kubernetes: KubernetesEntry, name: str, overlay: Mapping[str, Any] | None) -> list[Moving]:
    """What moves, `made` having rendered the chart for `kubernetes.version`, and with `overlay` under `name`.

    Adds to `made` what the other versions ask for, except where that is open. Raises RecipeError if the chart cannot be
    rendered for one of the versions.
    """
    return _Versions(made, kubernetes, name, overlay).moving()


class _Versions:
    def __init__(
        self, made: Renderer, kubernetes: KubernetesEntry, name: str, overlay: Mapping[str, Any] | None
    ) -> None:
        self.base, self.kubernetes, self.name, self.overlay = made, kubernetes, name, overlay
        self.versions = [version for minor in kubernetes.versions for version in minor]
        self.made = {kubernetes.version: made}
        self.looking = made.tree.readers("Capabilities", merged(made.release.values, made.release.further))
        # Which values are rendered for versions in between, and whether as upgrade: what moves, and in any case one.
        self.ways = {(PROFILE, False)}

    def moving(self) -> list[Moving]:
        if not self.looking:
            return []
        oldest, newest = self._at(self.versions[0]), self._at(self.versions[-1])
        self.ways |= {way[:2] for way in oldest.shown if self._differing(oldest, newest, way)}
        ends = [self.versions.index(minor[0]) for minor in self.kubernetes.versions]
        for low, high in pairwise([*ends, len(self.versions) - 1]):
            self._look(low, high)
        undecided = set[Asked]()
        for first, *late in self.kubernetes.versions:
            if late and first in self.made and late[0] in self.made:
                undecided |= self._differing(self.made[first], self.made[late[0]])
        others = [made for made in self.made.values() if made is not self.base]
        differing = {version: self._differing(self.base, made) for version, made in self.made.items()}
        moved = set[Asked]().union(*differing.values())
        pulled = {_asked(seen) for made in self.made.values() for seen in made.seen.get(PROFILE, ()) if seen.pulled}
        for made in others:
            settled = {way for way, found in made.shown.items() if undecided.isdisjoint(map(_asked, found))}
            made.shown = {way: made.shown[way] for way in settled}
            made.renderings = [item for item in made.renderings if item.way in settled]
            self.base.take(made)
        found: dict[tuple[str, bool, bool], set[str]] = {}
        for asked in moved | undecided:
            found.setdefault((asked[0], asked in undecided, asked in pulled), set()).add(asked[1])
        return sorted(
            Moving(
                template,
                tuple(sorted(texts)),
                is_open,
                is_pulled,
                tuple(
                    version
                    for version in self.versions
                    if not texts.isdisjoint(text for name, text in differing.get(version, ()) if name == template)
                ),
            )
            for (template, is_open, is_pulled), texts in found.items()
        )

    def _look(self, low: int, high: int) -> None:
        """Render for the versions at `low` and `high`, and for as many in between as are needed to know all changes."""
        one, other = self._at(self.versions[low]), self._at(self.versions[high])
        if high - low > 1 and self._differing(one, other):
            middle = (low + high) // 2
            self._look(low, middle)
            self._look(middle, high)

    def _at(self, version: str) -> Renderer:
        if version not in self.made:
            self.made[version] = self._rendered(version)
        return self.made[version]

    def _rendered(self, version: str) -> Renderer:
        made, outermost = self.base.at(version, self.looking), version in (self.versions[0], self.versions[-1])
        try:
            self._render(made, PROFILE, {}, outermost=outermost)
        except RecipeError as exc:
            if self.kubernetes.stated:
                raise RecipeError(f"for Kubernetes {version}: {exc.message}", hint=exc.hint) from exc
        if self.overlay is not None:
            try:
                self._render(made, self.name, self.overlay, outermost=outermost)
            except RecipeError as exc:
                made.failed(f"for Kubernetes {version}", exc, ())
        return made

    def _render(self, made: Renderer, name: str, overlay: Mapping[str, Any], *, outermost: bool) -> None:
        if outermost or (name, False) in self.ways:
            made.installed(name, overlay)
        if outermost or (name, True) in self.ways:
            made.upgraded(name, overlay, answered=False)

    def _differing(self, one: Renderer, other: Renderer, *ways: Way) -> set[Asked]:
        """What one of the two asks for and the other, rendered the same way (one of `ways`), does not."""
        found = set[Asked]()
        for way in ways or one.shown.keys():
            if way in one.shown and way in other.shown:
                found |= self._shown(one, way) ^ self._shown(other, way)
        return found

    def _shown(self, made: Renderer, way: Way) -> set[Asked]:
        """What templates that look at the cluster were seen to ask for."""
        return {_asked(seen) for seen in made.shown[way] if self.base.tree.file(seen.template) in self.looking}


def _asked(seen: Seen) -> Asked:
    return seen.template, seen.found.text

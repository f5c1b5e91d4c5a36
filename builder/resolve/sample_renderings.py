"""Charts and resources as sample answers make them, and what differs between two sites.

What a chart makes anew each time (passwords, certificates) is told by rendering the same values twice.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from builder.charts.render_matrix import switched
from builder.images.parallel import RENDERINGS, in_parallel
from builder.recipe.recipe import KubernetesEntry
from builder.rehearse.sample_site import sample_site
from builder.resolve.on_site import on_site
from builder.resolve.steps import Resolved
from installer.apps.application import Application
from installer.apps.samples import Sample
from installer.chart.helm import Chart, Object
from installer.chart.images import references
from installer.chart.retarget import merged
from installer.errors import RecipeError
from installer.site.answers import SiteAnswers
from installer.site.site import Site
from installer.value import Value, replace

Objects = Mapping[str, Object]
"""Rendered objects by `Kind name`, with `namespace/` before the name where they say one."""
Leaf = tuple[str | int, ...]
"""The path of a value in an object."""
_NONE: Leaf = ("",)


class _Asked(Value):
    """A rendering: the release `step` with `values` (JSON), which switch all parts on if `everything`.

    With `again` it is made a second time.
    """

    step: str
    namespace: str
    values: str
    everything: bool
    again: bool = False


class SampleRenderings:
    """Renders each set of values once; a rendering that failed is the error."""

    def __init__(self, app: Application, steps: Resolved, kubernetes: KubernetesEntry) -> None:
        self.app, self.steps, self.kubernetes = app, steps, kubernetes
        self.releases = {item.name: item for item in steps.releases}
        self.made: dict[_Asked, Objects | RecipeError] = {}
        # What the renderings for answers are, by the identity of these, which are kept so that it stays theirs.
        self.known: dict[tuple[int, bool], tuple[SiteAnswers, tuple[_Asked, ...]]] = {}
        # Most objects are the same in all renderings: they are kept once.
        self.kept: dict[str, Object] = {}
        # By the identity of an object that is held here, so that no other has it.
        self.asking: dict[int, tuple[Object, frozenset[tuple[str, str]]]] = {}

    def make(self, samples: Iterable[Sample], *, everything: bool) -> None:
        """Render what `samples` need; with `everything`, all parts of the charts are on."""
        self._make(
            asked
            for item in samples
            for asked in (
                *self._asked(item.before, everything=everything),
                *self._asked(item.before, everything=everything, again=True),
                *self._asked(item.after, everything=everything),
            )
        )

    def changes(self, sample: Sample, *, everything: bool) -> dict[str, bool]:
        """The objects of charts that the answer of `sample` changes, makes or removes, and the resources.

        Each with whether its pods are others then; a resource has none.
        """
        before = self._asked(sample.before, everything=everything)
        again = self._asked(sample.before, everything=everything, again=True)
        after = self._asked(sample.after, everything=everything)
        found: dict[str, bool] = {}
        for asked in zip(before, again, after, strict=True):
            found |= self._changed(*asked)
        one, other = (sample_site(self.app, answers) for answers in (sample.before, sample.after))
        for step in self.steps.profile.steps:
            if step.resource:
                item = self.steps.objects[step.resource][0]
                if merged(item, self.app.fields(step, one)) != merged(item, self.app.fields(step, other)):
                    found[_name(item)] = False
        return found

    def pods(self, sample: Sample, steps: Collection[str], *, everything: bool) -> set[str]:
        """The objects with pods that the charts of `steps` make with the answer of `sample`, tests aside."""
        made = [self.made[asked] for asked in self._asked(sample.after, everything=everything) if asked.step in steps]
        objects = [item for found in made if not isinstance(found, RecipeError) for item in found.values()]
        return {
            _name(item)
            for item in objects
            if any(found.container and not found.test_only for found in references([item]))
        }

    def images(self, answers: SiteAnswers) -> frozenset[tuple[str, str]]:
        """What the charts ask for with `answers`, tests aside: objects and their images; nothing of what is refused."""
        asked = list(self._asked(answers, everything=False))
        self._make(asked)
        made = [
            item for one in asked if not isinstance(found := self.made[one], RecipeError) for item in found.values()
        ]
        return frozenset().union(*(self._images(item) for item in made))

    def _images(self, item: Object) -> frozenset[tuple[str, str]]:
        """The images of an object, which is one of those that are kept."""
        if id(item) not in self.asking:
            named = references([item], self.app.profile.images)
            places = (found for found in named if found.certain and not found.test_only)
            self.asking[id(item)] = item, frozenset((_name(item), found.text) for found in places)
        return self.asking[id(item)][1]

    def refusal(self, sample: Sample) -> str:
        """What a chart says that cannot be rendered with the answer of `sample`; empty if all can."""
        made = [self.made[asked] for asked in self._asked(sample.after, everything=False)]
        return next((found.message for found in made if isinstance(found, RecipeError)), "")

    def charts(self, sample: Sample) -> list[Chart]:
        """The charts whose values the answer of `sample` changes."""
        both = (self._asked(answers, everything=False) for answers in (sample.before, sample.after))
        return [self.releases[one.step].fetched.chart for one, other in zip(*both, strict=True) if one != other]

    def names(self, secret: str) -> bool:
        """Whether an object that was rendered, or a resource or manifest, names `secret`."""
        self._make(self._with(name, None, everything=False) for name in self.releases)
        objects = [item for made in self.made.values() if not isinstance(made, RecipeError) for item in made.values()]
        objects += [item for items in self.steps.objects.values() for item in items]
        return any(json.dumps(secret) in json.dumps(item) for item in objects)

    def _make(self, asked: Iterable[_Asked]) -> None:
        missing = [item for item in dict.fromkeys(asked) if item not in self.made]
        made = in_parallel(self._rendered, missing, "charts cannot be rendered", threads=RENDERINGS)
        self.made.update(zip(missing, made, strict=True))

    def _asked(self, answers: SiteAnswers, *, everything: bool, again: bool = False) -> tuple[_Asked, ...]:
        known = id(answers), everything
        if known not in self.known:
            site = sample_site(self.app, answers)
            asked = (self._with(name, site, everything=everything) for name in self.releases)
            self.known[known] = answers, tuple(asked)
        found = self.known[known][1]
        return tuple(replace(item, again=True) for item in found) if again else found

    def _with(self, name: str, site: Site | None, *, everything: bool) -> _Asked:
        """The rendering of the release `name` with the answers of `site`."""
        release, step = self.releases[name], self.steps.profile.step(name)
        values = dict(release.values)
        if everything:
            values = merged(values, merged(release.further, switched(dict.fromkeys(release.tree.switches, True))))
        namespace = self.app.namespace(step, site) if site else release.namespace
        text = json.dumps(on_site(self.app, step, values, site), sort_keys=True)
        return _Asked(name, namespace, text, everything)

    def _rendered(self, asked: _Asked) -> Objects | RecipeError:
        release = self.releases[asked.step]
        try:
            made = release.tree.draft.render(
                json.loads(asked.values),
                release=release.name,
                namespace=asked.namespace,
                kube_version=self.kubernetes.version,
                api_versions=self.kubernetes.api_versions,
            )
        except RecipeError as exc:
            return exc
        found: dict[str, Object] = {}
        for item in made.objects[len(made.crds) :]:
            name = _name(item)
            kept = self.kept.setdefault(f"{asked.step}: {name}", item)
            found[name] = kept if kept == item else item
        return found

    def _changed(self, before: _Asked, again: _Asked, after: _Asked) -> dict[str, bool]:
        one, two, other = self.made[before], self.made[again], self.made[after]
        if isinstance(other, RecipeError):
            return {}
        if isinstance(one, RecipeError) or isinstance(two, RecipeError):
            # Without the answer the chart can make nothing at all.
            return {} if before.everything else dict.fromkeys(other, True)
        found = {}
        for name in one.keys() | other.keys():
            if one.get(name) != other.get(name):
                leaves = _leaves(one.get(name), other.get(name)) - _leaves(one.get(name), two.get(name))
                pod = _pod(other.get(name, {}))
                if leaves:
                    found[name] = any(leaf[: len(pod)] == pod[: len(leaf)] for leaf in leaves)
        return found


def _name(item: Object) -> str:
    metadata = item.get("metadata") or {}
    place = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{item.get('kind')} {place}{metadata.get('name')}"


def _pod(item: Any) -> Leaf:
    """Where the template of the pods of `item` stands; of no pods a path that nothing has."""
    if isinstance(item, dict):
        spec = item.get("spec")
        if isinstance(spec, dict) and isinstance(spec.get("containers"), list):
            return ()
        for key in ("spec", "template", "jobTemplate"):
            below = _pod(item.get(key))
            if below != _NONE:
                return (key, *below)
    return _NONE


def _leaves(one: Any, other: Any, path: Leaf = ()) -> set[Leaf]:
    """The paths at which two values differ."""
    if one == other:
        return set()
    if isinstance(one, dict) and isinstance(other, dict):
        pairs: Iterable[tuple[str | int, Any, Any]] = ((key, one.get(key), other.get(key)) for key in {**one, **other})
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = ((index, *both) for index, both in enumerate(zip(one, other, strict=True)))
    else:
        return {path}
    return {found for key, left, right in pairs for found in _leaves(left, right, (*path, key))}

"""Proof that answers have an effect in the charts at hand: rendered without each and with it, the objects differ.

What a chart makes anew each time (passwords, certificates) is told by rendering the same values twice.
"""

import base64
import datetime as dt
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from builder.charts.render_matrix import switched
from builder.images.parallel import RENDERINGS, in_parallel
from builder.recipe.recipe import KubernetesEntry
from builder.resolve.steps import Resolved
from installer.apps.application import Application
from installer.apps.profile import Profile
from installer.apps.samples import Sample
from installer.chart.helm import Object
from installer.chart.retarget import merged
from installer.errors import RecipeError
from installer.site.answers import SiteAnswers
from installer.site.certificates import Certificates
from installer.site.secret import SecretReader
from installer.site.site import Site, SiteFiles
from installer.value import Value

Objects = Mapping[str, Object]
"""Rendered objects by kind, namespace and name."""


class _Asked(Value):
    """A rendering: the release `step` with `values` (JSON) of the site over its own, all parts on with `everything`.

    With `again` it is made a second time.
    """

    step: str
    namespace: str
    values: str
    everything: bool
    again: bool = False


def heard(app: Application, steps: Resolved, kubernetes: KubernetesEntry) -> Profile:
    """The profile of `steps`, in `unheard` the keys whose answers have no effect.

    Raises RecipeError where that is a defect of the profile: its application has no driver, and the question does not
    say that it is `optional`.
    """
    found = _Prover(app, steps, kubernetes).unheard()
    if app.profile.driver is None:
        questions = app.profile.questions
        if defects := [f"questions.{key}: {why}" for key, why in found.items() if not questions[key].optional]:
            raise RecipeError(
                "\n  ".join(["questions of the profile without effect:", *defects]),
                hint="correct their `path`, or say `optional: true` where charts of other versions read it.",
            )
    return app.profile.model_copy(update={"unheard": found})


class _Prover:
    """Renders each set of values once; a rendering that failed is the error."""

    def __init__(self, app: Application, steps: Resolved, kubernetes: KubernetesEntry) -> None:
        self.app, self.steps, self.kubernetes = app, steps, kubernetes
        self.releases = {item.name: item for item in steps.releases}
        self.made: dict[_Asked, Objects | RecipeError] = {}
        # Most objects are the same in all renderings: they are kept once.
        self.kept: dict[str, Object] = {}

    def unheard(self) -> dict[str, str]:
        """By key, why its answer has no effect."""
        samples: dict[str, list[Sample]] = {}
        for item in self.app.samples():
            samples.setdefault(item.key, []).append(item)
        waiting = dict(samples)
        for everything in (False, True):
            # Further samples only of keys whose first showed nothing.
            for turn in range(max(map(len, waiting.values()), default=0)):
                asked = [items[turn] for items in waiting.values() if turn < len(items)]
                shown = self._shown(asked, everything=everything)
                waiting = {key: items for key, items in waiting.items() if key not in shown}
        return {**{key: self._why(items) for key, items in waiting.items()}, **self._unproven(samples.keys())}

    def _shown(self, samples: Collection[Sample], *, everything: bool) -> set[str]:
        """The keys of those `samples` that show an effect."""
        self._make(
            asked
            for item in samples
            for asked in (
                *self._asked(item.before, everything=everything),
                *self._asked(item.before, everything=everything, again=True),
                *self._asked(item.after, everything=everything),
            )
        )
        return {item.key for item in samples if self._differs(item, everything=everything)}

    def _make(self, asked: Iterable[_Asked]) -> None:
        missing = [item for item in dict.fromkeys(asked) if item not in self.made]
        made = in_parallel(self._rendered, missing, "charts cannot be rendered", threads=RENDERINGS)
        self.made.update(zip(missing, made, strict=True))

    def _asked(self, answers: SiteAnswers, *, everything: bool, again: bool = False) -> Iterator[_Asked]:
        site = _site(self.app, answers)
        for name in self.releases:
            step = self.steps.profile.step(name)
            values = merged(self.app.controller_values(step, site), self.app.values(step, site))
            text = json.dumps(values, sort_keys=True)
            yield _Asked(name, self.app.namespace(step, site), text, everything, again)

    def _rendered(self, asked: _Asked) -> Objects | RecipeError:
        release = self.releases[asked.step]
        values = dict(release.values)
        if asked.everything:
            values = merged(values, merged(release.further, switched(dict.fromkeys(release.tree.switches, True))))
        try:
            made = release.fetched.chart.render(
                merged(values, json.loads(asked.values)),
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

    def _differs(self, sample: Sample, *, everything: bool) -> bool:
        """Whether the answer changes an object of a chart, or a resource."""
        before = self._asked(sample.before, everything=everything)
        again = self._asked(sample.before, everything=everything, again=True)
        after = self._asked(sample.after, everything=everything)
        if any(self._changed(*asked) for asked in zip(before, again, after, strict=True)):
            return True
        sites = [_site(self.app, answers) for answers in (sample.before, sample.after)]
        resources = [step for step in self.steps.profile.steps if step.resource]
        return any(
            merged(self.steps.objects[step.resource or ""][0], self.app.fields(step, sites[0]))
            != merged(self.steps.objects[step.resource or ""][0], self.app.fields(step, sites[1]))
            for step in resources
        )

    def _changed(self, before: _Asked, again: _Asked, after: _Asked) -> set[str]:
        """The objects that the answer changes, makes or removes."""
        one, two, other = self.made[before], self.made[again], self.made[after]
        if isinstance(other, RecipeError):
            return set()
        if isinstance(one, RecipeError) or isinstance(two, RecipeError):
            # Without the answer the chart can make nothing at all.
            return set() if before.everything else set(other)
        return {
            name
            for name in one.keys() | other.keys()
            if one.get(name) != other.get(name)
            and _leaves(one.get(name), other.get(name)) - _leaves(one.get(name), two.get(name))
        }

    def _why(self, samples: Collection[Sample]) -> str:
        """Why the answer of `samples` has no effect."""
        charts: dict[str, None] = {}
        for sample in samples:
            before, after = (list(self._asked(item, everything=False)) for item in (sample.before, sample.after))
            for one, other in zip(before, after, strict=True):
                made = self.made[other]
                if isinstance(made, RecipeError):
                    return made.message
                if one != other:
                    chart = self.releases[one.step].fetched.chart
                    helps = self.app.heard_from.get(chart.name)
                    charts[
                        f"chart {chart.name} {chart.version} does not read it{f'; {helps} does' if helps else ''}"
                    ] = None
        return ", ".join(charts) or "the sample is what holds without an answer; give the question another `example`"

    def _unproven(self, proven: Collection[str]) -> dict[str, str]:
        """Questions of the profile without a sample: why."""
        found = {}
        self._make(_Asked(name, item.namespace, "{}", everything=False) for name, item in self.releases.items())
        for key, question in self.app.profile.questions.items():
            if key not in proven and question.to:
                found[key] = "give the question an `example`, which its `pattern` needs"
            elif question.secret and not question.to and not self._names(question.secret.name):
                found[key] = f"nothing here names its Secret {question.secret.name}"
        return found

    def _names(self, secret: str) -> bool:
        """Whether an object that was rendered, or a resource or manifest, names `secret`."""
        objects = [item for made in self.made.values() if not isinstance(made, RecipeError) for item in made.values()]
        objects += [item for items in self.steps.objects.values() for item in items]
        return any(json.dumps(secret) in json.dumps(item) for item in objects)


class _SampleFiles(SiteFiles):
    """Certificates for all files that sample answers name."""

    def __init__(self) -> None:
        super().__init__(Path(), dt.datetime.fromtimestamp(0, dt.UTC), elsewhere=True)

    def certificates(self, file: str | None, key: str) -> Certificates:  # noqa: ARG002
        """One that is made up."""
        text = base64.b64encode((file or "").encode()).decode()
        return Certificates((f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n",) if file else ())


def _site(app: Application, answers: SiteAnswers) -> Site:
    files, notes = app.read_files(answers, _SampleFiles())
    reader = SecretReader(Path(), lambda _: None, lambda _: "")
    return Site(answers=answers, registry_ca=None, files=files, notes=notes, reader=reader)


def _name(item: Object) -> str:
    metadata = item.get("metadata") or {}
    return f"{item.get('kind')} {metadata.get('namespace', '')}/{metadata.get('name')}"


def _leaves(one: Any, other: Any, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
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

"""Proof that answers have an effect in the charts at hand, and that questions reach what they promise.

Charts are rendered with the answers of two sites that differ in one of them: if the objects differ, it is heard.
"""

from collections.abc import Collection

from builder.recipe.recipe import KubernetesEntry
from builder.resolve.requirements import Asking
from builder.resolve.sample_renderings import SampleRenderings
from builder.resolve.steps import Resolved
from installer.apps.application import Application
from installer.apps.profile import Profile
from installer.apps.questions import Question, Reach
from installer.apps.samples import Sample
from installer.errors import RecipeError
from installer.value import Value


class Heard(Value):
    """A profile, in `unheard` the keys whose answers have no effect.

    `others` are samples of the others, one for each way of asking for other images than a site with few answers does.
    """

    profile: Profile
    others: tuple[Asking, ...]


def heard(app: Application, steps: Resolved, kubernetes: KubernetesEntry) -> Heard:
    """What becomes of the answers to the questions of `app`, in the charts of `steps`.

    Raises RecipeError where that is a defect of the profile: its application has no driver, and the question does not
    say that it is `optional`.
    """
    prover = _Prover(app, steps, kubernetes)
    found = prover.unheard()
    if app.profile.driver is None:
        questions = app.profile.questions
        if defects := [_defect(key, questions[key], why) for key, why in found.items() if not questions[key].optional]:
            raise RecipeError(
                "\n  ".join(["questions of the profile that do not do what they promise:", *defects]),
                hint="correct `path`, switch on in the step's `values` what reads it, or say `optional: true` if "
                "charts of other versions do.",
            )
    return Heard(profile=app.profile.model_copy(update={"unheard": found}), others=prover.others(found.keys()))


def _defect(key: str, question: Question, why: str) -> str:
    steps = dict.fromkeys([target.step for target in question.to] or [question.secret.step if question.secret else ""])
    return f"questions.{key} (step {', '.join(steps)}): {why}"


class _Prover:
    def __init__(self, app: Application, steps: Resolved, kubernetes: KubernetesEntry) -> None:
        self.app, self.questions = app, app.profile.questions
        self.renderings = SampleRenderings(app, steps, kubernetes)
        self.changed: dict[str, set[str]] = {}

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
                self.renderings.make(asked, everything=everything)
                shown = {item.key for item in asked if self._shows(item, everything=everything)}
                waiting = {key: items for key, items in waiting.items() if key not in shown}
        return {**{key: self._why(key, items) for key, items in waiting.items()}, **self._unproven(samples.keys())}

    def others(self, unheard: Collection[str]) -> tuple[Asking, ...]:
        """A sample for each set of images that the answers to keys that are not `unheard` ask for."""
        samples = [item for item in self.app.samples() if not set(item.after.given()) & set(unheard)]
        # The fewer answers there are, the likelier it is that the one that a sample is called by makes the difference.
        samples.sort(key=lambda item: len(list(item.after.given())))
        if not samples:
            return ()
        found = {self.renderings.images(item.after): item for item in reversed(samples)}
        found.pop(self.renderings.images(self.app.example()), None)
        asking = (Asking(sample=item, images=frozenset(text for _, text in asked)) for asked, item in found.items())
        return tuple(sorted(asking, key=lambda item: item.sample.key))

    def _shows(self, sample: Sample, *, everything: bool) -> bool:
        """Whether `sample` shows an effect, and the one that its question promises."""
        changes = self.renderings.changes(sample, everything=everything)
        self.changed.setdefault(sample.key, set()).update(changes)
        question = self.questions.get(sample.key)
        if question is None or question.reaches is None:
            return bool(changes)
        if isinstance(question.reaches, Reach):
            return any(question.reaches.fits(name) for name in changes)
        pods = self.renderings.pods(sample, {target.step for target in question.to}, everything=everything)
        return bool(pods) and all(changes.get(name) for name in pods)

    def _why(self, key: str, samples: Collection[Sample]) -> str:
        """Why the answer to `key`, of which these are the samples, has no effect."""
        if refusals := [text for item in samples if (text := self.renderings.refusal(item))]:
            return refusals[0]
        question = self.questions.get(key)
        if self.changed[key] and question:
            return f"reaches {', '.join(sorted(self.changed[key]))}, and not {question.reaches}"
        charts = {chart.name: chart for item in samples for chart in self.renderings.charts(item)}
        found = []
        for name, chart in charts.items():
            known = self.app.heard_from.get(name)
            found.append(f"chart {name} {chart.version} does not read it{f'; {known} does' if known else ''}")
        return ", ".join(found) or "the sample is what holds without an answer; give the question another `example`"

    def _unproven(self, proven: Collection[str]) -> dict[str, str]:
        """Questions of the profile without a sample: why."""
        found = {}
        for key, question in self.questions.items():
            if key not in proven and question.to:
                found[key] = "give the question an `example`, which its `pattern` needs"
            elif question.secret and not question.to and not self.renderings.names(question.secret.name):
                found[key] = f"nothing here names its Secret {question.secret.name}"
        return found

"""An application as its profile describes it: what a site is asked, and what the steps make of the answers.

This half is data: it needs no cluster, so the connected side uses it too. What an application does in a cluster is the
driver's, see `installer.workflows.driver`. A driver's folder may replace `Application` by a class of its own.
"""

import difflib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from installer.apps.profile import DOCUMENT, MAX_PROFILE, Installs, Profile, Step, parse_profile, placed
from installer.apps.question_model import answers_model
from installer.apps.questions import Question, Target
from installer.apps.samples import REGISTRY, Sample, least, question_samples
from installer.bundle.manifest import Contents
from installer.chart.retarget import merged
from installer.errors import BundleError, SiteError
from installer.schema import report
from installer.site.answers import ChartAnswers, SiteAnswers
from installer.site.secret import Secret, SecretSource
from installer.site.site import HINT, Site, SiteFiles, SiteSecret

PLACEHOLDER = "VALUE-FROM-SITE"
"""What stands for a secret in what is rendered for people."""


class Application:
    """An application of which the profile says all."""

    keys: Mapping[str, str] = {}
    """The keys of site.yaml that answer for what preflight looks at, see `Desired.key`."""
    heard_from: Mapping[str, str] = {}
    """By chart, a version that is known to read the answers to all keys."""
    secret_notes = ""
    """What is to be known about the content of Secrets by whoever fills them in by hand."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile

    @property
    def answers(self) -> type[SiteAnswers]:
        """The model of site.yaml: the keys that every application has, and the profile's questions."""
        unheard = {"required": False}
        return answers_model(
            {
                key: question.model_copy(update=unheard) if key in self.profile.unheard else question
                for key, question in self.profile.questions.items()
            }
        )

    def read_files(self, answers: SiteAnswers, files: SiteFiles) -> tuple[object, tuple[str, ...]]:  # noqa: ARG002
        """A profile's questions name no files but those of secrets."""
        return None, ()

    def samples(self) -> Iterator[Sample]:
        """Sites that differ in one answer each, for all keys whose answers go to charts or resources."""
        yield from question_samples(self.profile.questions)

    def example(self) -> SiteAnswers:
        """A site that answers no more than it must."""
        asked = {key: item for key, item in self.profile.questions.items() if key not in self.profile.unheard}
        return self.answers.model_validate({**REGISTRY, **least(asked)})

    def check(self, site: Site) -> None:
        """Raises SiteError naming every answer that can have no effect."""
        defects = [*self._unknown_charts(site.answers), *self._unheard(site.answers), *self._needed(site.answers)]
        if defects:
            raise report("site.yaml", defects, SiteError, hint=HINT)

    def steps(self, site: Site) -> list[Step]:
        """The steps that this site wants, in order."""
        return [step for step in self.profile.steps if not step.chart or step.label not in site.answers.without]

    def open_questions(self, site: Site) -> list[str]:
        """The questions that matter and have neither an answer nor a default, for people."""
        heard = ((key, item) for key, item in self.profile.questions.items() if key not in self.profile.unheard)
        asked = ((key, item) for key, item in heard if self._counts(item, site.answers))
        return [f"{key}: {item.help}" for key, item in asked if self._answer(key, item, site.answers) is None]

    def namespace(self, step: Step, site: Site) -> str:
        """Where `step` goes; for what `site` says of it or of all."""
        return self.own_answers(step, site).namespace or step.namespace or self.default_namespace(site)

    def default_namespace(self, site: Site) -> str:
        """The namespace of steps that have none of their own."""
        return site.answers.namespace or self.profile.namespace

    def own_answers(self, step: Step, site: Site) -> ChartAnswers:
        """What `site` says of the chart of `step` under `charts`."""
        found = (site.answers.charts.get(name) for name in self.names(step))
        return next((item for item in found if item), ChartAnswers())

    def names(self, step: Step) -> list[str]:
        """The names by which site.yaml may call the chart of `step`, the first one best; none for what has no chart.

        A chart's own name means all its releases, but for those that another step bears as its name.
        """
        names: tuple[str | None, ...] = ()
        if step.chart:
            names = (step.label, step.chart)
        elif step.installs:
            names = (step.installs.chart, step.name)
        others = {other.label for other in self.profile.steps if other is not step}
        return list(dict.fromkeys(name for name in names if name and name not in others))

    def values(self, step: Step, site: Site) -> dict[str, Any]:
        """What this site adds to the values of the chart of `step`: `charts` wins over all. Holds no secret."""
        values: dict[str, Any] = {}
        for target, answer in self._targets(step, site.answers):
            if not in_resource(step, target):
                values = merged(values, placed(below_values(step, target.path), answer))
        if name := site.answers.registry.pull_secret_name:
            for path in self.profile.pull_secret.values.get(step.label, ()):
                named: list[object] = [name] if path.endswith("[]") else [{"name": name}]
                values = merged(values, placed(path.removesuffix("[]"), named))
        return merged(values, self.own_answers(step, site).values)

    def secret_values(self, step: Step, site: Site, *, blank: bool) -> dict[str, Any]:
        """Values of the chart of `step` that are secrets themselves, since the chart has no other way.

        With `blank` a placeholder stands for each, and nothing is read or asked for. Raises SiteError if one cannot be
        had.
        """
        values: dict[str, Any] = {}
        for key, question in self.profile.questions.items():
            source = self._answer(key, question, site.answers)
            if not isinstance(source, SecretSource) or not self._counts(question, site.answers):
                continue
            for target in question.to:
                if target.step == step.label and target.put == "secret-value":
                    text = PLACEHOLDER if blank else site.secret(source, key).reveal()
                    values = merged(values, placed(below_values(step, target.path), text))
        return values

    def secret_paths(self, step: Step) -> Iterator[str]:
        """The paths of `secret_values`, answered or not."""
        for question in self.profile.questions.values():
            for target in question.to:
                if target.step == step.label and target.put == "secret-value":
                    yield below_values(step, target.path)

    def own_words(self, step: Step, site: Site) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """What `site` says in the words of the chart of `step`: by the key in site.yaml, values."""
        for name in self.names(step):
            if name in site.answers.charts:
                yield f"charts.{name}.values", site.answers.charts[name].values

    def fields(self, step: Step, site: Site) -> dict[str, Any]:
        """What this site changes in the resource of `step`, merged over it; the values of a chart in it aside."""
        found: dict[str, Any] = {}
        for target, answer in self._targets(step, site.answers):
            if in_resource(step, target):
                found = merged(found, placed(target.path, answer))
        return found

    def secrets(self, site: Site, *, blank: bool) -> Iterator[SiteSecret]:
        """The Secrets of the application; with `blank` without content, and nothing is read or asked for.

        Raises SiteError if one cannot be had.
        """
        made: dict[tuple[str, str], dict[str, Secret]] = {}
        for key, question in self.profile.questions.items():
            source = self._answer(key, question, site.answers)
            place = question.secret
            if place is None or not isinstance(source, SecretSource) or source.in_cluster:
                continue
            namespace = self.namespace(self.profile.step(place.step), site)
            text = Secret("") if blank else site.secret(source, key)
            made.setdefault((place.name, namespace), {})[place.key] = text
        for (name, namespace), data in made.items():
            yield SiteSecret(name, namespace, data)

    def controller_values(self, step: Step, site: Site | None) -> dict[str, Any]:  # noqa: ARG002
        """What the controller of `step` adds below the values of the chart that it installs; for no site the defaults.

        A profile's controller is not known to add anything.
        """
        return {}

    def place_of_values(self, step: Step) -> str:
        """The key in site.yaml under which the values of the chart of `step` are set."""
        return f"charts.{self.names(step)[0]}.values"

    def _targets(self, step: Step, answers: SiteAnswers) -> Iterator[tuple[Target, Any]]:
        """What goes to `step`, by target."""
        for key, question in self.profile.questions.items():
            answer = self._answer(key, question, answers)
            if answer is not None and self._counts(question, answers):
                for target in question.to:
                    if target.step == step.label and target.put != "secret-value":
                        yield target, _written(question, target, answer)

    def _answer(self, key: str, question: Question, answers: SiteAnswers) -> Any:
        answer = getattr(answers, key, None)
        return question.default if answer is None else answer

    def _counts(self, question: Question, answers: SiteAnswers) -> bool:
        if question.when is None:
            return True
        other = self.profile.questions[question.when.question]
        return bool(self._answer(question.when.question, other, answers) == question.when.is_)

    def _unknown_charts(self, answers: SiteAnswers) -> Iterator[str]:
        known = sorted({name for step in self.profile.steps for name in self.names(step)})
        for name in answers.charts:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                also = f"did you mean {near[0]}?" if near else f"known are {', '.join(known) or 'none'}"
                yield f"charts.{name}: the bundle has no such chart; {also}"

    def _needed(self, answers: SiteAnswers) -> Iterator[str]:
        """Steps that nobody can do without, among those that `answers` do without."""
        charts = [step.label for step in self.profile.steps if step.chart]
        needed = {step.controller for step in self.profile.steps}
        for name in answers.without:
            if name not in charts:
                yield f"without: there is no chart {name!r}; known are {', '.join(charts) or 'none'}"
            elif name in needed or len(charts) == len(self.profile.steps) == len(set(answers.without)):
                yield f"without: {name} is the application itself"

    def _unheard(self, answers: SiteAnswers) -> Iterator[str]:
        for key in sorted(set(answers.given()) & self.profile.unheard.keys()):
            yield f"{key}: has no effect here: {self.profile.unheard[key]}"
        for key in sorted(answers.model_fields_set & self.profile.questions.keys()):
            question = self.profile.questions[key]
            if question.when and not self._counts(question, answers):
                yield f"{key}: counts only with `{question.when.question}: {_text(question.when.is_)}`"


def application(profile: Profile) -> Application:
    """The application that `profile` describes. Raises BundleError if it needs a driver that this program lacks."""
    if profile.driver is None:
        return Application(profile)
    name = f"installer.apps.{profile.driver}.application"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name == name:
            return Application(profile)
        if exc.name != name.rpartition(".")[0]:
            raise
        raise BundleError(
            f"the bundle's application needs the driver {profile.driver!r}, which this program does not have",
            hint="use the installer that came with the bundle, or a newer one.",
        ) from exc
    made = module.application(profile)
    if not isinstance(made, Application):
        raise TypeError(f"{name}.application gives no Application")
    return made


def application_of(bundle: Contents) -> Application | None:
    """The application that `bundle` holds; None if it has no profile, as a bundle of images has none.

    Raises BundleError.
    """
    for document in bundle.manifest.documents:
        if document.kind == "profile":
            return application(parse_profile(bundle.read(document.digest, MAX_PROFILE), DOCUMENT, BundleError))
    return None


def in_resource(step: Step, target: Target) -> bool:
    """Whether `target` is a field of the resource itself, and no value of a chart."""
    return step.resource is not None and not _of(step.installs, target.path)


def _of(installs: Installs | None, path: str) -> bool:
    return installs is not None and path.startswith(f"{installs.values}.")


def below_values(step: Step, path: str) -> str:
    """The part of `path` that stands in the values of the chart of `step`."""
    return path.removeprefix(f"{step.installs.values}.") if step.installs else path


def _written(question: Question, target: Target, answer: Any) -> Any:
    """What goes to `target` for `answer`."""
    if isinstance(answer, SecretSource) and question.secret:
        named = (answer.secret, answer.key) if answer.in_cluster else (question.secret.name, question.secret.key)
        return named[0] if target.put == "secret-name" else named[1]
    if target.text is not None:
        return target.text.replace("{}", _text(answer))
    return dict(answer) if isinstance(answer, Mapping) else answer


def _text(answer: Any) -> str:
    """`answer` as YAML writes it."""
    return str(answer).lower() if isinstance(answer, bool) else str(answer)

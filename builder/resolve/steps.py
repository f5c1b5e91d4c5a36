"""The steps of an application: the profile as its author wrote it, resolved to what the bundle holds.

Charts get their versions, values and resources become documents, and with them comes what is known of each chart as it
is going to be installed.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from builder.charts.fetch import FetchedChart
from builder.charts.rendering import Release
from builder.charts.tree import ChartTree
from builder.charts.version_overrides import pinned, tag_of, tags
from builder.charts.version_ranges import newest
from builder.recipe.recipe import Recipe
from builder.resolve.documents import Documents
from installer.apps.application import below_values, in_resource
from installer.apps.profile import Installs, Profile, Step, at_path, parse_profile, placed
from installer.chart.helm import Object, parse_values
from installer.chart.retarget import merged
from installer.errors import RecipeError
from installer.schema import validate
from installer.value import Value

MANIFESTS = "manifests"
"""The step of a recipe's own manifests."""
_FIXED = ("apiVersion", "kind", "metadata.name", "metadata.namespace")


class Resolved(Value):
    """A profile whose names are those of charts and documents in the bundle; `tags` are those of `versions`.

    `releases` are its charts as they are going to be installed, those of controllers too; `objects` are the objects of
    its resources and manifests by document, without the values of charts in them.
    """

    profile: Profile
    releases: tuple[Release, ...]
    objects: Mapping[str, list[Object]]
    tags: Mapping[str, str]


def written(recipe: Recipe, recipe_file: str, documents: Documents) -> Profile | None:
    """The profile that `recipe` names, or the one that its charts and manifests make up; None for images alone.

    Raises RecipeError.
    """
    if recipe.profile:
        return parse_profile(documents.add_file(recipe.profile, "other"), recipe.profile, RecipeError)
    steps: list[dict[str, Any]] = [
        {"chart": item.name, "name": item.release, "namespace": item.namespace, "values": item.values}
        for item in recipe.charts
    ]
    if recipe.manifests:
        steps.append({"manifests": recipe.manifests, "name": MANIFESTS})
    return validate(Profile, {"steps": steps}, recipe_file, RecipeError) if steps else None


def resolved(recipe: Recipe, profile: Profile, fetched: Sequence[FetchedChart], documents: Documents) -> Resolved:
    """`profile`, resolved with the charts of `recipe` in their order. Raises RecipeError."""
    return _Resolver(recipe, profile, fetched, documents).resolved()


class _Resolver:
    def __init__(self, recipe: Recipe, profile: Profile, fetched: Sequence[FetchedChart], documents: Documents) -> None:
        self.recipe, self.profile, self.fetched = recipe, profile, fetched
        self.file = recipe.profile or ""
        self.documents = documents.beside(self.file)
        self.beside_recipe = documents
        self.tags = tags(profile, _stated(recipe, profile))
        self.releases: dict[str, Release] = {}
        self.objects: dict[str, list[Object]] = {}
        self.used: set[int] = set()
        # By the file of a resource: what its step is called.
        self.named: dict[str, str] = {}

    def resolved(self) -> Resolved:
        document = self.profile.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        steps = [self._step(number, step) for number, step in enumerate(self.profile.steps)]
        if unused := [item.name for number, item in enumerate(self.recipe.charts) if number not in self.used]:
            raise RecipeError(
                f"{self.file}: no step names the charts {', '.join(unused)}", hint="add steps, or remove the charts."
            )
        for item in (*document.get("artifacts", ()), *document.get("smoke", ())):
            item["step"] = self.named.get(item["step"], item["step"])
        for step in steps:
            step["controller"] = self.named.get(step.get("controller", ""), step.get("controller"))
        document["steps"] = [{key: value for key, value in step.items() if value is not None} for step in steps]
        for question in document.get("questions", {}).values():
            for target in (*question.get("to", ()), *filter(None, [question.get("secret")])):
                target["step"] = self.named.get(target["step"], target["step"])
        if secret := document.get("pull_secret"):
            secret["values"] = {self.named.get(name, name): paths for name, paths in secret["values"].items()}
        profile = validate(Profile, document, self.file or "the recipe's steps", RecipeError)
        if defects := list(_misplaced(profile, self.releases, self.objects)):
            raise RecipeError("\n  ".join([f"{self.file}: answers that have no place:", *defects]))
        return Resolved(profile, tuple(self.releases.values()), self.objects, self.tags)

    def _step(self, number: int, step: Step) -> dict[str, Any]:
        """The step `number`, resolved."""
        found = step.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        if step.manifests:
            return {**found, "manifests": [name for path in step.manifests for name in self._manifests(path)]}
        if step.resource:
            return {**found, **self._resource(step)}
        # Without a profile, each chart of the recipe is a step.
        item = number if not self.recipe.profile else self._chart(step.chart or "", step.version, step.label)
        self.used.add(item)
        tree = ChartTree.of(self.fetched[item].chart)
        values, document = self._values(step, tree)
        self._release(item, tree, step.label, step.namespace, values, document)
        return {**found, "version": self.fetched[item].chart.version, "values": document or None}

    def _manifests(self, path: str) -> Iterator[str]:
        for name, objects in self.documents.add_manifests(path):
            self.objects[name] = objects
            yield name

    def _chart(self, name: str, version: str | None, label: str) -> int:
        """The number of the recipe's chart that a step means."""
        numbers = [number for number, item in enumerate(self.fetched) if item.chart.name == name]
        versions = [self.fetched[number].chart.version for number in numbers]
        if not numbers:
            known = ", ".join(sorted({item.chart.name for item in self.fetched})) or "none"
            raise RecipeError(f"{self.file}: step {label}: the recipe has no chart {name}", hint=f"it has: {known}.")
        if version is None and len(numbers) > 1:
            raise RecipeError(
                f"{self.file}: step {label}: the recipe has chart {name} as {', '.join(versions)}",
                hint="give the step a `version`.",
            )
        found = versions[0] if version is None else newest(version, versions)
        if not found:
            raise RecipeError(
                f"{self.file}: step {label}: the recipe has chart {name} as {', '.join(versions)}, not as {version}",
                hint="correct `version`, or remove it from the step.",
            )
        return numbers[versions.index(found)]

    def _release(
        self, item: int, tree: ChartTree, name: str, namespace: str | None, values: Mapping[str, Any], document: str
    ) -> None:
        further = self._merged(self.recipe.charts[item].optional_values, self.beside_recipe)
        place, rules = namespace or self.profile.namespace, self.profile.images
        self.releases[name] = Release(self.fetched[item], tree, name, place, values, document, further, rules)

    def _values(self, step: Step, tree: ChartTree) -> tuple[dict[str, Any], str]:
        """The values of a chart's step, and the name of the document that holds them; empty for none."""
        only = step.values if isinstance(step.values, str) else ""
        values = self.documents.values(only) if only else self._merged(step.values, self.documents)
        tagged = pinned(tree, values, self.tags)
        if only:
            return tagged, self._document(only, "values", f"{step.label}-values.json", values, tagged)
        if not tagged:
            return {}, ""
        self.documents.add_made(f"{step.label}-values.json", "values", tagged)
        return tagged, f"{step.label}-values.json"

    def _merged(self, values: Any, documents: Documents) -> dict[str, Any]:
        """Values that stand here, in files, or both, merged in order; files become documents."""
        found: dict[str, Any] = {}
        for part in values if isinstance(values, list) else [values]:
            if isinstance(part, str):
                documents.add_file(part, "other")
            content = documents.values(part) if isinstance(part, str) else part
            found = merged(found, content or {})
        return found

    def _document(self, path: str, kind: str, made: str, content: Any, wanted: Any) -> str:
        """The name of the document for the installer: the file itself, or what was made of it by setting versions."""
        if content == wanted:
            self.documents.add_file(path, kind)
            return PurePosixPath(path).name
        self.documents.add_file(path, "other")
        self.documents.add_made(made, kind, wanted)
        return made

    def _resource(self, step: Step) -> dict[str, Any]:
        path = step.resource or ""
        document = parse_values(self.documents.read(path), path, RecipeError)
        name, stated = _identity(document, path)
        namespace = stated or step.namespace
        if step.name not in (None, name) or step.namespace not in (None, namespace):
            where = f" in namespace {stated}" if stated else ""
            raise RecipeError(
                f"{path}: is {name}{where}; its step in {self.file} says otherwise",
                hint="remove `name` and `namespace` from the step: the resource decides.",
            )
        self.named[path] = name
        # One that is where the application is moves with it.
        found = {"name": name, "namespace": namespace if namespace != self.profile.namespace else None}
        if step.installs:
            return {**found, **self._installing(step.installs, path, document, name, namespace)}
        wanted = self._versioned(step, document)
        made = self._document(path, "resource", f"{name}-resource.json", document, wanted)
        self.objects[made] = [wanted]
        return {**found, "resource": made}

    def _versioned(self, step: Step, document: Object) -> Object:
        """`document` with the tags of the artifacts that its controller fetches."""
        for artifact in self.profile.artifacts:
            if artifact.step == step.label:
                tag = tag_of(artifact, self.tags)
                stated = at_path(document, artifact.version_at)
                if stated not in (None, tag):
                    raise RecipeError(
                        f"{step.resource}: {artifact.version_at} is {stated}, and the recipe's versions say {tag}",
                        hint="remove it there: lock sets it.",
                    )
                document = merged(document, placed(artifact.version_at, tag))
        return document

    def _installing(
        self, installs: Installs, path: str, document: Object, name: str, namespace: str | None
    ) -> dict[str, Any]:
        """What is resolved of the resource in the file `path`, whose controller installs a chart."""
        item = self._chart(installs.chart, installs.version, path)
        self.used.add(item)
        tree, values = ChartTree.of(self.fetched[item].chart), _values_in(document, installs, path)
        tagged = pinned(tree, values, self.tags)
        wanted = merged(document, placed(installs.values, tagged)) if tagged != values else document
        made = self._document(path, "resource", f"{name}-resource.json", document, wanted)
        self._release(item, tree, name, namespace, tagged, made)
        self.objects[made] = [merged(document, placed(installs.values, None))]
        version = {"version": self.fetched[item].chart.version}
        return {"resource": made, "installs": {**installs.model_dump(exclude_defaults=True), **version}}


def _stated(recipe: Recipe, profile: Profile) -> Mapping[str, str]:
    """The versions that `recipe` states. Raises RecipeError for one that `profile` does not know."""
    if unknown := sorted(recipe.versions.keys() - profile.versions.keys()):
        known = ", ".join(profile.versions) or "none"
        raise RecipeError(f"versions: the profile has no {', '.join(unknown)}", hint=f"it has: {known}.")
    return recipe.versions


def version_of(recipe: Recipe, profile: Profile | None) -> str:
    """What the bundle's version is: the recipe's own, or the one of its `versions` that the profile says.

    Raises RecipeError if there is none.
    """
    if recipe.version or profile is None:
        return recipe.version
    key = profile.version_from or next(iter(profile.versions), "")
    if key not in recipe.versions:
        raise RecipeError(f"needs `version`, or `versions.{key}` to take it from", hint="correct the recipe.")
    return recipe.versions[key]


def _identity(document: Object, path: str) -> tuple[str, str]:
    """Name and namespace of the object in `document`; no namespace is an empty one."""
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    namespace = (metadata.get("namespace") or "") if isinstance(metadata, dict) else None
    whole = isinstance(document.get("apiVersion"), str) and isinstance(document.get("kind"), str)
    if not whole or not isinstance(name, str) or not isinstance(namespace, str):
        raise RecipeError(
            f"{path}: not one resource with apiVersion, kind and metadata.name",
            hint="several documents are `manifests`; a resource is one that a controller acts upon.",
        )
    return name, namespace


def _values_in(document: Object, installs: Installs, path: str) -> dict[str, Any]:
    values = at_path(document, installs.values)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: {installs.values}: no values of a chart", hint="correct `installs.values`.")
    return values


def _misplaced(
    profile: Profile, releases: Mapping[str, Release], objects: Mapping[str, Sequence[Object]]
) -> Iterator[str]:
    """What is wrong with the places that answers go to, a line each."""

    @cache
    def values_of(label: str) -> dict[str, Any]:
        return releases[label].tree.defaults(releases[label].values)

    for key, question in profile.questions.items():
        for target in question.to:
            step, path = profile.step(target.step), target.path
            if step.manifests:
                yield f"questions.{key}: step {step.label} has manifests, which take no answers"
                continue
            if in_resource(step, target):
                tree, below = objects[step.resource or ""][0], path
                if path in _FIXED:
                    yield f"questions.{key}: {path} says which resource it is"
            else:
                tree, below = values_of(step.label), below_values(step, path)
            if blocked := _blocked(tree, below):
                yield f"questions.{key}: nothing can stand at {path} of step {step.label}: {blocked} is no mapping"


def _blocked(tree: Mapping[str, Any], path: str) -> str:
    """The part of `path` in `tree` below which nothing can stand; empty if there is none."""
    keys = path.split(".")
    for depth in range(1, len(keys)):
        above = ".".join(keys[:depth])
        node = at_path(tree, above)
        if node is not None and not isinstance(node, Mapping):
            return above
    return ""

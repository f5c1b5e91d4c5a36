"""What a recipe needs before any image is resolved: charts fetched and rendered, documents, and the names of images."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from builder.charts.discover import Discovery, discover, merged
from builder.charts.fetch import ChartFetcher, FetchedChart
from builder.charts.nulls import taken_away
from builder.charts.operators import Brought, Sighted, brought, sighted
from builder.charts.rendering import Release
from builder.images.artifact import read_artifact
from builder.images.parallel import RENDERINGS, in_parallel
from builder.images.resolve import origin_of, substituted
from builder.images.source import Places
from builder.recipe import lock as locked
from builder.recipe.findings import Excluded, Failure, Reason, Suspected
from builder.recipe.lock import LockedChart, Origin
from builder.recipe.recipe import Recipe
from builder.resolve.artifacts import InArtifacts, Read, in_artifacts
from builder.resolve.documents import Documents
from builder.resolve.on_site import on_site
from builder.resolve.steps import Resolved, resolved, written
from builder.resolve.suspicions import decided
from installer.apps.application import Application, application
from installer.apps.samples import Sample
from installer.chart.images import Found, references
from installer.chart.retarget import merged as values_over
from installer.errors import AirferryError, BundleError, RecipeError
from installer.oci.digest import Digest
from installer.oci.reference import parse_reference
from installer.report import Reporter, count
from installer.site.site import ApplicationAnswers, RegistryOnly, Site
from installer.value import Value, replace

LoadSite = Callable[[ApplicationAnswers], Site]
"""Reads the answers of a site, for an application."""


NO_DIGESTS: Mapping[tuple[str, Origin], Digest] = MappingProxyType({})


class InDocuments(Value):
    """What objects that stand in documents ask for, each with its places; `suspected` as of charts."""

    images: Mapping[str, tuple[Reason, ...]]
    suspected: Mapping[str, tuple[Reason, ...]]


class Asking(Value):
    """Sample answers, and the images that charts ask for with them, as they are written there."""

    sample: Sample
    images: frozenset[str]


class Needs(Value):
    """What a recipe needs, before any image is resolved.

    `asked` is all that is asked for or suspected, by full names. `images` are those to be carried; `optional` are those
    that further switches ask for and that stay behind. `brought` are those that operators are known to bring without
    being rendered. `application` and `steps` are None for a bundle of images alone; `site` holds the answers that it is
    for, if any. `artifacts` are the digests of those that controllers read, by name, and `second` further names, each
    with the image that it means. `samples` are answers that ask for other images than a site with few answers does.
    """

    charts: tuple[FetchedChart, ...]
    application: Application | None
    steps: Resolved | None
    site: Site | None
    discoveries: tuple[Discovery, ...]
    asked: Mapping[str, tuple[Reason, ...]]
    images: Mapping[str, tuple[Reason, ...]]
    optional: Mapping[str, tuple[Reason, ...]]
    suspected: tuple[Suspected, ...]
    excluded: tuple[Excluded, ...]
    failures: tuple[Failure, ...]
    brought: tuple[Brought, ...]
    documents: Documents
    notes: tuple[str, ...]
    artifacts: Mapping[str, Digest] = MappingProxyType({})
    second: Mapping[str, str] = MappingProxyType({})
    samples: tuple[Asking, ...] = ()


def needs(
    recipe: Recipe,
    recipe_file: str,
    places: Places,
    reporter: Reporter,
    site: LoadSite | None = None,
    pins: Mapping[tuple[str, str], str] | None = None,
    digests: Mapping[tuple[str, Origin], Digest] = NO_DIGESTS,
) -> Needs:
    """Fetch and render the charts of `recipe`, and collect the images that they, its manifests and the recipe name.

    `recipe_file` is the recipe's own file, relative to the folder of `places`. The answers of `site` are merged over
    the values as the installer will do it. `pins` are versions that a former lock found for ranges, by chart and
    range, and `digests` what it found for names at their origins. Raises the errors of all charts.
    """
    documents = Documents(places)
    documents.add_file(recipe_file, "recipe")
    for path in recipe.documents:
        documents.add_file(path, "other")
    if recipe.site:
        documents.add_file(recipe.site, "site")
    for path in recipe.files:
        documents.add_large(path, reporter)
    profile = written(recipe, recipe_file, documents)
    if recipe.charts:
        reporter.note(f"fetching and rendering {count(len(recipe.charts), 'chart')}")
    fetched = in_parallel(ChartFetcher(places, pins).fetch, recipe.charts, "charts cannot be fetched")
    steps = resolved(recipe, profile, fetched, documents) if profile else None
    app = _application(steps) if steps else None
    answers = site(app or RegistryOnly()) if site else None
    if app and answers:
        app.check(answers)
    releases = _on_site(app, steps, answers) if app and steps else []
    discoveries = in_parallel(
        lambda release: discover(release, recipe.kubernetes), releases, "charts cannot be rendered", threads=RENDERINGS
    )
    others = _in_documents(app, steps, answers) if app and steps else InDocuments({}, {})
    fetched_by_controllers = InArtifacts({}, {}, {}, {})
    if app and steps and steps.profile.artifacts:
        reporter.note(f"reading {count(len(steps.profile.artifacts), 'artifact')}")
        fetched_by_controllers = in_artifacts(app, steps, answers, _reader(recipe, places, digests))
        known = steps.profile.model_copy(update={"artifacts": list(fetched_by_controllers.artifacts)})
        steps = replace(steps, profile=known)
        app = _application(steps)
    optional = merged([*(found.optional for found in discoveries), fetched_by_controllers.optional])
    images = merged(
        [*(found.images for found in discoveries), others.images, fetched_by_controllers.images, _named_in(recipe)]
    )
    suspected = merged([*(found.suspected for found in discoveries), others.suspected])
    supposed = merged([found.supposed for found in discoveries])
    verdicts = decided(recipe, steps.profile if steps else None, images, optional, suspected, supposed)
    outside = brought(
        sign for found in (*(item.operators for item in discoveries), _operators(steps)) for sign in found
    )
    return Needs(
        charts=tuple(fetched),
        application=app,
        steps=steps,
        site=answers,
        discoveries=tuple(discoveries),
        asked=verdicts.asked,
        images=merged([verdicts.images, _by_second_names(verdicts.images, fetched_by_controllers.second)]),
        optional=verdicts.optional,
        suspected=verdicts.suspected,
        excluded=verdicts.excluded,
        failures=tuple(sorted({failure for found in discoveries for failure in found.failures})),
        brought=outside,
        documents=documents,
        artifacts=fetched_by_controllers.digests,
        second=fetched_by_controllers.second,
        notes=(
            *verdicts.notes,
            *(f"{item}; name them in images: `airferry observe` finds them on a staging cluster" for item in outside),
            *(note for found in discoveries for note in found.notes),
            *(note for release in releases for note in _nulled(steps, release)),
        ),
    )


def _by_second_names(
    images: Mapping[str, tuple[Reason, ...]], second: Mapping[str, str]
) -> dict[str, tuple[Reason, ...]]:
    return {name: images[image] for name, image in second.items() if image in images}


def _named_in(recipe: Recipe) -> dict[str, tuple[Reason, ...]]:
    return {
        locked.full_name(entry.asked): (Reason("", "", "", "", "", f"images[{number}]", ""),)
        for number, entry in enumerate(recipe.images)
    }


def origins(recipe: Recipe) -> Callable[[str], Origin]:
    """Where the image of a full name is fetched from."""
    local = {}
    for entry in recipe.images:
        if entry.layout is not None or entry.archive is not None:
            kind = "layout" if entry.layout else "archive"
            inside = entry.asked if entry.entry is None else entry.entry
            local[locked.full_name(entry.asked)] = Origin(kind, entry.layout or entry.archive or "", inside)
        elif entry.engine is not None:
            local[locked.full_name(entry.asked)] = Origin("engine", entry.engine)
    return lambda source: local.get(source) or origin_of(substituted(parse_reference(source), recipe.substitutions))


def _reader(recipe: Recipe, places: Places, digests: Mapping[tuple[str, Origin], Digest]) -> Read:
    where = origins(recipe)
    return lambda source: read_artifact(places, where(source), digests.get((source, where(source))))


def _application(steps: Resolved) -> Application:
    try:
        return application(steps.profile)
    except BundleError as exc:
        raise RecipeError(exc.message, hint="correct the profile.") from exc


def _operators(steps: Resolved | None) -> set[Sighted]:
    """Signs of operators in resources and manifests."""
    return sighted(item for objects in (steps.objects.values() if steps else ()) for item in objects)


def _on_site(app: Application, steps: Resolved, site: Site | None) -> list[Release]:
    """The charts with what their controllers and the answers of `site` add to their values."""
    found = []
    for release in steps.releases:
        step = steps.profile.step(release.name)
        namespace = app.namespace(step, site) if site else release.namespace
        found.append(replace(release, values=on_site(app, step, release.values, site), namespace=namespace))
    return found


def _nulled(steps: Resolved | None, release: Release) -> Iterator[str]:
    """Where the Helm of the controller that installs `release`, which may be older, may make other values than ours."""
    if steps and steps.profile.step(release.name).installs:
        for path in taken_away(release.tree, release.values):
            yield (
                f"chart {release.fetched.chart.name} sets {path} to null; since 4.2 Helm keeps the subchart's default, "
                "and a controller with an older Helm removes it: say in the values what you want"
            )


def _in_documents(app: Application, steps: Resolved, site: Site | None) -> InDocuments:
    """The images of resources and manifests. Raises RecipeError for a container's image that is none."""
    found: dict[str, set[Reason]] = {}
    suspected: dict[str, set[Reason]] = {}
    fields = {item.resource: app.fields(item, site) for item in steps.profile.steps if item.resource and site}
    for document, objects in steps.objects.items():
        answered = [values_over(entry, fields.get(document, {})) for entry in objects]
        for item in references(answered, steps.profile.images):
            reason = _reason(document, item)
            if not item.certain or item.test_only:
                suspected.setdefault(item.text, set()).add(reason)
                continue
            try:
                found.setdefault(str(item.reference()), set()).add(reason)
            except AirferryError as exc:
                raise RecipeError(f"{reason}: {exc.message}", hint="correct the image there.") from exc
    return InDocuments(
        merged([{name: tuple(reasons) for name, reasons in found.items()}]),
        merged([{text: tuple(reasons) for text, reasons in suspected.items()}]),
    )


def _reason(document: str, found: Found) -> Reason:
    return Reason(
        chart="",
        kind=found.kind,
        namespace=found.namespace,
        name=found.name,
        container=found.container,
        field=found.path,
        hooks=",".join(found.hooks),
        template=document,
    )


def locked_charts(charts: Sequence[FetchedChart]) -> tuple[LockedChart, ...]:
    """The charts as the lock says them. Raises RecipeError where two entries are the same chart from two places."""
    found: dict[tuple[str, str], LockedChart] = {}
    for item in charts:
        made = LockedChart(
            name=item.chart.name,
            version=item.chart.version,
            asked=item.entry.asked,
            origin=item.origin,
            archive=item.archive,
            artifact=item.manifest.digest,
            published=item.published.digest,
            size=item.published.size,
            schemas=item.schemas,
            edits=item.edits,
            prefixes=item.prefixes,
        )
        held = found.setdefault((made.name, made.version), made)
        if held != made:
            raise RecipeError(
                f"chart {made.name} {made.version} stands twice, as {held.asked} and {made.asked}",
                hint="remove one, or ask for other versions.",
            )
    return tuple(found[key] for key in sorted(found, key="-".join))

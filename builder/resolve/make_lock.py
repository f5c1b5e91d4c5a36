"""From a recipe to its lock: charts are fetched and rendered, and the images found in them resolved, in parallel."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from builder.images.parallel import in_parallel
from builder.images.referrers import with_referrers
from builder.images.resolve import Carried, Resolved, Wanted, resolve
from builder.images.source import Places
from builder.recipe import lock as locked
from builder.recipe.findings import OptionalImage
from builder.recipe.lock import Lock, LockedChart, LockedRegistry, Origin
from builder.recipe.recipe import Recipe, RegistryEntry
from builder.resolve.completeness_report import PROOF_NAME, proof
from builder.resolve.effects import heard
from builder.resolve.rehearsed import movable, rehearsed
from builder.resolve.requirements import LoadSite, Needs, locked_charts, needs, origins
from builder.resolve.site_template import NAME as SITE
from builder.resolve.site_template import site_template
from builder.resolve.steps import Resolved as Steps
from builder.resolve.steps import version_of
from builder.resolve.suspicions import check_decided, weeded
from installer.apps.application import Application, application
from installer.apps.profile import DOCUMENT, dumped
from installer.bundle.manifest import NEVER
from installer.chart.misspelt import misspelt
from installer.chart.relocation import PROJECT, path_of
from installer.errors import AirferryError, ContentError, RecipeError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Platform
from installer.oci.reference import MAX_NAME
from installer.report import Reporter, count
from installer.value import replace


def wanted_images(recipe: Recipe, found: Needs, old: Lock | None, update: Collection[str] | None) -> list[Wanted]:
    """The images to resolve. Those in `old` keep their digests, except the names in `update`; None means all."""
    pins, where, artifacts = _pins(old, update), origins(recipe), found.artifacts
    wanted = []
    for source, reasons in found.images.items():
        origin = where(found.second.get(source, source))
        # Of an artifact, what was read is carried, whatever its tag says by now.
        pin = artifacts.get(source) or pins.get((source, origin))
        wanted.append(Wanted(source, origin, reasons, pin, data=source in artifacts))
    return wanted


def _pins(old: Lock | None, update: Collection[str] | None) -> dict[tuple[str, Origin], Digest]:
    """What `old` pins: only registries can say something else tomorrow. Raises RecipeError for unknown names."""
    if old is None or update is None:
        return {}
    renewed = {locked.full_name(name) for name in update}
    unknown = sorted(renewed - {image.source for image in old.images})
    if unknown:
        raise RecipeError(f"not in the lock: {', '.join(unknown)}", hint="`airferry list` shows the names.")
    return {
        (image.source, image.origin): image.upstream
        for image in old.images
        if image.origin.kind == "registry" and image.source not in renewed
    }


def _chart_pins(old: Lock | None, update: Collection[str] | None) -> dict[tuple[str, str], str]:
    """The versions that `old` found for the ranges of charts; none if all is asked anew."""
    if old is None or update is None:
        return {}
    return {
        (chart.name, chart.asked): chart.version for chart in old.charts if chart.origin.kind in ("registry", "url")
    }


def make_lock(
    recipe: Recipe,
    recipe_file: str,
    places: Places,
    reporter: Reporter,
    *,
    now: str,
    old: Lock | None = None,
    update: Collection[str] | None = (),
    site: LoadSite | None = None,
    site_file: str = "",
) -> Lock:
    """The lock of `recipe`, for what `site` uses if given; `now` is its time unless recipe or `old` say another.

    `site_file` is how the lock calls the answers of `site`.

    Pins of `old` are kept, except for the images in `update`, or all of them where that is None. Raises
    NotFoundError, ContentError, RecipeError and the errors of registries, in one error for all images that fail.
    """
    found = needs(recipe, recipe_file, places, reporter, site, _chart_pins(old, update), _pins(old, update))
    found = _decided(found, recipe, places, reporter, old, update)
    if found.application and found.steps:
        if any(found.application.samples()):
            reporter.note("rendering the charts with sample answers")
        found = _proven(found, found.application, found.steps, recipe)
    found = movable(found, recipe)
    version = version_of(recipe, found.steps.profile if found.steps else None)
    wanted = wanted_images(recipe, found, old, update)
    platforms = tuple(Platform.parse(text) for text in recipe.platforms)
    reporter.note(f"resolving {count(len(wanted), 'image')}")
    resolved = in_parallel(
        lambda item: _resolve(places, item, platforms, referrers=recipe.referrers), wanted, "images cannot be resolved"
    )
    for note in (*_notes(found), *(note for item in resolved for note in item.notes)):
        reporter.note(f"note: {note}")
    charts = locked_charts(found.charts)
    if old is not None and update is not None:
        _check_charts(charts, old)
    if old is not None and old.version != version and recipe.sequence <= old.sequence:
        reporter.note(
            f"note: sequence is {recipe.sequence} as for version {old.version}; let it rise with each release: an "
            "enclave that has one release refuses another of the same number"
        )
    named = recipe.model_copy(update={"version": version, "created": recipe.created or now})
    lock = _assemble(named, found, resolved, charts, platforms, site=site_file)
    if found.application:
        reporter.note("rehearsing the installation")
        for note in rehearsed(found, found.application, lock, recipe, places):
            reporter.note(f"note: {note}")
    if old is not None and not recipe.created and replace(lock, created=old.created) == old:
        return old
    return lock


def _decided(
    found: Needs, recipe: Recipe, places: Places, reporter: Reporter, old: Lock | None, update: Collection[str] | None
) -> Needs:
    """`found` with what registries say of its suspicions, and the profile that tells the installer what is settled.

    Raises RecipeError where nobody has decided.
    """
    suspected = weeded(recipe, found.suspected, places, reporter, old, update)
    check_decided(recipe, suspected)
    if not found.steps:
        return replace(found, suspected=suspected)
    weeds = {locked.full_name(item.text) for item in suspected if item.verdict == "no image"}
    settled = sorted(weeds | {item.image for item in found.excluded})
    profile = found.steps.profile.model_copy(update={"settled": settled})
    steps = replace(found.steps, profile=profile)
    return replace(found, suspected=suspected, steps=steps, application=application(profile))


def _proven(found: Needs, app: Application, steps: Steps, recipe: Recipe) -> Needs:
    """`found` with the profile that says which answers have no effect, and samples that ask for other images.

    Raises RecipeError, and SiteError for one of these in the answers of its site.
    """
    shown = heard(app, steps, recipe.kubernetes)
    proven = application(shown.profile)
    if found.site:
        proven.check(found.site)
    resolved = replace(steps, profile=shown.profile)
    return replace(found, application=proven, steps=resolved, samples=shown.others)


def _notes(found: Needs) -> Iterator[str]:
    """What is worth knowing of what was found, for people."""
    yield from found.notes
    yield from (f"not looked into: {failure}" for failure in found.failures)
    for item in found.suspected:
        if item.open or item.verdict == "test":
            yield f"{item.text} is not carried ({item.reasons[0]}): {item.because}"
    for chart in found.charts:
        for reference in chart.unused_schemas:
            yield f"chart {chart.chart.name}: none of its schemas refers to {reference}; remove it from `schemas`"
        if chart.prefixes:
            yield f"chart {chart.chart.name}: images move into an enclave by the values {', '.join(chart.prefixes)}"
        if chart.edits:
            names = sorted({item.name for edit in chart.edits for item in edit.rewrites})
            what = count(len(chart.edits), "template")
            yield f"chart {chart.chart.name}: edited in {what}, which no value tells where to get {', '.join(names)}"
    yield from _about_values(found)


def _about_values(found: Needs) -> Iterator[str]:
    """Answers without effect, and keys of values that are probably misspelt, for people."""
    if not (found.application and found.steps):
        return
    for key, why in found.steps.profile.unheard.items():
        yield f"the answer {key} has no effect: {why}"
    for release in found.steps.releases:
        chart, step = release.fetched.chart, found.steps.profile.step(release.name)
        yield from (f"values of step {step.label}: {item}" for item in misspelt(chart, release.values))
        for key, values in found.application.own_words(step, found.site) if found.site else ():
            yield from (f"{key}.{item}" for item in misspelt(chart, values))


def _resolve(places: Places, wanted: Wanted, platforms: Sequence[Platform], *, referrers: bool) -> Resolved:
    """`resolve`, its errors extended by the image's name and by who asks for it; with `referrers` if wanted."""
    try:
        _check_name(path_of(wanted.reference.repository))
        found = resolve(places, wanted, platforms)
        return with_referrers(places, wanted, found) if referrers else found
    except AirferryError as exc:
        message = exc.message.removeprefix(f"{wanted.source}: ")
        raise type(exc)(f"{wanted.source} ({wanted.reasons[0]}): {message}", hint=exc.hint) from exc


def _check_name(path: str) -> None:
    """Raises RecipeError if `path` is too long for an enclave whose site says no project of its own."""
    length = len(f"{PROJECT}/{path}")
    if length > MAX_NAME:
        raise RecipeError(
            f"its path in an enclave has {length} characters ({PROJECT}/{path[:40]}…), and registries take {MAX_NAME}",
            hint="copy it to a repository with a shorter path, and name that one.",
        )


def _assemble(
    recipe: Recipe,
    found: Needs,
    resolved: Sequence[Resolved],
    charts: Sequence[LockedChart],
    platforms: tuple[Platform, ...],
    *,
    site: str,
) -> Lock:
    carried = Carried()
    for item in resolved:
        carried.merge(item.carried)
    for chart in found.charts:
        part = Carried({chart.manifest.digest: chart.manifest})
        for blob in chart.blobs:
            part.add_blob(blob)
        carried.merge(part)
    _check_roles(resolved, carried)
    images = tuple(sorted((item.image for item in resolved), key=lambda image: image.source))
    if found.steps:
        found.documents.add_text(DOCUMENT, "profile", dumped(found.steps.profile))
    if not recipe.site:
        found.documents.add_text(SITE, "site", site_template(found.application))
    found.documents.add_text(PROOF_NAME, "proof", proof(recipe, found, images))
    documents = found.documents.found()
    for _, blob in documents:
        carried.add_blob(blob)
    return Lock(
        format=locked.FORMAT,
        name=recipe.name,
        version=recipe.version,
        sequence=recipe.sequence,
        created=recipe.created or "",
        expires=recipe.expires or NEVER,
        site=site,
        platforms=platforms,
        images=images,
        charts=tuple(charts),
        documents=tuple(document for document, _ in documents),
        excluded=found.excluded,
        suspected=found.suspected,
        optional=tuple(OptionalImage(name, reasons) for name, reasons in found.optional.items()),
        failures=found.failures,
        registries=locked_registries(recipe.registries),
        manifests=tuple(sorted(carried.manifests.values(), key=lambda manifest: manifest.digest)),
        blobs=tuple(sorted(carried.blobs.values(), key=lambda blob: blob.digest)),
    )


def _check_roles(resolved: Sequence[Resolved], carried: Carried) -> None:
    """Raises RecipeError for what is a manifest of one image and a layer or configuration of another one: a bundle
    holds it once, and an installer would push it as one of both."""
    for item in resolved:
        for manifest in item.carried.manifests.values():
            if carried.blobs[manifest.digest].media_type in media_types.INDEXES:
                continue
            if both := carried.manifests.keys() & set(manifest.content):
                raise RecipeError(
                    f"{item.image.source}: its content {min(both)} is also a manifest in this bundle",
                    hint="carry that image in a bundle of its own.",
                )


def _check_charts(charts: Sequence[LockedChart], old: Lock) -> None:
    """Raises ContentError where a published chart changed under its version."""
    before = {(chart.name, chart.version, chart.origin): chart.published for chart in old.charts}
    for chart in charts:
        known, found = before.get((chart.name, chart.version, chart.origin), chart.published), chart.published
        if known != found and chart.origin.kind not in ("file", "folder"):
            raise ContentError(
                f"chart {chart.name} {chart.version} at {chart.origin} is {found}, but was locked as {known}",
                hint="find out why it was published anew; to accept it, run `airferry lock --update`.",
            )


def locked_registries(entries: Mapping[str, RegistryEntry]) -> tuple[LockedRegistry, ...]:
    """The settings of hosts as the lock keeps them."""
    schemes = {None: "", True: "http", False: "https"}
    return tuple(
        LockedRegistry(
            host,
            entry.mirror,
            schemes[entry.plain_http],
            entry.ca or "",
            tuple(entry.token_hosts),
            entry.answer_seconds,
            entry.pause_seconds,
        )
        for host, entry in sorted(entries.items())
    )

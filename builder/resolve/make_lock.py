"""From a recipe to its lock: charts are fetched and rendered, and the images found in them resolved, in parallel."""

from collections.abc import Collection, Mapping, Sequence

from builder.images.parallel import in_parallel
from builder.images.resolve import Carried, Resolved, Wanted, origin_of, resolve, substituted
from builder.images.source import Places
from builder.recipe import lock as locked
from builder.recipe.lock import Lock, LockedBlob, LockedChart, LockedDocument, LockedRegistry, Origin
from builder.recipe.reasons import OptionalImage, Suspected
from builder.recipe.recipe import Recipe, RegistryEntry
from builder.resolve.completeness_report import PROOF_NAME, proof
from builder.resolve.requirements import Needs, count, locked_chart, needs
from installer.bundle.manifest import NEVER
from installer.errors import AirferryError, ContentError, RecipeError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Platform
from installer.oci.reference import parse_reference
from installer.report import Reporter
from installer.site.site import Site
from installer.value import replace


def wanted_images(recipe: Recipe, found: Needs, old: Lock | None, update: Collection[str] | None) -> list[Wanted]:
    """The images to resolve. Those in `old` keep their digests, except the names in `update`; None means all."""
    pins = _pins(old, update)
    local = {}
    for entry in recipe.images:
        if entry.layout is not None or entry.archive is not None:
            kind = "layout" if entry.layout else "archive"
            inside = entry.asked if entry.entry is None else entry.entry
            local[locked.full_name(entry.asked)] = Origin(kind, entry.layout or entry.archive or "", inside)
        elif entry.engine is not None:
            local[locked.full_name(entry.asked)] = Origin("engine", entry.engine)
    wanted = []
    for source, reasons in found.images.items():
        origin = local.get(source) or origin_of(substituted(parse_reference(source), recipe.substitutions))
        wanted.append(Wanted(source, origin, reasons, pins.get((source, origin))))
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


def make_lock(
    recipe: Recipe,
    recipe_file: str,
    places: Places,
    reporter: Reporter,
    *,
    now: str,
    old: Lock | None = None,
    update: Collection[str] | None = (),
    site: Site | None = None,
    site_file: str = "",
) -> Lock:
    """The lock of `recipe`, for what `site` uses if given; `now` is its time unless recipe or `old` say another.

    `site_file` is how the lock calls the answers of `site`.

    Pins of `old` are kept, except for the images in `update`, or all of them where that is None. Raises
    NotFoundError, ContentError, RecipeError and the errors of registries, in one error for all images that fail.
    """
    found = needs(recipe, recipe_file, places, reporter, site)
    wanted = wanted_images(recipe, found, old, update)
    platforms = tuple(sorted(Platform.parse(text) for text in recipe.platforms))
    reporter.note(f"resolving {count(wanted, 'image')}")
    asked = [Platform.parse(text) for text in recipe.platforms]
    resolved = in_parallel(
        lambda item: _resolve(places, item, asked, referrers=recipe.referrers), wanted, "images cannot be resolved"
    )
    for note in (*found.notes, *(note for item in resolved for note in item.notes)):
        reporter.note(f"note: {note}")
    for failure in found.failures:
        reporter.note(f"note: not looked into: {failure}")
    for text, reasons in found.suspected.items():
        reporter.note(
            f"note: {text} may be an image, but is not carried ({reasons[0]}); add it to images or exclude it"
        )
    charts = [locked_chart(release) for release in found.releases]
    if old is not None and update is not None:
        _check_charts(charts, old)
    lock = _assemble(recipe, found, resolved, charts, platforms, created=recipe.created or now, site=site_file)
    if old is not None and not recipe.created and replace(lock, created=old.created) == old:
        return old
    return lock


def _resolve(places: Places, wanted: Wanted, platforms: Sequence[Platform], *, referrers: bool) -> Resolved:
    """`resolve`, its errors extended by the image's name and by who asks for it."""
    try:
        return resolve(places, wanted, platforms, referrers=referrers)
    except AirferryError as exc:
        message = exc.message.removeprefix(f"{wanted.source}: ")
        raise type(exc)(f"{wanted.source} ({wanted.reasons[0]}): {message}", hint=exc.hint) from exc


def _assemble(
    recipe: Recipe,
    found: Needs,
    resolved: Sequence[Resolved],
    charts: Sequence[LockedChart],
    platforms: tuple[Platform, ...],
    *,
    created: str,
    site: str,
) -> Lock:
    carried = Carried()
    for item in resolved:
        carried.merge(item.carried)
    for release in found.releases:
        part = Carried({release.fetched.manifest.digest: release.fetched.manifest})
        for blob in release.fetched.blobs:
            part.add_blob(blob)
        carried.merge(part)
    images = tuple(sorted((item.image for item in resolved), key=lambda image: image.source))
    proven = _document(PROOF_NAME, "proof", proof(recipe, found, images))
    documents = [*found.documents, proven]
    for _, blob in documents:
        carried.add_blob(blob)
    return Lock(
        format=locked.FORMAT,
        name=recipe.name,
        version=recipe.version,
        sequence=recipe.sequence,
        created=created,
        expires=recipe.expires or NEVER,
        site=site,
        platforms=platforms,
        images=images,
        charts=tuple(sorted(charts, key=lambda chart: f"{chart.name}-{chart.version}")),
        documents=tuple(sorted((document for document, _ in documents), key=lambda document: document.name)),
        excluded=found.excluded,
        suspected=tuple(Suspected(text, reasons) for text, reasons in found.suspected.items()),
        optional=tuple(OptionalImage(name, reasons) for name, reasons in found.optional.items()),
        failures=found.failures,
        registries=locked_registries(recipe.registries),
        manifests=tuple(sorted(carried.manifests.values(), key=lambda manifest: manifest.digest)),
        blobs=tuple(sorted(carried.blobs.values(), key=lambda blob: blob.digest)),
    )


def _document(name: str, kind: str, text: str) -> tuple[LockedDocument, LockedBlob]:
    digest = Digest.of(text.encode("ascii"))
    return LockedDocument(name, kind, digest, Origin("inline", "")), LockedBlob(
        digest, media_types.OCTETS, len(text), text
    )


def _check_charts(charts: Sequence[LockedChart], old: Lock) -> None:
    """Raises ContentError where a published chart changed under its version."""
    before = {(chart.name, chart.version, chart.origin): chart.archive for chart in old.charts}
    for chart in charts:
        archive = before.get((chart.name, chart.version, chart.origin), chart.archive)
        if archive != chart.archive and chart.origin.kind != "file":
            raise ContentError(
                f"chart {chart.name} {chart.version} at {chart.origin} is {chart.archive}, but was locked as {archive}",
                hint="find out why it was published anew; to accept it, run `airferry lock --update`.",
            )


def locked_registries(entries: Mapping[str, RegistryEntry]) -> tuple[LockedRegistry, ...]:
    """The settings of hosts as the lock keeps them."""
    schemes = {None: "", True: "http", False: "https"}
    return tuple(
        LockedRegistry(host, entry.mirror, schemes[entry.plain_http], entry.ca or "", tuple(entry.token_hosts))
        for host, entry in sorted(entries.items())
    )

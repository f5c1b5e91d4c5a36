"""From a recipe to its lock: charts are fetched and rendered, and the images found in them resolved, in parallel."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from builder import lock as locked
from builder.charts import ChartFetcher, FetchedChart
from builder.discover import Discovery, Release, discover, merged, resource_release
from builder.lock import Excluded, Lock, LockedBlob, LockedChart, LockedDocument, LockedRegistry, Origin, Reason
from builder.recipe import ChartEntry, Recipe, RegistryEntry
from builder.resolve import Carried, Resolved, Wanted, origin_of, resolve, several, substituted
from builder.source import Places
from installer.bundle.limits import MAX_SMALL_BLOB
from installer.bundle.manifest import NEVER
from installer.chart.helm import parse_values
from installer.errors import AirferryError, ContentError, RecipeError
from installer.files import read_bounded
from installer.oci import media
from installer.oci.digest import Digest
from installer.oci.model import Platform
from installer.oci.reference import parse_reference
from installer.report import Reporter

THREADS = 8
"""Manifests are small: this many requests wait for the network at once."""
OPERATOR_API = "apps.wandb.com/v1"
_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass
class _Documents:
    """The files that travel along, by name; two of one name must be the same file."""

    places: Places
    found: dict[str, tuple[LockedDocument, LockedBlob]] = field(default_factory=dict)

    def add_file(self, path: str, kind: str) -> bytes:
        """Take in the file `path`; its content."""
        raw = read_bounded(self.places.path(path), MAX_SMALL_BLOB)
        self._add(Path(path).name, kind, raw, Origin("file", path), "")
        return raw

    def add_values(self, name: str, values: Mapping[str, Any]) -> None:
        """Take in values that stand in the recipe itself, as JSON, which is YAML."""
        text = json.dumps(values, sort_keys=True, ensure_ascii=True)
        self._add(name, "values", text.encode("ascii"), Origin("inline", ""), text)

    def _add(self, name: str, kind: str, raw: bytes, origin: Origin, text: str) -> None:
        digest = Digest.of(raw)
        held = self.found.get(name)
        if held is not None and (held[0].digest, held[0].kind) != (digest, kind):
            raise RecipeError(f"two documents are called {name}", hint="rename one: names must differ in a bundle.")
        self.found[name] = (
            LockedDocument(name, kind, digest, origin),
            LockedBlob(digest, media.OCTETS, len(raw), text),
        )


@dataclass(frozen=True)
class Needs:
    """What a recipe needs, before any image is resolved."""

    releases: tuple[Release, ...]
    images: Mapping[str, tuple[Reason, ...]]
    suspected: Mapping[str, tuple[Reason, ...]]
    excluded: tuple[Excluded, ...]
    documents: tuple[tuple[LockedDocument, LockedBlob], ...]
    notes: tuple[str, ...]


def needs(recipe: Recipe, recipe_file: str, places: Places, reporter: Reporter) -> Needs:
    """Fetch and render the charts of `recipe`, and collect the images that they and the recipe name.

    `recipe_file` is the recipe's own file, relative to the folder of `places`. Raises the errors of all charts.
    """
    documents = _Documents(places)
    documents.add_file(recipe_file, "recipe")
    for path, kind in (
        *((path, "other") for path in recipe.documents),
        *([(recipe.site, "site")] if recipe.site else []),
    ):
        documents.add_file(path, kind)
    if recipe.charts:
        reporter.note(f"fetching and rendering {_count(recipe.charts, 'chart')}")
    fetched = in_parallel(ChartFetcher(places).fetch, recipe.charts, "charts cannot be fetched")
    releases = _releases(fetched, documents)
    discoveries = in_parallel(
        lambda release: discover(release, recipe.kubernetes), releases, "charts cannot be rendered"
    )
    images = merged([*(found.images for found in discoveries), _named_in(recipe)])
    excluded = {str(parse_reference(item.image)): item.reason for item in recipe.exclude}
    notes = [f"excluded image {name} is not asked for by any chart" for name in sorted(excluded.keys() - images)]
    return Needs(
        releases=tuple(releases),
        images={name: reasons for name, reasons in images.items() if name not in excluded},
        suspected=_suspected(discoveries, {*images, *excluded}),
        excluded=tuple(Excluded(name, excluded[name]) for name in sorted(excluded)),
        documents=tuple(documents.found[name] for name in sorted(documents.found)),
        notes=tuple(notes),
    )


def _named_in(recipe: Recipe) -> dict[str, tuple[Reason, ...]]:
    return {
        locked.full_name(entry.asked): (Reason("", "", "", "", "", f"images[{number}]", ""),)
        for number, entry in enumerate(recipe.images)
    }


def _suspected(discoveries: Sequence[Discovery], settled: Collection[str]) -> dict[str, tuple[Reason, ...]]:
    """Suspects that are neither carried anyway nor excluded."""
    found = merged([item.suspected for item in discoveries])

    def is_settled(text: str) -> bool:
        try:
            return locked.full_name(text) in settled
        except AirferryError:
            return False

    return {text: reasons for text, reasons in found.items() if not is_settled(text)}


def _releases(fetched: Sequence[FetchedChart], documents: _Documents) -> list[Release]:
    operator = next((chart.entry.namespace or "default" for chart in fetched if chart.entry.role == "operator"), "")
    return [_release(chart, documents, operator) for chart in fetched]


def _release(fetched: FetchedChart, documents: _Documents, operator_namespace: str) -> Release:
    """`fetched` as it is going to be installed; its values become documents."""
    entry = fetched.entry
    if entry.resource is not None:
        name, namespace, values = resource_release(
            documents.add_file(entry.resource, "custom-resource"), entry.resource
        )
        if (entry.release or name, entry.namespace or namespace) != (name, namespace):
            raise RecipeError(
                f"{entry.resource}: is {name} in namespace {namespace}; the recipe says otherwise for {entry.name}",
                hint="remove release and namespace from the recipe's entry: the resource decides.",
            )
        return Release(fetched, name, namespace, _with_operator(values, operator_namespace))
    name, namespace = entry.release or entry.name, entry.namespace or "default"
    if isinstance(entry.values, str):
        raw = documents.add_file(entry.values, "values")
        return Release(fetched, name, namespace, parse_values(raw, entry.values, RecipeError))
    if entry.values:
        documents.add_values(_values_name(entry), entry.values)
    return Release(fetched, name, namespace, entry.values or {})


def _with_operator(values: dict[str, Any], namespace: str) -> dict[str, Any]:
    """What the operator adds to the values of the chart it installs (wandb/operator v1, operator defaults)."""
    outer = values.get("global") or {}
    if not isinstance(outer, dict):
        return values
    operator = {"apiVersion": OPERATOR_API, "namespace": namespace, **(outer.get("operator") or {})}
    return {**values, "global": {**outer, "operator": operator}}


def _values_name(entry: ChartEntry) -> str:
    return f"{entry.name}-values.json"


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
) -> Lock:
    """The lock of `recipe`; `now` is the time it is created at unless recipe or `old` say it.

    Pins of `old` are kept, except for the images in `update`, or all of them where that is None. Raises
    NotFoundError, ContentError, RecipeError and the errors of registries, in one error for all images that fail.
    """
    found = needs(recipe, recipe_file, places, reporter)
    wanted = wanted_images(recipe, found, old, update)
    platforms = tuple(sorted(Platform.parse(text) for text in recipe.platforms))
    reporter.note(f"resolving {_count(wanted, 'image')}")
    asked = [Platform.parse(text) for text in recipe.platforms]
    resolved = in_parallel(lambda item: _resolve(places, item, asked), wanted, "images cannot be resolved")
    for note in (*found.notes, *(note for item in resolved for note in item.notes)):
        reporter.note(f"note: {note}")
    for text, reasons in found.suspected.items():
        reporter.note(
            f"note: {text} may be an image, but is not carried ({reasons[0]}); add it to images or exclude it"
        )
    charts = [_locked_chart(release) for release in found.releases]
    if old is not None and update is not None:
        _check_charts(charts, old)
    lock = _assemble(recipe, found, resolved, charts, platforms, created=recipe.created or now)
    if old is not None and not recipe.created and replace(lock, created=old.created) == old:
        return old
    return lock


def _resolve(places: Places, wanted: Wanted, platforms: Sequence[Platform]) -> Resolved:
    """`resolve`, its errors extended by the image's name and by who asks for it."""
    try:
        return resolve(places, wanted, platforms)
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
) -> Lock:
    carried = Carried()
    for item in resolved:
        carried.merge(item.carried)
    for release in found.releases:
        part = Carried({release.fetched.manifest.digest: release.fetched.manifest})
        for blob in release.fetched.blobs:
            part.add_blob(blob)
        carried.merge(part)
    for _, blob in found.documents:
        carried.add_blob(blob)
    return Lock(
        format=locked.FORMAT,
        name=recipe.name,
        version=recipe.version,
        sequence=recipe.sequence,
        created=created,
        expires=recipe.expires or NEVER,
        platforms=platforms,
        images=tuple(sorted((item.image for item in resolved), key=lambda image: image.source)),
        charts=tuple(sorted(charts, key=lambda chart: f"{chart.name}-{chart.version}")),
        documents=tuple(document for document, _ in found.documents),
        excluded=found.excluded,
        suspected=tuple(locked.Suspected(text, reasons) for text, reasons in found.suspected.items()),
        registries=locked_registries(recipe.registries),
        manifests=tuple(sorted(carried.manifests.values(), key=lambda manifest: manifest.digest)),
        blobs=tuple(sorted(carried.blobs.values(), key=lambda blob: blob.digest)),
    )


def _locked_chart(release: Release) -> LockedChart:
    fetched, entry = release.fetched, release.fetched.entry
    document = entry.resource or (entry.values if isinstance(entry.values, str) else None)
    values = Path(document).name if document else _values_name(entry) if entry.values else ""
    return LockedChart(
        name=entry.name,
        version=entry.version,
        role=entry.role,
        release=release.name,
        namespace=release.namespace,
        values=values,
        origin=fetched.origin,
        archive=fetched.archive,
        artifact=fetched.manifest.digest,
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
        LockedRegistry(host, entry.mirror, schemes[entry.plain_http], entry.ca or "")
        for host, entry in sorted(entries.items())
    )


def in_parallel(work: Callable[[_In], _Out], items: Sequence[_In], failing: str) -> list[_Out]:
    """`work` done for each item, results in order. Raises one AirferryError for all that fail."""
    results: list[_Out] = []
    errors: list[AirferryError] = []
    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in futures:
                try:
                    results.append(future.result())
                except AirferryError as exc:
                    errors.append(exc)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if errors:
        raise several(errors, failing) from errors[0]
    return results


def _count(items: Sequence[object], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"

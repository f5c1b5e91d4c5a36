"""What a recipe needs before any image is resolved: charts fetched and rendered, documents, and the names of images."""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from builder import lock as locked
from builder.charts import ChartFetcher, FetchedChart
from builder.discover import Release, discover, merged, resource_release
from builder.lock import Excluded, LockedBlob, LockedDocument, Origin, Reason
from builder.recipe import ChartEntry, Recipe
from builder.resolve import several
from builder.source import Places
from installer.bundle.limits import MAX_SMALL_BLOB
from installer.chart.helm import parse_values
from installer.errors import AirferryError, RecipeError
from installer.files import read_bounded
from installer.oci import media
from installer.oci.digest import Digest
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
        reporter.note(f"fetching and rendering {count(recipe.charts, 'chart')}")
    fetched = in_parallel(ChartFetcher(places).fetch, recipe.charts, "charts cannot be fetched")
    releases = _releases(fetched, documents)
    discoveries = in_parallel(
        lambda release: discover(release, recipe.kubernetes), releases, "charts cannot be rendered"
    )
    images = merged([*(found.images for found in discoveries), _named_in(recipe)])
    excluded = {str(parse_reference(item.image)): item.reason for item in recipe.exclude}
    suspected = merged([found.suspected for found in discoveries])
    unused = excluded.keys() - images.keys() - {_full_name_or_none(text) for text in suspected}
    notes = [f"excluded image {name} is not asked for by any chart" for name in sorted(unused)]
    return Needs(
        releases=tuple(releases),
        images={name: reasons for name, reasons in images.items() if name not in excluded},
        suspected={
            text: reasons for text, reasons in suspected.items() if _full_name_or_none(text) not in {*images, *excluded}
        },
        excluded=tuple(Excluded(name, excluded[name]) for name in sorted(excluded)),
        documents=tuple(documents.found[name] for name in sorted(documents.found)),
        notes=tuple(notes),
    )


def _named_in(recipe: Recipe) -> dict[str, tuple[Reason, ...]]:
    return {
        locked.full_name(entry.asked): (Reason("", "", "", "", "", f"images[{number}]", ""),)
        for number, entry in enumerate(recipe.images)
    }


def _full_name_or_none(text: str) -> str | None:
    try:
        return locked.full_name(text)
    except AirferryError:
        return None


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
        documents.add_values(values_name(entry), entry.values)
    return Release(fetched, name, namespace, entry.values or {})


def _with_operator(values: dict[str, Any], namespace: str) -> dict[str, Any]:
    """What the operator adds to the values of the chart it installs (wandb/operator v1, operator defaults)."""
    outer = values.get("global") or {}
    if not isinstance(outer, dict):
        return values
    operator = {"apiVersion": OPERATOR_API, "namespace": namespace, **(outer.get("operator") or {})}
    return {**values, "global": {**outer, "operator": operator}}


def values_name(entry: ChartEntry) -> str:
    """The document that holds values which stand in the recipe itself."""
    return f"{entry.name}-values.json"


def in_parallel(work: Callable[[_In], _Out], items: Sequence[_In], failing: str) -> list[_Out]:
    """`work` done for each item, results in order. Raises one AirferryError for all that fail."""
    results: list[_Out] = []
    errors: list[AirferryError] = []
    pool = ThreadPoolExecutor(THREADS)
    try:
        for future in [pool.submit(work, item) for item in items]:
            try:
                results.append(future.result())
            except AirferryError as exc:
                errors.append(exc)
    finally:
        # After an interruption nobody waits for the answer of a slow host.
        pool.shutdown(wait=False, cancel_futures=True)
    if errors:
        raise several(errors, failing) from errors[0]
    return results


def count(items: Sequence[object], noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"

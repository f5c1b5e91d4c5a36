"""What a recipe needs before any image is resolved: charts fetched and rendered, documents, and the names of images."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.charts.discover import Discovery, discover, merged, resource_release
from builder.charts.fetch import ChartFetcher, FetchedChart
from builder.charts.render_matrix import Release
from builder.charts.tree import ChartTree
from builder.charts.version_overrides import pinned, versions
from builder.images.parallel import RENDERINGS, in_parallel
from builder.images.source import Places
from builder.recipe import lock as locked
from builder.recipe.lock import LockedBlob, LockedChart, LockedDocument, Origin
from builder.recipe.reasons import Excluded, Failure, Reason
from builder.recipe.recipe import ChartEntry, Recipe
from installer.bundle.limits import MAX_SMALL_BLOB
from installer.chart.helm import parse_values
from installer.chart.retarget import merged as values_over
from installer.errors import AirferryError, RecipeError
from installer.files import read_bounded
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.reference import parse_reference
from installer.report import Reporter
from installer.site.site import Site
from installer.value import Value, replace

OPERATOR_API = "apps.wandb.com/v1"


@dataclass
class _Documents:
    """The files that travel along, by name; two of one name must be the same file."""

    places: Places
    found: dict[str, tuple[LockedDocument, LockedBlob]] = field(default_factory=dict)

    def read(self, path: str) -> bytes:
        """The content of the file `path`."""
        return read_bounded(self.places.path(path), MAX_SMALL_BLOB, RecipeError)

    def add_file(self, path: str, kind: str) -> bytes:
        """Take in the file `path`; its content."""
        raw = self.read(path)
        self._add(Path(path).name, kind, raw, Origin("file", path), "")
        return raw

    def add_made(self, name: str, kind: str, content: Mapping[str, Any]) -> None:
        """Take in a document that is made here, as JSON, which is YAML."""
        text = json.dumps(content, sort_keys=True, ensure_ascii=True)
        self._add(name, kind, text.encode("ascii"), Origin("inline", ""), text)

    def _add(self, name: str, kind: str, raw: bytes, origin: Origin, text: str) -> None:
        digest = Digest.of(raw)
        held = self.found.get(name)
        if held is not None and (held[0].digest, held[0].kind) != (digest, kind):
            raise RecipeError(f"two documents are called {name}", hint="rename one: names must differ in a bundle.")
        self.found[name] = (
            LockedDocument(name, kind, digest, origin),
            LockedBlob(digest, media_types.OCTETS, len(raw), text),
        )


class Needs(Value):
    """What a recipe needs, before any image is resolved.

    `images` are those to be carried; `optional` are those that further switches ask for and that stay behind.
    """

    discoveries: tuple[Discovery, ...]
    images: Mapping[str, tuple[Reason, ...]]
    optional: Mapping[str, tuple[Reason, ...]]
    suspected: Mapping[str, tuple[Reason, ...]]
    excluded: tuple[Excluded, ...]
    failures: tuple[Failure, ...]
    documents: tuple[tuple[LockedDocument, LockedBlob], ...]
    notes: tuple[str, ...]

    @property
    def releases(self) -> tuple[Release, ...]:
        """The charts as they are going to be installed."""
        return tuple(found.release for found in self.discoveries)


def needs(recipe: Recipe, recipe_file: str, places: Places, reporter: Reporter, site: Site | None = None) -> Needs:
    """Fetch and render the charts of `recipe`, and collect the images that they and the recipe name.

    `recipe_file` is the recipe's own file, relative to the folder of `places`. The answers of `site` are merged over
    the values as the installer will do it. Raises the errors of all charts.
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
    releases = _Releases(recipe, fetched, documents, site).releases()
    discoveries = in_parallel(
        lambda release: discover(release, recipe.kubernetes), releases, "charts cannot be rendered", threads=RENDERINGS
    )
    optional = merged([found.optional for found in discoveries])
    images = merged([*(found.images for found in discoveries), _named_in(recipe)])
    if recipe.include == "everything":
        images = merged([images, optional])
    excluded = {str(parse_reference(item.image)): item.reason for item in recipe.exclude}
    suspected = merged([found.suspected for found in discoveries])
    unused = excluded.keys() - images.keys() - optional.keys() - {_full_name_or_none(text) for text in suspected}
    notes = [f"excluded image {name} is not asked for by any chart" for name in sorted(unused)]
    return Needs(
        discoveries=tuple(discoveries),
        images={name: reasons for name, reasons in images.items() if name not in excluded},
        optional={name: reasons for name, reasons in optional.items() if name not in {*images, *excluded}},
        suspected={
            text: reasons for text, reasons in suspected.items() if _full_name_or_none(text) not in {*images, *excluded}
        },
        excluded=tuple(Excluded(name, excluded[name]) for name in sorted(excluded)),
        failures=tuple(sorted({failure for found in discoveries for failure in found.failures})),
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


class _Releases:
    """Puts together how each chart is going to be installed; its values become documents."""

    def __init__(
        self, recipe: Recipe, fetched: Sequence[FetchedChart], documents: _Documents, site: Site | None
    ) -> None:
        self.fetched, self.documents, self.site = fetched, documents, site
        self.tags = versions(recipe)

    def releases(self) -> list[Release]:
        found = [self._on_site(self._release(chart)) for chart in self.fetched]
        operator = next((item.namespace for item in found if item.fetched.entry.role == "operator"), "")
        return [
            replace(item, values=_with_operator(item.values, operator))
            if item.fetched.entry.role == "platform"
            else item
            for item in found
        ]

    def _release(self, fetched: FetchedChart) -> Release:
        entry, tree = fetched.entry, ChartTree.of(fetched.chart)
        further = self._optional(entry)
        if entry.resource is not None:
            raw = self.documents.read(entry.resource)
            name, namespace, values = resource_release(raw, entry.resource)
            if (entry.release or name, entry.namespace or namespace) != (name, namespace):
                raise RecipeError(
                    f"{entry.resource}: is {name} in namespace {namespace}; the recipe says otherwise for {entry.name}",
                    hint="remove release and namespace from the recipe's entry: the resource decides.",
                )
            tagged = pinned(tree, values, self.tags)
            resource = parse_values(raw, entry.resource, RecipeError)
            resource["spec"] = {**resource["spec"], "values": tagged}
            document = self._document(entry.resource, "custom-resource", f"{entry.name}-resource.json", resource)
            return Release(fetched, tree, name, namespace, tagged, document, further)
        name, namespace = entry.release or entry.name, entry.namespace or "default"
        values, document = entry.values or {}, ""
        if isinstance(entry.values, str):
            values = parse_values(self.documents.read(entry.values), entry.values, RecipeError)
        tagged = pinned(tree, values, self.tags)
        if isinstance(entry.values, str):
            document = self._document(entry.values, "values", values_name(entry), tagged)
        elif tagged:
            document = values_name(entry)
            self.documents.add_made(document, "values", tagged)
        return Release(fetched, tree, name, namespace, tagged, document, further)

    def _document(self, path: str, kind: str, name: str, content: Mapping[str, Any]) -> str:
        """The name of the document for the installer: the file itself, or what was made of it by setting versions."""
        if content == parse_values(self.documents.read(path), path, RecipeError):
            self.documents.add_file(path, kind)
            return Path(path).name
        self.documents.add_file(path, "other")
        self.documents.add_made(name, kind, content)
        return name

    def _optional(self, entry: ChartEntry) -> dict[str, Any]:
        if isinstance(entry.optional_values, str):
            raw = self.documents.add_file(entry.optional_values, "other")
            return parse_values(raw, entry.optional_values, RecipeError)
        return entry.optional_values or {}

    def _on_site(self, release: Release) -> Release:
        if self.site is None:
            return release
        chart = locked_chart(release).in_bundle()
        values = values_over(release.values, self.site.values(chart))
        return replace(release, namespace=self.site.namespace(chart), values=values)


def locked_chart(release: Release) -> LockedChart:
    """`release` as the lock says it."""
    fetched, entry = release.fetched, release.fetched.entry
    return LockedChart(
        name=entry.name,
        version=entry.version,
        role=entry.role,
        release=release.name,
        namespace=release.namespace,
        values=release.document,
        origin=fetched.origin,
        archive=fetched.archive,
        artifact=fetched.manifest.digest,
    )


def _with_operator(values: Mapping[str, Any], namespace: str) -> Mapping[str, Any]:
    """What the operator adds to the values of the chart it installs (wandb/operator v1, operator defaults)."""
    outer = values.get("global") or {}
    if not isinstance(outer, dict):
        return values
    operator = {"apiVersion": OPERATOR_API, "namespace": namespace, **(outer.get("operator") or {})}
    return {**values, "global": {**outer, "operator": operator}}


def values_name(entry: ChartEntry) -> str:
    """The document that holds values which stand in the recipe itself."""
    return f"{entry.name}-values.json"


def count(items: Sequence[object], noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"

"""Charts from where they are published: an HTTP chart repository, an OCI registry, a local archive or folder.

Sources of the foreign rules: helm.sh/docs, "The Chart Repository Guide" (index file); the same, "Use OCI-based
registries", and HIP 6 (charts as OCI artifacts: media types, `+` in versions written as `_` in tags).
"""

import json
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.charts.version_ranges import newest
from builder.images.source import Places
from builder.recipe.chart_edit import edited
from builder.recipe.lock import LockedBlob, LockedManifest, LockedSchema, Origin, TemplateEdit
from builder.recipe.recipe import ChartEntry
from builder.recipe.schema_edit import MAX_SCHEMA, check_inside, document, inlined
from installer.chart.bundled import MAX_CONFIG, named_in, parts_of
from installer.chart.helm import MAX_ARCHIVE, Chart, packed_folder
from installer.chart.schema_references import address_of
from installer.errors import ContentError, NotFoundError, RecipeError
from installer.files import is_folder, read_bounded
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Descriptor, Index, Manifest, parse_manifest
from installer.oci.reference import parse_reference, parse_repository
from installer.registry.endpoint import joined
from installer.strict_yaml import load_yaml
from installer.value import Value, replace

MAX_INDEX = 64 * 1024 * 1024
"""The index of a repository with many versions has a few MiB; Helm holds it in memory too."""
# A whole version is the tag itself: registries need not be able to list tags.
_COMPLETE = re.compile(r"v?\d+\.\d+\.\d+([-+].*)?", re.ASCII)
_OCI = re.compile(r"oci://[^?#@\s]+", re.ASCII)
_HTTP = re.compile(r"https?://[^/?#@\s]+(?:[/?][^#\s]*)?", re.ASCII)


class FetchedChart(Value):
    """A chart with its archive in memory, and what the lock says about it. `manifest` is its form as OCI artifact.

    `published` is the archive at `origin`: another one, if there are `schemas` or `edits`. All three as in
    `LockedChart`, and `prefixes` too.
    """

    entry: ChartEntry
    chart: Chart
    origin: Origin
    manifest: LockedManifest
    blobs: tuple[LockedBlob, ...]
    published: Descriptor
    schemas: tuple[LockedSchema, ...] = ()
    edits: tuple[TemplateEdit, ...] = ()
    prefixes: tuple[str, ...] = ()

    @property
    def archive(self) -> Digest:
        """The digest of the archive."""
        return self.chart.digest

    @property
    def unused_schemas(self) -> list[str]:
        """What `schemas` of the recipe name and the chart's schemas do not refer to."""
        used = {schema.address for schema in self.schemas}
        return [reference for reference in self.entry.schemas if address_of(reference) not in used]


class ChartFetcher:
    """Fetches charts; reads the index of each repository once. Safe to use from several threads.

    `pins` are the versions that a former lock found for ranges, by chart and range.
    """

    def __init__(self, places: Places, pins: Mapping[tuple[str, str], str] | None = None) -> None:
        self._places, self._pins = places, pins or {}
        self._indexes: dict[str, Mapping[str, Any]] = {}
        self._lock = threading.Lock()

    def fetch(self, entry: ChartEntry) -> FetchedChart:
        """The chart that `entry` names, checked to be of that name and version; of a range the newest that fits.

        Raises NotFoundError, ContentError, RecipeError and the errors of the transport.
        """
        if entry.path is not None:
            origin, archive = local(self._places.path(entry.path), entry.path)
            return self._made(entry, origin, archive)
        repository = entry.repository or ""
        if repository.startswith("oci://"):
            return self._from_registry(entry, repository.removeprefix("oci://"))
        return self._from_repository(entry, repository)

    def _version(self, entry: ChartEntry) -> str:
        """The version, or the range, to look for."""
        return self._pins.get((entry.name, entry.asked), entry.asked)

    def _from_repository(self, entry: ChartEntry, repository: str) -> FetchedChart:
        found = select(self._index(repository), entry.name, self._version(entry), repository)
        stated = str(found.get("digest") or "").removeprefix("sha256:")
        problem: NotFoundError | None = None
        for url in urls(found, repository):
            try:
                if url.startswith("oci://"):
                    chart = self._artifact(entry, artifact_at(url, str(found.get("version"))))
                    # What the index states there is the digest of the archive, or that of its manifest.
                    _check_stated(stated, (chart.published.digest, chart.manifest.digest), url, repository)
                    return chart
                archive = self._places.transport.fetch(url, MAX_ARCHIVE, packed=True)
            except NotFoundError as exc:
                problem = problem or exc
                continue
            _check_stated(stated, (Digest.of(archive),), url, repository)
            return self._made(entry, Origin("url", url), archive)
        listed = str(found.get("urls"))[:200]
        raise problem or NotFoundError(
            f"{repository}: {entry.name} {entry.version} has no usable URL in the index ({listed})",
            hint="http, https and oci are followed; or fetch the archive and name it with `path`.",
        )

    def _index(self, repository: str) -> Mapping[str, Any]:
        with self._lock:
            if repository not in self._indexes:
                url = f"{repository}/index.yaml"
                raw = self._places.transport.fetch(url, MAX_INDEX)
                self._indexes[repository] = entries(raw, url)
            return self._indexes[repository]

    def _from_registry(self, entry: ChartEntry, folder: str) -> FetchedChart:
        location, version = f"{folder}/{entry.name}", self._version(entry)
        if not _COMPLETE.fullmatch(version):
            version = self._newest(location, version)
        return self._artifact(entry, Origin("registry", location, version.replace("+", "_")))

    def _artifact(self, entry: ChartEntry, origin: Origin) -> FetchedChart:
        """The chart that lies at `origin` as an OCI artifact."""
        found = self._places.manifest(origin)
        try:
            manifest, archive = parts_of(found)
            named = named_in(self._places.read(origin, manifest.config, MAX_CONFIG))
        except ContentError as exc:
            raise ContentError(f"oci://{origin.location}:{origin.name}: {exc.message}", hint=exc.hint) from exc
        made = self._made(entry, origin, self._places.read(origin, archive, MAX_ARCHIVE), manifest)
        chart = made.chart
        if named != (chart.name, chart.version):
            raise ContentError(
                f"oci://{origin.location}:{origin.name} is {chart.name} {chart.version}, but its configuration says "
                f"{named[0]!s:.100} {named[1]!s:.100}",
                hint="have it pushed again with `helm push`; or fetch its archive and name that with `path`.",
            )
        return made

    def _newest(self, location: str, wanted: str) -> str:
        tags = self._places.registry.tags(parse_repository(location))
        versions = [tag.replace("_", "+") for tag in tags]
        if found := newest(wanted, versions):
            return found
        raise NotFoundError(
            f"oci://{location}: no version fits {wanted}", hint=f"it has: {', '.join(tags[-8:]) or 'none'}."
        )

    def _made(
        self, entry: ChartEntry, origin: Origin, archive: bytes, manifest: Manifest | None = None
    ) -> FetchedChart:
        """The chart in `archive`, with what the recipe puts into its schemas; `manifest` is the artifact at `origin`.

        Raises RecipeError where a schema still refers to something else.
        """
        published = Descriptor(media_types.HELM_CHART, Digest.of(archive), len(archive))
        source = f"chart {entry.name} ({origin})"
        documents, locked = {}, {}
        for reference, file in entry.schemas.items():
            address, raw = address_of(reference), read_bounded(self._places.path(file), MAX_SCHEMA, RecipeError)
            documents[address] = document(raw, file)
            locked[address] = LockedSchema(address, file, Digest.of(raw), len(raw))
        made = inlined(archive, source, documents)
        check_inside(made.left, entry.name, source)
        chart = load(made.archive, entry, origin)
        artifact = _carried(manifest, {}) if manifest and not made.used else _as_artifact(chart)
        schemas = tuple(locked[address] for address in sorted(made.used))
        return FetchedChart(entry, chart, origin, *artifact, published, schemas)


def with_edits(item: FetchedChart, edits: Iterable[TemplateEdit]) -> FetchedChart:
    """`item`, whose templates are as they were published, with `edits` of them."""
    made = tuple(sorted(edits))
    chart = load(edited(item.chart, made), item.entry, item.origin)
    manifest, blobs = _as_artifact(chart)
    return replace(item, chart=chart, manifest=manifest, blobs=blobs, edits=made)


def _as_artifact(chart: Chart) -> tuple[LockedManifest, tuple[LockedBlob, ...]]:
    config, raw = artifact(chart)
    manifest = parse_manifest(raw, media_types.OCI_MANIFEST)
    return _carried(manifest, {Digest.of(data): data.decode("ascii") for data in (config, raw)})


def _carried(manifest: Manifest | Index, texts: Mapping[Digest, str]) -> tuple[LockedManifest, tuple[LockedBlob, ...]]:
    """The lock's view of an artifact; `texts` are the blobs that are generated."""
    held = manifest.blobs if isinstance(manifest, Manifest) else ()
    blobs = [manifest.descriptor, *held]
    locked = LockedManifest(manifest.descriptor.digest, tuple(blob.digest for blob in held))
    return locked, tuple(
        LockedBlob(blob.digest, blob.media_type, blob.size, texts.get(blob.digest, "")) for blob in blobs
    )


def load(archive: bytes, entry: ChartEntry, origin: Origin) -> Chart:
    """The chart in `archive`. Raises ContentError if it is broken, RecipeError if it is another than `entry` names."""
    chart = Chart.load(archive, source=f"chart {entry.name} ({origin})")
    fits = not entry.asked or newest(entry.asked, [chart.version])
    if chart.name != entry.name or not fits:
        raise RecipeError(
            f"{origin}: holds {chart.name} {chart.version}, the recipe says {entry.name} {entry.asked}".rstrip(),
            hint="correct name and version in the recipe.",
        )
    return chart


def local(path: Path, text: str) -> tuple[Origin, bytes]:
    """The chart archive at `path`, or the one that `helm package` makes of the folder there; `text` is its name.

    Raises ContentError for a folder that holds no chart, RecipeError, StorageError.
    """
    if is_folder(path):
        return Origin("folder", text), packed_folder(path, ContentError)
    return Origin("file", text), read_bounded(path, MAX_ARCHIVE, RecipeError)


def artifact(chart: Chart) -> tuple[bytes, bytes]:
    """The configuration and the manifest of `chart` as an OCI artifact, the same bytes every time.

    Helm itself puts the time of the push into the manifest, so a pushed copy has another digest.
    """
    config = _compact(dict(chart.metadata))
    titles = {"org.opencontainers.image.title": chart.name, "org.opencontainers.image.version": chart.version}
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": {"mediaType": media_types.HELM_CONFIG, "digest": Digest.of(config).text, "size": len(config)},
        "layers": [{"mediaType": media_types.HELM_CHART, "digest": chart.digest.text, "size": len(chart.archive)}],
        "annotations": titles,
    }
    return config, _compact(manifest)


def _compact(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def _check_stated(stated: str, delivered: Sequence[Digest], url: str, repository: str) -> None:
    if stated and stated not in [digest.hex for digest in delivered]:
        raise ContentError(
            f"{url}: the index of {repository} says sha256 {stated[:64]}, delivered is {delivered[0].hex}",
            hint="the chart repository is inconsistent: ask its owner, or fetch the chart from elsewhere.",
        )


def entries(raw: bytes, url: str) -> Mapping[str, Any]:
    """The `entries` of an index file: chart name → list of versions. Raises ContentError."""
    document = load_yaml(raw, url, ContentError)
    found = document.get("entries") if isinstance(document, dict) else None
    if not isinstance(found, dict):
        raise ContentError(f"{url}: not the index of a chart repository", hint="check `repository` in the recipe.")
    return found


def select(index: Mapping[str, Any], name: str, version: str, repository: str) -> Mapping[str, Any]:
    """The entry of this version, or the newest in this range.

    Raises NotFoundError naming some of what there is.
    """
    versions = index.get(name)
    if not isinstance(versions, list):
        known = ", ".join(sorted(str(key) for key in index)[:10])
        raise NotFoundError(f"{repository}: no chart {name}", hint=f"it has: {known or 'no charts at all'}.")
    published = {str(item.get("version")): item for item in reversed(versions) if isinstance(item, dict)}
    if found := newest(version, list(published)):
        return published[found]
    # The index is sorted, newest first; pre-releases hide what people look for.
    texts = list(reversed(published))
    stable = [text for text in texts if "-" not in text] or texts
    raise NotFoundError(
        f"{repository}: no version {version} of chart {name}",
        hint=f"the newest there: {', '.join(stable[:8]) or 'none'}.",
    )


def urls(found: Mapping[str, Any], repository: str) -> list[str]:
    """Where the archive is; relative URLs are relative to the repository. URLs with credentials in them are ignored.

    Some indexes name OCI artifacts (`oci://HOST/PATH:TAG`), as Bitnami's does.
    """
    listed = found.get("urls")
    texts = [text for text in listed if isinstance(text, str)] if isinstance(listed, list) else []
    full = [text if text.startswith("oci://") else joined(f"{repository}/", text) for text in texts]
    return [url for url in full if _HTTP.fullmatch(url) or _OCI.fullmatch(url)]


def artifact_at(url: str, version: str) -> Origin:
    """The place of the artifact that `url` names in an index, by its tag or else by the chart's version.

    Raises UsageError for what is no reference.
    """
    text = url.removeprefix("oci://")
    reference = parse_reference(text if ":" in text.rpartition("/")[2] else f"{text}:{version.replace('+', '_')}")
    return Origin("registry", str(reference.repository), reference.tag)

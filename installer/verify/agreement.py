"""What stands in a bundle more than once, compared: whoever is shown the one gets the other."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from installer import strict_json
from installer.bundle.failures import ContradictionError
from installer.bundle.manifest import BundleChart, BundleDocument
from installer.bundle.reader import Bundle
from installer.chart.bundled import check_chart
from installer.errors import BundleError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.value import Value
from installer.verify.damage import Damage
from installer.verify.describe import MAX_PROFILE, MAX_PROOF


class _Comparison(Value):
    """`compare` reads the blobs in `needed`, and raises what is wrong with `images` (their names)."""

    needed: Collection[Digest]
    compare: Callable[[], object]
    images: tuple[str, ...] = ()


def contradictions(bundle: Bundle) -> list[Damage]:
    """Where images, charts, documents and manifest.json contradict bundle.json, as far as they are at hand.

    Raises IncompleteError, StorageError.
    """
    findings = []
    for item in _comparisons(bundle):
        if any(map(bundle.absent, item.needed)):
            continue
        try:
            item.compare()
        except BundleError as exc:
            findings.append(Damage("wrong", exc.message, images=item.images))
    return findings


def keep_compared(bundle: Bundle) -> None:
    """While volumes are missing: have in memory what of it is at hand, since its medium may go.

    Raises BundleError, StorageError.
    """
    bundle.keep(digest for item in _comparisons(bundle) for digest in item.needed)


def _comparisons(bundle: Bundle) -> Iterator[_Comparison]:
    manifest = bundle.manifest
    manifests = {
        image.source: [part.digest for part in manifest.parts(image) if part.is_manifest] for image in manifest.images
    }
    for image in manifest.images:
        yield _Comparison(manifests[image.source], partial(bundle.images.closure, image), (image.source,))
    yield _Comparison(set().union(*manifests.values()), bundle.check_docker_index)
    # Which configuration belongs to which chart is said by the chart's artifact alone.
    configs = [blob.digest for blob in manifest.blobs if blob.media_type == media_types.HELM_CONFIG]
    for chart in manifest.charts:
        yield _Comparison((chart.artifact, chart.archive, *configs), partial(check_chart, bundle, chart))
    for document in manifest.documents:
        if document.kind == "profile":
            yield _Comparison((document.digest,), partial(_check_profile, bundle, document))
        elif document.kind == "proof":
            yield _Comparison((document.digest,), partial(_check_proof, bundle, document))


def _check_profile(bundle: Bundle, document: BundleDocument) -> None:
    """Raises ContradictionError for a step that names a chart or document which the bundle does not have."""
    profile = strict_json.parse(bundle.read(document.digest, MAX_PROFILE), document.name, BundleError)
    held = {(item.name, item.kind) for item in bundle.manifest.documents}
    try:
        for step in profile["steps"]:
            chart = step if "chart" in step else step.get("installs")
            if chart:
                _check_named(bundle.manifest.charts, chart["chart"], chart.get("version"), document.name)
            for kind, name in _documents_of(step):
                if (name, kind) not in held:
                    raise ContradictionError(f"{document.name}: the bundle has no {name} of kind {kind}")
    except (AttributeError, KeyError, TypeError) as exc:
        raise ContradictionError(f"{document.name}: no profile ({type(exc).__name__})") from exc


def _documents_of(step: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Kind and name of the documents that a step names; values may also stand in it."""
    yield from (("manifests", name) for name in step.get("manifests", ()))
    yield from ((kind, step[kind]) for kind in ("resource", "values") if isinstance(step.get(kind), str))


def _check_named(charts: Iterable[BundleChart], name: str, version: str | None, what: str) -> None:
    fitting = [chart for chart in charts if (chart.name, chart.version) == (name, version or chart.version)]
    if len(fitting) != 1:
        raise ContradictionError(f"{what}: chart {name} {version or ''}: the bundle has {len(fitting)} of it")


def _check_proof(bundle: Bundle, document: BundleDocument) -> None:
    """Raises ContradictionError if the proof is about other images or charts than those of the bundle."""
    proof = strict_json.parse(bundle.read(document.digest, MAX_PROOF), document.name, BundleError)
    images = {(image.source, image.digest.text) for image in bundle.manifest.images}
    charts = {(chart.name, chart.version, chart.archive.text) for chart in bundle.manifest.charts}
    try:
        carried = {(item["reference"], item["digest"]) for item in proof["references"] if item["verdict"] == "carried"}
        rendered = {(item["name"], item["version"], item["archive"]) for item in proof["charts"]}
        other = sorted(map(" ".join, (*(images ^ carried), *(rendered - charts))))
    except (KeyError, TypeError) as exc:
        raise ContradictionError(f"{document.name}: no proof of completeness ({type(exc).__name__})") from exc
    if other:
        raise ContradictionError(f"{document.name}: the bundle and its proof differ in {other[0]}")

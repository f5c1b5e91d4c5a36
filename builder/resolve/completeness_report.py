"""The proof that no image was forgotten: a document of the bundle that people can read and another program can check.

It says which charts were rendered with which values, what was seen, and what became of every reference: `carried` by
the image with this digest, `optional` (further switches ask for it), `excluded` by the recipe, `suspected` (it may be
no image, or only `helm test` asks for it), or `no-image`, as its registry says. What operators bring is named
apart. FORMAT.md of the bundle describes each key.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from builder.charts.discover import Discovery
from builder.charts.fetch import FetchedChart
from builder.charts.operators import Brought
from builder.charts.rendering import Rendering
from builder.recipe.findings import Reason
from builder.recipe.lock import Lock, LockedImage, is_mutable
from builder.recipe.recipe import Recipe
from builder.resolve.requirements import Needs
from installer.bundle import canonical
from installer.errors import BundleError, RecipeError
from installer.oci.digest import Digest
from installer.value import typed

FORMAT = "airferry-proof/1"
PROOF_NAME = "proof.json"


def proof(recipe: Recipe, found: Needs, images: Sequence[LockedImage]) -> str:
    """The proof for what was `found`, of which `images` are carried. Raises RecipeError."""
    carried = {(item.chart.name, item.chart.version): item for item in found.charts}
    document = {
        "format": FORMAT,
        "include": recipe.include,
        "api_versions": list(recipe.kubernetes.api_versions),
        "charts": [_chart(item, carried) for item in found.discoveries],
        "references": _references(found, images),
        "failures": list(found.failures),
        "brought": list(found.brought),
    }
    try:
        return canonical.encode(document).decode("ascii")
    except BundleError as exc:
        raise RecipeError(f"the proof cannot be written: {exc.message}", hint="use ASCII in names.") from exc


def unused_in(lock: Lock) -> dict[str, list[str]]:
    """What the proof of `lock` calls unused, by chart; of one that stands there several times, all of it."""
    return gathered((chart["name"], chart["unused"]) for found in _proofs(lock) for chart in found["charts"])


def brought_in(lock: Lock) -> list[Brought]:
    """What operators bring, by the proof of `lock`."""
    return [typed(item, Brought) for found in _proofs(lock) for item in found["brought"]]


def _proofs(lock: Lock) -> list[dict[str, Any]]:
    """The proof of `lock`, if it has one."""
    texts = [lock.blobs_by_digest()[item.digest].content for item in lock.documents if item.name == PROOF_NAME]
    return [json.loads(text) for text in texts]


def gathered(unused: Iterable[tuple[str, Sequence[str]]]) -> dict[str, list[str]]:
    """What is unused, by chart."""
    found: dict[str, list[str]] = {}
    for chart, texts in unused:
        held = found.setdefault(chart, [])
        held += [text for text in texts if text not in held]
    return found


def _chart(found: Discovery, carried: Mapping[tuple[str, str], FetchedChart]) -> dict[str, Any]:
    release, chart = found.release, found.release.fetched.chart
    # Its templates may have been edited since it was rendered.
    item = carried[chart.name, chart.version]
    values = _text(release.values)
    return {
        "name": chart.name,
        "version": chart.version,
        "archive": item.archive,
        "published": item.published.digest,
        "schemas": {document.address: document.digest for document in item.schemas},
        "edited": [edit.template for edit in item.edits],
        "prefixes": list(item.prefixes),
        "release": release.name,
        "namespace": release.namespace,
        "document": release.document,
        "values": values,
        "missing": list(release.tree.missing),
        "asking": list(release.tree.asking),
        "unused": list(found.unused),
        "renderings": [_rendering(item, values) for item in found.renderings],
    }


def _rendering(item: Rendering, values: str) -> dict[str, Any]:
    overlay = _text(item.overlay)
    return {
        "name": item.name,
        "overlay": overlay,
        "kubernetes": item.kubernetes,
        "templates": "all" if item.whole else "looking",
        "digest": Digest.of(f"{values}\n{overlay}".encode("ascii")),
        "operation": "upgrade" if item.upgrade else "install",
        "lookup": "present" if item.found_by_lookup else "absent",
        "objects": item.objects,
        "references": item.references,
    }


def _text(values: Mapping[str, Any]) -> str:
    """Values as JSON text: they may hold what canonical JSON does not, such as fractions."""
    return json.dumps(values, sort_keys=True, ensure_ascii=True)


def _references(found: Needs, images: Sequence[LockedImage]) -> list[dict[str, Any]]:
    references = [
        _reference(image.source, "carried", image.reasons, digest=image.digest.text)
        for image in sorted(images, key=lambda image: image.source)
    ]
    references += [_reference(name, "optional", reasons) for name, reasons in found.optional.items()]
    references += [
        _reference(item.image, "excluded", found.asked.get(item.image, ()), because=item.reason)
        for item in found.excluded
    ]
    references += [
        _reference(
            item.text,
            "no-image" if item.verdict == "no image" else "suspected",
            item.reasons,
            because=item.because,
        )
        for item in found.suspected
    ]
    return references


def _reference(
    text: str, verdict: str, places: Sequence[Reason], *, digest: str = "", because: str = ""
) -> dict[str, Any]:
    return {
        "reference": text,
        "verdict": verdict,
        "digest": digest,
        "because": because,
        "tag": "mutable" if verdict in ("carried", "optional") and is_mutable(text) else "fixed",
        "places": list(places),
    }

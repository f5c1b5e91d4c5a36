"""A description of a bundle, for people and for programs."""

from typing import Any

from installer import strict_json
from installer.bundle.manifest import BundleImage, BundleManifest
from installer.bundle.reader import Bundle
from installer.errors import BundleError, StorageError
from installer.report import size
from installer.value import plain

MAX_PROOF = 16 << 20
MAX_PROFILE = 4 << 20
STEPS = ("chart", "resource", "manifests")
VERDICTS = ("carried", "optional", "excluded", "suspected", "no-image")


def description(bundle: Bundle, *, strict: bool = True) -> dict[str, Any]:
    """The bundle's contents as plain values.

    Without `strict` a profile or proof that is damaged counts as absent: `verify` goes on, and says where it is.
    """
    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "sequence": manifest.sequence,
        "created": manifest.created,
        "expires": manifest.expires,
        "platforms": [str(platform) for platform in manifest.platforms],
        "bytes": bundle.volumes.size,
        "volumes": len(manifest.volumes),
        "missing_volumes": [number + 1 for number in sorted(bundle.volumes.missing)],
        "volume_files": [plain(info) for info in bundle.volumes.infos()],
        "sums": bundle.verdict.sums.text,
        "signers": list(bundle.verdict.signers),
        "images": [
            {
                "image": image.source,
                "digest": image.digest.text,
                "upstream": image.upstream.text,
                "platforms": [str(platform) for platform in image.platforms],
                "referrers": [digest.text for digest in image.referrers],
                "tagged": {tag: digest.text for tag, digest in image.tagged},
                "not_carried": _rest(manifest, image),
            }
            for image in manifest.images
        ],
        "charts": [
            {
                "name": chart.name,
                "version": chart.version,
                "digest": chart.archive.text,
                "source": chart.source,
            }
            for chart in manifest.charts
        ],
        "steps": steps(bundle, strict=strict),
        "documents": [
            {"name": document.name, "kind": document.kind, "digest": document.digest.text}
            for document in manifest.documents
        ],
        "blobs": len(manifest.blobs),
        "content": manifest.content,
        "bases": [{"name": base.name, "version": base.version, "content": base.content} for base in manifest.bases],
        "not_carried": {"blobs": len(manifest.left_out), "bytes": sum(blob.size for blob in manifest.left_out)},
        "proof": proof_counts(bundle, strict=strict),
    }


def steps(bundle: Bundle, *, strict: bool = True) -> list[dict[str, str]]:
    """The steps of the bundle's profile: what each is, its name, and its namespace, empty for that of the application.

    Empty without a profile, or while a volume is missing. Raises BundleError for a profile that is none.
    """
    found = _document(bundle, "profile", MAX_PROFILE, strict=strict)
    if found is None:
        return []
    name, profile = found
    try:
        return [_step(step) for step in profile["steps"]]
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise BundleError(f"{name}: no profile ({type(exc).__name__})") from exc


def _document(bundle: Bundle, kind: str, limit: int, *, strict: bool) -> tuple[str, Any] | None:
    """The name and the content of the one document of a kind; None without it, or while a volume is missing."""
    found = [document for document in bundle.manifest.documents if document.kind == kind]
    if not found or bundle.volumes.missing:
        return None
    try:
        data = bundle.read(found[0].digest, limit)
    except (BundleError, StorageError):
        if strict:
            raise
        return None
    return found[0].name, strict_json.parse(data, found[0].name, BundleError)


def _step(step: dict[str, Any]) -> dict[str, str]:
    (kind,) = (kind for kind in STEPS if kind in step)
    chart = step if kind == "chart" else step.get("installs", {})
    what = f"{chart['chart']} {chart.get('version', '')}".rstrip() if chart else ""
    return {
        "kind": kind,
        "name": step.get("name") or step.get("chart") or step.get("resource", ""),
        "namespace": step.get("namespace", ""),
        "chart": what,
    }


def proof_counts(bundle: Bundle, *, strict: bool = True) -> dict[str, int]:
    """Counts in the proof of completeness: renderings, references by verdict, and failures to look into a template.

    Empty without a proof, or while a volume is missing. Raises BundleError for a proof that is none.
    """
    found = _document(bundle, "proof", MAX_PROOF, strict=strict)
    if found is None:
        return {}
    name, proof = found
    try:
        verdicts = [reference["verdict"] for reference in proof["references"]]
        renderings = sum(len(chart["renderings"]) for chart in proof["charts"])
        failures = len(proof["failures"])
    except (KeyError, TypeError) as exc:
        raise BundleError(f"{name}: no proof of completeness ({type(exc).__name__})") from exc
    return {"renderings": renderings, **{name: verdicts.count(name) for name in VERDICTS}, "failures": failures}


def summary(bundle: Bundle, *, images: bool = False, strict: bool = True) -> str:
    """The description for people; with `images`, it names each image and document; `strict` as in `description`."""
    manifest = bundle.manifest
    files = "one file" if len(manifest.volumes) == 1 else f"{len(manifest.volumes)} files"
    lines = [
        f"{manifest.name} {manifest.version} (sequence {manifest.sequence})",
        f"created {manifest.created}, expires {manifest.expires}",
        f"platforms: {', '.join(map(str, manifest.platforms))}",
        f"{size(bundle.volumes.size)} in {files}; images: {len(manifest.images)}, charts: {len(manifest.charts)}",
        f"SHA256SUMS: {bundle.verdict.sums}",
        *(f"signed by {signer}" for signer in bundle.verdict.signers),
        *(bundle.verdict.notes),
    ]
    lines += [f"volume {number + 1} is missing" for number in sorted(bundle.volumes.missing)]
    if left_out := manifest.left_out:
        names = ", ".join(map(str, manifest.bases))
        amount = size(sum(blob.size for blob in left_out))
        lines.append(f"an update of {names}; not carried, but to be in the registry: {amount} (blobs: {len(left_out)})")
    lines += [f"chart {chart.name} {chart.version}" for chart in manifest.charts]
    for number, step in enumerate(steps(bundle, strict=strict), 1):
        place = f" in {step['namespace']}" if step["namespace"] else ""
        chart = f": chart {step['chart']}" if step["chart"] else ""
        lines.append(f"step {number}, {step['kind']} {step['name']}{place}{chart}")
    if images and (counts := proof_counts(bundle, strict=strict)):
        words = ", ".join(f"{counts[name]} {name}" for name in VERDICTS)
        lines.append(
            f"proof of completeness: references in {counts['renderings']} renderings: {words}; "
            f"{counts['failures']} templates or subcharts not looked into"
        )
    if images:
        for image in manifest.images:
            lines += [f"image {image.source}{_in_part(manifest, image)}", f"    {image.digest}"]
            lines += [f"    with {digest} about it" for digest in image.referrers]
            lines += [f"    with {digest} about it, as {tag}" for tag, digest in image.tagged]
        lines += [f"document {document.name} ({document.kind})" for document in manifest.documents]
    return "\n".join(lines)


def _in_part(manifest: BundleManifest, image: BundleImage) -> str:
    """A remark on the bytes of an image that an update leaves out; empty if there are none."""
    rest = _rest(manifest, image)
    return f" (without {size(rest)} that the registry holds)" if rest else ""


def _rest(manifest: BundleManifest, image: BundleImage) -> int:
    """Bytes of an image that an update does not carry."""
    return sum(blob.size for blob in manifest.parts(image) if not blob.pieces)

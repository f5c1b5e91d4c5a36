"""What a bundle holds, for people and for programs."""

from typing import Any

from installer.bundle.reader import Bundle
from installer.report import size


def description(bundle: Bundle) -> dict[str, Any]:
    """The bundle's contents as plain values."""
    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "sequence": manifest.sequence,
        "created": manifest.created,
        "expires": manifest.expires,
        "platforms": [str(platform) for platform in manifest.platforms],
        "bytes": bundle.size,
        "volumes": len(manifest.volumes),
        "missing_volumes": list(bundle.missing),
        "sums": bundle.verdict.sums.text,
        "signers": list(bundle.verdict.signers),
        "images": [
            {
                "image": image.source,
                "digest": image.digest.text,
                "upstream": image.upstream.text,
                "platforms": [str(platform) for platform in image.platforms],
            }
            for image in manifest.images
        ],
        "charts": [
            {
                "name": chart.name,
                "version": chart.version,
                "role": chart.role,
                "release": chart.release,
                "namespace": chart.namespace,
                "digest": chart.archive.text,
                "source": chart.source,
            }
            for chart in manifest.charts
        ],
        "documents": [
            {"name": document.name, "kind": document.kind, "digest": document.digest.text}
            for document in manifest.documents
        ],
        "blobs": len(manifest.blobs),
    }


def summary(bundle: Bundle, *, images: bool = False) -> str:
    """The same for people; with `images`, each image and document is named."""
    manifest = bundle.manifest
    files = "one file" if len(manifest.volumes) == 1 else f"{len(manifest.volumes)} files"
    lines = [
        f"{manifest.name} {manifest.version} (sequence {manifest.sequence})",
        f"created {manifest.created}, expires {manifest.expires}",
        f"platforms: {', '.join(map(str, manifest.platforms))}",
        f"{size(bundle.size)} in {files}; images: {len(manifest.images)}, charts: {len(manifest.charts)}",
        f"SHA256SUMS: {bundle.verdict.sums}",
        *(f"signed by {signer}" for signer in bundle.verdict.signers),
        *(bundle.verdict.notes),
    ]
    lines += [f"volume {number} is missing" for number in bundle.missing]
    for chart in manifest.charts:
        lines.append(f"chart {chart.name} {chart.version} ({chart.role}): {chart.release} in {chart.namespace}")
    if images:
        lines += [f"image {image.source}\n    {image.digest}" for image in manifest.images]
        lines += [f"document {document.name} ({document.kind})" for document in manifest.documents]
    return "\n".join(lines)

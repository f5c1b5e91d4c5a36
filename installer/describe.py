"""A bundle in words and as a document: what `inspect` and `verify` print."""

from typing import Any

from installer.bundle.reader import Bundle
from installer.report import size


def document(bundle: Bundle) -> dict[str, Any]:
    """What the bundle is, for programs."""
    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "sequence": manifest.sequence,
        "created": manifest.created,
        "expires": manifest.expires,
        "platforms": [str(platform) for platform in manifest.platforms],
        "sums": bundle.verdict.sums.text,
        "signers": list(bundle.verdict.signers),
        "notes": list(bundle.verdict.notes),
        "size": bundle.size,
        "volumes": len(manifest.volumes),
        "missing_volumes": list(bundle.missing),
        "images": [
            {
                "source": image.source,
                "digest": image.digest.text,
                "media_type": image.media_type,
                "size": sum(blob.size for blob in bundle.closure(image).values()),
                "platforms": [str(platform) for platform in image.platforms],
            }
            for image in manifest.images
        ],
        "charts": [
            {"name": chart.name, "version": chart.version, "role": chart.role, "archive": chart.archive.text}
            for chart in manifest.charts
        ],
        "documents": [
            {"name": document.name, "kind": document.kind, "digest": document.digest.text}
            for document in manifest.documents
        ],
    }


def text(bundle: Bundle) -> str:
    """The same for people."""
    found = document(bundle)
    lines = [
        (
            f"{found['name']} {found['version']} (sequence {found['sequence']}), made {found['created']}, "
            f"{'never expires' if found['expires'] == 'never' else 'expires ' + found['expires']}"
        ),
        (
            f"{size(bundle.size)} in {found['volumes']} volume{'s' * (found['volumes'] > 1)}, "
            f"for {', '.join(found['platforms'])}"
        ),
        f"SHA256SUMS {found['sums']}",
        *(f"signed by {signer}" for signer in found["signers"]),
        *(f"note: {note}" for note in found["notes"]),
        "",
        f"{len(found['images'])} images",
        *(f"  {image['source']}  {image['digest'][:19]}  {size(image['size'])}" for image in found["images"]),
        f"{len(found['charts'])} charts",
        *(f"  {chart['name']} {chart['version']}  ({chart['role']})" for chart in found["charts"]),
        f"{len(found['documents'])} documents",
        *(f"  {document['name']}  ({document['kind']})" for document in found["documents"]),
    ]
    return "\n".join(lines)

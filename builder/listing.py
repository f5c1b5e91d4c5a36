"""Locks and plans as documents for programs and as tables for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from builder.contents import Contents
from builder.lock import Lock, Reason, why_left
from builder.needs import Needs
from builder.plan import image_bytes
from installer.bundle.volume import volumes_of_images
from installer.report import size

MAX_REASONS = 4
"""Places that a table shows for each image; the JSON form shows all."""


def image_list(found: Lock | Needs) -> dict[str, Any]:
    """The images of a lock, or (without digests and sizes) those of a recipe, with the places that ask for them."""
    if isinstance(found, Lock):
        images = [
            {
                "image": item.image.source,
                "digest": item.image.digest.text,
                "upstream": item.image.upstream.text,
                "platforms": [str(platform) for platform in item.image.platforms],
                "from": str(item.image.origin),
                "bytes": item.total,
                "reasons": [_reason(reason) for reason in item.image.reasons],
            }
            for item in sorted(image_bytes(found), key=lambda item: item.image.source)
        ]
        suspected = {item.text: item.reasons for item in found.suspected}
    else:
        images = [
            {"image": name, "reasons": [_reason(reason) for reason in reasons]}
            for name, reasons in found.images.items()
        ]
        suspected = dict(found.suspected)
    return {
        "source": "lock" if isinstance(found, Lock) else "recipe",
        "images": images,
        "excluded": [{"image": item.image, "reason": item.reason} for item in found.excluded],
        "suspected": [
            {"text": text, "because": why_left(reasons), "reasons": [_reason(reason) for reason in reasons]}
            for text, reasons in suspected.items()
        ],
    }


def _reason(reason: Reason) -> dict[str, str]:
    parts = {
        "chart": reason.chart,
        "kind": reason.kind,
        "namespace": reason.namespace,
        "name": reason.name,
        "container": reason.container,
        "field": reason.field,
        "hooks": reason.hooks,
    }
    return {"text": str(reason), **{key: value for key, value in parts.items() if value}}


def image_table(document: Mapping[str, Any]) -> str:
    """`image_list` for people."""
    lines = []
    for image in document["images"]:
        lines.append(image["image"])
        if "digest" in image:
            platforms = ", ".join(image["platforms"]) or "no platform"
            lines.append(f"    {image['digest']}  {size(image['bytes'])}  {platforms}")
        lines += _reasons(image["reasons"])
    for item in document["excluded"]:
        lines += [f"{item['image']} (excluded)", f"    because {item['reason']}"]
    for item in document["suspected"]:
        lines += [f"{item['text']} (not carried: {item['because']})", *_reasons(item["reasons"])]
    return "\n".join(lines)


def _reasons(reasons: Sequence[Mapping[str, str]]) -> list[str]:
    shown = [f"    {reason['text']}" for reason in reasons[:MAX_REASONS]]
    more = len(reasons) - MAX_REASONS
    return [*shown, f"    and {more} more"] if more > 0 else shown


def changes(old: Lock | None, new: Lock) -> list[str]:
    """What is different in `new`, one line each; empty if nothing is."""
    if old is None or old == new:
        return []
    lines = _differences("image", _images(old), _images(new))
    lines += _differences("chart", _charts(old), _charts(new))
    lines += _differences("document", _documents(old), _documents(new))
    return lines or ["settings, reasons or descriptions differ"]


def _images(lock: Lock) -> dict[str, str]:
    return {image.source: image.upstream.text for image in lock.images}


def _charts(lock: Lock) -> dict[str, str]:
    return {f"{chart.name} {chart.version}": chart.archive.text for chart in lock.charts}


def _documents(lock: Lock) -> dict[str, str]:
    return {document.name: document.digest.text for document in lock.documents}


def _differences(what: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    lines = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name, "-"), new.get(name, "-")
        if before != after:
            lines.append(f"{what} {name}: {before} -> {after}")
    return lines


def plan_document(lock: Lock, planned: Contents, free: int) -> dict[str, Any]:
    """The bytes of each image, and of the file or files that a build writes; `free` are those at the target."""
    images = image_bytes(lock)
    return {
        "name": lock.name,
        "version": lock.version,
        "images": [
            {"image": item.image.source, "bytes": item.total, "own_bytes": item.own, "shared_bytes": item.shared}
            for item in images
        ],
        "image_bytes": sum(item.total for item in images),
        "blobs": len(lock.blobs),
        "blob_bytes": sum(blob.size for blob in lock.blobs),
        "volumes": _volumes(planned),
        "spread": [
            {"image": image.source, "volumes": [number + 1 for number in sorted(numbers)]}
            for image, numbers in volumes_of_images(planned.skeleton).items()
            if len(numbers) > 1
        ],
        "file_bytes": sum(planned.volume_sizes),
        "free_bytes": free,
    }


def _volumes(planned: Contents) -> list[dict[str, Any]]:
    """Name and size of each volume, and the images that are complete on it."""
    where = volumes_of_images(planned.skeleton)
    return [
        {"file": name, "bytes": length, "images": [image.source for image in where if where[image] == {number}]}
        for number, (name, length) in enumerate(zip(planned.file_names, planned.volume_sizes, strict=True))
    ]


def plan_table(document: Mapping[str, Any]) -> str:
    """`plan_document` for people."""
    rows = [("IMAGE", "TOTAL", "OWN", "SHARED")]
    rows += [
        (item["image"], size(item["bytes"]), size(item["own_bytes"]), size(item["shared_bytes"]))
        for item in document["images"]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{name:<{widths[0]}}  {total:>{widths[1]}}  {own:>{widths[2]}}  {shared:>{widths[3]}}"
        for name, total, own, shared in rows
    ]
    saved = document["image_bytes"] - document["blob_bytes"]
    lines += [
        "",
        f"{document['blobs']} blobs, {size(document['blob_bytes'])}; sharing saves {size(max(saved, 0))}",
        f"file: {document['file_bytes']} bytes ({size(document['file_bytes'])}); free: {size(document['free_bytes'])}",
    ]
    return "\n".join(lines + _volume_lines(document))


def _volume_lines(document: Mapping[str, Any]) -> list[str]:
    if len(document["volumes"]) == 1:
        return []
    lines = []
    for item in document["volumes"]:
        lines += ["", f"{item['file']}: {item['bytes']} bytes ({size(item['bytes'])})"]
        lines += [f"    {image}" for image in item["images"]]
    if document["spread"]:
        lines += ["", "images on several volumes:"]
    for item in document["spread"]:
        lines.append(f"    {item['image']}: {', '.join(map(str, item['volumes']))}")
    return lines

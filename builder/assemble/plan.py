"""What a bundle will weigh: its images, each alone and together, its files, and what an update leaves out.

The layout behind that is in `builder.assemble.contents`.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from builder.assemble.contents import Contents
from builder.recipe.lock import Lock, LockedImage, closure
from installer.bundle.volume import volumes_of_images
from installer.report import count, size
from installer.value import Value


class ImageBytes(Value):
    """The bytes of one image: `own` are in no other image of the bundle, `shared` in others too."""

    image: LockedImage
    own: int
    shared: int

    @property
    def total(self) -> int:
        """What the image would take alone."""
        return self.own + self.shared


def image_bytes(lock: Lock) -> list[ImageBytes]:
    """The bytes of each image, largest first."""
    trees = lock.manifests_by_digest()
    sizes = {blob.digest: blob.size for blob in lock.blobs}
    parts = {image.source: closure(trees, image) for image in lock.images}
    uses = Counter(digest for digests in parts.values() for digest in digests)
    found = []
    for image in lock.images:
        own = sum(sizes[digest] for digest in parts[image.source] if uses[digest] == 1)
        shared = sum(sizes[digest] for digest in parts[image.source] if uses[digest] > 1)
        found.append(ImageBytes(image, own, shared))
    return sorted(found, key=lambda item: (-item.total, item.image.source))


def left_out(planned: Contents) -> dict[str, Any]:
    """What an update does not carry, and the bundles that whoever loads it must have loaded."""
    blobs, bases = planned.skeleton.left_out, planned.skeleton.bases
    return {
        "blobs": len(blobs),
        "bytes": sum(blob.size for blob in blobs),
        "bases": [{"name": base.name, "version": base.version, "content": base.content} for base in bases],
    }


def left_out_line(document: Mapping[str, Any]) -> str:
    """`left_out` for people."""
    names = ", ".join(f"{base['name']} {base['version']}" for base in document["bases"])
    blobs = f"{count(document['blobs'], 'blob')} ({size(document['bytes'])})"
    return f"left out: {blobs}, held where {names or 'nothing'} is loaded"


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
        "left_out": left_out(planned),
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
        {
            "file": name,
            "bytes": length,
            "images": [image.source for image, volumes in where.items() if volumes == {number}],
        }
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
        f"{count(document['blobs'], 'blob')}, {size(document['blob_bytes'])}; sharing saves {size(max(saved, 0))}",
        *([left_out_line(document["left_out"])] if document["left_out"]["blobs"] else []),
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

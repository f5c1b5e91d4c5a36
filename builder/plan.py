"""What the images of a lock weigh, each alone and together, and what an update leaves out.

The size of the whole bundle is in `builder.contents`.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from builder.contents import Contents
from builder.lock import Lock, LockedImage, closure
from installer.report import size
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
    return f"left out: {document['blobs']} blobs ({size(document['bytes'])}), held where {names or 'nothing'} is loaded"

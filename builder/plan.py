"""What the images of a lock weigh, each alone and together. The size of the whole bundle is in `builder.contents`."""

from collections import Counter
from dataclasses import dataclass

from builder.lock import Lock, LockedImage, reach


@dataclass(frozen=True)
class ImageBytes:
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
    parts = {image.source: reach(trees, image.digest) for image in lock.images}
    uses = Counter(digest for digests in parts.values() for digest in digests)
    found = []
    for image in lock.images:
        own = sum(sizes[digest] for digest in parts[image.source] if uses[digest] == 1)
        shared = sum(sizes[digest] for digest in parts[image.source] if uses[digest] > 1)
        found.append(ImageBytes(image, own, shared))
    return sorted(found, key=lambda item: (-item.total, item.image.source))

"""From a lock to the exact layout of its bundle, without touching the network."""

from builder.assemble.delta_base import WHOLE, Omission
from builder.assemble.packing import Arrangement, arrange
from builder.assemble.volume_size import VolumeSize
from builder.recipe.lock import Lock, closure
from installer.bundle.limits import FORMAT
from installer.bundle.manifest import BundleManifest
from installer.bundle.volume import Metadata, docker_index, file_names, metadata_of, volume_sizes
from installer.errors import BundleError, RecipeError
from installer.oci import media_types
from installer.value import Value, replace

MINIMUM_INSTALLER = "0.1.0"
"""The oldest installer that reads what this builder writes."""
_SLACK = 4096


class Contents(Value):
    """A bundle before its bytes: `skeleton` lacks the chunk hashes only; `manifest_json` is docker's index."""

    skeleton: BundleManifest
    manifest_json: bytes
    metadata: Metadata

    @property
    def volume_sizes(self) -> list[int]:
        """The exact size of each volume file in bytes."""
        return volume_sizes(self.skeleton, self.metadata)

    @property
    def file_names(self) -> list[str]:
        """What the volume files are called unless someone says otherwise."""
        return file_names(self.skeleton)


def contents(lock: Lock, size: VolumeSize | None = None, omitted: Omission = WHOLE) -> Contents:
    """The bundle that `lock` describes, in one volume or in volumes of `size`, without what is `omitted`.

    Raises RecipeError if it cannot be a bundle, UsageError if such volumes cannot hold it.
    """
    manifest_json = _manifest_json(lock, omitted)
    trees = lock.manifests_by_digest()
    blobs = [blob.descriptor for blob in lock.blobs]
    images = {image.source: closure(trees, image) for image in lock.images}
    try:
        skeleton = _skeleton(lock, arrange(blobs, images, left_out=omitted.blobs), omitted)
        metadata, room = metadata_of(skeleton, manifest_json), 0
        while size is not None and metadata.length > room:
            # Numbers of more digits make metadata longer, which may move blobs: leave some room for that.
            room = metadata.length + _SLACK * bool(room)
            skeleton = _skeleton(lock, arrange(blobs, images, size, room, omitted.blobs), omitted)
            metadata = metadata_of(skeleton, manifest_json)
    except BundleError as exc:
        raise RecipeError(exc.message, hint="correct the recipe, then run `airferry lock`.") from exc
    return Contents(skeleton, manifest_json, metadata)


def _skeleton(lock: Lock, layout: Arrangement, omitted: Omission) -> BundleManifest:
    return BundleManifest(
        format=FORMAT,
        name=lock.name,
        version=lock.version,
        sequence=lock.sequence,
        created=lock.created,
        expires=lock.expires,
        minimum_installer=MINIMUM_INSTALLER,
        platforms=lock.platforms,
        images=tuple(replace(image.in_bundle(), parts=layout.parts[image.source]) for image in lock.images),
        charts=tuple(chart.in_bundle() for chart in lock.charts),
        documents=tuple(document.in_bundle() for document in lock.documents),
        blobs=layout.blobs,
        volumes=layout.volumes,
        bases=omitted.bases,
    )


def _manifest_json(lock: Lock, omitted: Omission) -> bytes:
    """The index of `docker load`; left out is what is no image for the first platform, or not all carried."""
    types = {blob.digest: blob.media_type for blob in lock.blobs}
    trees = lock.manifests_by_digest()
    contents = [(image.in_bundle(), trees[image.single].content) for image in lock.images]
    return docker_index(
        (image, content)
        for image, content in contents
        if types[content[0]] in media_types.IMAGE_CONFIGS and omitted.blobs.isdisjoint(content)
    )

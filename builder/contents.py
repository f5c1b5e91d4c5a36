"""From a lock to the exact layout of its bundle, without touching the network."""

from dataclasses import dataclass

from builder.lock import Lock, LockedImage
from installer.bundle import canonical
from installer.bundle.limits import FORMAT
from installer.bundle.manifest import BundleManifest
from installer.bundle.volume import metadata_of, order, place, volume_sizes
from installer.errors import BundleError, RecipeError
from installer.oci import media
from installer.oci.digest import Digest

MINIMUM_INSTALLER = "0.1.0"
"""The oldest installer that reads what this builder writes."""


@dataclass(frozen=True, slots=True)
class Contents:
    """A bundle before its bytes: `skeleton` lacks the chunk hashes only; `manifest_json` is docker's index."""

    skeleton: BundleManifest
    manifest_json: bytes

    @property
    def volume_sizes(self) -> list[int]:
        """The exact size of each volume file in bytes."""
        return volume_sizes(self.skeleton, metadata_of(self.skeleton, self.manifest_json))


def contents(lock: Lock) -> Contents:
    """The bundle that `lock` describes. Raises RecipeError if it cannot be one."""
    try:
        blobs, volumes = place(order(blob.descriptor for blob in lock.blobs))
        skeleton = BundleManifest(
            format=FORMAT,
            name=lock.name,
            version=lock.version,
            sequence=lock.sequence,
            created=lock.created,
            expires=lock.expires,
            minimum_installer=MINIMUM_INSTALLER,
            platforms=lock.platforms,
            images=tuple(image.in_bundle() for image in lock.images),
            charts=tuple(chart.in_bundle() for chart in lock.charts),
            documents=tuple(document.in_bundle() for document in lock.documents),
            blobs=blobs,
            volumes=volumes,
        )
    except BundleError as exc:
        raise RecipeError(exc.message, hint="correct the recipe, then run `airferry lock`.") from exc
    return Contents(skeleton, _manifest_json(lock))


def _manifest_json(lock: Lock) -> bytes:
    """The index of `docker load`: for each tagged image its configuration and layers for one platform.

    Source: Docker image specification v1.2, "Combined Image JSON + Filesystem Changeset Format". Entries that are no
    container images, or whose layers a registry does not hold, are left out.
    """
    types = {blob.digest: blob.media_type for blob in lock.blobs}
    trees = lock.manifests_by_digest()
    names: dict[tuple[Digest, ...], list[str]] = {}
    for image in lock.images:
        config, *layers = trees[image.single].content
        if types[config] in media.IMAGE_CONFIGS:
            names.setdefault((config, *layers), []).extend(_tags(image))
    return canonical.encode(
        [
            {"Config": _path(config), "Layers": [_path(layer) for layer in layers], "RepoTags": sorted(tags)}
            for (config, *layers), tags in sorted(names.items(), key=lambda entry: (sorted(entry[1]), entry[0]))
        ]
    )


def _tags(image: LockedImage) -> list[str]:
    reference = image.in_bundle().reference
    return [f"{reference.repository}:{reference.tag}"] if reference.tag else []


def _path(digest: Digest) -> str:
    return f"blobs/sha256/{digest.hex}"

"""The images of a bundle as graphs: indexes, manifests, and the blobs below them."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from installer.bundle.failures import ContradictionError
from installer.bundle.manifest import BundleBlob, BundleImage, BundleManifest, subject_of
from installer.bundle.volume import docker_index
from installer.errors import ContentError, NotFoundError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Descriptor, Index, Manifest, parse_manifest

_MAX_DEPTH = 3
"""Levels of indexes inside indexes."""


class ImageGraph:
    """The parts of each image of a bundle.

    `read` returns the verified content of a manifest. What it raises comes through.
    """

    def __init__(
        self, manifest: BundleManifest, blobs: Mapping[Digest, BundleBlob], read: Callable[[Digest], bytes]
    ) -> None:
        self._manifest, self._blobs, self._read = manifest, blobs, read

    def parts(self, image: BundleImage) -> dict[Digest, BundleBlob]:
        """The blobs of an image as bundle.json lists them. Reads no manifest."""
        return {blob.digest: blob for blob in self._manifest.parts(image)}

    def manifests(self, image: BundleImage) -> list[Manifest | Index]:
        """The manifests of an image, children before their index, then those of what is about it; each once.

        Raises BundleError.
        """
        nodes: dict[Digest, Manifest | Index] = {}
        for root in (image.root, *(self._blobs[digest].descriptor for digest in image.roots[1:])):
            self._collect(root, nodes, depth=0)
        return list(nodes.values())

    def _collect(self, descriptor: Descriptor, nodes: dict[Digest, Manifest | Index], depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise ContradictionError(f"{descriptor.digest}: indexes nested deeper than {_MAX_DEPTH}")
        node = nodes.get(descriptor.digest) or self._node(descriptor)
        if node.descriptor.size != descriptor.size:
            raise ContradictionError(
                f"{descriptor.digest}: has {node.descriptor.size} bytes, and is said to have {descriptor.size}"
            )
        if descriptor.digest in nodes:
            return
        for child in node.children if isinstance(node, Index) else ():
            self._collect(child, nodes, depth + 1)
        nodes[descriptor.digest] = node

    def _node(self, descriptor: Descriptor) -> Manifest | Index:
        try:
            return parse_manifest(self._read(descriptor.digest), descriptor.media_type)
        except NotFoundError as exc:
            raise ContradictionError(f"manifest {descriptor.digest}: named by an image but not held") from exc
        except ContentError as exc:
            raise ContradictionError(exc.message) from exc

    def closure(self, image: BundleImage) -> dict[Digest, Descriptor]:
        """Everything an image and what is about it consist of: manifests, configurations, layers.

        Raises BundleError unless bundle.json lists the same, and if a manifest about it is about something else.
        """
        closure: dict[Digest, Descriptor] = {}
        parts, nodes = self.parts(image), self.manifests(image)
        names = {node.descriptor.digest for node in nodes}
        if odd := [tag for tag, _ in image.tagged if subject_of(tag) not in names]:
            raise ContradictionError(f"{image.source}: {odd[0]} is said to be about it, and is not")
        for node in nodes:
            if node.descriptor.digest in image.referrers and (node.subject is None or node.subject.digest not in names):
                raise ContradictionError(f"{image.source}: {node.descriptor.digest} is said to be about it, and is not")
            closure[node.descriptor.digest] = node.descriptor
            for blob in node.blobs:
                if blob.digest not in parts and not node.needs(blob):
                    continue
                if blob.digest not in self._blobs or self._blobs[blob.digest].size != blob.size:
                    raise ContradictionError(f"{image.source}: its blob {blob.digest} is not held")
                closure[blob.digest] = blob
        if closure.keys() != parts.keys():
            raise ContradictionError(f"{image.source}: its manifests and its parts in bundle.json differ")
        return closure

    def docker_index(self) -> bytes:
        """What `manifest.json` must be: every image that is whole, for the first platform of the bundle.

        Raises BundleError.
        """
        return docker_index((image, content) for image in self._manifest.images if (content := self._runnable(image)))

    def _runnable(self, image: BundleImage) -> tuple[Digest, ...]:
        """The configuration and the layers of a container image for the first platform; empty if not all is carried."""
        node = self._node(image.root)
        for _ in range(_MAX_DEPTH):
            if isinstance(node, Manifest):
                break
            child = node.entry_for(self._manifest.platforms[0])
            if child is None or child not in node.children:
                return ()
            node = self._node(child)
        if isinstance(node, Index):
            return ()
        content, parts = (node.config.digest, *(layer.digest for layer in node.layers)), self.parts(image)
        blobs = [parts[digest] for digest in content if digest in parts and parts[digest].carried]
        return content if len(blobs) == len(content) and blobs[0].media_type in media_types.IMAGE_CONFIGS else ()

    def owners(self, digest: Digest) -> Sequence[str]:
        """The names of the images that a blob belongs to."""
        return self._owners.get(digest, ())

    def needed_by(self, digest: Digest) -> str:
        """The images that a blob belongs to, as the end of a message; empty if it belongs to none."""
        names = self.owners(digest)
        return f", needed by {', '.join(names[:3])}{' and others' if len(names) > 3 else ''}" if names else ""

    @cached_property
    def _owners(self) -> dict[Digest, list[str]]:
        owners: dict[Digest, list[str]] = {}
        for image in self._manifest.images:
            for blob in self._manifest.parts(image):
                owners.setdefault(blob.digest, []).append(image.source)
        return owners

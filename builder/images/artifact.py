"""The YAML documents in an OCI artifact that a program in the cluster fetches and reads, such as a server manifest.

They are files of tar layers. Such programs take of an index the first entry, whatever platform it is for, and pass over
layers that they cannot unpack; so what they would not read is refused here.
"""

import re
from collections.abc import Mapping

from builder.images.platforms import UNKNOWN
from builder.images.source import Places
from builder.recipe.lock import Origin
from installer.chart.archive import unpacked
from installer.errors import ContentError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import ANEW, Index, Manifest
from installer.strict_yaml import load_yaml
from installer.value import Value

MAX_LAYER = 16 << 20
MAX_LAYERS = 50
MAX_DOCUMENTS = 16 << 20
"""Bytes of all its documents."""
MAX_NODES = 1_000_000
"""Values in one document, each as often as aliases repeat it: its readers go through all of them."""
_PLAIN = {
    media_types.OCI_LAYER: True,
    media_types.DOCKER_LAYER: True,
    media_types.OCI_LAYER_GZIP: False,
    media_types.DOCKER_LAYER_GZIP: False,
}
"""The layers that can be read, and whether they are plain tars."""
_YAML = re.compile(r".*\.yaml", re.DOTALL)


class ArtifactDocuments(Value):
    """What is in an artifact: the `digest` of what its name stands for, and its documents by file, sorted."""

    digest: Digest
    documents: Mapping[str, Mapping[str, object]]


def read_artifact(places: Places, origin: Origin, pin: Digest | None) -> ArtifactDocuments:
    """The documents of the artifact at `origin`, or of the one with the digest `pin` there.

    Raises ContentError for what a program would not read, or not as we do; NotFoundError and the errors of its place.
    """
    root = places.manifest(origin, pin)
    raw = _files(places, origin, _read_by_programs(places, origin, root))
    if not raw:
        raise ContentError(f"{origin}: no .yaml file in it", hint="is it the artifact that was meant?")
    documents = {name: _document(raw[name], f"{origin}: {name}") for name in sorted(raw)}
    return ArtifactDocuments(root.descriptor.digest, documents)


def _read_by_programs(places: Places, origin: Origin, root: Manifest | Index) -> Manifest:
    if isinstance(root, Manifest):
        return root
    first = next(iter(root.manifests), None)
    if first and first.platform and first.platform.os == UNKNOWN:
        raise ContentError(
            f"{origin}: an index that begins with an attestation, and of an index only what comes first is read",
            hint="whoever publishes it has to put the content first, or to push it without attestations.",
        )
    node = places.child(origin, first) if first and first.is_manifest else None
    if not isinstance(node, Manifest):
        raise ContentError(f"{origin}: an index that does not begin with a manifest", hint=ANEW)
    return node


def _files(places: Places, origin: Origin, manifest: Manifest) -> dict[str, bytes]:
    """The files by name; one of a later layer replaces that of an earlier one."""
    if len(manifest.layers) > MAX_LAYERS:
        raise ContentError(f"{origin}: {len(manifest.layers)} layers; {MAX_LAYERS} are read", hint=ANEW)
    found: dict[str, bytes] = {}
    for layer in manifest.layers:
        if layer.media_type not in _PLAIN:
            raise ContentError(
                f"{origin}: layer {layer.digest} of type {layer.media_type:.100}, which the program in the cluster "
                "does not read: only tar, plain or with gzip",
                hint="whoever publishes it has to push it so; nothing may compress it anew on the way.",
            )
        data = places.read(origin, layer, MAX_LAYER)
        what = f"{origin}: layer {layer.digest}"
        found |= unpacked(data, what, ContentError, _YAML, plain=_PLAIN[layer.media_type])
        if sum(map(len, found.values())) > MAX_DOCUMENTS:
            raise ContentError(f"{origin}: documents of more than {MAX_DOCUMENTS} bytes", hint=ANEW)
    return found


def _document(raw: bytes, what: str) -> Mapping[str, object]:
    document = load_yaml(raw, what, ContentError)
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise ContentError(f"{what}: not a mapping of keys", hint=ANEW)
    waiting: list[object] = [document]
    for _ in range(MAX_NODES):
        if not waiting:
            return document
        node = waiting.pop()
        waiting += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    raise ContentError(f"{what}: more than {MAX_NODES} values", hint=ANEW)

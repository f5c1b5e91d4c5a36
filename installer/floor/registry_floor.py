"""Floors that a registry keeps, for all machines that load into it.

Each floor is a tag of its own, `NAME.RETURNS.SEQUENCE.RELEASE`, and the greatest counts. No registry has a write that
depends on what is there; but who only adds takes nothing away, so two loads at once cannot lower the floor. No tag has
to move, and one list of tags says it all. What they name is an empty artifact (image-spec, manifest.md, "Guidelines for
Artifact Usage").
"""

import json
import re

from installer.errors import NotFoundError
from installer.floor.floor import Floor
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Descriptor
from installer.oci.reference import Repository
from installer.registry.client import Registry

_TYPE = "application/vnd.airferry.floor"
_NOTHING = b"{}"
_EMPTY = Descriptor("application/vnd.oci.empty.v1+json", Digest.of(_NOTHING), len(_NOTHING))
_NUMBERS = re.compile(r"([0-9]{1,9})\.([0-9]{1,16})\.([0-9a-f]{32})", re.ASCII)


class RegistryFloor:
    """The floor of the application `name` in `repository`. Methods raise the errors of a Registry."""

    def __init__(self, registry: Registry, repository: Repository, name: str) -> None:
        self._registry, self.repository, self._name = registry, repository, name
        self._has_parts = False

    def read(self) -> Floor | None:
        """The floor; None if there is none."""
        try:
            tags = self._registry.tags(self.repository)
        except NotFoundError:
            return None
        self._has_parts = bool(tags)
        before = f"{self._name}."
        found = [_NUMBERS.fullmatch(tag.removeprefix(before)) for tag in tags if tag.startswith(before)]
        return max((Floor(int(each[1]), int(each[2]), each[3]) for each in found if each), default=None)

    def write(self, floor: Floor) -> None:
        """Add `floor`."""
        if not self._has_parts:
            self._registry.upload(self.repository, _EMPTY, lambda position: [_NOTHING[position:]])
        tag = f"{self._name}.{floor.returns}.{floor.sequence}.{floor.release}"
        self._registry.put_manifest(self.repository, _artifact(), media_types.OCI_MANIFEST, tag)


def _artifact() -> bytes:
    empty = {"mediaType": _EMPTY.media_type, "digest": _EMPTY.digest.text, "size": _EMPTY.size}
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "artifactType": _TYPE,
        "config": empty,
        "layers": [empty],
    }
    return json.dumps(document).encode()

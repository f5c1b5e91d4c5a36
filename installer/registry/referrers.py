"""What refers to a manifest: signatures, attestations, SBOMs, and how registries and their clients list it.

Source: OCI distribution specification 1.1, "Listing Referrers", "Referrers Tag Schema" and "Pushing Manifests with
Subject".
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from installer.errors import RegistryAccessError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Descriptor, Index, Manifest
from installer.oci.reference import Repository, TagRef
from installer.registry.endpoint import joined, origin
from installer.registry.messages import Request

PAGES = 100
_NEXT = re.compile(r'<([^<>]+)>;\s*rel="?next"?', re.ASCII)


def tag_for(subject: Digest) -> str:
    """The tag under which clients list what refers to `subject`, for a registry that keeps no such list itself."""
    return f"sha256-{subject.hex}"


def tag_of(repository: Repository, subject: Digest) -> TagRef:
    """`tag_for` in `repository`."""
    return TagRef(repository, tag_for(subject))


def listed(document: Manifest | Index) -> tuple[Descriptor, ...]:
    """What a list names; nothing if it is no list, for anybody may give such a tag to anything."""
    return document.manifests if isinstance(document, Index) else ()


def following(request: Request, link: str) -> str:
    """Where a list goes on (RFC 8288). Raises RegistryAccessError for another host, which gets no credentials."""
    found = _NEXT.search(link)
    url = joined(request.url, found[1]) if found else ""
    if not url or origin(url) != origin(request.endpoint.origin):
        raise RegistryAccessError(f"{request.endpoint.host}: its list of referrers goes on elsewhere: {link[:200]!r}")
    return url


def extended(before: Manifest | Index | None, manifest: Manifest | Index) -> bytes | None:
    """The list `before` with `manifest` in it; what others have entered stays. None if nothing changes."""
    entries = json.loads(before.raw)["manifests"] if isinstance(before, Index) else []
    if manifest.descriptor.digest.text in {each["digest"] for each in entries}:
        return None
    return list_of([*entries, entry(manifest)])


def list_of(entries: Iterable[Mapping[str, Any]]) -> bytes:
    """A list with these `entries`."""
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [*entries]}
    return json.dumps(document, separators=(",", ":")).encode()


def entry(manifest: Manifest | Index) -> dict[str, Any]:
    """The descriptor of a referrer, by which others choose among several without fetching each."""
    document, descriptor = json.loads(manifest.raw), manifest.descriptor
    kind = document.get("artifactType") or (manifest.config.media_type if isinstance(manifest, Manifest) else "")
    fields = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest.text,
        "size": descriptor.size,
        "artifactType": kind,
        "annotations": document.get("annotations"),
    }
    return {name: value for name, value in fields.items() if value}

"""What refers to a manifest: signatures, attestations, SBOMs, and how registries and their clients list it.

Source: OCI distribution specification 1.1, "Listing Referrers", "Referrers Tag Schema" and "Pushing Manifests with
Subject".
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from installer import strict_json
from installer.errors import ContentError, RegistryAccessError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Index, Manifest
from installer.oci.reference import Repository, TagRef
from installer.registry.endpoint import joined, origin
from installer.registry.messages import Request

PAGES = 100
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_LINK = re.compile(rf"<(?P<target>[^<>]*)>(?P<parameters>(?:\s*;[^;,\"<>]*(?:{_QUOTED})?)*)", re.ASCII)
_PARAMETER = re.compile(rf";\s*(?P<name>[^\s;,=\"<>]+)\s*=\s*(?P<text>{_QUOTED}|[^\s;,\"<>]*)", re.ASCII)
_NEXT = re.compile(r'\brel\s*=\s*"?next\b', re.ASCII | re.IGNORECASE)
"""What stands in a header that is none of links, and means one."""


def tag_for(subject: Digest) -> str:
    """The tag under which clients list what refers to `subject`, for a registry that keeps no such list itself."""
    return f"sha256-{subject.hex}"


def tag_of(repository: Repository, subject: Digest) -> TagRef:
    """`tag_for` in `repository`."""
    return TagRef(repository, tag_for(subject))


def listed(raw: bytes, what: str) -> tuple[str, ...]:
    """What a list names: digests as they are written, since one that is odd must not hide the others.

    Raises ContentError if it is no list.
    """
    document = strict_json.parse(raw, what, ContentError, known=("manifests",))
    entries = _entries(document)
    if entries is None:
        raise ContentError(f"{what}: no image index, which lists of referrers are")
    return tuple(entry["digest"] for entry in entries)


def _entries(document: Any) -> list[dict[str, Any]] | None:
    """The entries of a list that name a digest; None if `document` is no index."""
    if not isinstance(document, dict) or document.get("schemaVersion") != 2 or {"config", "layers"} & document.keys():
        return None
    found = document.get("manifests", 0)
    if found is not None and not isinstance(found, list):
        return None
    return [entry for entry in found or () if isinstance(entry, dict) and isinstance(entry.get("digest"), str)]


def following(request: Request, link: str) -> str:
    """Where a list goes on, by its Link headers (RFC 8288); empty at its end.

    Raises RegistryAccessError for another host, which gets no credentials, and if it is not said where.
    """
    links = [*_LINK.finditer(link)]
    targets = [found["target"] for found in links if _leads_on(found["parameters"])]
    if not targets and (links or not _NEXT.search(link)):
        return ""
    url = joined(request.url, targets[0]) if targets and targets[0] else ""
    if not url or origin(url) != origin(request.endpoint.origin):
        raise RegistryAccessError(f"{request.endpoint.host}: its list goes on elsewhere: {link[:200]!r}")
    return url


def _leads_on(parameters: str) -> bool:
    """Whether a link is the next page: of several `rel` the first counts (RFC 8288, 3.3)."""
    relations = next((found["text"] for found in _PARAMETER.finditer(parameters) if found["name"].lower() == "rel"), "")
    return "next" in relations.strip('"').lower().split()


def extended(before: bytes, manifest: Manifest | Index) -> bytes | None:
    """The list `before` (empty if there is none) with `manifest` in it; what others have entered stays.

    None if nothing changes.
    """
    entries = _entries(json.loads(before)) or [] if before else []
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

"""Whether the registry of the enclave holds what the cluster is going to ask it for."""

from collections.abc import Mapping

from installer.errors import ContentError, NotFoundError
from installer.oci.reference import parse_reference
from installer.registry.client import Registry

_SHOWN = 20


def require_images(registry: Registry, images: Mapping[str, str]) -> None:
    """Raises NotFoundError naming every reference of `images` that `registry` lacks, ContentError if one has another
    digest than the one it is mapped to, and the errors of `Registry`.
    """
    missing: list[str] = []
    other: list[str] = []
    for text, digest in images.items():
        found = registry.head_manifest(parse_reference(text))
        if found is None:
            missing.append(text)
        elif found.text != digest:
            other.append(f"{text}: is {found}, should be {digest}")
    if missing:
        raise NotFoundError(
            "\n  ".join(["the registry of this enclave lacks images:", *_cut(missing)]),
            hint="run `load` with the bundle that holds them; perhaps the registry was cleaned up.",
        )
    if other:
        raise ContentError(
            "\n  ".join(["the registry of this enclave holds other images under these names:", *_cut(other)]),
            hint="somebody has pushed to these names; run `load` with the bundle that holds the right ones.",
        )


def _cut(lines: list[str]) -> list[str]:
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return [*sorted(lines)[:_SHOWN], *more]

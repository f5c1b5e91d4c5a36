"""What an upgrade would change, for people to read before it happens: pure comparison, nothing is applied."""

from collections.abc import Mapping
from typing import Any

from installer.objects.comparison import Change, compared
from installer.oci.reference import parse_reference
from installer.value import Value

MAX_LINES = 200


class Changes(Value):
    """Everything that an upgrade changes. `overwritten` tells what of others is overwritten or removed.

    `volumes` are those whose claims Helm deletes, each with its name and how it is used again; they are kept.
    """

    bundle: tuple[Change, ...]
    charts: tuple[Change, ...]
    images: tuple[Change, ...]
    values: tuple[Change, ...]
    overwritten: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing changes."""
        return not (self.bundle or self.charts or self.images or self.values or self.overwritten or self.volumes)

    def document(self) -> dict[str, Any]:
        """All of it as plain values."""
        groups = {"bundle": self.bundle, "charts": self.charts, "images": self.images, "values": self.values}
        listed = {
            name: [{"what": item.what, "old": item.old, "new": item.new} for item in group]
            for name, group in groups.items()
        }
        return {**listed, "overwritten": list(self.overwritten), "volumes": list(self.volumes)}

    def text(self) -> str:
        """The same for people."""
        groups = {"bundle": self.bundle, "charts": self.charts, "images": self.images, "values": self.values}
        lines = []
        for name, group in groups.items():
            if group:
                more = [f"  and {len(group) - MAX_LINES} more"] if len(group) > MAX_LINES else []
                lines += [f"{name}:", *(f"  {item}" for item in group[:MAX_LINES]), *more]
        if self.volumes:
            lines += ["volumes that are kept, whose claims will be deleted:", *(f"  {item}" for item in self.volumes)]
        if self.overwritten:
            lines += ["taken over from others:", *(f"  {item}" for item in self.overwritten)]
        return "\n".join(lines) or "nothing changes"


def compared_images(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[Change, ...]:
    """Images, each reference with its digest, that are added, go, or have another version, by repository."""
    return compared(_by_repository(old), _by_repository(new))


def _by_repository(images: Mapping[str, str]) -> dict[str, str]:
    """The versions of each repository's images: tag and digest."""
    found: dict[str, set[str]] = {}
    for text, digest in images.items():
        reference = parse_reference(text)
        version = f"{reference.tag} {digest[:19]}".strip()
        found.setdefault(str(reference.repository), set()).add(version)
    return {repository: ", ".join(sorted(versions)) for repository, versions in found.items()}

"""The load of a bundle into the registry at a place, as `load` and `install` do it."""

from collections.abc import Callable

from installer.bundle.reader import Bundle
from installer.cli.registry_place import Place, registry_at, relocation_to
from installer.floor.guard import Guard
from installer.floor.registry_floor import RegistryFloor
from installer.registry.client import Registry
from installer.shell import Session
from installer.transfer.load import load
from installer.transfer.load_result import LoadResult


def guard_of(
    session: Session,
    bundle: Bundle,
    place: Place,
    registry: Registry,
    back_to: int | None,
    note: Callable[[str], None],
) -> Guard:
    """Who watches that `bundle` is no older than what was loaded to `place`, where `registry` is."""
    relocation = relocation_to(place, bundle)
    floor = RegistryFloor(registry, relocation.floors, bundle.manifest.name)
    return Guard(bundle.manifest, relocation.prefix.rstrip("/"), back_to, session.state(), note, floor)


def load_into(
    session: Session,
    bundle: Bundle,
    place: Place,
    *,
    sha256: bool = False,
    whole_only: bool = False,
    ignore_quota: bool = False,
    back_to: int | None = None,
) -> LoadResult:
    """Load all images of `bundle`; `back_to` is the number of an older one that a person means.

    Options and errors are those of `installer.transfer.load.load`.
    """
    registry, relocation = registry_at(session, place, pushes=True), relocation_to(place, bundle)
    guard = guard_of(session, bundle, place, registry, back_to, session.reporter.note)
    result = load(
        bundle,
        registry,
        relocation,
        session.reporter,
        sha256=sha256,
        whole_only=whole_only,
        ignore_quota=ignore_quota,
        guard=guard,
    )
    if told := str(result.capabilities):
        session.reporter.note(f"{place.registry}: {told}")
    return result

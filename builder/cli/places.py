"""The way of commands to the places that a recipe or lock names."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.images.connect import connect
from builder.images.engine import Engine
from builder.images.source import Places
from builder.recipe.lock import LockedRegistry
from installer.shell import Session


@contextmanager
def places_of(session: Session, registries: Iterable[LockedRegistry], folder: Path, spool: Path) -> Iterator[Places]:
    """The places that a recipe or lock in `folder` names; images of the engine are saved in `spool` meanwhile."""
    with Engine(spool, session.environment.get("DOCKER_HOST", "")) as engine:
        yield connect(
            registries,
            folder,
            engine,
            credentials=session.credentials(),
            proxies=session.proxies(),
            tell=session.reporter.note,
        )

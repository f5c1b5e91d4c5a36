"""The way to the places that a lock or recipe names, made of its settings and the user's surroundings."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from builder.images.engine import Engine
from builder.images.source import Places
from builder.recipe.lock import LockedRegistry
from installer.errors import RecipeError
from installer.files import read_bounded
from installer.registry.client import Registry
from installer.registry.credentials import CredentialStore
from installer.registry.endpoint import HostSettings
from installer.registry.transport import Transport

MAX_CA = 4 * 1024 * 1024
_SCHEMES = {"": None, "http": True, "https": False}


def connect(
    registries: Iterable[LockedRegistry],
    folder: Path,
    engine: Engine,
    *,
    credentials: CredentialStore,
    proxies: Mapping[str, str],
    tell: Callable[[str], None] = lambda _: None,
) -> Places:
    """The places; nothing is contacted yet. `folder` is where relative paths start; `tell` as in Transport.

    Raises RecipeError or StorageError for the file of an authority, UsageError for contradictory settings.
    """
    hosts = {
        registry.host: HostSettings(
            plain_http=_SCHEMES[registry.scheme],
            ca=read_bounded(folder / registry.ca, MAX_CA, RecipeError) if registry.ca else None,
            mirror=registry.mirror,
            token_hosts=registry.token_hosts,
            answer_seconds=registry.answer_seconds,
            pause_seconds=registry.pause_seconds,
        )
        for registry in registries
    }
    transport = Transport(hosts=hosts, credentials=credentials, proxies=proxies, tell=tell)
    return Places(folder, Registry(transport), transport, engine)

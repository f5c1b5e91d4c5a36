"""A misbehaving registry, and a client for it that waits no real time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from installer.registry.client import Registry
from installer.registry.transport import Transport
from tests.parts.faulty_registry import FaultyRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from installer.registry.credentials import CredentialStore
    from installer.registry.endpoint import HostSettings


class Client:
    """A registry client and the pauses that it made, in seconds; what it told."""

    def __init__(
        self,
        hosts: dict[str, HostSettings] | None = None,
        store: CredentialStore | None = None,
        sleep: Callable[[float], None] | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.pauses: list[float] = []
        self.told: list[str] = []
        self.now = 0.0
        self.transport = Transport(
            hosts=hosts,
            credentials=store,
            sleep=sleep or self._sleep,
            clock=clock or (lambda: self.now),
            tell=self.told.append,
        )
        self.registry = Registry(self.transport)

    def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def server() -> Iterator[FaultyRegistry]:
    """A registry at 127.0.0.1."""
    with FaultyRegistry() as running:
        yield running


@pytest.fixture
def foreign() -> Iterator[FaultyRegistry]:
    """A second server, at another address: nothing secret may ever arrive there."""
    with FaultyRegistry("127.0.0.2") as running:
        yield running


@pytest.fixture
def client() -> Client:
    """A client without settings."""
    return Client()

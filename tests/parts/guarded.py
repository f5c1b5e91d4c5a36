"""A registry as sites that care have it: HTTPS by a private authority, and a login; the enclave's node trusts it."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.parts.authority import Authority
from tests.parts.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.enclave import Enclave

USER, PASSWORD = "airferry", "correct-horse-battery-staple"


@dataclass(frozen=True)
class Guarded:
    """The registry, the certificate of its authority, and a file with the user's password."""

    registry: Registry
    authority: Path
    password: Path

    @property
    def answers(self) -> dict[str, Any]:
        """`registry` in site.yaml."""
        login = {"username": USER, "password": {"file": str(self.password)}}
        return {
            "host": self.registry.address,
            "ca": str(self.authority),
            "credentials": login,
            "pull_secret": True,
        }


@contextmanager
def guarded_registry(enclave: Enclave, folder: Path) -> Iterator[Guarded]:
    """Such a registry beside the enclave's own one, as long as the context is open."""
    host = enclave.registry.partition(":")[0]
    authority = Authority(folder / "authority")
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text(PASSWORD)
    registry = Registry(
        folder / "registry",
        host=host,
        users={USER: PASSWORD},
        tls=authority.issue("guarded", [host]),
        prefix=enclave.confinement.full_prefix(),
    )
    # A port that is free: under another address nodes pull anew what they have.
    with registry:
        trusted = enclave.folder / "config" / "certs.d" / registry.address
        trusted.mkdir(parents=True)
        (trusted / "hosts.toml").write_text(
            f'server = "{registry.url}"\n\n[host."{registry.url}"]\n'
            f'capabilities = ["pull", "resolve"]\nca = "{authority.certificate}"\n'
        )
        yield Guarded(registry, authority.certificate, password)
        shutil.rmtree(trusted)

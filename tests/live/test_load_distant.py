"""Into a registry at the end of a link that delays everything and resets connections, with a token for each request."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from installer.chart.relocation import Relocation
from installer.registry.client import Registry as Client
from installer.registry.credentials import Credentials
from installer.registry.endpoint import HostSettings
from installer.registry.transport import Transport
from installer.transfer.load import load
from tests.parts.bundles import Cargo, open_bundle, signing_key
from tests.parts.counted import Counted
from tests.parts.distant_link import DistantLink
from tests.parts.images import File, Image, Layer, write_layout
from tests.parts.registry import Registry
from tests.parts.token_server import TokenServer

if TYPE_CHECKING:
    from pathlib import Path

    from installer.transfer.load_result import LoadResult

IMAGES = 20


def test_resets_cost_a_few_requests_and_nothing_else(tmp_path: Path) -> None:
    cargo = Cargo()
    common = Layer({"/common": File(b"common")}, "none")
    for number in range(IMAGES):
        own = Layer({"/own": File(random.Random(number).randbytes(20_000))}, "none")
        cargo.image(f"docker.io/demo/app-{number}:1", write_layout(tmp_path / f"app-{number}", Image((common, own))))
    (path,) = cargo.write(tmp_path, key=signing_key())
    with (
        TokenServer(tmp_path, {"carrier": "secret"}) as tokens,
        Registry(tmp_path / "registry", settings=tokens.settings) as registry,
        DistantLink(registry.address, milliseconds=4, resets=0.02) as link,
        open_bundle([path]) as bundle,
    ):
        settings = HostSettings(plain_http=True, credentials=Credentials("carrier", "secret"))

        def once(address: str) -> LoadResult:
            client = Client(Transport(hosts={address: settings}, sleep=lambda _: None))
            images = frozenset(image.reference for image in bundle.manifest.images)
            return load(bundle, client, Relocation(address, "far", images), Counted())

        loaded = once(link.address)
        assert (len(loaded.images), any(image.present for image in loaded.images)) == (IMAGES, False)
        # Of each image: its name, three blobs (asked for, begun, sent), manifest, name again; and what was repeated.
        # The registry sees each address that asks without a token once for each thread.
        needed = IMAGES * (1 + 3 * 3 + 2)
        answered = [access for access in registry.accesses() if access.status != 401]
        assert needed * 0.8 < len(answered) < needed * 1.5
        again = once(registry.address)
        assert all(image.present for image in again.images)

"""A registry that has whatever images it is asked for: of each name it is willing to know, an image of its own.

    with WillingRegistry(lambda name: "/demo/" in name) as registry:
        recipe["registries"] = registry.mirrors(archive)

Nobody can make an image of a given digest: charts that pin some are given those of images that are here (`pinned`).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
from typing import TYPE_CHECKING

from tests.parts.faulty_registry import Answer, FaultyRegistry, Handler, Seen
from tests.parts.images import OCI, compact

if TYPE_CHECKING:
    from collections.abc import Callable

_LABEL = rb"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_HOST = re.compile(rb"(?<![\w.-])((?:%b\.)+[a-z]{2,}(?::\d+)?)/" % _LABEL)
_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}\b")


class WillingRegistry(FaultyRegistry):
    """Every tag `HOST/REPOSITORY:TAG` for which `knows` is true, for linux/amd64; all else is not found."""

    def __init__(self, knows: Callable[[str], bool]) -> None:
        self.knows = knows
        super().__init__(handler=_Willing)

    def mirrors(self, text: bytes) -> dict[str, dict[str, str]]:
        """A recipe's `registries`: it stands for every host that begins a name in `text`."""
        hosts = {host.decode() for host in _HOST.findall(text)}
        # A path holds no colon.
        return {host: {"mirror": f"{self.url}/{host.replace(':', '-')}"} for host in sorted({"docker.io", *hosts})}

    def image(self, name: str) -> str:
        """The digest of an image of a few hundred bytes that is like no other, made if it is not there."""
        plain = name.encode()
        layer = gzip.compress(plain, mtime=0)
        config = compact(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Labels": {"name": name}},
                "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(plain).hexdigest()]},
            }
        )
        parts = [
            {"mediaType": media_type, "digest": self.put_blob(data), "size": len(data)}
            for media_type, data in ((OCI.config, config), (OCI.layer_gzip, layer))
        ]
        manifest = {"schemaVersion": 2, "mediaType": OCI.manifest, "config": parts[0], "layers": parts[1:]}
        return self.put_manifest(compact(manifest), OCI.manifest)

    def pinned(self, archive: bytes) -> bytes:
        """The chart `archive` with digests of images that are here in the place of those that it pins."""
        packed = io.BytesIO()
        with (
            tarfile.open(fileobj=io.BytesIO(archive)) as old,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
        ):
            for member in old:
                file = old.extractfile(member)
                data = _DIGEST.sub(lambda match: self.image(match[0].decode()).encode(), file.read()) if file else b""
                member.size = len(data)
                new.addfile(member, io.BytesIO(data))
        return gzip.compress(packed.getvalue(), mtime=0)


class _Willing(Handler):
    registry: WillingRegistry

    def _manifest(self, seen: Seen, name: str) -> Answer:
        repository = seen.path.removeprefix("/v2/").rpartition("/manifests/")[0]
        if not name.startswith("sha256:") and self.registry.knows(f"{repository}:{name}"):
            name = self.registry.image(f"{repository}:{name}")
        return super()._manifest(seen, name)

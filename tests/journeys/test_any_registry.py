"""Images from a registry that answers as it may into another one: locked, built and loaded, they arrive as they were.

Registries, images and failures are drawn by chance (`tests.parts.free_registry`). A failure names its seed:
AIRFERRY_TEST_SEED is the first one, AIRFERRY_TEST_ROUNDS how many there are (`make chances`). Waits are skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from builder.assemble.build import build
from builder.assemble.contents import contents
from builder.images.engine import Engine
from builder.images.source import LockSource, Places
from builder.recipe.recipe import Recipe
from builder.release.sign import sign
from builder.resolve.make_lock import make_lock
from installer.chart.relocation import Relocation
from installer.errors import AirferryError
from installer.oci.reference import parse_reference
from installer.registry import client, upload
from installer.registry.client import Registry
from installer.registry.credentials import Credentials
from installer.registry.endpoint import HostSettings
from installer.registry.transport import Transport
from installer.report import Silent
from installer.transfer.load import load
from tests.parts.bundles import open_bundle, signing_key
from tests.parts.free_registry import CRIMES, PASSWORD, USER, FreeRegistry, digest_of
from tests.parts.images import DOCKER, OCI, Family, compact

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from installer.transfer.load_result import LoadResult

ROUNDS = int(os.environ.get("AIRFERRY_TEST_ROUNDS") or 20)
SECONDS = 30.0
"""The longest that a round may take, although servers fail for ever."""
EMPTY = "application/vnd.oci.empty.v1+json"


class Clock:
    """Time in which waiting takes none."""

    def __init__(self) -> None:
        self._skipped, self._lock = 0.0, threading.Lock()

    def now(self) -> float:
        return time.monotonic() + self._skipped

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self._skipped += seconds


class Shelf:
    """Images drawn by chance, in the repositories of a registry; `names` are their references."""

    def __init__(self, registry: FreeRegistry, rng: random.Random) -> None:
        self.registry, self.rng = registry, rng
        self.shared = [self.layer() for _ in range(3)]
        self.images = dict(self.image(number) for number in range(rng.randint(1, 3)))

    def layer(self) -> bytes:
        return self.rng.randbytes(self.rng.choice([0, 1, 100, 3000, 30_000, 60_000]))

    def put(self, repository: str, data: bytes, kind: str) -> dict[str, Any]:
        self.registry.repository(repository).blobs[digest_of(data)] = data
        return {"mediaType": kind, "digest": digest_of(data), "size": len(data)}

    def put_manifest(self, repository: str, document: dict[str, Any], kind: str, tag: str = "") -> dict[str, Any]:
        stated = {"mediaType": kind} if kind in (DOCKER.index, DOCKER.manifest) or self.rng.random() < 0.7 else {}
        raw = compact({"schemaVersion": 2, **stated, **document})
        for name in filter(None, (digest_of(raw), tag)):
            self.registry.repository(repository).manifests[name] = (kind, raw)
        return {"mediaType": kind, "digest": digest_of(raw), "size": len(raw)}

    def manifest(self, repository: str, family: Family, architecture: str, tag: str = "") -> dict[str, Any]:
        layers = [self.rng.choice([self.layer(), *self.shared]) for _ in range(self.rng.randint(0, 5))]
        config = compact({"os": "linux", "architecture": architecture, "x": self.rng.random()})
        document = {
            "config": self.put(repository, config, family.config),
            "layers": [self.put(repository, data, family.layer_gzip) for data in layers],
        }
        return self.put_manifest(repository, document, family.manifest, tag)

    def image(self, number: int) -> tuple[str, str]:
        """An image: its reference, and the digest of what is to be carried."""
        repository, family = self.rng.choice(["one", "team/two", f"deep/er/n-{number}"]), self.rng.choice([OCI, DOCKER])
        tag = f"v{number}"
        if self.rng.random() < 0.6:
            root = self.manifest(repository, family, "amd64", tag)
            carried = root
        else:
            children = [self.manifest(repository, family, name) for name in ("amd64", "arm64")]
            entries = [
                {**child, "platform": {"os": "linux", "architecture": name}}
                for child, name in zip(children, ("amd64", "arm64"), strict=True)
            ]
            root = self.put_manifest(repository, {"manifests": entries}, family.index, tag)
            carried = children[0]
        by_digest = self.rng.random() < 0.3
        carried = root if by_digest else carried
        for count in range(self.rng.choice([0, 0, 1, 3])):
            self.refer(repository, carried, count)
        selector = f"@{root['digest']}" if by_digest else f":{tag}"
        return f"{self.registry.address}/{repository}{selector}", carried["digest"]

    def refer(self, repository: str, subject: dict[str, Any], count: int) -> None:
        """A signature of `subject`, listed as this registry has it."""
        document = {
            "artifactType": "application/x-signature",
            "config": self.put(repository, b"{}", EMPTY),
            "layers": [self.put(repository, b"signed %d" % count, "application/x-signature")],
            "subject": subject,
        }
        entry = self.put_manifest(repository, document, OCI.manifest)
        if not self.registry.customs.lists:
            tag = subject["digest"].replace(":", "-")
            manifests = self.registry.repository(repository).manifests
            before = json.loads(manifests[tag][1])["manifests"] if tag in manifests else []
            self.put_manifest(repository, {"manifests": [*before, entry]}, OCI.index, tag)


class Journey:
    """From one registry into another one, in a folder of its own."""

    def __init__(self, folder: Path, upstream: FreeRegistry, target: FreeRegistry, seed: int) -> None:
        self.folder, self.upstream, self.target = folder, upstream, target
        self.seed, self.rng = seed, random.Random(seed)
        self.clock = Clock()

    def transport(self) -> Transport:
        known = HostSettings(credentials=Credentials(USER, PASSWORD))
        hosts = {place.address: known for place in (self.upstream, self.target)}
        return Transport(hosts=hosts, sleep=self.clock.sleep, clock=self.clock.now)

    def begin(self, *, upstream: str = "", target: str = "") -> None:
        """Set up the registries; each may be given a crime."""
        self.upstream.begin(self.rng, upstream)
        self.target.begin(self.rng, target)
        self.shelf = Shelf(self.upstream, self.rng)

    def bundle(self) -> Path:
        """Lock and build."""
        transport = self.transport()
        places = Places(self.folder, Registry(transport), transport, Engine(self.folder))
        entries = {"name": "x", "version": "1", "images": [*self.shelf.images], "referrers": True}
        (self.folder / "recipe.yaml").write_text(json.dumps(entries))
        recipe = Recipe.load(self.folder / "recipe.yaml")
        lock = make_lock(recipe, "recipe.yaml", places, Silent(), now="2026-01-01T00:00:00Z")
        path = self.folder / f"{self.seed}.tar"
        build(contents(lock), LockSource(lock, places), [path], Silent(), sync=False)
        sign([path], signing_key())
        return path

    def load(self, path: Path) -> LoadResult:
        with open_bundle([path]) as bundle:
            images = [(image.source, image.digest) for image in bundle.manifest.images]
            self.relocation = Relocation.of(images, self.target.address, "p")
            registry = Registry(self.transport(), pushes=self.rng.random() < 0.7)
            result = load(bundle, registry, self.relocation, Silent())
            result.check()
            return result

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """An error tells of the seed and the registries, and a round that takes long is one."""
        began = time.monotonic()
        try:
            yield
        except Exception as exc:
            exc.add_note(f"AIRFERRY_TEST_SEED={self.seed}; from {self.upstream.customs}; into {self.target.customs}")
            raise
        assert time.monotonic() - began < SECONDS, f"AIRFERRY_TEST_SEED={self.seed}"

    def check(self, *, about: bool = True) -> None:
        """The target holds each image with all that it names, and what is `about` it, under its name."""
        for name, digest in self.shelf.images.items():
            reference = parse_reference(name)
            source = self.upstream.repository(reference.repository.path)
            place = self.relocation.target(reference)
            found = self.target.repository(place.repository.path)
            assert found.manifests[place.selector] == source.manifests[digest]
            self.check_tree(source, found, digest, about=about)

    def check_tree(self, source: Any, found: Any, digest: str, *, about: bool) -> None:
        assert found.manifests[digest] == source.manifests[digest]
        document = json.loads(source.manifests[digest][1])
        for part in [*document.get("layers", []), *filter(None, [document.get("config")])]:
            assert found.blobs[part["digest"]] == source.blobs[part["digest"]]
        for child in document.get("manifests", []):
            self.check_tree(source, found, child["digest"], about=about)
        if not about:
            return
        referrers = [
            other
            for other, (_, raw) in source.manifests.items()
            if other.startswith("sha256:") and (json.loads(raw).get("subject") or {}).get("digest") == digest
        ]
        if referrers and not self.target.customs.lists:
            listed = json.loads(found.manifests[digest.replace(":", "-")][1])["manifests"]
            assert {each["digest"] for each in listed} == set(referrers)
        for other in referrers:
            self.check_tree(source, found, other, about=True)


@pytest.fixture(scope="module")
def registries() -> Iterator[tuple[FreeRegistry, FreeRegistry]]:
    with FreeRegistry() as upstream, FreeRegistry() as target:
        yield upstream, target


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits a thousandth as large, so that small images meet them."""
    monkeypatch.setattr(upload, "SMALLEST", 1 << 10)
    monkeypatch.setattr(client, "SMALLEST", 1 << 10)
    monkeypatch.setattr(upload, "WORTH_ASKING", 4 << 10)
    monkeypatch.setattr(client, "WORTH_ASKING", 4 << 10)
    monkeypatch.setattr(client, "_STEPS", (64 << 10, 16 << 10, 4 << 10, 1 << 10))


def seeds(count: int) -> range:
    first = int(os.environ.get("AIRFERRY_TEST_SEED") or random.SystemRandom().randrange(10**6))
    print(f"AIRFERRY_TEST_SEED={first}")
    return range(first, first + count)


@pytest.mark.usefixtures("small")
def test_whatever_registries_may_answer(registries: tuple[FreeRegistry, FreeRegistry], tmp_path: Path) -> None:
    for seed in seeds(ROUNDS):
        journey = Journey(tmp_path, *registries, seed)
        journey.begin()
        with journey.told():
            path = journey.bundle()
            journey.load(path)
            journey.check()
            if seed % 8 == 0:
                assert not journey.load(path).sent
                journey.check()
            path.unlink()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("crime", CRIMES)
@pytest.mark.parametrize("side", ["upstream", "target"])
def test_what_no_registry_may_answer(
    registries: tuple[FreeRegistry, FreeRegistry], tmp_path: Path, side: str, crime: str
) -> None:
    """It ends in an error; or well, where nobody asked for what would be wrong, or could go on without it."""
    for seed in seeds(max(ROUNDS // 20, 1)):
        journey = Journey(tmp_path, *registries, seed)
        journey.begin(**{side: crime})
        culprit = journey.upstream if side == "upstream" else journey.target
        with journey.told():
            try:
                journey.load(journey.bundle())
            except AirferryError:
                assert culprit.crimes
            else:
                # What is about an image is left out where it cannot be had.
                journey.check(about=not culprit.crimes)

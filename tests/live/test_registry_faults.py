"""A load into three registries, with every fault that comes between it and them.

Each ends with all content in place, or with an error of ours; then no tag names anything that is not whole, and the
same load without the fault brings the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from installer.errors import (
    AirferryError,
    ContentError,
    NotFoundError,
    RegistryAccessError,
    RegistryUnreachableError,
)
from installer.oci.media_types import ACCEPT
from tests.parts.bundles import Cargo, open_bundle, signing_key
from tests.parts.faulty_proxy import FaultyProxy, broken
from tests.parts.faulty_registry import Answer, challenge, changed, crowded, limited, status
from tests.parts.images import File, Image, Layer, Platform, write_layout
from tests.parts.registry_kinds import REGISTRIES, bring, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.parts.faulty_registry import Handler


MIB = 1 << 20
UPLOADS = "/blobs/uploads/"
UNKNOWN = b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}'
WRONG = {"Docker-Content-Digest": "sha256:" + "1" * 64}


@dataclass(frozen=True)
class Shipment:
    """A signed bundle of three images, and what each of its tags must name in the end."""

    path: Path
    tags: frozenset[str]


@pytest.fixture(scope="module")
def shipment(tmp_path_factory: pytest.TempPathFactory) -> Shipment:
    folder, dice, cargo = tmp_path_factory.mktemp("shipment"), random.Random(3), Cargo()
    base = Layer({"/base": File(dice.randbytes(6 * MIB))}, "none")

    def image(name: str, platform: Platform | None = None) -> Image:
        return Image(
            (base, Layer({f"/{name}": File(dice.randbytes(200_000))}, "none")), platform=platform or Platform()
        )

    for name in ("one", "two"):
        cargo.image(f"docker.io/demo/{name}:1", write_layout(folder / name, image(name)))
    several = [image("three"), image("three", Platform("arm64"))]
    cargo.image("docker.io/demo/three:1", write_layout(folder / "three", several))
    (path,) = cargo.write(folder, key=signing_key())
    tags = frozenset(f"site/docker.io/demo/{name}:1" for name in ("one", "two", "three"))
    return Shipment(path, tags)


@pytest.fixture(params=REGISTRIES)
def proxy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FaultyProxy]:
    """A proxy before a fresh registry of each kind."""
    with running(request.param, tmp_path / request.param) as address, FaultyProxy(address) as passing:
        yield passing


def get(address: str, path: str) -> bytes:
    connection = http.client.HTTPConnection(address, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Accept": ACCEPT})
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, f"{path}: {response.status} {body[:300]!r}"
        return body


def assert_whole(address: str, repository: str, raw: bytes) -> None:
    """Everything below a manifest is there and is what its digest says."""
    document: dict[str, Any] = json.loads(raw)
    below = [(item, "manifests") for item in document.get("manifests", ())]
    below += [(item, "blobs") for item in (document.get("config"), *document.get("layers", ())) if item]
    for item, kind in below:
        content = get(address, f"/v2/{repository}/{kind}/{item['digest']}")
        assert item["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
        if kind == "manifests":
            assert_whole(address, repository, content)


def whole_tags(address: str) -> frozenset[str]:
    """All tags of a registry, each of which names something whole."""
    found = set()
    for repository in json.loads(get(address, "/v2/_catalog"))["repositories"] or ():
        with contextlib.suppress(AssertionError):  # a repository that has blobs only
            tags = json.loads(get(address, f"/v2/{repository}/tags/list"))["tags"] or ()
            found |= {f"{repository}:{tag}" for tag in tags}
    tagged = frozenset(name for name in found if ":sha256" not in name)
    for name in tagged:
        repository, _, tag = name.rpartition(":")
        assert_whole(address, repository, get(address, f"/v2/{repository}/manifests/{tag}"))
    return tagged


def token_server(proxy: FaultyProxy) -> str:
    """Have the proxy give tokens, none twice; the challenge that asks for them."""
    for number in range(100):
        proxy.on("GET", "/token", status(200, body=b'{"token":"%d"}' % number), times=1)
    return f'Bearer realm="{proxy.url}/token",service="s"'


def token_expires(proxy: FaultyProxy) -> None:
    challenged = token_server(proxy)
    proxy.on("HEAD", "/v2/", challenge(challenged, always=False), times=1)
    proxy.on("PUT", UPLOADS, challenge(challenged), times=1, after=2)


def limit(proxy: FaultyProxy) -> None:
    for method in ("PUT", "PATCH"):
        proxy.on(method, UPLOADS, limited(MIB))


def throttle(proxy: FaultyProxy) -> None:
    for method in ("HEAD", "POST", "PUT"):
        proxy.on(method, "/v2/", status(429, {"Retry-After": "3"}), times=3, after=3)


def crowd(proxy: FaultyProxy) -> None:
    room = crowded(2, 0.05)
    for method in ("HEAD", "POST", "PUT", "GET", "PATCH"):
        proxy.on(method, "/v2/", room)


def burst(proxy: FaultyProxy) -> None:
    for method in ("HEAD", "POST", "PUT"):
        proxy.on(method, "/v2/", status(500), times=3, after=1)


def lose_session(proxy: FaultyProxy) -> None:
    lost = b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"blob upload unknown to registry"}]}'
    proxy.on("PUT", UPLOADS, status(404, body=lost), times=2)


def reset_in_a_body(proxy: FaultyProxy) -> None:
    proxy.on("PUT", UPLOADS, broken(4 * MIB), times=2)
    proxy.on("PATCH", UPLOADS, broken(1000), times=2)


def hears_late(proxy: FaultyProxy) -> None:
    """After the push of a tag its replicas do not know it yet; before it nobody does."""
    for method in ("GET", "HEAD"):
        proxy.on(method, "/manifests/1$", status(404), times=4, after=3)


def unknown_for_good(proxy: FaultyProxy) -> None:
    for method in ("GET", "HEAD"):
        proxy.on(method, "/manifests/1$", status(404))


PASSING: dict[str, Callable[[FaultyProxy], None]] = {
    "401 in the middle": token_expires,
    "413 above a limit": limit,
    "429 with Retry-After": throttle,
    "a burst of 500": burst,
    "room for two requests at a time": crowd,
    "an upload session lost": lose_session,
    "a reset in a body": reset_in_a_body,
    "a tag known a moment later": hears_late,
}
LASTING: dict[str, tuple[Callable[[FaultyProxy], None], type[AirferryError]]] = {
    "401 for good": (
        lambda proxy: proxy.on("PUT", UPLOADS, challenge(token_server(proxy)), after=2),
        RegistryAccessError,
    ),
    "a tag that stays unknown": (unknown_for_good, ContentError),
    "500 for good": (lambda proxy: proxy.on("PUT", UPLOADS, status(500), after=2), RegistryUnreachableError),
    "a blob's digest is wrong": (
        lambda proxy: proxy.on("PUT", UPLOADS, changed(headers=WRONG), times=1, after=1),
        ContentError,
    ),
    "a manifest's digest is wrong": (
        lambda proxy: proxy.on("PUT", "/manifests/", changed(headers=WRONG), times=1, after=1),
        ContentError,
    ),
}


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_borne(proxy: FaultyProxy, shipment: Shipment, fault: str) -> None:
    PASSING[fault](proxy)
    bring(shipment.path, proxy.address)
    assert whole_tags(proxy.target) == shipment.tags


@pytest.mark.parametrize("fault", LASTING)
def test_what_does_not_pass_is_an_error_that_leaves_nothing_half_done(
    proxy: FaultyProxy, shipment: Shipment, fault: str
) -> None:
    setting, expected = LASTING[fault]
    setting(proxy)
    with pytest.raises(expected) as caught:
        bring(shipment.path, proxy.address).check()
    assert all(line.isprintable() for line in caught.value.message.splitlines())
    assert whole_tags(proxy.target) <= shipment.tags
    bring(shipment.path, proxy.target)
    assert whole_tags(proxy.target) == shipment.tags


REFUSED: dict[str, tuple[tuple[str, ...], str, int, type[AirferryError]]] = {
    "a manifest of a kind that is not taken": (("PUT",), "/{}/manifests/", 415, ContentError),
    "a manifest that is called invalid": (("PUT",), "/{}/manifests/", 400, ContentError),
    "a repository that is not ours": (("HEAD", "GET", "POST"), "/{}/", 403, RegistryAccessError),
    "a repository that nobody has made": (("POST",), "/{}/", 404, NotFoundError),
    "a manifest that the registry fails over": (("PUT",), "/{}/manifests/", 500, RegistryUnreachableError),
    "a repository that the registry fails over": (("HEAD", "POST", "PUT"), "/{}/", 500, RegistryUnreachableError),
    "a last request for a blob": (("PUT",), "/{}/blobs/", 422, ContentError),
    "a tag that stays unknown": (("HEAD", "GET"), "/{}/manifests/1$", 404, ContentError),
}


@pytest.mark.parametrize("name", ["one", "two", "three"])
@pytest.mark.parametrize("refusal", REFUSED)
def test_an_image_that_is_refused_stops_no_other(
    proxy: FaultyProxy, shipment: Shipment, refusal: str, name: str
) -> None:
    """Whichever it is. It is named with the reason, and the next load without the refusal brings it."""
    methods, path, code, expected = REFUSED[refusal]
    for method in methods:
        proxy.on(method, path.format(name), status(code))
    result = bring(shipment.path, proxy.address)
    refused = f"site/docker.io/demo/{name}:1"
    assert {f"site/{image.source}" for image in result.images} == shipment.tags - {refused}
    assert list(result.refused) == [f"docker.io/demo/{name}:1"]
    with pytest.raises(expected, match=f"docker.io/demo/{name}:1: ") as caught:
        result.check()
    assert caught.value.hint
    if refusal != "a tag that stays unknown":
        assert whole_tags(proxy.target) == shipment.tags - {refused}
    assert bring(shipment.path, proxy.target).refused == {}
    assert whole_tags(proxy.target) == shipment.tags


def test_all_refusals_are_told_together(proxy: FaultyProxy, shipment: Shipment) -> None:
    proxy.on("PUT", "/one/manifests/", status(415))
    proxy.on("POST", "/three/", status(403))
    with pytest.raises(ContentError) as caught:
        bring(shipment.path, proxy.address).check()
    lines = caught.value.message.splitlines()
    assert lines[0] == "2 refusals; all other images are loaded:"
    assert [line.partition(": ")[0] for line in lines[1:]] == [
        "  docker.io/demo/one:1",
        "    next",
        "  docker.io/demo/three:1",
        "    next",
    ]
    proxy.on("PUT", "/two/manifests/", status(400))
    with pytest.raises(ContentError, match="2 refusals; all other"):
        # What is there by now is not pushed again.
        bring(shipment.path, proxy.address).check()


def test_a_registry_that_lets_nobody_in_is_one_error(proxy: FaultyProxy, shipment: Shipment) -> None:
    for method in ("HEAD", "GET", "POST"):
        proxy.on(method, "/", status(401))
    with pytest.raises(RegistryAccessError, match="answered with 401") as caught:
        bring(shipment.path, proxy.address)
    assert "refusals" not in caught.value.message


def test_what_a_registry_falsely_claims_to_hold_is_sent(proxy: FaultyProxy, shipment: Shipment) -> None:
    """It says so when it is given the manifest; from then on it is not believed."""
    with open_bundle([shipment.path]) as bundle:
        sizes = {blob.digest.text: str(blob.size) for blob in bundle.manifest.blobs}

    def claim(handler: Handler) -> None:
        digest = handler.seen.path.rpartition("/")[2]
        handler.reply(Answer(200, {"Content-Length": sizes[digest]}))

    def mount(handler: Handler) -> None:
        handler.reply(Answer(201) if "mount=" in handler.seen.query else handler.answer())

    proxy.on("HEAD", "/one/blobs/", claim)
    proxy.on("POST", "/two/blobs/uploads/", mount)
    proxy.on("PUT", "/one/manifests/", status(404, body=UNKNOWN), times=5)
    proxy.on("PUT", "/two/manifests/", status(404, body=UNKNOWN), times=5)
    bring(shipment.path, proxy.address)
    assert whole_tags(proxy.target) == shipment.tags


@pytest.mark.parametrize("kind", REGISTRIES)
def test_a_full_disc_at_the_registry_is_an_error(kind: str, shipment: Shipment, tmp_path: Path) -> None:
    folder = tmp_path / "registry"
    (folder / "storage").mkdir(parents=True)
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    script = f'mount -t tmpfs -o size=6m tmpfs "{folder}/storage" && exec "$@"'
    with running(kind, folder, prefix=("unshare", *user, "--mount", "sh", "-c", script, "sh")) as address:
        with pytest.raises(RegistryUnreachableError, match="500") as caught:
            bring(shipment.path, address).check()
        assert "full disk" in caught.value.hint
        assert whole_tags(address) < shipment.tags

"""The registry client against the real registry server."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
from typing import TYPE_CHECKING

import pytest

from installer.errors import AirferryError, ContentError, NotFoundError, RegistryAccessError, RegistryUnreachableError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Descriptor, Index, Manifest
from installer.oci.reference import DigestRef, Repository, TagRef, parse_reference
from installer.registry.client import Registry
from installer.registry.credentials import Credentials, CredentialStore
from installer.registry.endpoint import HostSettings
from installer.registry.transport import Transport
from tests.parts import registry as real
from tests.parts.authority import Authority
from tests.parts.images import DOCKER, OCI, Family, File, Image, Layer, Platform, Run, push, write_layout
from tests.parts.proxy import ForwardProxy
from tests.parts.registry_kinds import slices
from tests.parts.token_server import TokenServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USERS = {"alice": "wonder: land"}
ALICE = Credentials("alice", USERS["alice"])
NOISE = random.Random(5).randbytes(9_000_000)


def image(platform: Platform | None = None, *, labels: dict[str, str] | None = None) -> Image:
    layers = (Layer({"a": File(NOISE)}), Layer({"b": File(b"small")}, compression="none"))
    return Image(layers, Run(("/a",), labels=labels or {}), platform or Platform())


def two_platforms() -> list[Image]:
    return [image(), image(Platform("arm64", variant="v8"))]


def fetch(client: Registry, repository: Repository, descriptor: Descriptor) -> memoryview:
    view, count = memoryview(bytearray(descriptor.size)), 0
    with client.open(repository, descriptor) as stream:
        while part := stream.readinto(view[count:]):
            count += part
    descriptor.digest.check(view, "blob")
    return view


def copy(client: Registry, source: TagRef, target: TagRef) -> None:
    """Pull and push everything that `source` names."""
    root = client.manifest(source)
    found = (
        [client.manifest(DigestRef(source.repository, child.digest)) for child in root.manifests]
        if isinstance(root, Index)
        else [root]
    )
    for manifest in found:
        assert isinstance(manifest, Manifest)
        for blob in manifest.blobs:
            if not client.has_blob(target.repository, blob):
                client.upload(target.repository, blob, slices(fetch(client, source.repository, blob)))
        selector = manifest.descriptor.digest.text
        client.put_manifest(target.repository, manifest.raw, manifest.descriptor.media_type, selector)
    client.put_manifest(target.repository, root.raw, root.descriptor.media_type, target.tag)


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[real.Registry]:
    with real.Registry(tmp_path / "upstream") as running:
        yield running


@pytest.mark.parametrize("family", [OCI, DOCKER], ids=["oci", "docker"])
@pytest.mark.parametrize("guarded", [False, True], ids=["open", "users"])
@pytest.mark.parametrize("secure", [False, True], ids=["http", "tls"])
def test_a_round_trip_keeps_every_digest(
    tmp_path: Path, upstream: real.Registry, family: Family, *, guarded: bool, secure: bool
) -> None:
    layout = write_layout(tmp_path / "layout", two_platforms(), family=family)
    push(layout, f"{upstream.address}/team/app:1")
    authority = Authority(tmp_path / "authority")
    tls = authority.issue("registry", ["127.0.0.1"]) if secure else None
    with real.Registry(tmp_path / "target", users=USERS if guarded else None, tls=tls) as target:
        settings = HostSettings(
            ca=authority.certificate.read_bytes() if secure else None, credentials=ALICE if guarded else None
        )
        client = Registry(Transport(hosts={target.address: settings}))
        source = TagRef(Repository(upstream.address, "team/app"), "1")
        there = TagRef(Repository(target.address, "enclave/docker.io/team/app"), "1")
        assert client.head_manifest(there) is None
        copy(client, source, there)
        found = client.head_manifest(there)
        assert found == client.head_manifest(source)
        assert found is not None
        assert (found.text, client.manifest(there).descriptor.media_type) == (layout.digest, family.index)
        for digest, size in layout.blobs.items():
            if digest not in (layout.digest, *layout.manifests):
                descriptor = Descriptor(media_types.OCTETS, Digest(digest), size)
                assert client.has_blob(there.repository, descriptor)
                fetch(client, there.repository, descriptor)


def test_a_configuration_of_six_megabytes(tmp_path: Path, upstream: real.Registry) -> None:
    large = image(labels={"sbom": "x" * (6 << 20)})
    layout = write_layout(tmp_path / "layout", large)
    client = Registry(Transport())
    repository = Repository(upstream.address, "large")
    for digest, size in layout.blobs.items():
        data = memoryview((layout.path / "blobs" / digest.replace(":", "/")).read_bytes())
        if digest != layout.digest:
            client.upload(repository, Descriptor(media_types.OCTETS, Digest(digest), size), slices(data))
        else:
            client.put_manifest(repository, bytes(data), layout.media_type, "1")
    manifest = client.manifest(TagRef(repository, "1"))
    assert isinstance(manifest, Manifest)
    assert manifest.config.size > 6 << 20
    assert len(json.loads(bytes(fetch(client, repository, manifest.config)))["config"]["Labels"]["sbom"]) == 6 << 20


def test_every_offset_of_a_range(upstream: real.Registry) -> None:
    client, data = Registry(Transport()), NOISE[:100_000]
    repository, blob = Repository(upstream.address, "a"), Descriptor(media_types.OCTETS, Digest.of(data), len(data))
    client.upload(repository, blob, slices(memoryview(data)))
    view = memoryview(bytearray(len(data)))
    for offset in (0, 1, 65_535, 65_536, 99_999, 100_000):
        count = 0
        with client.open(repository, blob, offset) as stream:
            while part := stream.readinto(view[count:]):
                count += part
        assert view[:count] == data[offset:]


def test_an_empty_blob(upstream: real.Registry) -> None:
    client = Registry(Transport())
    repository, blob = Repository(upstream.address, "a"), Descriptor(media_types.OCTETS, Digest.of(b""), 0)
    client.upload(repository, blob, lambda _: iter(()))
    assert client.has_blob(repository, blob)
    assert bytes(fetch(client, repository, blob)) == b""


def test_a_mount_sends_nothing(tmp_path: Path) -> None:
    with real.Registry(tmp_path / "registry", users=USERS) as registry:
        client = Registry(Transport(hosts={registry.address: HostSettings(credentials=ALICE)}))
        one, two = Repository(registry.address, "one/a"), Repository(registry.address, "two/b")
        blob = Descriptor(media_types.OCTETS, Digest.of(NOISE), len(NOISE))
        assert not client.mount(two, blob.digest, one)
        client.upload(one, blob, slices(memoryview(NOISE)))
        before = len(registry.accesses())
        assert client.mount(two, blob.digest, one)
        assert [access.status for access in registry.accesses()[before:]] == [201]
        assert client.has_blob(two, blob)
        assert not any(access.method == "DELETE" for access in registry.accesses())


def test_a_mirror_is_asked_in_the_place_of_docker_hub(tmp_path: Path, upstream: real.Registry) -> None:
    layout = write_layout(tmp_path / "layout", image())
    push(layout, f"{upstream.address}/hub/library/redis:7")
    client = Registry(Transport(hosts={"docker.io": HostSettings(mirror=f"{upstream.url}/hub")}))
    found = client.manifest(parse_reference("redis:7"))
    assert found.descriptor.digest.text == layout.digest
    assert isinstance(found, Manifest)
    fetch(client, parse_reference("redis:7").repository, found.config)


def test_a_mirror_gets_its_own_credentials_and_not_those_of_docker_hub(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", image())
    with real.Registry(tmp_path / "registry", users=USERS) as registry:
        push(layout, f"{registry.address}/library/redis:7", credentials=("alice", USERS["alice"]))
        hub = HostSettings(mirror=registry.url, credentials=ALICE)
        with pytest.raises(RegistryAccessError, match="401"):
            Registry(Transport(hosts={"docker.io": hub})).manifest(parse_reference("redis:7"))
        hosts = {"docker.io": HostSettings(mirror=registry.url), registry.address: HostSettings(credentials=ALICE)}
        found = Registry(Transport(hosts=hosts)).manifest(parse_reference("redis:7"))
        assert found.descriptor.digest.text == layout.digest


class TestTokens:
    """The registry's own token authentication, with signed tokens."""

    @pytest.fixture
    def tokens(self, tmp_path: Path) -> Iterator[TokenServer]:
        with TokenServer(tmp_path, USERS) as running:
            yield running

    @pytest.fixture
    def registry(self, tmp_path: Path, tokens: TokenServer) -> Iterator[real.Registry]:
        with real.Registry(tmp_path / "registry", settings=tokens.settings) as running:
            yield running

    def test_push_mount_and_pull(self, registry: real.Registry, tokens: TokenServer) -> None:
        client = Registry(Transport(hosts={registry.address: HostSettings(credentials=ALICE)}))
        one, two = Repository(registry.address, "one/a"), Repository(registry.address, "two/b")
        blob = Descriptor(media_types.OCTETS, Digest.of(NOISE), len(NOISE))
        client.upload(one, blob, slices(memoryview(NOISE)))
        assert client.mount(two, blob.digest, one)
        fetch(client, two, blob)
        fetch(client, two, blob)
        assert tokens.scopes == [
            ["repository:one/a:pull,push"],
            ["repository:two/b:pull,push", "repository:one/a:pull"],
            ["repository:two/b:pull"],
        ]

    def test_who_pushes_needs_one_token_for_a_repository(self, registry: real.Registry, tokens: TokenServer) -> None:
        client = Registry(Transport(hosts={registry.address: HostSettings(credentials=ALICE)}), pushes=True)
        one, blob = Repository(registry.address, "one/a"), Descriptor(media_types.OCTETS, Digest.of(NOISE), len(NOISE))
        assert not client.has_blob(one, blob)
        client.upload(one, blob, slices(memoryview(NOISE)))
        fetch(client, one, blob)
        assert tokens.scopes == [["repository:one/a:pull,push"]]

    def test_a_refused_mount_goes_on_as_an_upload(self, registry: real.Registry, tokens: TokenServer) -> None:
        client = Registry(Transport(hosts={registry.address: HostSettings(credentials=ALICE)}), pushes=True)
        one, two = Repository(registry.address, "one/a"), Repository(registry.address, "two/b")
        blob = Descriptor(media_types.OCTETS, Digest.of(NOISE), len(NOISE))
        assert not client.mount(two, blob.digest, one)
        client.upload(two, blob, slices(memoryview(NOISE)))
        fetch(client, two, blob)
        assert len(tokens.scopes) == 2
        methods = [access.method for access in registry.accesses() if access.status != 401]
        assert methods == ["POST", "PUT", "GET"]

    def test_nobody_may_pull_but_not_push(self, registry: real.Registry) -> None:
        client = Registry(Transport())
        repository = Repository(registry.address, "a")
        blob = Descriptor(media_types.OCTETS, Digest.of(b"x"), 1)
        assert not client.has_blob(repository, blob)
        with pytest.raises(RegistryAccessError, match="401: UNAUTHORIZED"):
            client.upload(repository, blob, slices(memoryview(b"x")))

    def test_an_identity_token_from_the_docker_configuration(
        self, tmp_path: Path, registry: real.Registry, tokens: TokenServer
    ) -> None:
        tokens.refresh_tokens["refresh-me"] = "alice"
        path = tmp_path / "config.json"
        path.write_text(json.dumps({"auths": {registry.address: {"identitytoken": "refresh-me"}}}))
        client = Registry(Transport(credentials=CredentialStore.from_docker_config(path, {})))
        client.upload(
            Repository(registry.address, "a"), Descriptor("a/b", Digest.of(b"x"), 1), slices(memoryview(b"x"))
        )

    def test_a_wrong_password_is_the_token_servers_word(self, registry: real.Registry) -> None:
        wrong = HostSettings(credentials=Credentials("alice", "canary-9a"))
        client = Registry(Transport(hosts={registry.address: wrong}))
        with pytest.raises(RegistryAccessError, match="token: GET answered with 401") as caught:
            client.manifest(TagRef(Repository(registry.address, "a"), "1"))
        assert "canary" not in f"{caught.value}{caught.value.hint}"
        assert f"docker login {registry.address}," in caught.value.hint


@pytest.mark.parametrize("given", ["auth", "helper", "store"])
def test_credentials_from_the_docker_configuration(tmp_path: Path, given: str) -> None:
    with real.Registry(tmp_path / "registry", users=USERS) as registry:
        secret = base64.b64encode(f"alice:{USERS['alice']}".encode()).decode()
        script = tmp_path / "docker-credential-vault"
        answer = json.dumps({"ServerURL": registry.address, "Username": "alice", "Secret": USERS["alice"]})
        script.write_text(
            f"#!/bin/sh\nread host\n[ \"$host\" = {registry.address} ] && [ $1 = get ] && echo '{answer}'\n"
        )
        script.chmod(0o755)
        configuration = {
            "auth": {"auths": {f"http://{registry.address}/v2/": {"auth": secret}}},
            "helper": {"credHelpers": {registry.address: "vault"}, "credsStore": "none"},
            "store": {"credsStore": "vault", "auths": {registry.address: {}}},
        }[given]
        path = tmp_path / "config.json"
        path.write_text(json.dumps(configuration))
        store = CredentialStore.from_docker_config(path, {"PATH": f"{tmp_path}{os.pathsep}/usr/bin"})
        client = Registry(Transport(credentials=store))
        assert client.head_manifest(TagRef(Repository(registry.address, "a"), "1")) is None


def test_refused_credentials_say_what_to_do(tmp_path: Path) -> None:
    with real.Registry(tmp_path / "registry", users=USERS) as registry:
        for credentials in (None, Credentials("alice", "canary-17")):
            client = Registry(Transport(hosts={registry.address: HostSettings(credentials=credentials)}))
            with pytest.raises(RegistryAccessError, match="GET answered with 401") as caught:
                client.manifest(TagRef(Repository(registry.address, "a"), "1"))
            assert f"docker login {registry.address}" in caught.value.hint
            assert "canary" not in f"{caught.value}{caught.value.hint}"


def test_what_is_not_there_is_not_found(upstream: real.Registry) -> None:
    client, repository = Registry(Transport()), Repository(upstream.address, "no/such")
    with pytest.raises(NotFoundError, match="MANIFEST_UNKNOWN"):
        client.manifest(TagRef(repository, "1"))
    with pytest.raises(NotFoundError, match="BLOB_UNKNOWN"):
        client.open(repository, Descriptor("a/b", Digest.of(b"x"), 1))


def test_http_at_a_tls_port_is_explained(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    with real.Registry(tmp_path / "registry", tls=authority.issue("registry", ["127.0.0.1"])) as registry:
        client = Registry(Transport())
        with pytest.raises(RegistryAccessError, match="HTTP request to an HTTPS server") as caught:
            client.manifest(TagRef(Repository(registry.address, "a"), "1"))
        assert "TLS" in caught.value.hint


def test_a_read_only_registry_is_an_error(tmp_path: Path) -> None:
    with real.Registry(tmp_path / "registry", read_only=True) as registry:
        client = Registry(Transport())
        with pytest.raises(ContentError, match="405"):
            client.upload(
                Repository(registry.address, "a"), Descriptor("a/b", Digest.of(b"x"), 1), slices(memoryview(b"x"))
            )


class TestRestarts:
    """The registry ends in the middle and comes back while the client waits."""

    def test_while_a_blob_is_pulled(self, upstream: real.Registry) -> None:
        repository, blob = Repository(upstream.address, "a"), Descriptor("a/b", Digest.of(NOISE), len(NOISE))
        Registry(Transport()).upload(repository, blob, slices(memoryview(NOISE)))
        pauses: list[float] = []

        def sleep(seconds: float) -> None:
            pauses.append(seconds)
            if upstream.process is None:
                upstream.start()

        client = Registry(Transport(sleep=sleep))
        sha256, buffer = hashlib.sha256(), memoryview(bytearray(1000))
        with client.open(repository, blob) as stream:
            sha256.update(buffer[: stream.readinto(buffer)])
            upstream.stop()
            buffer = memoryview(bytearray(1 << 20))
            while count := stream.readinto(buffer):
                sha256.update(buffer[:count])
        assert sha256.hexdigest() == blob.digest.hex
        assert pauses

    def test_while_a_blob_is_pushed(self, upstream: real.Registry) -> None:
        repository, blob = Repository(upstream.address, "a"), Descriptor("a/b", Digest.of(NOISE), len(NOISE))
        tries = 0

        def content(position: int) -> Iterator[memoryview]:
            nonlocal tries
            tries += 1
            for count, part in enumerate(slices(memoryview(NOISE))(position)):
                if tries == 1 and count == 1:
                    upstream.stop()
                    upstream.start()
                yield part

        client = Registry(Transport(sleep=lambda _: None))
        client.upload(repository, blob, content)
        assert tries == 2
        fetch(client, repository, blob)

    def test_and_if_it_stays_away(self, upstream: real.Registry) -> None:
        upstream.stop()
        client = Registry(Transport(sleep=lambda _: None))
        with pytest.raises(RegistryUnreachableError, match="connection refused"):
            client.manifest(TagRef(Repository(upstream.address, "a"), "1"))


class TestProxies:
    """Hosts that are reached through a proxy; the proxy takes their names to the test's registry."""

    @pytest.mark.parametrize("secure", [False, True], ids=["http", "tls"])
    def test_push_and_pull(self, tmp_path: Path, *, secure: bool) -> None:
        authority = Authority(tmp_path / "authority")
        tls = authority.issue("registry", ["registry.test"]) if secure else None
        ca = authority.certificate.read_bytes() if secure else None
        with real.Registry(tmp_path / "registry", tls=tls) as registry:
            login = "Basic " + base64.b64encode("me:p@ß€".encode()).decode()
            with ForwardProxy(registry.address, login) as proxy:
                proxies = {"HTTPS_PROXY" if secure else "HTTP_PROXY": f"http://me:p%40ß%E2%82%AC@{proxy.address}"}
                settings = {"registry.test": HostSettings(ca=ca, plain_http=not secure)}
                client = Registry(Transport(hosts=settings, proxies=proxies))
                repository, blob = Repository("registry.test", "a"), Descriptor("a/b", Digest.of(NOISE), len(NOISE))
                client.upload(repository, blob, slices(memoryview(NOISE)))
                fetch(client, repository, blob)
                assert set(proxy.asked) <= {
                    ("CONNECT", "registry.test:443"),
                    *((m, "registry.test") for m in ("GET", "POST", "PUT")),
                }
                assert ("CONNECT" in dict(proxy.asked)) == secure

    def test_push_in_pieces_where_the_proxy_limits_requests(self, upstream: real.Registry) -> None:
        with ForwardProxy(upstream.address, limit=1 << 20) as proxy:
            settings = {"registry.test": HostSettings(plain_http=True)}
            client = Registry(Transport(hosts=settings, proxies={"HTTP_PROXY": proxy.address}))
            repository, blob = Repository("registry.test", "a"), Descriptor("a/b", Digest.of(NOISE), len(NOISE))
            client.upload(repository, blob, slices(memoryview(NOISE)))
            fetch(client, repository, blob)
        assert {access.method for access in upstream.accesses()} == {"POST", "PATCH", "PUT", "GET"}

    @pytest.mark.parametrize("secure", [False, True], ids=["http", "tls"])
    def test_a_refused_login(self, *, secure: bool) -> None:
        with ForwardProxy("127.0.0.1:1", "Basic other") as proxy:
            proxies = {"HTTPS_PROXY" if secure else "HTTP_PROXY": f"http://me:canary-2@{proxy.address}"}
            settings = {"registry.test": HostSettings(plain_http=not secure)}
            client = Registry(Transport(hosts=settings, proxies=proxies))
            with pytest.raises(AirferryError) as caught:
                client.manifest(TagRef(Repository("registry.test", "a"), "1"))
            assert isinstance(caught.value, RegistryAccessError)
            assert "proxy" in caught.value.hint
            assert "canary" not in f"{caught.value!r}{caught.value}{caught.value.hint}"

    def test_an_absent_proxy_is_named(self) -> None:
        transport = Transport(proxies={"HTTPS_PROXY": "http://127.0.0.1:1"}, sleep=lambda _: None)
        with pytest.raises(RegistryUnreachableError, match="the proxy does not answer: connection refused"):
            Registry(transport).manifest(TagRef(Repository("registry.test", "a"), "1"))

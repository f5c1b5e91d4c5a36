"""Logging in to registries that each do it in a way of their own."""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

from installer.errors import AirferryError, NotFoundError, RegistryAccessError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Descriptor
from installer.oci.reference import Repository, TagRef
from installer.registry.credentials import Credentials, CredentialStore
from installer.registry.endpoint import HostSettings
from tests.parts.faulty_registry import Answer, FaultyRegistry, challenge, status
from tests.unit.oci.conftest import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.parts.faulty_registry import Fault, Handler

MANIFEST = b'{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"sha256:%b","size":1},"layers":[]}' % (b"0" * 64)
ALICE = Credentials("alice", "wonder")
REFUSED = Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})


def ref(server: FaultyRegistry, name: str = "team/app") -> TagRef:
    return TagRef(Repository(server.address, name), "1")


def known(server: FaultyRegistry, credentials: Credentials = ALICE) -> Client:
    return Client({server.address: HostSettings(credentials=credentials)})


def admits(wanted: Callable[[str], bool], otherwise: Fault) -> Fault:
    """The right answer to an Authorization that is `wanted`; to all else what is told `otherwise`."""

    def fault(handler: Handler) -> None:
        if wanted(handler.seen.headers.get("authorization", "")):
            handler.reply(handler.answer())
        else:
            otherwise(handler)

    return fault


def gives(server: FaultyRegistry, grants: Callable[[list[str]], list[str]], times: int = 1_000_000) -> None:
    """A token server at `/token`, whose tokens name the scopes that it grants."""

    def fault(handler: Handler) -> None:
        asked = parse_qs(handler.seen.query).get("scope", [])
        handler.reply(Answer(200, {}, json.dumps({"token": "|".join(["t", *grants(asked)])}).encode()))

    server.on("GET", "^/token", fault, times=times)


@pytest.fixture
def held(server: FaultyRegistry) -> FaultyRegistry:
    server.put_manifest(MANIFEST, media_types.OCI_MANIFEST, "1")
    return server


class TestHidden:
    """Registries that answer strangers as if nothing were there, and challenge at `/v2/` only."""

    @pytest.mark.parametrize("code", [403, 404])
    @pytest.mark.parametrize("scheme", ["basic", "bearer"])
    def test_a_challenge_at_the_root_is_found(self, held: FaultyRegistry, code: int, scheme: str) -> None:
        realm = f'Bearer realm="{held.url}/token"' if scheme == "bearer" else 'Basic realm="x"'
        gives(held, lambda asked: asked)
        held.on("GET", "^/v2/$", challenge(realm))
        for method in ("GET", "HEAD"):
            held.on(method, "/team/app/", admits(bool, status(code)))
        client = known(held)
        with ThreadPoolExecutor(4) as pool:
            assert [found.raw for found in pool.map(client.registry.manifest, [ref(held)] * 8)] == [MANIFEST] * 8
        assert client.registry.head_manifest(ref(held)) is not None
        assert held.count("GET", "^/v2/$") == 1
        assert held.count("GET", "^/token") == (scheme == "bearer")

    def test_a_root_that_fails_in_passing(self, held: FaultyRegistry) -> None:
        """The request that was to be answered counts no longer as one that is under way."""
        held.on("GET", "^/v2/$", status(503), times=1)
        held.on("GET", "^/v2/$", challenge('Basic realm="x"'))
        held.on("GET", "/team/app/", admits(bool, status(404)))
        client = known(held)
        assert client.registry.manifest(ref(held)).raw == MANIFEST
        assert client.transport.throttle(held.address)._running == 0

    def test_what_is_not_there_is_looked_for_as_somebody(self, held: FaultyRegistry) -> None:
        held.on("GET", "^/v2/$", challenge('Basic realm="x"'))
        for method in ("GET", "HEAD"):
            held.on(method, "/team/app/", status(404))
        client = known(held)
        for _ in range(3):
            assert client.registry.head_manifest(ref(held)) is None
        known_as = [bool(seen.headers.get("authorization")) for seen in held.seen]
        assert known_as == [False, False, *[True] * (len(known_as) - 2)]

    def test_credentials_for_a_part_of_it(self, held: FaultyRegistry) -> None:
        """Other parts stay hidden, whichever is asked first."""
        held.on("GET", "^/v2/$", challenge('Basic realm="x"'))
        held.on("GET", "/manifests/", admits(bool, status(404)))
        auths = {f"{held.address}/team": {"username": "u", "password": "p"}}
        client = Client(store=CredentialStore({"auths": auths}))
        for _ in range(2):
            with pytest.raises(NotFoundError):
                client.registry.manifest(ref(held, "other/app"))
            assert client.registry.manifest(ref(held)).raw == MANIFEST

    def test_a_registry_that_is_open_is_asked_once(self, held: FaultyRegistry) -> None:
        client = known(held)
        for _ in range(3):
            with pytest.raises(NotFoundError):
                client.registry.manifest(TagRef(Repository(held.address, "a"), "none"))
        assert held.count("GET", "^/v2/$") == 1
        assert not any("authorization" in seen.headers for seen in held.seen)

    def test_nobody_asks_without_credentials(self, held: FaultyRegistry, client: Client) -> None:
        with pytest.raises(NotFoundError):
            client.registry.manifest(TagRef(Repository(held.address, "a"), "none"))
        assert len(held.seen) == 1

    def test_a_chart_repository_is_given_them(self, server: FaultyRegistry, foreign: FaultyRegistry) -> None:
        server.on("GET", "/index.yaml", admits(bool, status(404)))
        server.on("GET", "/moved", status(302, {"Location": f"{foreign.url}/hidden"}))
        client = known(server)
        with pytest.raises(NotFoundError):
            client.transport.fetch(f"{server.url}/moved", 100)
        assert not any("authorization" in seen.headers for seen in (*foreign.seen, *server.seen))
        with pytest.raises(NotFoundError):
            client.transport.fetch(f"{server.url}/index.yaml", 100)
        assert "authorization" in server.seen[-1].headers


class TestScopes:
    def test_the_scope_that_the_registry_names(self, held: FaultyRegistry) -> None:
        """oras-go#650: behind some proxies a repository has another name for the token server."""
        theirs = "repository:docker-local/team/app:pull"
        gives(held, lambda asked: [scope for scope in asked if "docker-local" in scope])
        asks = challenge(f'Bearer realm="{held.url}/token",service="s",scope="{theirs}"')
        held.on("GET", "/manifests/", admits(lambda sent: theirs in sent, asks))
        client = known(held)
        assert client.registry.manifest(ref(held)).raw == MANIFEST
        assert held.count("GET", "/manifests/") == 3
        for _ in range(3):
            client.now += 100.0
            client.registry.manifest(ref(held))
        assert held.count("GET", "/manifests/") == 6, "what was learnt is kept, and its token renewed"

    def test_a_token_of_that_scope_that_ends_early(self, held: FaultyRegistry) -> None:
        theirs = "repository:other/app:pull"
        asks = challenge(f'Bearer realm="{held.url}/token",scope="{theirs}"')
        count = 0

        def token(handler: Handler) -> None:
            nonlocal count
            count += 1
            handler.reply(Answer(200, {}, json.dumps({"token": f"{handler.seen.query}-{count}"}).encode()))

        held.on("GET", "^/token", token)
        held.on("GET", "/manifests/", admits(lambda sent: "other" in sent and not sent.endswith("-2"), asks), after=3)
        held.on("GET", "/manifests/", admits(lambda sent: "other" in sent, asks))
        client = known(held)
        client.registry.manifest(ref(held))
        client.registry.manifest(ref(held))
        assert held.seen[-1].headers["authorization"].endswith("-3")

    def test_one_that_grants_one_scope_of_two(self, server: FaultyRegistry) -> None:
        """The mount is refused; the upload that takes its place is not."""
        gives(server, lambda asked: asked[-1:])
        here, there = "repository:team/app:pull,push", "repository:a/b:pull"
        both = challenge(f'Bearer realm="{server.url}/token",scope="{here} {there}"')
        server.on("POST", "/uploads/", admits(lambda sent: here in sent and there in sent, both), times=2)
        asks = challenge(f'Bearer realm="{server.url}/token",scope="{here}"')
        server.on("POST", "/uploads/", admits(lambda sent: here in sent, asks))
        client = known(server)
        place, content = ref(server).repository, Descriptor("a/b", Digest.of(b"x"), 1)
        with contextlib.suppress(RegistryAccessError):
            assert not client.registry.mount(place, content.digest, Repository(server.address, "a/b"))
        client.registry.upload(place, content, lambda _: [b"x"])
        assert server.blobs[content.digest.text] == b"x"

    def test_one_that_refuses_to_be_asked_for_two(self, server: FaultyRegistry) -> None:
        here = "repository:team/app:pull,push"

        def token(handler: Handler) -> None:
            asked = parse_qs(handler.seen.query)["scope"]
            handler.reply(Answer(400) if len(asked) > 1 else Answer(200, {}, json.dumps({"token": asked[0]}).encode()))

        server.on("GET", "^/token", token)
        asks = challenge(f'Bearer realm="{server.url}/token",scope="{here}"')
        server.on("POST", "/uploads/", admits(lambda sent: here in sent, asks))
        client = known(server)
        mounted = client.registry.mount(ref(server).repository, Digest.of(b"x"), Repository(server.address, "a/b"))
        assert (mounted, server.count("POST")) == (False, 2)

    def test_challenges_without_end_end(self, held: FaultyRegistry) -> None:
        count = 0

        def asks(handler: Handler) -> None:
            nonlocal count
            count += 1
            offer = f'Bearer realm="{held.url}/token",scope="repository:app{count}:pull"'
            challenge(f'{offer}, Basic realm="x"')(handler)

        gives(held, lambda asked: asked)
        held.on("GET", "/manifests/", asks)
        with pytest.raises(RegistryAccessError, match="401: UNAUTHORIZED"):
            known(held).registry.manifest(ref(held))
        assert held.count("GET", "/manifests/") <= 5


class TestOffers:
    """Basic beside Bearer."""

    @pytest.mark.parametrize("form", ["{0}, {1}", "{1}, {0}", "{0}\r\nWWW-Authenticate: {1}"])
    @pytest.mark.parametrize("takes", ["Bearer", "Basic"])
    def test_either_is_found(self, held: FaultyRegistry, form: str, takes: str) -> None:
        gives(held, lambda asked: asked)
        offers = form.format(f'Bearer realm="{held.url}/token",service="s"', 'Basic realm="a, b"')
        held.on("GET", "/manifests/", admits(lambda sent: sent.startswith(takes), challenge(offers)))
        client = known(held)
        for _ in range(3):
            assert client.registry.manifest(ref(held)).raw == MANIFEST
        assert held.count("GET", "/manifests/") == (4 if takes == "Bearer" else 5)

    @pytest.mark.parametrize("told", ["https://tokens.invalid/token", "https://127.0.0.1:1/token", "{url}/gone"])
    def test_a_token_server_that_is_of_no_use(self, held: FaultyRegistry, told: str) -> None:
        offers = f'Bearer realm="{told.format(url=held.url)}", Basic realm="x"'
        held.on("GET", "/manifests/", admits(lambda sent: sent.startswith("Basic"), challenge(offers)))
        assert known(held).registry.manifest(ref(held)).raw == MANIFEST

    @pytest.mark.parametrize("header", ["", "Negotiate, Digest realm=x", "nonsense="])
    def test_a_401_that_offers_nothing_we_know(self, held: FaultyRegistry, header: str) -> None:
        """Without a challenge the password is sent, to a challenge that is none of ours nothing."""
        held.on("GET", "/manifests/", challenge(header, always=False))
        client = known(held)
        if "Negotiate" in header:
            with pytest.raises(RegistryAccessError):
                client.registry.manifest(ref(held))
        else:
            client.registry.manifest(ref(held))

    def test_a_token_server_that_fails_in_passing(self, held: FaultyRegistry) -> None:
        """The password is of no use here, although it is offered."""
        held.on("GET", "^/token", status(503), after=1, times=1)
        gives(held, lambda asked: asked)
        offers = f'Bearer realm="{held.url}/token",scope="repository:inner/app:pull", Basic realm="x"'
        held.on("GET", "/manifests/", admits(lambda sent: "inner" in sent, challenge(offers)))
        assert known(held).registry.manifest(ref(held)).raw == MANIFEST

    def test_an_identity_token_is_no_password(self, held: FaultyRegistry) -> None:
        held.on("GET", "/manifests/", challenge('Basic realm="x"'))
        with pytest.raises(RegistryAccessError, match="401"):
            known(held, Credentials(identity_token="secret")).registry.manifest(ref(held))
        assert len(held.seen) == 1


class TestTokens:
    @pytest.mark.parametrize(
        "answer",
        [
            {"token": "one"},
            {"access_token": "one"},
            {"token": "", "access_token": "one"},
            {"token": None, "access_token": "one", "expires_in": None},
            {"token": "one", "expires_in": 0},
            {"token": "one", "expires_in": 1},
            {"token": "one", "expires_in": 0.01, "issued_at": "nonsense", "refresh_token": 5},
        ],
    )
    def test_forms_of_a_token(self, held: FaultyRegistry, answer: dict[str, Any]) -> None:
        held.on("GET", "^/token", status(200, body=json.dumps(answer).encode()))
        realm = f'Bearer realm="{held.url}/token"'
        held.on("GET", "/manifests/", admits(lambda sent: sent == "Bearer one", challenge(realm)))
        client = known(held)
        for _ in range(3):
            assert client.registry.manifest(ref(held)).raw == MANIFEST
            client.now += 0.5
        assert held.count("GET", "/manifests/") == 4

    def test_a_token_server_that_asks_for_a_pause(self, held: FaultyRegistry) -> None:
        held.on("GET", "^/token", status(429, {"Retry-After": "40"}), times=1)
        gives(held, lambda asked: asked)
        held.on("GET", "/manifests/", challenge(f'Bearer realm="{held.url}/token"', always=False))
        client = known(held)
        client.registry.manifest(ref(held))
        assert 40 <= client.now < 41
        assert "asks for a pause" in client.told[0]


class TestStore:
    @pytest.mark.parametrize(
        ("keys", "name", "user"),
        [
            (["HOST", "HOST/team"], "team/app", "HOST/team"),
            (["HOST/team/app", "HOST/team", "HOST"], "team/app", "HOST/team/app"),
            (["HOST/team/app", "HOST"], "team/application", "HOST"),
            (["https://HOST/v2/", "HOST/tea"], "team/app", "https://HOST/v2/"),
        ],
    )
    def test_the_most_specific_entry_of_podmans_file(
        self, held: FaultyRegistry, keys: list[str], name: str, user: str
    ) -> None:
        """containers-auth.json(5): keys may name a part of a registry."""
        auths = {
            key.replace("HOST", held.address): {"username": key.replace(":", "_"), "password": "p"} for key in keys
        }
        held.on("GET", "/manifests/", challenge('Basic realm="x"', always=False))
        client = Client(store=CredentialStore({"auths": auths}))
        client.registry.manifest(ref(held, name))
        assert held.seen[-1].headers["authorization"] == Credentials(user.replace(":", "_"), "p").basic()

    def test_a_part_of_a_registry_that_nobody_has_a_key_for(self, held: FaultyRegistry) -> None:
        auths = {f"{held.address}/team": {"username": "u", "password": "p"}}
        held.on("GET", "/manifests/", challenge('Basic realm="x"', always=False))
        client = Client(store=CredentialStore({"auths": auths}))
        with pytest.raises(RegistryAccessError):
            client.registry.manifest(ref(held, "other/app"))
        client.registry.manifest(ref(held, "team/app"))

    def test_a_helper_that_fails_hides_no_other_error(self, held: FaultyRegistry) -> None:
        client = Client(store=CredentialStore({"credsStore": "absent"}, {"PATH": ""}))
        with pytest.raises(NotFoundError):
            client.registry.manifest(TagRef(Repository(held.address, "a"), "none"))
        held.on("GET", "/manifests/", challenge('Basic realm="x"'))
        with pytest.raises(AirferryError, match="docker-credential-absent: not found"):
            client.registry.manifest(ref(held))


class TestWrongPassword:
    @pytest.mark.parametrize("threads", [1, 8])
    def test_a_wrong_password_is_sent_once(self, held: FaultyRegistry, threads: int) -> None:
        """Whatever is asked for: many servers lock an account after a few tries."""
        held.on("GET", "/manifests/", challenge(f'Bearer realm="{held.url}/token"'))
        held.on("GET", "^/token", status(401))
        client = known(held)

        def ask(number: int) -> str:
            with pytest.raises(RegistryAccessError) as raised:
                client.registry.manifest(ref(held, f"team/app{number}"))
            return raised.value.hint

        with ThreadPoolExecutor(threads) as pool:
            hints = set(pool.map(ask, range(20)))
        assert [hint for hint in hints if "check the credentials" not in hint] == []
        assert held.count("GET", "^/token") == 1

    def test_who_was_let_in_is_not_shut_out_by_one_refusal(self, held: FaultyRegistry) -> None:
        held.on("GET", "/team/", admits(bool, challenge(f'Bearer realm="{held.url}/token"')))
        gives(held, lambda asked: asked, times=1)
        held.on("GET", "^/token", status(401), times=1)
        gives(held, lambda asked: asked)
        client = known(held)
        assert client.registry.manifest(ref(held)).raw == MANIFEST
        with pytest.raises(RegistryAccessError):
            client.registry.manifest(ref(held, "team/other"))
        assert client.registry.manifest(ref(held, "team/third")).raw == MANIFEST

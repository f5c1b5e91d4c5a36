"""Credentials, proxies, challenges, endpoints: who is asked, by which way, and what is shown to whom."""

from __future__ import annotations

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from installer.errors import RegistryAccessError, UsageError
from installer.registry import credentials
from installer.registry.authorization import Authorizer, Challenge, is_related, parse_challenges
from installer.registry.connections import Proxies, Proxy
from installer.registry.credentials import Credentials, CredentialStore
from installer.registry.endpoint import Endpoint, HostSettings, endpoint, joined, origin, place

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SECRET = "canary-77b"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class TestCredentials:
    def test_secrets_are_in_no_repr(self) -> None:
        for item in (Credentials("user", SECRET), Credentials(identity_token=SECRET)):
            assert SECRET not in f"{item!r}{item}{HostSettings(credentials=item)!r}"
        assert SECRET not in repr(Proxy.parse(f"http://user:{SECRET}@proxy:1"))

    @pytest.mark.parametrize(
        ("user", "password"), [("", "p"), ("a:b", "p"), ("u", "p\n"), ("u\r\nX: y", "p"), ("u\0", "p"), ("u", "\x7f")]
    )
    def test_malformed(self, user: str, password: str) -> None:
        with pytest.raises(UsageError) as caught:
            Credentials(user, password)
        assert password not in caught.value.message or len(password) < 2

    def test_header(self) -> None:
        assert Credentials("jürgen", "a:b").basic() == "Basic " + encoded("jürgen:a:b")


def store(tmp_path: Path, document: Any, **environment: str) -> CredentialStore:
    path = tmp_path / "config.json"
    path.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
    return CredentialStore.from_docker_config(path, environment)


class TestDockerConfiguration:
    @pytest.mark.parametrize("key", ["r.site:5000", "https://r.site:5000", "http://r.site:5000/v1/", "r.site:5000/v2/"])
    def test_forms_of_a_key(self, tmp_path: Path, key: str) -> None:
        found = store(tmp_path, {"auths": {"other": {}, key: {"auth": encoded(f"user:{SECRET}:x")}}})
        assert found.find("r.site:5000") == Credentials("user", f"{SECRET}:x")
        for stranger in ("r.site", "r.site:5001", "site:5000", "x.r.site:5000", "r.site:5000.evil"):
            assert found.find(stranger) is None

    def test_an_entry_for_a_part_of_a_registry_is_not_for_all_of_it(self, tmp_path: Path) -> None:
        part = {"r.site/team-a": {"auth": encoded("a:p")}, "r.site/team-a/v2": {"auth": encoded("b:p")}}
        assert store(tmp_path, {"auths": part}).find("r.site") is None
        whole = {**part, "https://r.site/v1/": {"auth": encoded("old:p")}, "r.site": {"auth": encoded("new:p")}}
        assert store(tmp_path, {"auths": whole}).find("r.site") == Credentials("new", "p")

    @pytest.mark.parametrize(
        "key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io"]
    )
    def test_keys_of_docker_hub(self, tmp_path: Path, key: str) -> None:
        found = store(tmp_path, {"auths": {key: {"auth": encoded("user:p")}}})
        assert found.find("docker.io") == Credentials("user", "p")
        assert found.find("docker.io.evil") is None

    def test_other_forms_of_an_entry(self, tmp_path: Path) -> None:
        entries = {
            "plain": {"username": "user", "password": "p"},
            "token": {"auth": encoded("<token>:"), "identitytoken": SECRET},
            "padded": {"auth": encoded("user:p\0\0")},
            "empty": {},
            "odd": "text",
        }
        found = store(tmp_path, {"auths": entries})
        assert found.find("plain") == Credentials("user", "p")
        identity = found.find("token")
        assert identity is not None
        assert identity.identity_token == SECRET
        assert found.find("padded") == Credentials("user", "p")
        assert found.find("empty") is found.find("odd") is None

    def test_no_file_means_nobody(self, tmp_path: Path) -> None:
        assert CredentialStore.from_docker_config(tmp_path / "absent", {}).find("x") is None

    @pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"auths":{},"auths":{}}', b'{"auths":{"h":{"auth":"%%"}}}'])
    def test_malformed(self, tmp_path: Path, text: bytes) -> None:
        with pytest.raises(UsageError):
            store(tmp_path, text).find("h")

    def test_too_large(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="larger than"):
            store(tmp_path, b" " * (2 << 20))

    @pytest.mark.parametrize("document", [{}, {"auths": []}, {"auths": {"h": {"auth": ""}}}, {"credHelpers": "x"}])
    def test_nothing_known(self, tmp_path: Path, document: object) -> None:
        assert store(tmp_path, document).find("h") is None


def helper(tmp_path: Path, script: str) -> CredentialStore:
    path = tmp_path / "docker-credential-own"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return store(tmp_path, {"credsStore": "own"}, PATH=str(tmp_path), LANG="C")


class TestHelpers:
    def test_answer(self, tmp_path: Path) -> None:
        found = helper(tmp_path, 'read key; echo "{\\"Username\\":\\"$key\\",\\"Secret\\":\\"$1\\"}"')
        assert found.find("r.site") == Credentials("r.site", "get")

    def test_docker_hub_has_its_old_name(self, tmp_path: Path) -> None:
        script = 'read key; [ "$key" = https://index.docker.io/v1/ ] && echo \'{"Username":"a","Secret":"b"}\''
        assert helper(tmp_path, script).find("docker.io") == Credentials("a", "b")

    def test_identity_token(self, tmp_path: Path) -> None:
        found = helper(tmp_path, 'echo \'{"Username":"<token>","Secret":"s"}\'').find("r")
        assert found == Credentials(identity_token="s")

    def test_environment_is_the_given_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFERRY_CANARY", SECRET)
        script = 'echo "{\\"Username\\":\\"u\\",\\"Secret\\":\\"$LANG${AIRFERRY_CANARY:-none}\\"}"'
        assert helper(tmp_path, script).find("r") == Credentials("u", "Cnone")

    def test_unknown_host(self, tmp_path: Path) -> None:
        found = helper(tmp_path, "echo credentials not found in native keychain; exit 1")
        assert found.find("r") is None

    def test_asked_once(self, tmp_path: Path) -> None:
        found = helper(tmp_path, f'echo x >> {tmp_path}/asked; echo \'{{"Username":"u","Secret":"s"}}\'')
        assert found.find("r") is found.find("r")
        assert (tmp_path / "asked").read_text() == "x\n"

    @pytest.mark.parametrize(
        ("script", "message"),
        [
            (f"echo {SECRET}; echo {SECRET} >&2; exit 3", "fails with status 3"),
            (f"echo {SECRET}", "not JSON"),
            ("echo []", "not an object"),
            ('echo \'{"Username":"a","username":"b","Secret":"c"}\'', "differ only in case"),
            ("exec cat /dev/zero", "more than 65536 bytes"),
            ("kill -9 $$", "fails with status -9"),
        ],
    )
    def test_failures(self, tmp_path: Path, script: str, message: str) -> None:
        # `cat` must be found by a helper whose PATH is not ours.
        found = helper(tmp_path, f"PATH=/usr/bin:/bin; {script}")
        with pytest.raises(RegistryAccessError, match=message) as caught:
            found.find("r")
        assert SECRET not in f"{caught.value}{caught.value.hint}"

    def test_too_slow(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(credentials, "HELPER_SECONDS", 0.2)
        with pytest.raises(RegistryAccessError, match="no answer"):
            helper(tmp_path, "PATH=/usr/bin:/bin; exec sleep 60").find("r")

    @pytest.mark.parametrize("name", ["absent", "../own", "/bin/sh", "a b", "", "-x", "x\n"])
    def test_missing_or_strange_names(self, tmp_path: Path, name: str) -> None:
        helper(tmp_path, "true")
        found = store(tmp_path, {"credHelpers": {"r": name}}, PATH=str(tmp_path))
        if not name:
            assert found.find("r") is None
            return
        with pytest.raises(RegistryAccessError, match=r"not found|cannot be the name"):
            found.find("r")

    def test_not_runnable(self, tmp_path: Path) -> None:
        found = helper(tmp_path, "true")
        (tmp_path / "docker-credential-own").write_bytes(b"\x7fELF")
        with pytest.raises(RegistryAccessError, match="cannot be run"):
            found.find("r")


class TestProxies:
    @pytest.mark.parametrize(
        ("exempt", "host", "port", "direct"),
        [
            ("", "r.site", 443, False),
            ("*", "r.site", 443, True),
            ("r.site", "r.site", 443, True),
            ("R.Site", "r.SITE.", 443, True),
            ("site", "r.site", 443, True),
            (".site", "r.site", 443, True),
            ("*.site", "r.site", 443, True),
            (".r.site", "r.site", 443, False),
            ("ite", "r.site", 443, False),
            ("r.site:443", "r.site", 443, True),
            ("r.site:8443", "r.site", 443, False),
            ("a, r.site ,b", "r.site", 443, True),
            ("10.0.0.0/8", "10.1.2.3", 443, True),
            ("10.0.0.0/8", "11.1.2.3", 443, False),
            ("10.0.0.0/8", "r.site", 443, False),
            ("10.1.2.3", "10.1.2.3", 443, True),
            ("10.1.2.3:80", "10.1.2.3", 443, False),
            ("0.1.2.3", "10.1.2.3", 443, False),
            ("fd00::/8", "fd00::1", 443, True),
            ("fd00::1", "fd00:0::1", 443, True),
            ("[fd00::1]:443", "fd00::1", 443, True),
            ("10.0.0.0/junk", "10.1.2.3", 443, False),
            ("", "localhost", 443, True),
            ("", "127.9.9.9", 443, True),
            ("", "::1", 443, True),
        ],
    )
    def test_no_proxy(self, exempt: str, host: str, port: int, *, direct: bool) -> None:
        found = Proxies({"HTTPS_PROXY": "proxy:3128", "no_proxy": exempt}).select("https", host, port)
        assert found == (None if direct else Proxy("http://proxy:3128"))

    def test_each_scheme_has_its_own(self) -> None:
        proxies = Proxies({"http_proxy": "http://one:1", "HTTPS_PROXY": "https://u%40:p%3a@two:2/"})
        assert proxies.select("http", "r.site", 80) == Proxy("http://one:1")
        assert proxies.select("https", "r.site", 443) == Proxy("https://two:2", "u@", "p:")
        assert Proxies({"HTTP_PROXY": "http://one:1"}).select("https", "r.site", 443) is None

    @pytest.mark.parametrize(
        "text",
        [
            "socks5://u:canary-77b@h:1",
            "http://",
            "http://u:canary-77b@h:port",
            "http://[canary-77b",
            "file:///canary-77b",
        ],
    )
    def test_malformed(self, text: str) -> None:
        with pytest.raises(UsageError) as caught:
            Proxies({"HTTPS_PROXY": text})
        assert SECRET not in f"{caught.value}{caught.value.hint}"


class TestChallenges:
    @pytest.mark.parametrize(
        ("header", "found"),
        [
            ("", []),
            ("Basic", [Challenge("basic", {})]),
            ('Basic realm="x"', [Challenge("basic", {"realm": "x"})]),
            (
                'BEARER Realm="https://a/t",service=s,scope="repository:a:pull,push"',
                [Challenge("bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:a:pull,push"})],
            ),
            (
                'Basic realm="a, b=\\"c\\"", Bearer realm="https://a"',
                [Challenge("basic", {"realm": 'a, b="c"'}), Challenge("bearer", {"realm": "https://a"})],
            ),
            (
                "Negotiate, Basic realm=x , Bearer realm=y",
                [Challenge("negotiate", {}), Challenge("basic", {"realm": "x"}), Challenge("bearer", {"realm": "y"})],
            ),
            # The first of two values counts.
            ("Bearer realm=a, realm=b", [Challenge("bearer", {"realm": "a"})]),
            ('Bearer realm="unclosed', [Challenge("bearer", {})]),
            (",,,", []),
            ("=", []),
        ],
    )
    def test_forms(self, header: str, found: list[Challenge]) -> None:
        assert parse_challenges(header) == found

    @pytest.mark.parametrize(
        "header", ["," * 60_000, 'B a="' + "\\" * 60_000, "B " * 30_000, "a=" * 30_000, " " * 60_000]
    )
    def test_long_nonsense_ends_soon(self, header: str) -> None:
        assert len(parse_challenges(header)) < 20_000

    @pytest.mark.parametrize(
        ("own", "other", "related"),
        [
            ("quay.io", "quay.io", True),
            ("registry-1.docker.io", "auth.docker.io", True),
            ("registry.gitlab.com", "gitlab.com", True),
            ("registry.gitlab.com", "evilgitlab.com", False),
            ("quay.io", "auth.quay.io", True),
            ("quay.io", "evil.io", False),
            ("quay.io", "io", False),
            ("registry.co.uk", "evil.co.uk", False),
            ("a.registry.co.uk", "b.registry.co.uk", True),
            ("registry", "auth", False),
            ("registry", "evil.registry", False),
            ("10.0.0.1", "10.0.0.1", True),
            ("10.0.0.1", "11.0.0.1", False),
            ("10.0.0.1", "x.0.0.1", False),
            ("registry.site", "10.0.0.1", False),
            ("registry.corp.site", "tokens.corp.site", True),
            ("registry.corp.site", "corp.site", True),
            ("registry.corp.site", "site", False),
        ],
    )
    def test_relations(self, own: str, other: str, *, related: bool) -> None:
        assert is_related(own, other) is related


class TestTokens:
    def test_those_of_different_repositories_do_not_wait_for_each_other(self) -> None:
        """A registry far away with many repositories: each token is a round trip."""
        both, asked = threading.Barrier(2, timeout=30), []

        def ask(registry: Endpoint, url: str, headers: Mapping[str, str], form: bytes | None, limit: int) -> bytes:
            asked.append(url)
            both.wait()
            return b'{"token":"t"}'

        authorizer = Authorizer(ask, lambda *_: None, lambda _: (), lambda: 0.0)
        registry = Endpoint("r.site", "https://r.site")
        offer = parse_challenges('Bearer realm="https://r.site/token",service="r"')
        with ThreadPoolExecutor(4) as pool:
            scopes = [(f"repository:{name}:pull",) for name in "abab"]
            answers = pool.map(lambda scope: authorizer.answer(registry, scope, offer, "", {}), scopes)
            assert list(answers) == ["Bearer t"] * 4
        assert len(asked) == 2

    def test_one_that_the_registry_has_forgotten(self) -> None:
        """Another request has it still, and is refused with it; it gets a new one, and no third."""
        numbers = iter(range(10))
        authorizer = Authorizer(
            lambda *_: b'{"token":"t%d"}' % next(numbers), lambda *_: None, lambda _: (), lambda: 0.0
        )
        registry, scopes = Endpoint("r.site", "https://r.site"), ("repository:a:pull",)
        offer = parse_challenges('Bearer realm="https://r.site/token",service="r"')
        assert authorizer.answer(registry, scopes, offer, "", {}) == "Bearer t0"
        sent, tried = "Basic x", dict[tuple[str, ...], Exception | None]()
        for expected in ("Bearer t0", "Bearer t1", None):
            found = authorizer.answer(registry, scopes, offer, sent, tried)
            assert found == expected
            sent = found or ""


class TestEndpoints:
    @pytest.mark.parametrize(
        ("host", "settings", "expected"),
        [
            ("r.site", None, Endpoint("r.site", "https://r.site")),
            ("r.site:5000", None, Endpoint("r.site:5000", "https://r.site:5000")),
            ("r.site", HostSettings(plain_http=True), Endpoint("r.site", "http://r.site")),
            ("localhost:5000", None, Endpoint("localhost:5000", "http://localhost:5000")),
            ("127.1.2.3", None, Endpoint("127.1.2.3", "http://127.1.2.3")),
            ("[::1]:5000", None, Endpoint("[::1]:5000", "http://[::1]:5000")),
            ("localhost", HostSettings(plain_http=False), Endpoint("localhost", "https://localhost")),
            ("localhost", HostSettings(ca=b"x"), Endpoint("localhost", "https://localhost")),
            ("localhost.evil", None, Endpoint("localhost.evil", "https://localhost.evil")),
            ("127.0.0.1.evil", None, Endpoint("127.0.0.1.evil", "https://127.0.0.1.evil")),
            ("docker.io", None, Endpoint("docker.io", "https://registry-1.docker.io")),
            ("docker.io", HostSettings(mirror="http://m:5/"), Endpoint("m:5", "http://m:5")),
            ("r.site", HostSettings(mirror="https://m/a/b"), Endpoint("m", "https://m", "a/b/")),
        ],
    )
    def test_where_a_registry_is(self, host: str, settings: HostSettings | None, expected: Endpoint) -> None:
        assert endpoint(host, {host: settings} if settings else {}) == expected

    @pytest.mark.parametrize(
        "mirror",
        ["m:5000", "ftp://m", "http://", "http://u:p@m", "http://m?x", "http://m/a b", "http://m/../x#", "http://[m"],
    )
    def test_strange_mirrors(self, mirror: str) -> None:
        with pytest.raises(UsageError, match="mirror"):
            HostSettings(mirror=mirror)

    @pytest.mark.parametrize("host", ["r.site:0", "r.site:65536", "r.site:99999"])
    def test_impossible_ports(self, host: str) -> None:
        with pytest.raises(UsageError, match="not a registry host"):
            endpoint(host, {})

    def test_contradiction(self) -> None:
        with pytest.raises(UsageError, match="both"):
            HostSettings(plain_http=True, ca=b"x")

    def test_origins(self) -> None:
        assert origin("https://A.site/x?y") == origin("https://a.site:443") == "https://a.site:443"
        assert origin("http://a.site") != origin("https://a.site")
        assert place(f"https://user:{SECRET}@a.site/x?signature={SECRET}") == "a.site/x"
        assert joined("https://a/b/c", "d?e") == "https://a/b/d?e"
        assert joined("https://a/b/c", "//evil/d") == "https://evil/d"
        assert joined("https://a/b", "javascript:x") == joined("https://a/b", "") == ""

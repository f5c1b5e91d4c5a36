"""The Kubernetes client against a server that refuses, stalls, lies and breaks off."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from installer.cluster import api_server, channel
from installer.cluster.api_server import ApiServer
from installer.cluster.cluster import AbsentError, ConflictError, NoDryRunError
from installer.cluster.endpoint import Endpoint, Plugin, with_plugin
from installer.cluster.kinds import CONFIG_MAP, JOB, SECRET, STORAGE_CLASS
from installer.errors import AirferryError, ClusterError, ClusterForbiddenError, ClusterUnreachableError, SiteError
from installer.preflight.clock import clock
from installer.preflight.prerequisites import silent_groups
from tests.parts.authority import Authority
from tests.parts.faulty_api import FaultyApi, Reply, refusal
from tests.parts.proxy import ForwardProxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PASSWORD = "correct horse battery"
KINDS = {"resources": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": True}]}
OBJECT = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}, "data": {}}


@pytest.fixture
def api() -> Iterator[FaultyApi]:
    with FaultyApi() as running:
        yield running


@dataclass
class Clients:
    """Makes clients that wait no real time, and remembers their pauses."""

    opened: list[ApiServer] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def __call__(self, server: FaultyApi | str, **endpoint: Any) -> ApiServer:
        url = server if isinstance(server, str) else server.url
        self.opened.append(ApiServer(Endpoint(url, context="test", **endpoint), sleep=self.pauses.append))
        return self.opened[-1]


@pytest.fixture
def client() -> Iterator[Clients]:
    clients = Clients()
    yield clients
    for cluster in clients.opened:
        with cluster:
            pass


TERMINATING = {
    "message": 'pods "a" is forbidden: unable to create new content in namespace b because it is being terminated',
    "reason": "Forbidden",
    "details": {"causes": [{"reason": "NamespaceTerminating", "message": "namespace b is being terminated"}]},
}
# Answer → error, words that must be in its message or hint.
REFUSALS = [
    (refusal(401, "Unauthorized", "Unauthorized"), ClusterForbiddenError, "does not accept the credentials"),
    (
        refusal(403, "Forbidden", 'configmaps is forbidden: User "u" cannot list resource "configmaps"'),
        ClusterForbiddenError,
        "cannot list resource",
    ),
    (refusal(403, "Forbidden", 'forbidden: User "u" cannot get path "/version"'), ClusterForbiddenError, "permission"),
    (
        refusal(403, "Forbidden", 'roles "r" is forbidden: user "u" is attempting to grant RBAC permissions'),
        ClusterForbiddenError,
        "permission",
    ),
    (refusal(403, "Forbidden", 'pods "a" is forbidden: exceeded quota: small'), ClusterError, "a quota"),
    (Reply(403, TERMINATING), ClusterError, "wait until it is gone"),
    (Reply(403, b"<html>no entry</html>"), ClusterForbiddenError, "before it"),
    (refusal(409, "Conflict", 'Apply failed with 1 conflict: conflict with "other"'), ConflictError, "another tool"),
    (refusal(400, "BadRequest", 'admission webhook "x" does not support dry run'), NoDryRunError, "webhook"),
    (refusal(422, "Invalid", "spec.replicas: Invalid value"), ClusterError, "site.yaml"),
    (refusal(500, "InternalError", "etcdserver: request timed out"), ClusterError, "request timed out"),
    (Reply(502, b"<html>bad gateway</html>"), ClusterUnreachableError, "bad gateway"),
    (Reply(400, {"message": 7}), ClusterError, "message"),
]


@pytest.mark.parametrize(("reply", "error", "words"), REFUSALS)
def test_a_refusal_is_told_with_its_reason(
    client: Clients, api: FaultyApi, reply: Reply, error: type[AirferryError], words: str
) -> None:
    api.answers = [reply]
    with pytest.raises(error) as caught:
        client(api).find(CONFIG_MAP, "b")
    assert words in f"{caught.value.message} {caught.value.hint}"


def test_what_does_not_exist_is_none_and_not_an_error(client: Clients, api: FaultyApi) -> None:
    api.answers = [refusal(404, "NotFound", "not found")]
    cluster = client(api)
    assert cluster.get(CONFIG_MAP, "a", "b") is None
    assert cluster.find(CONFIG_MAP, "b") == []
    assert cluster.delete(CONFIG_MAP, "a", "b") is False
    with pytest.raises(AbsentError):
        cluster.kind("example.com/v1", "Thing")


def test_no_message_shows_a_secret(client: Clients, api: FaultyApi) -> None:
    encoded = base64.b64encode(PASSWORD.encode()).decode()
    api.answers = [Reply(200, KINDS), refusal(422, "Invalid", f'Invalid value: "{PASSWORD}" or {encoded} or token-1')]
    cluster = client(api, token="token-1")
    cluster.hide([PASSWORD])
    with pytest.raises(ClusterError) as caught:
        cluster.apply(OBJECT)
    assert 'Invalid value: "***" or *** or ***' in caught.value.message


def test_messages_cannot_steer_a_terminal_and_are_bounded(client: Clients, api: FaultyApi) -> None:
    api.answers = [refusal(422, "Invalid", "\x1b[2J" + "x" * 100_000)]
    with pytest.raises(ClusterError) as caught:
        client(api).find(CONFIG_MAP)
    assert "\x1b" not in caught.value.message
    assert len(caught.value.message) < 1000


def test_the_clock_of_the_server_is_known(client: Clients, api: FaultyApi) -> None:
    cluster = client(api)
    assert cluster.time is None
    for text, time in (("Thu, 01 Jan 2026 00:00:00 GMT", NOW), ("yesterday", None)):
        api.answers = [Reply(200, {"gitVersion": "v1.35.4"}, headers=(("Date", text),))]
        cluster.version()
        assert cluster.time == time
        for minutes, words in ((90, "1:30:00 ahead of"), (-3, "0:03:00 behind"), (0.5, "")):
            now = (NOW + timedelta(minutes=minutes)).timestamp()
            found = list(clock(cluster, partial(datetime.fromtimestamp, now, UTC)))
            assert len(found) == (1 if time and words else 0)
            assert all(words in each.what and each.error is None for each in found)


def test_a_busy_server_is_asked_again_as_it_wishes(client: Clients, api: FaultyApi) -> None:
    api.answers = [
        Reply(429, headers=(("Retry-After", "7"),)),
        Reply(503, headers=(("Retry-After", "9999"),)),
        Reply(200, {"gitVersion": "v1.35.4"}),
    ]
    assert client(api).version() == "v1.35.4"
    assert client.pauses == [7.0, channel.MAX_PAUSE]


def test_a_server_that_stays_busy_is_given_up(client: Clients, api: FaultyApi) -> None:
    api.answers = [Reply(503, {"message": "overloaded"})]
    with pytest.raises(ClusterUnreachableError, match="overloaded"):
        client(api).version()
    assert len(api.asked) == channel.ATTEMPTS


def test_a_group_whose_own_server_is_down_is_passed_over(client: Clients, api: FaultyApi) -> None:
    groups = [{"versions": [{"groupVersion": name}]} for name in ("metrics.k8s.io/v1beta1", "apps/v1")]
    kinds = {"resources": [{"name": "deployments", "kind": "Deployment", "namespaced": True}]}
    down = Reply(503, {"message": "service unavailable"})
    down_for_good = [down] * channel.ATTEMPTS
    api.answers = [Reply(200, {"groups": groups}), Reply(200, KINDS), *down_for_good, Reply(200, kinds)]
    cluster = client(api)
    assert cluster.api_versions() == (
        "apps/v1",
        "apps/v1/Deployment",
        "metrics.k8s.io/v1beta1",
        "v1",
        "v1/ConfigMap",
    )
    assert cluster.silent_groups == ("metrics.k8s.io/v1beta1",)
    (told,) = silent_groups(cluster)
    assert (told.error, "kubectl get apiservices v1beta1.metrics.k8s.io" in told.step) == (None, True)
    # The core of the API is no such group.
    api.answers = [Reply(200, {"groups": groups}), down]
    with pytest.raises(ClusterUnreachableError):
        client(api).api_versions()


def test_reading_is_repeated_after_a_broken_connection_and_writing_is_not(client: Clients, api: FaultyApi) -> None:
    api.answers = [Reply(0), Reply(200, {"gitVersion": "v1.35.4"})]
    assert client(api).version() == "v1.35.4"
    api.answers = [Reply(0)]
    api.asked.clear()
    with pytest.raises(ClusterUnreachableError):
        client(api).merge(CONFIG_MAP, "a", "b", {"data": {}})
    assert [each.method for each in api.asked] == ["PATCH"]


def test_applying_states_what_shall_be_and_is_repeated(client: Clients, api: FaultyApi) -> None:
    api.answers = [Reply(200, KINDS), Reply(0), Reply(200, OBJECT)]
    assert client(api).apply(OBJECT)["metadata"]["name"] == "a"
    assert [each.method for each in api.asked] == ["GET", "PATCH", "PATCH"]


def test_a_server_that_has_answered_before_is_given_time_to_come_back(client: Clients) -> None:
    with FaultyApi() as api:
        api.answers = [Reply(200, {"gitVersion": "v1.35.4"}, headers=(("Connection", "close"),))]
        cluster = client(api)
        cluster.version()
    for known, attempts in ((cluster, channel.RESTART_ATTEMPTS), (client(api.url), channel.ATTEMPTS)):
        client.pauses.clear()
        with pytest.raises(ClusterUnreachableError):
            known.version()
        assert len(client.pauses) == attempts - 1


def test_an_endless_answer_is_cut(client: Clients, api: FaultyApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "MAX_ANSWER", 1000)
    api.answers = [Reply(200, {"items": ["x" * 2000]})]
    with pytest.raises(ClusterError, match="exceeds 1000 bytes"):
        client(api).find(CONFIG_MAP)


@pytest.mark.parametrize("body", [b"hello", b"[]", b'{"items": 3}', b'{"items": [3]}', b"\xff\xfe"])
def test_what_is_no_api_server_is_said_to_be_none(client: Clients, api: FaultyApi, body: bytes) -> None:
    api.answers = [Reply(200, body)]
    with pytest.raises(ClusterError):
        client(api).find(CONFIG_MAP)
    with pytest.raises(ClusterError):
        client(api).version()


def test_nobody_there(client: Clients) -> None:
    with pytest.raises(ClusterUnreachableError, match="Connection refused"):
        client("http://127.0.0.1:1").version()


def test_a_token_file_is_read_again_for_each_request(client: Clients, api: FaultyApi, tmp_path: Path) -> None:
    api.answers = [Reply(200, {"gitVersion": "v1.35.4"})]
    file = tmp_path / "token"
    cluster = client(api, token_file=file)
    for token in ("first", "second"):
        file.write_text(f"{token}\n")
        cluster.version()
    assert [each.authorization for each in api.asked] == ["Bearer first", "Bearer second"]


def test_a_token_that_is_none_is_refused_and_not_shown(client: Clients, api: FaultyApi, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("eyJfirst\neyJsecond\n")
    with pytest.raises(SiteError, match="line breaks") as caught:
        client(api, token_file=file).version()
    assert "eyJ" not in f"{caught.value.message} {caught.value.hint}"
    assert api.asked == []


def test_a_token_of_a_file_is_a_secret_as_well(client: Clients, api: FaultyApi, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("token-1")
    api.answers = [refusal(422, "Invalid", "token-1 is no name")]
    with pytest.raises(ClusterError, match=r"\*\*\* is no name"):
        client(api, token_file=file).find(CONFIG_MAP)


def test_a_redirect_is_not_followed(client: Clients, api: FaultyApi) -> None:
    with FaultyApi() as other:
        other.answers = [Reply(200, {"gitVersion": "v6.6.6"})]
        api.answers = [Reply(302, headers=(("Location", f"{other.url}/version"),))]
        with pytest.raises(ClusterError):
            client(api, token="token-1").version()
        assert other.asked == []


def test_proxies_of_the_environment_are_not_used(
    client: Clients, api: FaultyApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    api.answers = [Reply(200, {"gitVersion": "v1.35.4"})]
    assert client(api).version() == "v1.35.4"


def test_certificates_are_checked_by_the_kubeconfig_alone(client: Clients, tmp_path: Path) -> None:
    ours, other = Authority(tmp_path / "ours"), Authority(tmp_path / "other")
    with FaultyApi(ours.issue("server", ["127.0.0.1"])) as api:
        api.answers = [Reply(200, {"gitVersion": "v1.35.4"})]
        assert client(api, ca=ours.certificate.read_bytes()).version() == "v1.35.4"
        endpoints: list[dict[str, Any]] = [{"ca": other.certificate.read_bytes()}, {}]
        for endpoint in endpoints:
            with pytest.raises(ClusterUnreachableError, match="certificate is not trusted"):
                client(api, **endpoint).version()
        assert client(api, verify=False).version() == "v1.35.4"


def test_another_name_than_the_address_can_be_demanded(client: Clients, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with FaultyApi(authority.issue("server", ["api.enclave"])) as api:
        api.answers = [Reply(200, {"gitVersion": "v1.35.4"})]
        ca = authority.certificate.read_bytes()
        assert client(api, ca=ca, server_name="api.enclave").version() == "v1.35.4"
        with pytest.raises(ClusterUnreachableError, match="certificate is not trusted"):
            client(api, ca=ca).version()


def test_an_expired_server_certificate_is_refused(client: Clients, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with FaultyApi(authority.issue("server", ["127.0.0.1"], lifetime=timedelta(days=-1))) as api:
        api.answers = [Reply(200)]
        with pytest.raises(ClusterUnreachableError, match="expired"):
            client(api, ca=authority.certificate.read_bytes()).version()


def test_the_way_out_of_a_refused_certificate_is_told(client: Clients, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ca = authority.certificate.read_bytes()
    cases: list[tuple[str, int, dict[str, Any], str]] = [
        ("api.enclave", 1, {"ca": ca}, "tls-server-name"),
        ("127.0.0.1", 1, {"ca": ca, "server_name": "api.enclave"}, "tls-server-name"),
        ("127.0.0.1", 1, {}, "certificate-authority-data"),
        ("127.0.0.1", -1, {"ca": ca}, "clock"),
    ]
    early = authority.issue("early", ["127.0.0.1"], begins=timedelta(days=1))
    for number, (name, days, endpoint, words) in enumerate([*cases, ("", 0, {"ca": ca}, "correct the clock of this")]):
        issued = authority.issue(f"server-{number}", [name], lifetime=timedelta(days=days)) if name else early
        with FaultyApi(issued) as api:
            api.answers = [Reply(200)]
            with pytest.raises(ClusterUnreachableError, match="its certificate is not trusted") as caught:
                client(api, **endpoint).version()
            assert words in caught.value.hint
    assert client.pauses == [], "asking again cannot help"


@pytest.mark.parametrize("secure", [True, False], ids=["https", "http"])
def test_a_proxy_leads_to_the_server_and_learns_its_own_password_only(
    client: Clients, tmp_path: Path, *, secure: bool
) -> None:
    authority = Authority(tmp_path)
    login = base64.b64encode("me:p%40ß".encode()).decode()
    with (
        FaultyApi(authority.issue("server", ["api.enclave"]) if secure else None) as api,
        ForwardProxy(api.url.partition("//")[2], f"Basic {login}") as proxy,
    ):
        api.answers = [Reply(200, {"gitVersion": "v1.35.4"})]
        server = f"{'https' if secure else 'http'}://api.enclave:6443"
        more = {"ca": authority.certificate.read_bytes()} if secure else {}
        way = f"http://me:p%2540%C3%9F@{proxy.address}"
        assert client(server, proxy=way, token="token-1", **more).version() == "v1.35.4"
        assert proxy.asked == [("CONNECT" if secure else "GET", "api.enclave:6443")]
        assert api.asked[-1].authorization == "Bearer token-1"
        with pytest.raises(
            ClusterUnreachableError, match=r"its proxy http://127.0.0.1:\d+ does not lead there"
        ) as caught:
            client(server, proxy=f"http://me:canary-1@{proxy.address}", **more).version()
        assert "proxy-url" in caught.value.hint


@pytest.mark.parametrize("server", ["https://api:6443", "http://api:6443"])
def test_a_dead_proxy_is_not_taken_for_the_server(client: Clients, server: str) -> None:
    words = f"{server}: its proxy http://127.0.0.1:1 does not lead there: Connection refused"
    with pytest.raises(ClusterUnreachableError, match=words) as caught:
        client(server, proxy="http://me:canary-1@127.0.0.1:1").version()
    assert "proxy-url" in caught.value.hint


def test_what_was_handled_before_is_not_taken_for_the_cause(client: Clients) -> None:
    try:
        raise OSError("another error")
    except OSError:
        with pytest.raises(ClusterUnreachableError, match="Connection refused"):
            client("http://127.0.0.1:1").version()


@pytest.mark.parametrize("part", ["ca", "certificate"])
def test_broken_certificates_are_an_answer_of_the_site(client: Clients, part: str) -> None:
    more = {part: b"no certificate", **({"key": b"no key"} if part == "certificate" else {})}
    with pytest.raises(SiteError, match="certificates or key"):
        client("https://127.0.0.1:1", **more)


def test_a_program_that_gives_credentials_runs_only_if_allowed(client: Clients) -> None:
    with pytest.raises(SiteError, match="aws-iam-authenticator") as caught:
        client("https://127.0.0.1:1", plugin=Plugin("client.authentication.k8s.io/v1", "aws-iam-authenticator"))
    assert "--allow-exec-plugin" in caught.value.hint


def plugin_tokens(folder: Path, expiry: str) -> Endpoint:
    """An endpoint whose plugin has run; it gives the tokens token-1, token-2 and so on, the first with `expiry`."""
    program = folder / "plugin"
    program.write_text(
        f"""#!/bin/sh
cd {folder}
echo >> runs
n=$(wc -l < runs)
expiry={expiry}
[ $n = 1 ] || expiry=2999-01-01T00:00:00Z
echo '{{"status": {{"token": "token-'$n'", "expirationTimestamp": "'$expiry'"}}}}'
"""
    )
    program.chmod(0o755)
    plugin = Plugin("client.authentication.k8s.io/v1", str(program))
    return with_plugin(Endpoint("http://127.0.0.1:1", plugin=plugin), dict(os.environ), lambda: NOW)


def test_credentials_of_a_plugin_are_renewed_before_they_expire(
    client: Clients, api: FaultyApi, tmp_path: Path
) -> None:
    api.answers = [Reply(200, {"gitVersion": "v1.35.4"})]
    cluster = client(
        api, login=plugin_tokens(tmp_path, (NOW + timedelta(seconds=5)).isoformat()).login, token="token-1"
    )
    for _ in range(2):
        cluster.version()
    assert [each.authorization for each in api.asked] == ["Bearer token-2"] * 2


def test_credentials_of_a_plugin_are_renewed_once_if_they_are_refused(
    client: Clients, api: FaultyApi, tmp_path: Path
) -> None:
    refused = refusal(401, "Unauthorized", "Unauthorized")
    cluster = client(api, login=plugin_tokens(tmp_path, "2999-01-01T00:00:00Z").login, token="token-1")
    api.answers = [refused, refusal(422, "Invalid", "token-2 is no name")]
    with pytest.raises(ClusterError) as caught:
        cluster.merge(CONFIG_MAP, "a", "b", {"data": {}})
    assert [each.authorization for each in api.asked] == ["Bearer token-1", "Bearer token-2"]
    assert api.asked[0].body == api.asked[1].body != b""
    assert "*** is no name" in caught.value.message, "new credentials are secrets as well"
    api.answers = [refused]
    with pytest.raises(ClusterForbiddenError, match="does not accept the credentials"):
        cluster.find(CONFIG_MAP)
    assert [each.authorization for each in api.asked[2:]] == ["Bearer token-2", "Bearer token-3"]


def test_lists_are_read_in_parts_and_say_what_they_hold(client: Clients, api: FaultyApi) -> None:
    api.answers = [
        Reply(200, {"metadata": {"continue": "more"}, "items": [{"metadata": {"name": "a"}}]}),
        Reply(200, {"metadata": {}, "items": [{"metadata": {"name": "b"}}]}),
    ]
    found = client(api).find(SECRET, "b", labels={"owner": "helm"}, fields={"type": "x"})
    assert [(item["kind"], item["metadata"]["name"]) for item in found] == [("Secret", "a"), ("Secret", "b")]
    assert "continue=more" in api.asked[1].path
    assert all("labelSelector=owner%3Dhelm" in each.path for each in api.asked)


def test_a_list_without_end_is_cut(client: Clients, api: FaultyApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_server, "MAX_OBJECTS", 10)
    api.answers = [Reply(200, {"metadata": {"continue": "more"}, "items": [{}] * 4})]
    with pytest.raises(ClusterError, match="more than 10 objects"):
        client(api).find(CONFIG_MAP)
    assert len(api.asked) == 3


def test_names_lead_to_no_other_path(client: Clients, api: FaultyApi) -> None:
    api.answers = [Reply(200, OBJECT)]
    client(api, namespace="n").get(CONFIG_MAP, "../a?b")
    client(api).get(STORAGE_CLASS, "a", "b")
    client(f"{api.url}/k8s/c-1").get(CONFIG_MAP, "a", "b")
    assert [each.path for each in api.asked] == [
        "/api/v1/namespaces/n/configmaps/..%2Fa%3Fb",
        "/apis/storage.k8s.io/v1/storageclasses/a",
        "/k8s/c-1/api/v1/namespaces/b/configmaps/a",
    ]


def test_what_belongs_to_an_object_is_deleted_with_it(client: Clients, api: FaultyApi) -> None:
    api.answers = [Reply(200)]
    assert client(api).delete(JOB, "a", "b")
    (asked,) = api.asked
    assert asked.path == "/apis/batch/v1/namespaces/b/jobs/a?propagationPolicy=Background"


def test_logs_that_are_not_there_are_empty(client: Clients, api: FaultyApi) -> None:
    api.answers = [refusal(400, "BadRequest", "container is waiting to start")]
    assert client(api).logs("b", "pod") == []

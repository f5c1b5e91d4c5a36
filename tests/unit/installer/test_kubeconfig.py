"""Kubeconfig files: what they mean, and what is refused."""

from __future__ import annotations

import base64
import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest

from installer.cluster import endpoint
from installer.cluster.endpoint import Endpoint, Plugin, with_plugin
from installer.cluster.kubeconfig import choose, in_cluster, read_kubeconfig
from installer.errors import ClusterForbiddenError, SiteError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

NOW = dt.datetime(2025, 12, 31, 23, 59, tzinfo=dt.UTC)
V1 = "client.authentication.k8s.io/v1"


def kubeconfig(folder: Path, *, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> Path:
    """A file with one context `c`, its cluster and user."""
    path = folder / "config"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "n"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://api:6443/", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
    }
    path.write_text(json.dumps(document))
    return path


def test_material_in_the_file_and_beside_it(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(b"KEY")
    cluster = {"certificate-authority-data": base64.b64encode(b"CA").decode(), "tls-server-name": "name"}
    user = {"client-certificate-data": base64.b64encode(b"CERT").decode(), "client-key": "key.pem"}
    found = read_kubeconfig(kubeconfig(tmp_path, cluster=cluster, user=user))
    assert (found.server, found.ca, found.certificate, found.key) == ("https://api:6443", b"CA", b"CERT", b"KEY")
    assert (found.context, found.namespace, found.server_name, found.verify) == ("c", "n", "name", True)


def test_lines_that_tools_have_wrapped_are_joined(tmp_path: Path) -> None:
    data = base64.encodebytes(b"CA" * 100).decode()
    assert data.count("\n") > 1
    user = {"client-certificate-data": data, "client-key-data": data.replace("\n", "\r\n")}
    found = read_kubeconfig(kubeconfig(tmp_path, cluster={"certificate-authority-data": data}, user=user))
    assert {found.ca, found.certificate, found.key} == {b"CA" * 100}


@pytest.mark.parametrize("user", [{"token": "tok-1234\n"}, {"token": "tok-1234\x07"}, {"token": "tok-1234\x85"}])
def test_a_token_that_no_header_can_hold_is_refused_and_not_shown(tmp_path: Path, user: dict[str, Any]) -> None:
    """Helm, which reads the same file, refuses the line break that one is easily copied with."""
    with pytest.raises(SiteError, match="its token is empty, or has blanks, line breaks") as caught:
        read_kubeconfig(kubeconfig(tmp_path, user=user))
    assert "1234" not in f"{caught.value.message} {caught.value.hint}"
    assert read_kubeconfig(kubeconfig(tmp_path, user={"token": "tok-1234 "})).token == "tok-1234"


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    user = {"token": "tok-1234", "username": "u", "password": "pass-1"}
    found = read_kubeconfig(kubeconfig(tmp_path, cluster={"proxy-url": "http://u:pass-2@proxy"}, user=user))
    assert not [secret for secret in ("tok-1234", "pass-1", "pass-2") if secret in repr(found)]
    # The last two are what headers hold in base64.
    assert set(found.secrets) == {"tok-1234", "pass-1", "pass-2", "u:pass-1", "u:pass-2"}
    for key, text in (
        ("proxy-url", "socks5://u:pass-2@proxy"),
        ("server", "https://u:pass-2@api:6443"),
        ("server", "ftp://u:pass-2@api"),
    ):
        with pytest.raises(SiteError) as caught:
            read_kubeconfig(kubeconfig(tmp_path, cluster={key: text}))
        assert "pass-2" not in f"{caught.value.message} {caught.value.hint}"


def test_a_token_file_wins_over_a_token(tmp_path: Path) -> None:
    found = read_kubeconfig(kubeconfig(tmp_path, user={"token": "old", "tokenFile": "token"}))
    assert (found.token, found.token_file) == ("", tmp_path / "token")


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"server": "api:6443"}, {}, "not the address"),
    ({"server": 7}, {}, "server is not text"),
    ({"server": "https://"}, {}, "not the address"),
    ({"server": "https://api:99999"}, {}, "not the address"),
    ({"proxy-url": "socks5://proxy:1080"}, {}, "proxy-url with scheme 'socks5'"),
    ({"proxy-url": "proxy:3128"}, {}, "proxy-url with scheme ''"),
    ({"certificate-authority-data": "Q0E=", "insecure-skip-tls-verify": True}, {}, "insecure-skip-tls-verify as well"),
    ({"certificate-authority-data": "%%%"}, {}, "not base64"),
    # What YAML makes of lines that are wrapped without `|`.
    ({"certificate-authority-data": "Q0 E="}, {}, "not base64"),
    ({}, {"token": "to ken"}, "its token is empty, or has blanks"),
    ({}, {"client-certificate-data": "Q0VSVA=="}, "needs its key"),
    ({}, {"auth-provider": {"name": "gcp"}}, "auth-provider"),
    ({}, {"as": "root"}, "impersonation"),
    ({}, {"exec": {"apiVersion": V1}}, "names no command"),
    ({}, {"exec": {"apiVersion": V1, "command": "x", "env": [{"name": "A"}]}}, "name and value"),
]


@pytest.mark.parametrize(("cluster", "user", "words"), REFUSED)
def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any], words: str
) -> None:
    with pytest.raises(SiteError, match=words):
        read_kubeconfig(kubeconfig(tmp_path, cluster=cluster, user=user))


@pytest.mark.parametrize("text", ["", "[]", "{}", "a: 1\na: 2", "current-context: x", "\x00"])
def test_what_is_no_kubeconfig_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(SiteError):
        read_kubeconfig(tmp_path / "config")


def test_missing_files_and_contexts_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="absent"):
        read_kubeconfig(tmp_path / "absent")
    with pytest.raises(UsageError, match="no context 'other'") as caught:
        read_kubeconfig(kubeconfig(tmp_path), "other")
    assert caught.value.hint == "name one with --context; there are: c."
    with pytest.raises(SiteError, match=r"ca\.pem"):
        read_kubeconfig(kubeconfig(tmp_path, cluster={"certificate-authority": "ca.pem"}))


def plugin(folder: Path, script: str, **environment: str) -> Endpoint:
    program = folder / "plugin"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return Endpoint("https://api", plugin=Plugin(V1, str(program), ("token",), tuple(environment.items())))


def test_a_plugin_gives_a_token_and_sees_what_it_is_given(tmp_path: Path) -> None:
    script = 'printf \'{"kind": "ExecCredential", "status": {"token": "%s-%s-%s"}}\' "$1" "$OURS" "$THEIRS"'
    found = with_plugin(plugin(tmp_path, script, THEIRS="b"), {"OURS": "a"}, lambda: NOW)
    assert (found.token, found.plugin) == ("token-a-b", None)
    assert with_plugin(found, {}, lambda: NOW) is found


@pytest.mark.parametrize(
    "script",
    ["exit 3", "echo", "echo '{}'", "echo '{\"status\": {}}'", 'echo \'{"status": {"token": 7}}\'', "kill -9 $$"]
    + [f'echo \'{{"status": {{"token": "t", "expirationTimestamp": {text}}}}}\'' for text in ("7", '"soon"')],
)
def test_a_plugin_that_gives_nothing_is_named(tmp_path: Path, script: str) -> None:
    with pytest.raises(ClusterForbiddenError, match="plugin"):
        with_plugin(plugin(tmp_path, script), {}, lambda: NOW)


def test_a_token_of_a_plugin_that_no_header_can_hold_is_refused_and_not_shown(tmp_path: Path) -> None:
    for token in (r"tok-1234\n", r"\n", r"tok\u00001234"):
        script = f'cat <<\'end\'\n{{"status": {{"token": "{token}"}}}}\nend'
        with pytest.raises(ClusterForbiddenError, match=r"plugin .*: the token that it prints has blanks") as caught:
            with_plugin(plugin(tmp_path, script), {}, lambda: NOW)
        assert "1234" not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("end", ["exit 3", "echo '{}'"])
def test_what_a_plugin_says_is_told(tmp_path: Path, end: str) -> None:
    script = f"seq 10000 >&2; printf 'the session\\033[2J\\n has expired' >&2; {end}"
    with pytest.raises(ClusterForbiddenError, match=r"10000 the session\\x1b\[2J has expired$") as caught:
        with_plugin(plugin(tmp_path, script), {}, lambda: NOW)
    assert len(caught.value.message) < 2000


def test_how_to_get_a_plugin_is_told(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    for name, words in (("absent", "absent: not found"), ("text", "text: cannot be run: Permission denied")):
        user = {"exec": {"apiVersion": V1, "command": f"./{name}", "installHint": "get it from\n the share"}}
        with pytest.raises(ClusterForbiddenError, match=words) as caught:
            with_plugin(read_kubeconfig(kubeconfig(tmp_path, user=user)), {}, lambda: NOW)
        assert caught.value.hint == "get it from the share"


def test_a_plugin_that_takes_too_long_is_told_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "PLUGIN_SECONDS", 0.5)
    with pytest.raises(ClusterForbiddenError, match=r"after 0\.5 seconds: open the page$"):
        with_plugin(plugin(tmp_path, "echo open the page >&2; exec sleep 60"), {}, lambda: NOW)


def test_a_plugin_is_told_of_the_cluster_if_the_kubeconfig_wants_that(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    program = folder / "plugin"
    program.write_text(
        '#!/bin/sh\nprintf %s "$KUBERNETES_EXEC_INFO" > "$(dirname "$0")/info"\n'
        'echo \'{"status": {"token": "t", "expirationTimestamp": "2026-01-01T00:00:00Z"}}\'\n'
    )
    program.chmod(0o755)
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "a"}}
    cluster = {"extensions": [extension], "certificate-authority-data": base64.b64encode(b"CA").decode()}
    clock = [NOW]
    for told in (True, False):
        clock[0] = NOW
        user = {"exec": {"apiVersion": V1, "command": "./plugin", "provideClusterInfo": told}}
        # A command with a slash is relative to the file.
        found = with_plugin(read_kubeconfig(kubeconfig(folder, cluster=cluster, user=user)), {}, lambda: clock[0])
        info = json.loads((folder / "info").read_text())
        assert (info["kind"], info["apiVersion"], info["spec"]["interactive"]) == ("ExecCredential", V1, False)
        seen = {"server": "https://api:6443", "certificate-authority-data": "Q0E=", "config": {"audience": "a"}}
        assert info["spec"].get("cluster") == (seen if told else None)
        assert not found.expired
        clock[0] = dt.datetime(2025, 12, 31, 23, 59, 55, tzinfo=dt.UTC)
        assert found.expired


def written(path: Path, **parts: Any) -> Path:
    """A kubeconfig with named entries: `contexts={"c": {...}}` and so on, and perhaps `current`."""
    document: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "current-context": parts.pop("current", "")}
    for group, entries in parts.items():
        document[group] = [{"name": name, group.removesuffix("s"): entry} for name, entry in entries.items()]
    path.write_text(json.dumps(document))
    return path


def test_of_several_files_the_first_to_name_something_counts(tmp_path: Path) -> None:
    first = written(
        tmp_path / "first",
        contexts={"a": {"cluster": "k", "user": "u"}, "split": {"cluster": "far", "user": "u"}},
        clusters={"k": {"server": "https://first:6443"}},
        users={"u": {}},
    )
    second = written(
        tmp_path / "second",
        current="b",
        contexts={"a": {"cluster": "k", "user": "u"}, "b": {"cluster": "far", "user": "v"}},
        clusters={"k": {"server": "https://second:6443"}, "far": {"server": "https://far:6443"}},
        users={"v": {}},
    )
    missing = tmp_path / "missing"
    assert choose([missing, first, second]) == (second, "b"), "the first current context that is set"
    assert choose([missing, first, second], "a") == (first, "a")
    assert choose([missing, second]) == (second, ""), "one file is left to its own current context"
    with pytest.raises(SiteError, match=r"its cluster in .*second"):
        choose([first, second], "split")
    with pytest.raises(UsageError, match="no context 'z'") as caught:
        choose([first, second], "z")
    assert caught.value.hint.endswith("there are: a, b, split.")
    with pytest.raises(UsageError, match=r"no kubeconfig at .*missing, .*gone"):
        choose([missing, tmp_path / "gone"])


def test_inside_a_pod_its_service_account_is_used(tmp_path: Path) -> None:
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    assert in_cluster(environment, tmp_path) is None
    for name, text in (("token", "t0ken"), ("namespace", "here"), ("ca.crt", "CA")):
        (tmp_path / name).write_text(text)
    found = in_cluster(environment, tmp_path)
    assert found
    assert (found.server, found.namespace, found.ca) == ("https://[fd00::1]:443", "here", b"CA")
    assert found.token_file == tmp_path / "token"
    assert in_cluster({}, tmp_path) is None

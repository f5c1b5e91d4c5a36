"""An API server and an identity, whose credentials a plugin may give."""

import base64
import datetime as dt
import json
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from installer import strict_json
from installer.errors import ClusterForbiddenError, SiteError
from installer.report import printable

MAX_PRINTED = 256 * 1024
MAX_WORDS = 800
PLUGIN_SECONDS = 60
# Credentials are renewed so long before they expire.
EXPIRY_MARGIN = dt.timedelta(seconds=10)
_TOKEN = re.compile(r"[\x21-\x7e]+", re.ASCII)
_UNFIT = "blanks, line breaks or other characters that no token has"


@dataclass(frozen=True, slots=True)
class Plugin:
    """A program named by a kubeconfig that prints credentials (client-go credential plugin).

    With `told` it is told of the cluster, and of `config`, what the kubeconfig has for it there. `install_hint` says
    how to get the program.
    """

    api_version: str
    command: str
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    told: bool = False
    config: Any = None
    install_hint: str = ""


@dataclass(frozen=True, slots=True)
class Login:
    """How credentials came about: by running `plugin` with `environment`.

    `expires` is None if it did not say when they do; `now` is the clock (UTC).
    """

    plugin: Plugin
    environment: Mapping[str, str] = field(repr=False)
    now: Callable[[], dt.datetime] = field(repr=False)
    expires: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An API server and an identity. PEM texts are bytes; an empty value means: not given.

    `ca` empty and `verify` true: the host's own certificate store decides. `proxy` is `http[s]://[user:password@]host`,
    perhaps with a port. `plugin` has not been run yet, `login` has.
    """

    server: str
    context: str = ""
    namespace: str = "default"
    ca: bytes = b""
    verify: bool = True
    server_name: str = ""
    proxy: str = field(default="", repr=False)
    certificate: bytes = field(default=b"", repr=False)
    key: bytes = field(default=b"", repr=False)
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    username: str = ""
    password: str = field(default="", repr=False)
    plugin: Plugin | None = None
    login: Login | None = None

    def __post_init__(self) -> None:
        if not _is_web_address(self.server) or parse_url(self.server).auth:
            # What stands before an @ may be a password.
            shown = self.server.rpartition("@")[2][:200]
            raise SiteError(
                f"context {self.context!r}: not the address of an API server: {shown!r}",
                hint="write it like https://host:6443, and a login into username and password of the user.",
            )
        if self.proxy and not _is_web_address(self.proxy):
            # Not the whole address: it may hold a password.
            scheme = self.proxy.partition("://")[0] if "://" in self.proxy else ""
            raise SiteError(
                f"context {self.context!r}: proxy-url with scheme {scheme[:20]!r}: this is no http or https proxy, and "
                "others are not supported",
                hint="write it like http://proxy:3128, or leave it out if this host reaches the API server without.",
            )
        if self.ca and not self.verify:
            raise SiteError(
                f"context {self.context!r} names a certificate authority, and insecure-skip-tls-verify as well",
                hint="leave out insecure-skip-tls-verify: the authority would not be asked.",
            )
        if bool(self.certificate) != bool(self.key):
            raise SiteError(f"context {self.context!r}: a client certificate needs its key, and a key its certificate")
        if self.token:
            check_token(self.token, self.context)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be shown: each secret, and a password with its user name, as in the headers of logins."""
        login = unquote(parse_url(self.proxy).auth or "") if self.proxy else ""
        passwords = self.password, self.password and f"{self.username}:{self.password}", login, login.partition(":")[2]
        return tuple(text for text in (self.token, self.key.decode("ascii", "replace"), *passwords) if text)

    @property
    def expired(self) -> bool:
        """Whether the credentials that a plugin gave are not worth sending any more."""
        login = self.login
        return bool(login and login.expires and login.expires - EXPIRY_MARGIN <= login.now())


def _is_web_address(text: str) -> bool:
    try:
        parts = parse_url(text)
    except LocationParseError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.host)


def check_token(token: str, context: str) -> None:
    """Raises SiteError, without the token, for one that cannot stand in a header."""
    if not _TOKEN.fullmatch(token):
        raise SiteError(
            f"context {context!r}: its token is empty, or has {_UNFIT}",
            hint="write it as one line; only in a file of its own (tokenFile) a line break may follow it.",
        )


def with_plugin(endpoint: Endpoint, environment: Mapping[str, str], now: Callable[[], dt.datetime]) -> Endpoint:
    """`endpoint` with the credentials that its plugin prints when run with `environment`; `now` is the clock (UTC).

    Source: Kubernetes API reference, ExecCredential (client.authentication.k8s.io v1, v1beta1). Raises
    ClusterForbiddenError if the plugin fails or prints none.
    """
    plugin = endpoint.plugin
    if plugin is None:
        return endpoint
    status = _run(
        plugin, {**environment, **dict(plugin.environment), "KUBERNETES_EXEC_INFO": _exec_info(endpoint, plugin)}
    )
    token, certificate, key = (status.get(name, "") for name in ("token", "clientCertificateData", "clientKeyData"))
    if not all(isinstance(text, str) for text in (token, certificate, key)) or not (token or certificate):
        raise ClusterForbiddenError(f"credential plugin {plugin.command}: printed neither token nor certificate")
    if token and not _TOKEN.fullmatch(token):
        # Helm runs the plugin, too, and takes what it prints as it is.
        raise ClusterForbiddenError(f"credential plugin {plugin.command}: the token that it prints has {_UNFIT}")
    login = Login(plugin, environment, now, _expiry(status.get("expirationTimestamp"), plugin))
    return replace(endpoint, token=token, certificate=certificate.encode(), key=key.encode(), plugin=None, login=login)


def renewed(endpoint: Endpoint) -> Endpoint:
    """`endpoint` with new credentials from the plugin that gave those it has; as it is if none did.

    Raises as `with_plugin`.
    """
    login = endpoint.login
    return with_plugin(replace(endpoint, plugin=login.plugin), login.environment, login.now) if login else endpoint


def _exec_info(endpoint: Endpoint, plugin: Plugin) -> str:
    """What a plugin finds in its environment: ExecCredential, with `spec.cluster` where the kubeconfig wants that."""
    cluster: dict[str, Any] = {"server": endpoint.server}
    if endpoint.server_name:
        cluster["tls-server-name"] = endpoint.server_name
    if not endpoint.verify:
        cluster["insecure-skip-tls-verify"] = True
    if endpoint.ca:
        cluster["certificate-authority-data"] = base64.b64encode(endpoint.ca).decode()
    if endpoint.proxy:
        cluster["proxy-url"] = endpoint.proxy
    if plugin.config is not None:
        cluster["config"] = plugin.config
    spec = {"interactive": False, **({"cluster": cluster} if plugin.told else {})}
    return json.dumps({"kind": "ExecCredential", "apiVersion": plugin.api_version, "spec": spec})


def _expiry(text: Any, plugin: Plugin) -> dt.datetime | None:
    """RFC 3339, as Kubernetes writes times. Raises ClusterForbiddenError."""
    if text is None:
        return None
    try:
        time = dt.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        time = None
    if time is None or time.tzinfo is None:
        raise ClusterForbiddenError(f"credential plugin {plugin.command}: expirationTimestamp is no time")
    return time


def _run(plugin: Plugin, environment: Mapping[str, str]) -> dict[str, Any]:
    what = f"credential plugin {plugin.command}"
    hint = f"run {plugin.command} by hand to see why."
    try:
        done = subprocess.run(
            [plugin.command, *plugin.arguments],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PLUGIN_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        message = f"{what}: no credentials after {PLUGIN_SECONDS} seconds{_words(exc.stderr)}"
        raise ClusterForbiddenError(message, hint=hint) from None
    except OSError as exc:
        reason = "not found" if isinstance(exc, FileNotFoundError) else f"cannot be run: {exc.strerror}"
        hint = plugin.install_hint or "install it, or correct its name in the kubeconfig."
        raise ClusterForbiddenError(f"{what}: {reason}", hint=hint) from None
    if done.returncode:
        message = f"{what}: failed with exit code {done.returncode}{_words(done.stderr)}"
        raise ClusterForbiddenError(message, hint=hint)
    doc = strict_json.parse(done.stdout[:MAX_PRINTED], what, ClusterForbiddenError)
    status = doc.get("status") if isinstance(doc, dict) else None
    if not isinstance(status, dict):
        raise ClusterForbiddenError(f"{what}: printed no credentials{_words(done.stderr)}", hint=hint)
    return status


def _words(stderr: bytes | None) -> str:
    """The end of what a plugin says on its standard error, as the end of a message."""
    text = printable(" ".join((stderr or b"")[-MAX_WORDS:].decode("utf-8", "replace").split()))
    return f": {text}" if text else ""

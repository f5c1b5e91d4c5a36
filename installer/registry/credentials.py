"""Credentials for registries: given outright, from docker's `config.json`, or from a credential helper.

Sources of the foreign rules: docker/cli `cli/config` (file format, `identitytoken`, the key of docker.io) and
docker/docker-credential-helpers (the `get` protocol: the server's name on stdin, a JSON object on stdout).
"""

import base64
import binascii
import os
import re
import selectors
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from installer import strict_json
from installer.errors import RegistryAccessError, UsageError
from installer.files import look_at, read_bounded
from installer.oci.reference import DOCKER_HUB

HELPER_SECONDS = 30.0
MAX_CONFIG = 1 << 20
MAX_ANSWER = 64 << 10
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Docker kept the name that the registry had in the days of its first protocol.
_HUB_KEY = "https://index.docker.io/v1/"
_HUB_HOSTS = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and password, or an identity token (an OAuth 2 refresh token). Raises UsageError if malformed.

    The secrets are in no repr.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not self.identity_token and not self.username:
            raise UsageError("credentials need a user name and a password, or an identity token")
        if ":" in self.username:
            # RFC 7617, section 2: the first colon ends the user name.
            raise UsageError("a user name cannot hold a colon")
        if any(_CONTROL.search(text) for text in (self.username, self.password, self.identity_token)):
            raise UsageError("credentials hold control characters", hint="is there a line break at the end of a file?")

    def basic(self) -> str:
        """The value of an `Authorization` header (RFC 7617, in UTF-8)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class CredentialStore:
    """The credentials that the user's docker configuration knows. Safe to use from several threads.

    `config` is the parsed `config.json`. Helpers are looked up in the `PATH` of `environment` and run with nothing
    else in their environment. Each is asked once for a host; what is unknown here is looked up in `further`.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        further: "CredentialStore | None" = None,
    ) -> None:
        self._config = config or {}
        self._further = further
        self._environment = dict(environment or {})
        self._found: dict[tuple[str, str], Credentials | None] = {}
        self._told: dict[str, Credentials | None] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_docker_config(
        cls, path: Path, environment: Mapping[str, str], further: "CredentialStore | None" = None
    ) -> "CredentialStore":
        """The store over the file at `path` and then `further`; without that file only the latter.

        Raises UsageError, StorageError.
        """
        if look_at(path) is None:
            return further or cls()
        config = strict_json.parse(read_bounded(path, MAX_CONFIG), str(path), UsageError)
        if not isinstance(config, dict):
            raise UsageError(f"{path}: not an object", hint="this file is written by `docker login`.")
        return cls(config, environment, further)

    def find(self, host: str, repository: str = "") -> Credentials | None:
        """What to log in to `host` (with its port, if any) with, or to `repository` there; None where none is known.

        Raises RegistryAccessError if a helper fails, UsageError if an entry is malformed.
        """
        with self._lock:
            key = (host, repository)
            if key not in self._found:
                self._found[key] = self._look_up(host, repository)
            return self._found[key]

    def _look_up(self, host: str, repository: str) -> Credentials | None:
        auths = _entry(self._config, "auths")
        # podman's entries for parts of a registry, the most specific first (containers-auth.json(5)).
        parts = repository.split("/") if repository else []
        names = ["/".join((host, *parts[:count])) for count in range(len(parts), 0, -1)]
        for found in (_from_entry(auths.get(name), name) for name in names):
            if found:
                return found
        return self._of_host(host, auths) or (self._further.find(host, repository) if self._further else None)

    def _of_host(self, host: str, auths: Mapping[str, Any]) -> Credentials | None:
        key = _HUB_KEY if host in _HUB_HOSTS else host
        helper = _entry(self._config, "credHelpers").get(key) or self._config.get("credsStore")
        if host in _HUB_HOSTS:
            helper = _entry(self._config, "credHelpers").get(DOCKER_HUB) or helper
        if helper:
            if key not in self._told:
                self._told[key] = ask_helper(str(helper), key, self._environment)
            if found := self._told[key]:
                return found
        # What stands under the very name comes before its older forms.
        for name in sorted(auths, key=lambda name: name != host):
            if _same_host(name, host) and (found := _from_entry(auths[name], host)):
                return found
        return None


def _entry(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    entry = config.get(name)
    return entry if isinstance(entry, dict) else {}


def _same_host(name: str, host: str) -> bool:
    """Whether an entry called `name` is for `host`: names may have a scheme and a version (`https://host/v1/`).

    One with another path is podman's for a part of the registry.
    """
    bare = re.sub(r"^https?://|(/v[12])?/?$", "", name)
    return bare == host or {bare, host} <= _HUB_HOSTS


def _from_entry(entry: Any, host: str) -> Credentials | None:
    if not isinstance(entry, dict):
        return None
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        try:
            plain = base64.b64decode(str(entry["auth"]), validate=True).decode()
        except (binascii.Error, ValueError):
            raise UsageError(f"docker configuration: the entry for {host} is not base64") from None
        username, _, password = plain.rstrip("\0").partition(":")
    token = str(entry.get("identitytoken") or "")
    if not token and not username:
        return None
    return Credentials(username, password, token)


def ask_helper(name: str, key: str, environment: Mapping[str, str]) -> Credentials | None:
    """What the helper `docker-credential-NAME` knows for `key`; None if it does not know the host.

    Raises RegistryAccessError if the helper is missing, fails, is slow, or talks nonsense.
    """
    program = f"docker-credential-{name}"
    if not _HELPER_NAME.fullmatch(name):
        raise RegistryAccessError(f"docker configuration: {name[:80]!r} cannot be the name of a credential helper")
    path = shutil.which(program, path=environment.get("PATH", ""))
    if path is None:
        raise RegistryAccessError(
            f"{program}: not found, but the docker configuration asks for it",
            hint="install the helper, or name the credentials in another way.",
        )
    status, output = _run(os.path.abspath(path), key, environment)  # noqa: PTH100 - no resolving of links
    if status != 0:
        # The protocol's way to say "unknown" is this sentence on stdout with exit status 1.
        if b"credentials not found" in output:
            return None
        raise RegistryAccessError(f"{program}: fails with status {status}", hint=f"try: echo {key} | {program} get")
    answer = strict_json.parse(output, f"{program}: answer", RegistryAccessError)
    if not isinstance(answer, dict):
        raise RegistryAccessError(f"{program}: the answer is not an object")
    username, secret = str(answer.get("Username") or ""), str(answer.get("Secret") or "")
    if not secret:
        return None
    # Credential helpers mark an identity token by this user name.
    return Credentials(identity_token=secret) if username == "<token>" else Credentials(username, secret)


def _run(path: str, text: str, environment: Mapping[str, str]) -> tuple[int, bytes]:
    """The exit status and bounded output of a helper. What it says on stderr is dropped: it may hold secrets."""
    try:
        process = subprocess.Popen(
            [path, "get"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environment),
            cwd="/",
        )
    except OSError as exc:
        raise RegistryAccessError(f"{path}: cannot be run: {exc.strerror}") from exc
    with process:
        try:
            _feed(cast("IO[bytes]", process.stdin), text)
            output = _drain(cast("IO[bytes]", process.stdout), HELPER_SECONDS, time.monotonic)
            return process.wait(timeout=HELPER_SECONDS), output
        except (TimeoutError, subprocess.TimeoutExpired):
            hint = f"does it wait for somebody? Try: echo {text} | {path} get"
            raise RegistryAccessError(f"{path}: no answer within {HELPER_SECONDS:.0f} s", hint=hint) from None
        finally:
            process.kill()


def _feed(stream: IO[bytes], text: str) -> None:
    try:
        with stream:
            stream.write(text.encode())
    except BrokenPipeError:
        # A helper need not read; its exit status says what is wrong.
        return


def _drain(stream: IO[bytes], seconds: float, clock: Callable[[], float]) -> bytes:
    """Everything up to the end of a pipe. Raises TimeoutError, and RegistryAccessError past MAX_ANSWER bytes."""
    end, count = clock() + seconds, 0
    parts: list[bytes] = []
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while count <= MAX_ANSWER:
            if not selector.select(max(end - clock(), 0)):
                raise TimeoutError
            part = os.read(stream.fileno(), MAX_ANSWER)
            if not part:
                return b"".join(parts)
            parts.append(part)
            count += len(part)
    raise RegistryAccessError(f"a credential helper says more than {MAX_ANSWER} bytes")

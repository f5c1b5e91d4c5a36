"""A real registry: the `registry` server of the CNCF distribution project, as Debian packages it (2.8).

    with Registry(folder) as registry:
        push(layout, f"{registry.address}/team/app:1.0")
        assert any(access.method == "PUT" for access in registry.accesses())

Configuration: https://distribution.github.io/distribution/about/configuration/ (2.8 and 3 read the same file).
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import bcrypt

from tests.parts import process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

DEBIAN_PROGRAM = "docker-registry"
START_SECONDS = 20.0
LISTENING = re.compile(r"listening on ([0-9a-f.:\[\]]+):(\d+)\b")
# Apache's "combined" format, as gorilla/handlers writes it.
ACCESS = re.compile(
    r'^(?P<client>\S+) \S+ \S+ \[[^\]]+\] "(?P<method>[A-Z]+) (?P<path>[^ ?]+)(?:\?(?P<query>\S*))? [^"]*" '
    r'(?P<status>\d{3}) (?P<size>\d+) "[^"]*" "(?P<agent>[^"]*)"'
)


@dataclass(frozen=True)
class Certificate:
    """A server certificate and its private key, both PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Access:
    """One line of the access log; `size` counts the bytes of the answer's body."""

    client: str
    method: str
    path: str
    query: str
    status: int
    size: int
    agent: str


class Registry:
    """A registry process with a folder of its own; starts in `start` or `with`, ends in `stop`.

    `folder` gets the configuration, the logs and the blobs, unless `logs` or `storage` name other folders. Stopped
    and started again it keeps its content and its address. `users` (name → password) switches basic authentication
    on, `tls` switches from HTTP to HTTPS. `prefix` is put before the command, for example to enter a network
    namespace, and `env` is added to the few variables it sees. `program` may be another build of the same server.
    `settings` replaces whole sections of its configuration.
    """

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        users: Mapping[str, str] | None = None,
        tls: Certificate | None = None,
        delete: bool = True,
        read_only: bool = False,
        storage: Path | None = None,
        logs: Path | None = None,
        program: str | Path = DEBIAN_PROGRAM,
        prefix: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.host = host
        self.port = port
        self.users = dict(users or {})
        self.tls = tls
        self.delete = delete
        self.read_only = read_only
        self.storage = storage or folder / "storage"
        self.program = str(program)
        self.prefix = list(prefix)
        self.env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "OTEL_TRACES_EXPORTER": "none", **(env or {})}
        self.settings = dict(settings or {})
        self.access_log = (logs or folder) / "access.log"
        self.server_log = (logs or folder) / "server.log"
        self.process: process.Process | None = None

    @property
    def address(self) -> str:
        """`HOST:PORT`; the port is known once the registry has been started."""
        if not self.port:
            raise RuntimeError("the registry has not been started yet")
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """`http://HOST:PORT` or `https://HOST:PORT`."""
        return f"{'https' if self.tls else 'http'}://{self.address}"

    def start(self) -> Registry:
        """Start and return when it listens. Raises RuntimeError with the end of its log when it does not."""
        if self.process is not None and self.process.alive():
            raise RuntimeError(f"the registry at {self.address} runs already")
        for path in (self.folder, self.storage, self.access_log.parent):
            path.mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "config.json"
        # JSON is YAML, which is what the server reads.
        configuration.write_text(json.dumps(self._configuration(), indent=1))
        already_logged = self.server_log.stat().st_size if self.server_log.exists() else 0
        self.process = process.start(
            [*self.prefix, self.program, "serve", str(configuration)],
            stdout=self.access_log,
            stderr=self.server_log,
            env=self.env,
        )
        if not process.wait_until(lambda: self._settled(already_logged), START_SECONDS):
            self.stop()
            raise RuntimeError(f"the registry did not start: {self._log(already_logged)[-2000:]}")
        listening = LISTENING.search(self._log(already_logged))
        if listening is None:
            self.stop()
            raise RuntimeError(f"the registry ended at once: {self._log(already_logged)[-2000:]}")
        self.port = int(listening[2])
        return self

    def stop(self) -> None:
        """End the process; nothing happens when it does not run."""
        if self.process is not None:
            self.process.end()
            self.process = None

    def accesses(self) -> list[Access]:
        """What the registry answered so far, oldest first."""
        return read_accesses(self.access_log)

    def __enter__(self) -> Registry:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _configuration(self) -> dict[str, Any]:
        http: dict[str, Any] = {"addr": f"{self.host}:{self.port}", "secret": secrets.token_hex(16)}
        if self.tls is not None:
            http["tls"] = {"certificate": str(self.tls.certificate), "key": str(self.tls.key)}
        document: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.storage)},
                "delete": {"enabled": self.delete},
                "maintenance": {"uploadpurging": {"enabled": False}, "readonly": {"enabled": self.read_only}},
            },
            "http": http,
        }
        if self.users:
            path = self.folder / "htpasswd"
            # The server accepts bcrypt only; the cheapest cost keeps every authenticated request fast.
            salt = bcrypt.gensalt(rounds=4)
            path.write_bytes(
                b"".join(
                    name.encode() + b":" + bcrypt.hashpw(word.encode(), salt) + b"\n"
                    for name, word in self.users.items()
                )
            )
            document["auth"] = {"htpasswd": {"realm": "airferry tests", "path": str(path)}}
        return {**document, **self.settings}

    def _log(self, offset: int) -> str:
        with self.server_log.open("rb") as log:
            log.seek(offset)
            return log.read().decode(errors="replace")

    def _settled(self, offset: int) -> bool:
        assert self.process is not None
        return LISTENING.search(self._log(offset)) is not None or self.process.gone()


def read_accesses(log: Path) -> list[Access]:
    """The lines of a registry's access log, oldest first; none where there is no log yet."""
    if not log.exists():
        return []
    found = (ACCESS.match(line) for line in log.read_text().splitlines())
    return [
        Access(
            client=match["client"],
            method=match["method"],
            path=match["path"],
            query=match["query"] or "",
            status=int(match["status"]),
            size=int(match["size"]),
            agent=match["agent"],
        )
        for match in found
        if match is not None
    ]

"""A real Gitea, whose packages include a registry of containers: it wants a login for each push, by token or password.

It keeps what it holds in a database and a folder, and makes of each manifest a version of a package.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import urllib.request
from typing import TYPE_CHECKING, Self

from tests.parts import process
from tests.parts.go_programs import gitea

if TYPE_CHECKING:
    from pathlib import Path

USER = ("zoo", "right-horse-1")
START_SECONDS = 60.0
CONFIGURATION = """\
RUN_USER = {account}
WORK_PATH = {folder}
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {port}
ROOT_URL = http://127.0.0.1:{port}/
STATIC_ROOT_PATH = {static}
DISABLE_SSH = true
OFFLINE_MODE = true
[database]
DB_TYPE = sqlite3
PATH = {folder}/gitea.db
[security]
INSTALL_LOCK = true
SECRET_KEY = {secret}
[log]
MODE = console
[cron]
ENABLED = false
[indexer]
ISSUE_INDEXER_TYPE = db
[packages]
LIMIT_SIZE_CONTAINER = -1
"""


class Gitea:
    """A server with the account `USER` within `with`; `folder` takes all that it writes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as taken:
            # The addresses of its token server are made of the port in its configuration.
            self._port = taken.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"
        self._program, self._static = gitea()
        known = {"PATH": os.environ["PATH"], "HOME": str(folder), "USER": "root"}
        self._environment = {**known, "GITEA_I_AM_BEING_UNSAFE_RUNNING_AS_ROOT": "1"}

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        account = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        settings = {"account": account, "folder": self._folder, "port": self._port, "static": self._static}
        configuration = CONFIGURATION.format(**settings, secret=secrets.token_hex(16))
        (self._folder / "app.ini").write_text(configuration)
        self._do("migrate")
        name, word = USER
        create = ("admin", "user", "create", "--username", name, "--password", word, "--email", "zoo@example.com")
        self._do(*create, "--must-change-password=false")
        self._process = process.start(self._command("web"), stdout=self._log, env=self._environment)
        if not process.wait_until(lambda: self._answers() or self._process.gone(), START_SECONDS):
            self._process.end()
            raise RuntimeError(f"Gitea did not start: {self._log.read_text()[-2000:]}")
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.end()

    @property
    def _log(self) -> Path:
        return self._folder / "log.txt"

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://{self.address}/api/healthz", timeout=5).close()
        except OSError:
            return False
        return True

    def _command(self, *arguments: str) -> list[str]:
        return [str(self._program), "--config", str(self._folder / "app.ini"), *arguments]

    def _do(self, *arguments: str) -> None:
        done = subprocess.run(self._command(*arguments), env=self._environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"Gitea: {arguments[0]}: {done.stderr[-2000:]}{done.stdout[-2000:]}")

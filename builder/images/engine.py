"""Images that exist only in the local container engine. The only module that imports the docker SDK.

An engine does not keep what a registry would: `docker save` packs layers anew, so digests found here are generated
by this program and name no upstream content. Such an image can be carried, but nobody can compare it with a registry.
"""

import contextlib
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from installer.errors import NotFoundError, RegistryUnreachableError, StorageError
from installer.files import storage_error
from installer.oci.reference import DOCKER_HUB, TagRef, parse_reference

if TYPE_CHECKING:
    import tempfile

PROBE_SECONDS = 10.0


class Engine:
    """The local engine, reached when the first image is asked for; saved images lie in `folder` until `close`.

    `url` is the engine's address as in DOCKER_HOST; empty means docker's default socket.
    """

    def __init__(self, folder: Path, url: str = "") -> None:
        self._folder, self._url = folder, url or "unix:///var/run/docker.sock"
        self._spool: tempfile.TemporaryDirectory[str] | None = None
        self._saved: dict[str, Path] = {}
        self._lock = threading.Lock()

    def save(self, name: str) -> Path:
        """The image `name` as a docker archive; the file is gone after `close`.

        Raises NotFoundError, RegistryUnreachableError if no engine answers, StorageError.
        """
        with self._lock:
            if name not in self._saved:
                self._saved[name] = self._save(name)
            return self._saved[name]

    def _save(self, name: str) -> Path:
        import tempfile

        import docker
        import requests
        from docker.errors import APIError, DockerException, NotFound

        _probe(self._url)
        try:
            if self._spool is None:
                self._spool = tempfile.TemporaryDirectory(prefix=".airferry-engine-", dir=self._folder)
            path = Path(self._spool.name, f"{len(self._saved)}.tar")
            with contextlib.closing(docker.DockerClient(base_url=self._url)) as client, path.open("wb") as file:
                try:
                    for chunk in client.api.get_image(familiar(name)):
                        file.write(chunk)
                except APIError as exc:
                    if exc.response is not None:
                        exc.response.close()
                    raise
        except NotFound as exc:
            raise NotFoundError(
                f"the engine at {self._url} has no image {name}", hint="build or pull it, or name a registry's image."
            ) from exc
        except (DockerException, requests.RequestException) as exc:
            raise _silent(self._url, exc) from exc
        except OSError as exc:
            raise storage_error(exc, self._folder, "save an image of the engine") from exc
        return path

    def close(self) -> None:
        """Remove what was saved; closing again does nothing. Raises StorageError."""
        with self._lock:
            self._saved.clear()
            if self._spool is not None:
                try:
                    self._spool.cleanup()
                except OSError as exc:
                    raise StorageError(f"{self._spool.name}: cannot remove: {exc}", hint="remove it by hand.") from exc
                self._spool = None

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _probe(url: str) -> None:
    """Raises RegistryUnreachableError if nobody listens at a local socket.

    docker 7.2 would find out too, but forgets to close its own socket then.
    """
    if url.startswith("unix://"):
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(PROBE_SECONDS)
                probe.connect(url.removeprefix("unix://"))
        except OSError as exc:
            raise _silent(url, exc) from exc


def _silent(url: str, exc: Exception) -> RegistryUnreachableError:
    return RegistryUnreachableError(
        f"the engine at {url} does not answer: {' '.join(str(exc).split())[:300]}",
        hint="start it, or set DOCKER_HOST; images at a registry need no engine.",
    )


def familiar(name: str) -> str:
    """The name by which the engine's own interface knows an image: without docker.io and library."""
    reference = parse_reference(name)
    repository = reference.repository
    path = repository.path.removeprefix("library/") if repository.host == DOCKER_HUB else str(repository)
    return f"{path}:{reference.tag}" if isinstance(reference, TagRef) else f"{path}@{reference.digest}"

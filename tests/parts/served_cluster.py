"""A cluster in memory behind an API server of its own, for programs that only read.

with ServedCluster(FakeCluster(pod)) as served:
    served.write_kubeconfig(folder)
    served.closed.add("kube-system")                   # a namespace of which nothing may be listed
    served.changes                                     # requests that were no GET: each is refused
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from pathlib import Path

    from installer.cluster.kinds import Kind
    from tests.parts.fake_cluster import FakeCluster


class ServedCluster:
    """The server, on loopback. `lock` keeps its requests apart from what a test does meanwhile."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster, self.lock = cluster, threading.Lock()
        self.closed: set[str] = set()
        self.changes: list[str] = []
        self.lists = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"served": self}))

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def write_kubeconfig(self, folder: Path) -> Path:
        """How to reach it, as a file."""
        address = f"http://127.0.0.1:{self._server.server_address[1]}"
        config = {
            "current-context": "staging",
            "contexts": [{"name": "staging", "context": {"cluster": "staging"}}],
            "clusters": [{"name": "staging", "cluster": {"server": address}}],
        }
        path = folder / "kubeconfig"
        path.write_text(json.dumps(config))
        return path

    def answer(self, path: str) -> tuple[int, Any]:
        """Status and document for a GET of `path`."""
        kinds: list[Kind] = [
            self.cluster.kind(*text.rsplit("/", 1)) for text in self.cluster.api_versions() if text.count("/") == 2
        ]
        kinds += [self.cluster.kind("v1", text[3:]) for text in self.cluster.api_versions() if text.startswith("v1/")]
        if path == "/apis":
            groups = sorted({kind.api_version for kind in kinds if kind.group})
            return 200, {"groups": [{"versions": [{"groupVersion": text}]} for text in groups]}
        parts = path.strip("/").split("/")
        rest = parts[2:] if parts[0] == "api" else parts[3:]
        version = "/".join(parts[1 : len(parts) - len(rest)])
        if not rest:
            found = [kind for kind in kinds if kind.api_version == version]
            resources = [{"kind": kind.name, "name": kind.plural, "namespaced": kind.namespaced} for kind in found]
            return 200, {"resources": resources}
        namespace = rest[1] if rest[0] == "namespaces" and len(rest) == 3 else ""
        plural = rest[-1]
        if namespace in self.closed:
            said = f'{plural} is forbidden: User "me" cannot list resource "{plural}" in the namespace "{namespace}"'
            return 403, {"kind": "Status", "reason": "Forbidden", "message": said}
        kind = next(item for item in kinds if (item.api_version, item.plural) == (version, plural))
        self.lists += 1
        return 200, {"items": self.cluster.find(kind, namespace)}


class _Handler(BaseHTTPRequestHandler):
    served: ServedCluster
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        with self.served.lock:
            status, document = self.served.answer(urlsplit(self.path).path)
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """As for every method but GET."""
        self.served.changes.append(f"{self.command} {self.path}")
        super().send_error(code, message, explain)

    def log_message(self, *_: Any) -> None:
        pass

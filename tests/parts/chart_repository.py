"""Real charts: described as templates and values, packed and indexed by the real helm, served by a plain web server.

charts = ChartRepository(folder)
charts.add(web_chart())
with charts:
    ...  # http://127.0.0.1:PORT/index.yaml
"""

from __future__ import annotations

import functools
import http.server
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.parts.kubectl import tools

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType


@dataclass(frozen=True)
class ChartSource:
    """A chart before it is packed; `files` are further files, templates for instance, by their path in the chart."""

    name: str
    version: str
    values: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)


def pack(chart: ChartSource, folder: Path) -> Path:
    """The chart as `NAME-VERSION.tgz` in `folder`, packed by helm."""
    source = folder / f".{chart.name}-{chart.version}" / chart.name
    metadata = {"apiVersion": "v2", "name": chart.name, "version": chart.version, **chart.metadata}
    # JSON is YAML, which is what helm reads.
    files = {"Chart.yaml": json.dumps(metadata), "values.yaml": json.dumps(dict(chart.values)), **chart.files}
    for name, text in files.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    tools().run_helm("package", source, "--destination", folder, home=folder)
    return folder / f"{chart.name}-{chart.version}.tgz"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """A static file server that remembers what was asked for."""

    asked: list[str]

    def log_message(self, *args: object) -> None:
        self.asked.append(self.path)


class ChartRepository:
    """A chart repository in `folder` over HTTP; its index is made by helm. Starts in `start` or `with`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self._server: http.server.ThreadingHTTPServer | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        """The repository's address. Raises RuntimeError before it is started."""
        if self._server is None:
            raise RuntimeError("the repository has not been started yet")
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, chart: ChartSource) -> Path:
        """Pack `chart`, publish it, and write the index anew; the archive."""
        archive = pack(chart, self.folder)
        self.index()
        return archive

    def index(self) -> None:
        """Write `index.yaml` over all archives in the folder, with relative URLs."""
        tools().run_helm("repo", "index", self.folder, home=self.folder)

    def start(self) -> ChartRepository:
        """Serve the folder on a free port."""
        handler = type("Handler", (_Quiet,), {"asked": self.asked})
        self._server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(handler, directory=str(self.folder))
        )
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def stop(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> ChartRepository:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


WEB_TEMPLATE = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}-web", namespace: "{{ .Release.Namespace }}"}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      initContainers: [{name: prepare, image: "{{ .Values.init.image }}"}]
      containers: [{name: web, image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"}]
"""
CRON_TEMPLATE = """
apiVersion: batch/v1
kind: CronJob
metadata: {name: "{{ .Release.Name }}-tidy"}
spec:
  schedule: "0 3 * * *"
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [
    {name: tidy, image: "{{ .Values.job.image }}", args: ["--agent-image={{ .Values.agent }}"]}]}}}}
"""
HOOK_TEMPLATE = """
{{- if .Release.IsUpgrade }}
apiVersion: batch/v1
kind: Job
metadata: {name: "{{ .Release.Name }}-migrate", annotations: {helm.sh/hook: "pre-upgrade,post-upgrade"}}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: migrate, image: "{{ .Values.job.image }}"}]}}}
{{- end }}
"""
TEMPLATES = {"web": WEB_TEMPLATE, "cron": CRON_TEMPLATE, "hook": HOOK_TEMPLATE}


def web_chart(registry: str, *, name: str = "web", version: str = "1.2.3") -> ChartSource:
    """A chart whose images are at `registry`: `team/web:1.0`, `team/init:1.0`, `team/job:1.0` and `team/agent:1.0`.

    The job is used by a cron job and by a hook of upgrades; the agent stands in an argument only.
    """
    return ChartSource(
        name,
        version,
        values={
            "image": {"repository": f"{registry}/team/web", "tag": "1.0"},
            "init": {"image": f"{registry}/team/init:1.0"},
            "job": {"image": f"{registry}/team/job:1.0"},
            "agent": f"{registry}/team/agent:1.0",
        },
        files={f"templates/{kind}.yaml": text for kind, text in TEMPLATES.items()},
    )

"""Charts as a Helm repository: an index with relative URLs, and the archives beside it."""

import json
from collections.abc import Iterable
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from installer.bundle.manifest import BundleChart
from installer.bundle.reader import Bundle
from installer.chart.bundled import chart_of
from installer.serving.answer import Answer, Refusal, parted


class ChartRepository:
    """Some charts of a bundle as a Helm repository below `/charts/`, and nothing else. Pure: no sockets."""

    def __init__(self, bundle: Bundle, charts: Iterable[BundleChart]) -> None:
        self._bundle, self._charts = bundle, tuple(charts)

    def find(self, target: str) -> Answer | Refusal:
        """See `Findable`."""
        path = unquote(parted(target)[0])
        found = self._files.get(path.removeprefix("/charts/")) if path.startswith("/charts/") else None
        return found or Refusal(HTTPStatus.NOT_FOUND, "NOT_FOUND", path)

    @cached_property
    def _files(self) -> dict[str, Answer]:
        """By name. The index is JSON, which is YAML that Helm reads faster and stricter."""
        files: dict[str, Answer] = {}
        entries: dict[str, list[dict[str, Any]]] = {}
        for chart in self._charts:
            blob = self._bundle.blob(chart.archive)
            files[chart.file_name] = Answer("application/gzip", blob.size, chart.archive)
            entry = {
                **chart_of(self._bundle, chart).metadata,
                "created": self._bundle.manifest.created,
                "digest": chart.archive.hex,
                "urls": [chart.file_name],
            }
            entries.setdefault(chart.name, []).append(entry)
        index = {"apiVersion": "v1", "entries": entries, "generated": self._bundle.manifest.created}
        files["index.yaml"] = Answer.of(json.dumps(index).encode())
        return files

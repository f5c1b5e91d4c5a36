"""Small charts for tests, packed on the spot; the same description always gives the same bytes.

`demo-app` is an ordinary application, `demo-platform` is built like a large platform, and `traps` holds the ways of
spelling an image that a careless search misses. Their images are `docker.io/demo/...`, which tests provide.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from installer.chart.retarget import merged
from installer.errors import ContentError
from installer.strict_yaml import load_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

CHARTS = Path(__file__).with_name("charts")
APP_IMAGES = ("docker.io/demo/httpd:1.0", "docker.io/demo/tools:1.0")
PLATFORM_IMAGES = (
    "docker.io/demo/cache:1.0",
    "docker.io/demo/httpd:1.0",
    "docker.io/demo/renew:1.0",
    "docker.io/demo/tools:1.0",
    "docker.io/demo/worker:1.0",
)


def package(
    folder: str | Path,
    *,
    version: str = "",
    values: Mapping[str, Any] | None = None,
    files: Mapping[str, str] | None = None,
) -> bytes:
    """The chart in `folder` (a name below `CHARTS`, or a path) as a `.tgz`.

    `version` replaces the chart's own, `values` are merged into its values.yaml, `files` are added or replaced, their
    names relative to the chart.
    """
    root = CHARTS / folder
    content = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    content |= {name: text.encode() for name, text in (files or {}).items()}
    metadata = load_yaml(content["Chart.yaml"], "Chart.yaml", ContentError)
    if version:
        content["Chart.yaml"] = json.dumps({**metadata, "version": version}).encode()
    if values:
        defaults = load_yaml(content.get("values.yaml", b"{}"), "values.yaml", ContentError)
        content["values.yaml"] = json.dumps(merged(defaults, values)).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        # Helm wants Chart.yaml to come first.
        for name in sorted(content, key=lambda name: (name != "Chart.yaml", name)):
            member = tarfile.TarInfo(f"{metadata['name']}/{name}")
            member.size, member.mode = len(content[name]), 0o644
            archive.addfile(member, io.BytesIO(content[name]))
    return gzip.compress(packed.getvalue(), mtime=0)

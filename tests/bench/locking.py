"""What `lock` costs for charts of others, beside one rendering of each by `helm template`.

    AIRFERRY_TEST_CHARTS=FOLDER python -m tests.bench.locking [--runs 5] [--charts 5] [--write docs/performance.md]

Measured are the charts of the folder that cost `helm template` most. A registry on loopback answers every name with one
tiny image. Processor time is that of all processes: `lock` renders in some of its own, `helm` on several processors.
"""

import argparse
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.recipe.lock import Lock
from installer.chart.helm import Chart
from installer.oci import media_types
from installer.oci.digest import Digest
from tests.bench.measure import Run, median, run, turns
from tests.bench.page import machine, put, table
from tests.bench.workspace import workspace
from tests.conftest import CHARTS
from tests.parts.go_programs import go_program

ROOT = Path(__file__).parents[2]
KUBERNETES = {"from": "1.31", "to": "1.34"}
CONFIG = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": {"mediaType": media_types.OCI_CONFIG, "digest": Digest.of(CONFIG).text, "size": len(CONFIG)},
        "layers": [],
    }
).encode()
_ENV = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT)}


@dataclass(frozen=True)
class Point:
    """The figures of one chart."""

    chart: str
    renderings: int
    images: int
    lock: Run
    template: Run

    @property
    def ratio(self) -> float:
        """Processor time of `lock` by that of `helm template`."""
        return self.lock.cpu / self.template.cpu


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        blob = "/blobs/" in self.path
        content = CONFIG if blob else MANIFEST
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream" if blob else media_types.OCI_MANIFEST)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Docker-Content-Digest", Digest.of(content).text)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET  # noqa: N815 - the name is that of the base class

    def log_message(self, *_: Any) -> None:
        return


@contextmanager
def _registry() -> Iterator[str]:
    """The address of a registry that has everything, within `with`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def measure(archive: Path, runs: int, registry: str) -> Point:
    """The figures of the chart in `archive`."""
    with workspace(Path("/dev/shm")) as folder:
        shutil.copy(archive, folder)
        chart = Chart.load(archive.read_bytes())
        entry = {"name": chart.name, "path": archive.name}
        recipe: dict[str, Any] = {"name": "chart", "version": "1", "kubernetes": KUBERNETES, "charts": [entry]}
        recipe["suspected"] = "note"
        (folder / "recipe.yaml").write_text(json.dumps(recipe))
        asked = [sys.executable, "-m", "builder", "list", "--quiet", "--output", "json"]
        done = subprocess.run(asked, env=_ENV, cwd=folder, check=True, stdout=subprocess.PIPE)
        images = [item["image"] for item in json.loads(done.stdout)["images"]]
        recipe["registries"] = {image.partition("/")[0]: {"mirror": registry} for image in images}
        (folder / "recipe.yaml").write_text(json.dumps(recipe))
        commands = {
            "lock": [sys.executable, "-m", "builder", "lock"],
            "template": _template(archive),
        }
        found: dict[str, list[Run]] = {name: [] for name in commands}
        renderings = 0
        for turn in turns(runs):
            for name, command in commands.items():
                (folder / "airferry.lock").unlink(missing_ok=True)
                done_once = run(command, env={**_ENV, "HOME": str(folder)}, log=folder / "log.txt", cwd=folder)
                found[name] += [done_once] if turn else []
                if name == "lock":
                    renderings = _renderings(folder / "airferry.lock")
    return Point(archive.stem, renderings, len(images), **{name: median(each) for name, each in found.items()})


def _template(archive: Path) -> list[str]:
    return [str(go_program("helm")), "template", "release", str(archive), "--include-crds"]


def _renderings(lock: Path) -> int:
    """How often the lock's proof says that the chart was rendered."""
    read = Lock.load(lock)
    [proof] = [item.digest for item in read.documents if item.kind == "proof"]
    content = json.loads(read.blobs_by_digest()[proof].content)
    return sum(len(chart["renderings"]) for chart in content["charts"])


def dearest(folder: Path, count: int) -> list[Path]:
    """The archives in `folder` that cost `helm template` most.

    What it refuses without values is left out, what is for other versions of Kubernetes, and what names images by
    digests, which no registry can make up.
    """
    costs: dict[Path, float] = {}
    with workspace(Path("/dev/shm")) as place:
        for archive in sorted(folder.glob("*.tgz")):
            if not all(Chart.load(archive.read_bytes()).accepts(f"{version}.0") for version in KUBERNETES.values()):
                continue
            try:
                done = run(_template(archive), env={"HOME": str(place)}, log=place / "log.txt", cwd=place)
            except RuntimeError:
                continue
            if b"@sha256:" not in (place / "log.txt").read_bytes():
                costs[archive] = done.cpu
    return sorted(costs, key=lambda archive: -costs[archive])[:count]


def report(points: list[Point], runs: int) -> str:
    """The figures as a part of the page."""
    header = ["chart", "images", "renderings", "lock, CPU s", "lock, s", "helm template, CPU s", "lock takes"]
    rows = [
        [
            point.chart,
            str(point.images),
            str(point.renderings),
            f"{point.lock.cpu:.2f}",
            f"{point.lock.wall:.2f}",
            f"{point.template.cpu:.2f}",
            f"{point.ratio:.1f} times",
        ]
        for point in points
    ]
    told = (
        f"For Kubernetes {KUBERNETES['from']} to {KUBERNETES['to']}, from a registry on loopback that has every image; "
        f"medians of {runs} runs, {machine()}. `helm template` renders once."
    )
    return "\n".join(["## What charts cost", "", told, "", table(header, rows)])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--charts", type=int, default=5)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--write", type=Path, help="the page of figures")
    arguments = parser.parse_args()
    if not (folder := os.environ.get(CHARTS)):
        sys.stderr.write(f"the cost of charts is not measured: {CHARTS} names no folder with charts\n")
        return
    points = []
    with _registry() as registry:
        for archive in dearest(Path(folder).resolve(strict=True), arguments.charts):
            points.append(measure(archive, arguments.runs, registry))
            sys.stderr.write(f"{points[-1]}\n")
    text = report(points, arguments.runs)
    sys.stdout.write(text + "\n")
    if arguments.write:
        put(arguments.write, "charts", text)


if __name__ == "__main__":
    main()

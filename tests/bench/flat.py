"""What a bundle costs before its first byte is moved, by the number of its images: it must not cost each one more.

    python -m tests.bench.flat [--images 1000] [--runs 3] [--write docs/performance.md]

Bundles of 200 MB an image, 20 blobs each, a volume for twenty images, 200 GB for the largest; their payload is holes
(`tests.bench.synthetic`). `plan` reads a lock and lays the volumes out, `inspect` opens them all, `load` is measured
until its first request reaches a registry, and until it has found that the registry holds everything.
"""

import argparse
import http.server
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.recipe.lock import Lock
from tests.bench import synthetic
from tests.bench.measure import Run, median, run, turns
from tests.bench.page import put, table
from tests.bench.workspace import workspace

ROOT = Path(__file__).parents[2]
IMAGE_BYTES = 200_000_000
IMAGES_A_VOLUME = 20
STEPS = 4


@dataclass(frozen=True)
class Point:
    """The figures for one size: `first` are seconds until the first request of `load`."""

    images: int
    blobs: int
    volumes: int
    size: int
    plan: Run
    inspect: Run
    load: Run
    first: float


class Full:
    """A registry that has everything: it answers HEAD for each image of a lock, and notes when it was first asked."""

    def __init__(self, lock: Lock) -> None:
        self.digests = {
            (str(image.in_bundle().reference.repository.path), image.in_bundle().tag): image for image in lock.images
        }
        self.first = 0.0

    @contextmanager
    def served(self) -> Iterator[str]:
        """Its address, within `with`."""
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                registry.first = registry.first or time.perf_counter()
                match = re.fullmatch(r"/v2/registry\.example/(.+)/manifests/(.+)", self.path)
                image = registry.digests[match[1], match[2]] if match else None
                self.send_response(200 if image else 404)
                self.send_header("Content-Length", str(image.size if image else 0))
                self.send_header("Content-Type", image.media_type if image else "")
                self.send_header("Docker-Content-Digest", image.digest.text if image else "")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()


def measure(images: int, runs: int) -> Point:
    """The figures of a bundle of `images` images."""
    lock = synthetic.lock(images, images * IMAGE_BYTES)
    volumes = max(images // IMAGES_A_VOLUME, 1)
    planned = synthetic.planned(lock, volumes)
    registry = Full(lock)
    with workspace(Path("/dev/shm")) as folder, registry.served() as address:
        lock.save(folder / "airferry.lock")
        (folder / "volumes").mkdir()
        sums = synthetic.write(planned, folder / "volumes")
        bundle = ["--bundle", "volumes", "--sums", sums.hex]
        commands = {
            "plan": ["builder", "plan", "airferry.lock", "--volume-size", _size(planned.volume_sizes)],
            "inspect": ["installer", "inspect", *bundle],
            "load": ["installer", "load", *bundle, "--registry", address, "--plain-http", "--project", ""],
        }
        found: dict[str, list[Run]] = {stage: [] for stage in commands}
        firsts = []
        for turn in turns(runs):
            for stage, command in commands.items():
                registry.first, start = 0.0, time.perf_counter()
                done = run([sys.executable, "-m", *command], env=_ENV, log=folder / "log.txt", cwd=folder)
                if turn:
                    found[stage].append(done)
                    firsts += [registry.first - start] if stage == "load" else []
    size = sum(planned.volume_sizes)
    results = {stage: median(runs) for stage, runs in found.items()}
    return Point(images, len(lock.blobs), len(planned.volume_sizes), size, **results, first=sorted(firsts)[runs // 2])


_ENV = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT)}


def _size(volumes: Sequence[int]) -> str:
    """What to say to `plan` for volumes like these."""
    return f"{-(-max(volumes) // 1_000_000)}MB" if len(volumes) > 1 else "1"


LINES: dict[str, tuple[str, Callable[[Point], float]]] = {
    "plan": ("#0b6e99", lambda point: point.plan.wall),
    "inspect": ("#c4542b", lambda point: point.inspect.wall),
    "load, first request": ("#3f7d3a", lambda point: point.first),
    "load, all present": ("#7a4a9c", lambda point: point.load.wall),
}
WIDTH, HEIGHT, LEFT, BOTTOM = 640, 360, 60, 50
FONT = 'font-family="sans-serif" font-size="12"'


def plot(points: Sequence[Point]) -> str:
    """Seconds by images, as SVG: what is flat for each image is a straight line here."""
    right = max(point.images for point in points)
    top = max(value(point) for point in points for _, value in LINES.values()) * 1.1

    def place(images: float, seconds: float) -> str:
        x = LEFT + images / right * (WIDTH - LEFT - 150)
        return f"{x:.1f},{HEIGHT - BOTTOM - seconds / top * (HEIGHT - BOTTOM - 20):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for mark in range(5):
        seconds = top * mark / 4
        (x, y), (end, _) = (place(at, seconds).split(",") for at in (0, right))
        parts.append(f'<line x1="{x}" y1="{y}" x2="{end}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{float(y) + 4}" text-anchor="end">{seconds:.2f} s</text>')
    for point in points:
        x = place(point.images, 0).split(",")[0]
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{point.images}</text>')
    parts.append(f'<text x="{(WIDTH - 90) / 2}" y="{HEIGHT - 10}" text-anchor="middle">images</text>')
    lowest = float(HEIGHT)
    for name, (color, value) in sorted(LINES.items(), key=lambda line: line[1][1](points[-1])):
        spots = " ".join(place(point.images, value(point)) for point in points)
        parts.append(f'<polyline points="{spots}" fill="none" stroke="{color}" stroke-width="2"/>')
        x, y = place(points[-1].images, value(points[-1])).split(",")
        # Names of lines that end close together stand above each other.
        lowest = min(float(y) + 4, lowest - 14)
        parts.append(f'<text x="{float(x) + 8}" y="{lowest:.1f}" fill="{color}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def report(points: Sequence[Point], runs: int) -> str:
    """The figures as a part of the page."""
    header = ["images", "blobs", "volumes", "GB", "plan", "inspect", "load, first request", "load, all present"]
    rows = [
        [
            str(point.images),
            str(point.blobs),
            str(point.volumes),
            f"{point.size / 1e9:.0f}",
            f"{point.plan.wall:.2f}",
            f"{point.inspect.wall:.2f}",
            f"{point.first:.2f}",
            f"{point.load.wall:.2f}",
            f"{max(point.plan.memory, point.inspect.memory, point.load.memory):.0f}",
        ]
        for point in points
    ]
    last, half = points[-1], points[-2]
    more = last.images - half.images
    each = [(name, (value(last) - value(half)) / more * 1000) for name, (_, value) in LINES.items()]
    return "\n".join(
        [
            "## What size costs",
            "",
            (
                f"Bundles of declared size, payload of holes; seconds by the clock, medians of {runs} runs. Each"
                f" further image costs {', '.join(f'{name} {cost:.1f} ms' for name, cost in each)}."
            ),
            "",
            table([*header, "memory MiB"], rows),
            "",
            "![Seconds by images](performance-size.svg)",
        ]
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000, help="of the largest bundle")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", type=Path, help="the page of figures; the plot is written beside it")
    arguments = parser.parse_args()
    points = []
    for step in range(STEPS):
        points.append(measure(arguments.images >> (STEPS - 1 - step), arguments.runs))
        sys.stderr.write(f"{points[-1]}\n")
    text = report(points, arguments.runs)
    sys.stdout.write(text + "\n")
    if arguments.write:
        put(arguments.write, "size", text)
        arguments.write.with_name("performance-size.svg").write_text(plot(points))


if __name__ == "__main__":
    main()

"""Registry → bundle → registry, side by side with other programs on the same bytes.

    python -m tests.bench.transfer [--scale 0.1] [--runs 3] [--write docs/performance.md]

Every figure is the median of runs that alternate between the programs. The source is Debian's registry on disk with a
warm page cache, the target the distribution project's version 3 on tmpfs, emptied before each run; both share the
processors with the program that is measured.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import fixture
from tests.bench.measure import Run, median, run
from tests.parts.go_programs import FOLDER, go_program
from tests.parts.registry import Registry

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "airferry"


@dataclass(frozen=True)
class Contender:
    """A program: the commands of one stage, and what must be done before, unmeasured."""

    name: str
    command: Sequence[str]
    before: Callable[[], object]


@dataclass
class Bench:
    """The registries, the folders, and the figures so far."""

    work: Path
    memory: Path
    source: Registry
    scale: float
    runs: int
    figures: dict[str, dict[str, Run]] = field(default_factory=dict)
    target: Registry | None = None

    def stage(self, name: str, contenders: Sequence[Contender]) -> None:
        """Run the contenders in turn, `runs` times after one that is not counted."""
        found: dict[str, list[Run]] = {each.name: [] for each in contenders}
        for turn in range(self.runs + 1):
            for contender in contenders:
                contender.before()
                os.sync()
                _touch_memory(int(6e9 * self.scale))
                done = run(contender.command, env=self.env(), log=self.work / "log.txt", cwd=self.work)
                if turn:
                    found[contender.name].append(done)
        self.figures[name] = {each: median(runs) for each, runs in found.items()}
        for each, figures in self.figures[name].items():
            sys.stderr.write(f"{name:8} {each:36} {figures}\n")

    def env(self) -> dict[str, str]:
        """Little, and the same for all; commands find their registries and folders in it."""
        target = self.target.address if self.target else ""
        return {
            "PATH": f"{FOLDER}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.work),
            "PYTHONPATH": str(ROOT),
            "SOURCE": self.source.address,
            "TARGET": target,
            "NAMES": " ".join(name.partition("/")[2] for name in fixture.names("x")),
        }

    def clear(self, *names: str) -> None:
        """Remove files and folders of an earlier run."""
        for name in names:
            path = self.work / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def empty_target(self) -> None:
        """A fresh target registry."""
        if self.target:
            self.target.stop()
        folder = self.memory / "target"
        shutil.rmtree(folder, ignore_errors=True)
        self.target = Registry(folder, program=go_program("registry"))
        self.target.start()


def _touch_memory(count: int) -> None:
    """Have the machine own `count` bytes of free memory.

    A virtual machine that gives free pages back to its host pays for each one again when it is next written, several
    times the cost of writing it, and the program that happens to run first would pay for all.
    """
    script = f"b = bytearray({count})\nfor i in range(0, len(b), 4096): b[i] = 1"
    subprocess.run([sys.executable, "-I", "-S", "-c", script], check=True)


def _shell(script: str) -> list[str]:
    return ["bash", "-ec", script]


def _source(scale: float) -> Registry:
    """The filled source registry, made once."""
    folder = CACHE / "bench" / f"source-{scale:g}"
    registry = Registry(folder).start()
    if not (folder / "filled").exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as layouts:
            fixture.fill(registry, Path(layouts), scale)
        (folder / "filled").touch()
    for path in (folder / "storage").rglob("data"):
        path.read_bytes()
    return registry


def measure(bench: Bench) -> None:
    """All stages."""
    python = [sys.executable, "-m"]
    recipe = {
        "name": "bench",
        "version": "1.0",
        "platforms": ["linux/amd64", "linux/arm64"],
        "created": "2026-01-01T00:00:00Z",
    }
    recipe["images"] = fixture.names(bench.source.address)
    (bench.work / "recipe.yaml").write_text(json.dumps(recipe))
    run([*python, "builder", "lock", "recipe.yaml"], env=bench.env(), log=bench.work / "log.txt", cwd=bench.work)
    build = [*python, "builder", "build", "airferry.lock", "-o", "a.tar"]
    bench.stage(
        "build",
        [
            Contender("airferry", [*build, "--no-sync"], lambda: bench.clear("a.tar")),
            Contender(
                "crane pull --format=oci, tar",
                _shell(
                    "crane pull --insecure --format=oci $(for n in $NAMES; do echo $SOURCE/$n; done) crane;"
                    " tar -cf c.tar crane"
                ),
                lambda: bench.clear("crane", "c.tar"),
            ),
            Contender(
                "skopeo copy oci:, tar",
                _shell(
                    "for n in $NAMES; do skopeo --insecure-policy copy -q --all --src-tls-verify=false"
                    " docker://$SOURCE/$n oci:skopeo:$n; done; tar -cf s.tar skopeo"
                ),
                lambda: bench.clear("skopeo", "s.tar"),
            ),
            Contender("airferry, on the disk and read back", build, lambda: bench.clear("a.tar")),
        ],
    )
    sums = hashlib.sha256(
        subprocess.run(["tar", "-xOf", bench.work / "a.tar", "SHA256SUMS"], capture_output=True, check=True).stdout
    ).hexdigest()
    bundle = ["--bundle", "a.tar", "--sums", sums]
    bench.stage(
        "verify",
        [
            Contender("airferry", [*python, "installer", "verify", *bundle], lambda: None),
            Contender("openssl dgst -sha256", ["openssl", "dgst", "-sha256", "a.tar"], lambda: None),
        ],
    )
    bench.clear("crane")
    one_by_one = "for n in $NAMES; do crane pull --insecure --format=oci $SOURCE/$n each/$n; done"
    run(
        _shell(f"mkdir -p each/bench; {one_by_one}; tar -cf e.tar each; rm -rf each"),
        env=bench.env(),
        log=bench.work / "log.txt",
        cwd=bench.work,
    )
    bench.empty_target()
    load = _shell(
        f"exec {sys.executable} -m installer load {' '.join(bundle)} --registry $TARGET --plain-http --project ''"
    )

    def prepare() -> None:
        bench.clear("each", "skopeo")
        bench.empty_target()

    bench.stage(
        "load",
        [
            Contender("airferry", load, prepare),
            Contender(
                "tar, crane push (each image)",
                _shell("tar -xf e.tar; for n in $NAMES; do crane push --insecure each/$n $TARGET/$n; done"),
                prepare,
            ),
            Contender(
                "tar, skopeo copy oci:",
                _shell(
                    "tar -xf s.tar; for n in $NAMES; do skopeo --insecure-policy copy -q --all --dest-tls-verify=false"
                    " oci:skopeo:$n docker://$TARGET/$n; done"
                ),
                prepare,
            ),
        ],
    )
    bench.empty_target()
    run(load, env=bench.env(), log=bench.work / "log.txt", cwd=bench.work)
    bench.stage("again", [Contender("airferry", load, lambda: None)])


def report(bench: Bench) -> str:
    """The figures as a page."""
    size = (bench.work / "a.tar").stat().st_size
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "",
    )
    lines = [
        "# Performance",
        "",
        "Made by `make bench`; not edited by hand.",
        "",
        (
            f"{size / 1e6:.0f} MB in 8 images (43 blobs), {os.cpu_count()} processors ({cpu}), Linux "
            f"{platform.release()}, Python {platform.python_version()}. Medians of {bench.runs} runs that alternate "
            "between the programs; source Debian's docker-registry on disk, target distribution v3 on tmpfs, both on "
            "the same processors. No program but airferry waits until the disk has what it wrote and reads it back; so "
            "airferry is compared without that (`build --no-sync`), and its default stands in a line of its own."
        ),
    ]
    titles = {
        "build": "From a registry into one archive",
        "verify": "Is the archive whole?",
        "load": "From the archive into an empty registry",
        "again": "Into a registry that has it all",
    }
    for stage, figures in bench.figures.items():
        ours = figures["airferry"]
        lines += [
            "",
            f"## {titles[stage]}",
            "",
            "| program | seconds | airferry takes | CPU s | memory MiB | written MB |",
            "|---|---|---|---|---|---|",
        ]
        for name, each in figures.items():
            ratio = "" if name == "airferry" else f"{ours.wall / each.wall:.2f} times"
            lines.append(
                f"| {name} | {each.wall:.2f} | {ratio} | {each.cpu:.2f} | {each.memory:.0f} | {each.written:.0f} |"
            )
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="size of the images, 1.0 is 2 GB")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", type=Path, help="file for the page")
    arguments = parser.parse_args()
    (CACHE / "bench").mkdir(parents=True, exist_ok=True)
    go_program("crane")
    source = _source(arguments.scale)
    bench: Bench | None = None
    try:
        with (
            tempfile.TemporaryDirectory(dir=CACHE / "bench") as work,
            tempfile.TemporaryDirectory(dir="/dev/shm") as memory,
        ):
            bench = Bench(Path(work), Path(memory), source, arguments.scale, arguments.runs)
            measure(bench)
            page = report(bench)
    finally:
        source.stop()
        if bench is not None and bench.target is not None:
            bench.target.stop()
    sys.stdout.write(page)
    if arguments.write:
        arguments.write.write_text(page)


if __name__ == "__main__":
    main()

"""Registry → bundle → registry, side by side with every other program on PATH, on the same bytes.

    python -m tests.bench.transfer [--scale 0.1] [--runs 3] [--write docs/performance.md]

airferry runs beside each program with which it is closely compared, now before it and now after it, and what it takes
of that one's time is the median of the pairs, since machines are not equally fast at all times. All else are medians of
runs.

The source is Debian's registry on disk, the target the distribution project's version 3 on tmpfs, emptied before each
run; both share the processors with the program that is measured. What is read is in the page cache, and nothing else.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from installer.files import forget
from tests.bench import fixture, peers
from tests.bench.measure import Run, median, run, turns
from tests.bench.page import machine, put, table
from tests.bench.peers import Peer
from tests.bench.workspace import workspace
from tests.parts.go_programs import FOLDER, go_program
from tests.parts.registry import Registry

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "airferry"
AIRFERRY, DURABLE, CURL, OPENSSL = "airferry", "airferry, on the disk and read back", "curl, four at a time", "openssl"
FEW = 2
"""Runs at most of a program with which airferry is not closely compared."""


@dataclass(frozen=True)
class Contender:
    """A program: its command in one stage, what must be done before, unmeasured, and which files it reads."""

    name: str
    command: Sequence[str]
    before: Callable[[], object]
    reads: Sequence[Path | str] = ()
    close: bool = True


@dataclass
class Bench:
    """The registries, the folders, and the figures so far."""

    work: Path
    memory: Path
    source: Registry
    scale: float
    runs: int
    figures: dict[str, dict[str, Run]] = field(default_factory=dict)
    ratios: dict[str, dict[str, float]] = field(default_factory=dict)
    """By stage and program: how many times its seconds the first one takes."""
    target: Registry | None = None

    @property
    def path(self) -> str:
        """Where programs are found: on the caller's PATH, and those that are always built."""
        return f"{os.environ.get('PATH', '')}:{FOLDER}"

    @property
    def few(self) -> int:
        """Runs of programs with which airferry is not closely compared."""
        return min(self.runs, FEW)

    def stage(self, name: str, contenders: Sequence[Contender]) -> None:
        """Run the first contender beside each close one, in turns (`measure.turns`); then the others, less often."""
        ours, *others = contenders
        close = [each for each in others if each.close] or [ours]
        pairs: dict[str, list[tuple[Run, Run]]] = {each.name: [] for each in close}
        for turn in turns(self.runs):
            for other in close:
                # Who comes second meets the traces of the first, and the other way round in the next turn.
                found = {each.name: self._once(each) for each in ((ours, other) if turn % 2 else (other, ours))}
                pairs[other.name] += [(found[ours.name], found[other.name])] if turn else []
        runs = {each: [theirs for _, theirs in found] for each, found in pairs.items()}
        runs[ours.name] = [mine for found in pairs.values() for mine, _ in found]
        for other in (each for each in others if not each.close):
            runs[other.name] = [self._once(other) for _ in range(self.few)]
        self.figures[name] = {each.name: median(runs[each.name]) for each in contenders}
        seconds = self.figures[name][ours.name].wall
        self.ratios[name] = {each: seconds / figures.wall for each, figures in self.figures[name].items()} | {
            each: statistics.median(mine.wall / theirs.wall for mine, theirs in found) for each, found in pairs.items()
        }
        for each, figures in self.figures[name].items():
            sys.stderr.write(f"{name:8} {each:36} {figures}\n")

    def _once(self, contender: Contender) -> Run:
        contender.before()
        os.sync()
        # The products of all programs together would fill the page cache.
        for path in self.work.rglob("*"):
            if path.is_file() and not path.is_symlink():
                forget(path)
        _touch_memory(int(6e9 * self.scale))
        for pattern in contender.reads:
            for path in self.work.glob(pattern) if isinstance(pattern, str) else pattern.rglob("data"):
                _read(path)
        return self.run(contender.command)

    def run(self, command: Sequence[str]) -> Run:
        """One measured run."""
        return run(command, env=self.env(), log=self.work / "log.txt", cwd=self.work)

    def env(self) -> dict[str, str]:
        """Little, and the same for all; commands find their registries and folders in it."""
        target = self.target.address if self.target else ""
        return {
            "PATH": self.path,
            "HOME": str(self.work),
            "PYTHONPATH": str(ROOT),
            "SOURCE": self.source.address,
            "TARGET": target,
            "NAMES": " ".join(name.partition("/")[2] for name in fixture.names("x")),
        }

    def clear(self, *patterns: str) -> None:
        """Remove files and folders of an earlier run."""
        for pattern in patterns:
            for path in self.work.glob(pattern):
                if path.is_dir():
                    subprocess.run(["rm", "-rf", "--", path], check=True)
                else:
                    path.unlink()

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


def _read(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def measure(bench: Bench) -> None:
    """All stages."""
    python = [sys.executable, "-m"]
    found = peers.present(bench.path)
    recipe = {
        "name": "bench",
        "version": "1.0",
        "platforms": ["linux/amd64", "linux/arm64"],
        "created": "2026-01-01T00:00:00Z",
        "images": fixture.names(bench.source.address),
    }
    (bench.work / "recipe.yaml").write_text(json.dumps(recipe))
    bench.run([*python, "builder", "lock", "recipe.yaml"])
    peers.prepare(bench.work, bench.work / "airferry.lock", bench.source.address, bench.env()["NAMES"].split())
    _build(bench, python, found)
    sums = hashlib.sha256(
        subprocess.run(["tar", "-xOf", bench.work / "a.tar", "SHA256SUMS"], capture_output=True, check=True).stdout
    ).hexdigest()
    bundle = ["--bundle", "a.tar", "--sums", sums]
    bench.stage(
        "verify",
        [
            Contender(AIRFERRY, [*python, "installer", "verify", *bundle], lambda: None, ["a.tar"]),
            Contender(OPENSSL, ["openssl", "dgst", "-sha256", "a.tar"], lambda: None, ["a.tar"]),
        ],
    )
    load = _shell(
        f"exec {sys.executable} -m installer load {' '.join(bundle)} --registry $TARGET --plain-http --project air"
    )
    _load(bench, load, found)


def _build(bench: Bench, python: Sequence[str], found: Sequence[Peer]) -> None:
    build = [*python, "builder", "build", "airferry.lock", "-o", "a.tar"]
    storage = [bench.source.storage]
    contenders = [
        Contender(AIRFERRY, [*build, "--no-sync"], lambda: bench.clear("a.tar"), storage),
        Contender(DURABLE, build, lambda: bench.clear("a.tar"), storage),
    ]
    for peer in found:

        def before(peer: Peer = peer) -> None:
            bench.clear(*peer.products, *peer.left_over)

        contenders.append(Contender(peer.title, _shell(peer.build), before, storage, close=peer.close))
    bench.stage("build", contenders)
    for peer in found:
        bench.clear(*peer.left_over)
        if peer.archive:
            bench.run(_shell(peer.archive))


# What a person with curl would write: every blob once, into one repository, without manifests.
_PUSH = """
location=$(curl -sS -o /dev/null -D - -X POST http://$TARGET/v2/bench/all/blobs/uploads/ |
    sed -n 's/^[Ll]ocation: *//p' | tr -d '\\r')
case $location in *\\?*) location="$location&";; *) location="$location?";; esac
curl -sS -f -T "$1" -H Expect: -H 'Content-Type: application/octet-stream' "${location}digest=sha256:${1##*/}"
"""


def _load(bench: Bench, load: Sequence[str], found: Sequence[Peer]) -> None:
    """Into an empty registry, then into one that has it all."""
    (bench.work / "push.sh").write_text(_PUSH)
    bench.run(_shell("mkdir curl; tar -xf a.tar -C curl --strip-components 2 blobs/sha256"))
    pushes = _shell("ls -S curl/* | xargs -n 1 -P 4 bash -e push.sh")
    contenders = [
        Contender(AIRFERRY, load, bench.empty_target, ["a.tar"]),
        Contender(CURL, pushes, bench.empty_target, ["curl/*"]),
    ]
    for peer in found:

        def before(peer: Peer = peer) -> None:
            bench.clear(*peer.left_over)
            bench.empty_target()

        contenders.append(Contender(peer.title, _shell(peer.load), before, peer.products, close=peer.close))
    bench.empty_target()
    bench.stage("load", contenders)
    again = [Contender(AIRFERRY, load, lambda: None, ["a.tar"])]
    bench.empty_target()
    bench.run(load)
    for peer in found:

        def before_again(peer: Peer = peer) -> None:
            bench.clear(*peer.left_over)

        bench.run(_shell(peer.load))
        again.append(Contender(peer.title, _shell(peer.load), before_again, peer.products, close=peer.close))
    bench.stage("again", again)


def report(bench: Bench) -> str:
    """The figures as a part of the page."""
    size = (bench.work / "a.tar").stat().st_size
    found = peers.present(bench.path)
    absent = [peer.program for peer in peers.PEERS if peer not in found]
    lines = [
        (
            f"{size / 1e6:.0f} MB in 8 images (43 blobs), {machine()}. Medians of {bench.runs} pairs of runs, one of "
            f"airferry and one of the other program, and of {bench.few} runs of programs that are far off; source "
            "Debian's docker-registry on disk, target distribution v3 on tmpfs, both on the same processors. No "
            "program but airferry waits until the disk has what it wrote and reads it back; so airferry is compared "
            "without that (`build --no-sync`), and its default stands in a line of its own."
        ),
        "",
        "## Required, of 2 GB",
        "",
        table(("what", "measured", "at most", ""), _required(bench, size)),
        "",
        "## Programs",
        "",
        table(
            ("program", "version", "remark"),
            [
                *((peer.title, peers.version(peer, bench.path), peer.remark) for peer in found),
                *((program, "not on PATH", "not measured") for program in absent),
            ],
        ),
    ]
    titles = {
        "build": "From a registry into one archive",
        "verify": "Is the archive whole?",
        "load": "From the archive into an empty registry",
        "again": "Into a registry that has it all",
    }
    for stage, figures in bench.figures.items():
        header = ("program", "seconds", "airferry takes", "CPU s", "memory MiB", "written MB")
        rows = [
            (
                name,
                f"{each.wall:.2f}",
                "" if name == AIRFERRY else f"{bench.ratios[stage][name]:.2f} times",
                f"{each.cpu:.2f}",
                f"{each.memory:.0f}",
                f"{each.written:.0f}",
            )
            for name, each in figures.items()
        ]
        lines += ["", f"## {titles[stage]}", "", table(header, rows)]
    return "\n".join(lines)


_LIMITS = (
    ("build", "imgpkg", 0.70),
    ("build", "crane, tar", 0.55),
    ("load", "imgpkg", 0.95),
    ("load", "crane, tar", 0.60),
    ("load", CURL, 1.05),
    ("verify", OPENSSL, 0.30),
)
MOST_SECONDS_AGAIN, MOST_MEMORY, MOST_WRITTEN = 0.6, 128, 1.01


def _required(bench: Bench, size: int) -> list[tuple[str, str, str, str]]:
    """What airferry promises, each with the figure of this run."""

    def line(what: str, value: float, limit: float, unit: str) -> tuple[str, str, str, str]:
        verdict = "met" if value <= limit else "**missed**"
        return what, f"{value:.3g}{unit}", f"{limit:g}{unit}", verdict

    rows = []
    for stage, name, limit in _LIMITS:
        if name in bench.ratios[stage]:
            rows.append(line(f"{stage}, compared with {name}", bench.ratios[stage][name], limit, " times"))
        else:
            rows.append((f"{stage}, compared with {name}", "not on PATH", f"{limit:g} times", "not measured"))
    rows.append(line("nothing to do", bench.figures["again"][AIRFERRY].wall, MOST_SECONDS_AGAIN, " s"))
    memory = max(each.memory for figures in bench.figures.values() for name, each in figures.items() if "airf" in name)
    rows.append(line("memory", memory, MOST_MEMORY, " MiB"))
    written = bench.figures["build"][AIRFERRY].written / (size / 1e6)
    rows.append(line("written by build, compared with the bundle", written, MOST_WRITTEN, " times"))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="size of the images, 1.0 is 2 GB")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", type=Path, help="page whose part of these figures is written anew")
    arguments = parser.parse_args()
    go_program("crane")
    source = _source(arguments.scale)
    bench: Bench | None = None
    try:
        with (
            workspace(CACHE / "bench") as work,
            workspace(Path("/dev/shm")) as memory,
        ):
            bench = Bench(work, memory, source, arguments.scale, arguments.runs)
            measure(bench)
            text = report(bench)
    finally:
        source.stop()
        if bench is not None and bench.target is not None:
            bench.target.stop()
    sys.stdout.write(f"{text}\n")
    if arguments.write:
        put(arguments.write, "transfer", text)


if __name__ == "__main__":
    main()

"""Sixty small images over a link on which every round trip takes its time, side by side with other programs.

    python -m tests.bench.latency [--runs 3] [--write docs/performance.md]     # with one run without the slow programs

Three layers an image, 240 blobs, 20 MB in all: what counts is how many questions are asked one after the other. The
links are without delay, with 20 ms for each round trip, and with 20 ms and a hundredth of the requests answered by a
reset connection (airferry only). Source and target as in `tests.bench.transfer`.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.bench import fixture, peers
from tests.bench.measure import Run, median, run, turns
from tests.bench.page import put, table
from tests.bench.peers import Peer
from tests.bench.workspace import workspace
from tests.parts.distant_link import DistantLink
from tests.parts.go_programs import FOLDER, go_program
from tests.parts.registry import Registry

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "airferry" / "bench"
AIRFERRY = "airferry"
PATH = f"{FOLDER}:{os.environ.get('PATH', '')}"
STAGES = {
    "lock": "From names to a lock",
    "build": "From a registry into one archive",
    "load": "From the archive into an empty registry",
    "again": "Into a registry that has it all",
}
PYTHON = f"{sys.executable} -m"


@dataclass(frozen=True)
class Program:
    """A program: its command for each stage, what `build` makes, and what lies about afterwards.

    `once`: not one of those with which airferry is closely compared.
    """

    name: str
    commands: Mapping[str, str]
    products: Sequence[str] = ()
    left_over: Sequence[str] = ()
    once: bool = False

    @classmethod
    def of(cls, peer: Peer) -> Self:
        """A peer of `tests.bench.peers`."""
        commands = {"build": peer.build, "load": peer.load}
        return cls(peer.title, commands, peer.products, peer.left_over, once=not peer.close)


OURS = Program(
    AIRFERRY,
    {
        "lock": f"{PYTHON} builder lock recipe.yaml",
        "build": f"{PYTHON} builder build airferry.lock -o a.tar --no-sync",
        "load": f"{PYTHON} installer load --bundle a.tar --sums $SUMS --registry $TARGET --plain-http --project ''",
    },
    products=("a.tar",),
)
CRANE = Program(
    "crane, tar, one index",
    {
        "build": peers.CRANE.build,
        "load": "tar -xf crane.tar; crane push --insecure --index crane $TARGET/small/all:1.0",
    },
    products=("crane.tar",),
    left_over=peers.CRANE.left_over,
)
CRANE_BY_NAME = Program(
    "crane, tar, an image at a time",
    {"build": peers.CRANE.archive, "load": peers.CRANE.load},
    products=("crane-each.tar",),
    left_over=peers.CRANE.left_over,
    once=True,
)
CURL = Program("curl, six at a time, blobs only", {"build": "curl -sS --parallel --parallel-max 6 -K blobs.txt"})


def programs(path: str, *, short: bool) -> list[Program]:
    """What is compared: airferry, crane in both ways, peers on `path` that load what they built, curl.

    The way that suits crane best brings all images under one name; the other keeps their names.
    """
    others = [CRANE_BY_NAME, *(Program.of(peer) for peer in peers.present(path) if not peer.archive)]
    return [OURS, CRANE, *(each for each in others if not (each.once and short)), CURL]


@dataclass(frozen=True)
class Link:
    """How far away the registries are."""

    title: str
    milliseconds: float = 0.0
    resets: float = 0.0

    @contextmanager
    def to(self, address: str) -> Iterator[str]:
        """The address under which what listens at `address` is reached over this link."""
        if not self.milliseconds:
            yield address
            return
        with DistantLink(address, milliseconds=self.milliseconds, resets=self.resets) as link:
            yield link.address


LINKS = (Link("no delay"), Link("20 ms", 20), Link("20 ms, 1 % resets", 20, 0.01))


@dataclass
class Bench:
    """Registries, a folder, programs, and the figures so far: by stage, program and link."""

    work: Path
    source: Registry
    target: Registry
    runs: int
    programs: list[Program]
    figures: dict[str, dict[str, dict[str, Run]]] = field(default_factory=dict)

    def measure(self, link: Link) -> None:
        """All stages over one link."""
        with link.to(self.source.address) as source, link.to(self.target.address) as target:
            names = [name.partition("/")[2] for name in fixture.small_names("x")]
            env = {
                "PATH": PATH,
                "HOME": str(self.work),
                "PYTHONPATH": str(ROOT),
                "SOURCE": source,
                "TARGET": target,
                "NAMES": " ".join(names),
            }
            (self.work / "recipe.yaml").write_text(_recipe(source))
            self._stage("lock", link, env)
            lock = self.work / "airferry.lock"
            (self.work / "blobs.txt").write_text(_blobs(lock))
            peers.prepare(self.work, lock, source, names)
            self._stage("build", link, env)
            text = subprocess.run(["tar", "-xOf", self.work / "a.tar", "SHA256SUMS"], capture_output=True, check=True)
            self._stage("load", link, env | {"SUMS": hashlib.sha256(text.stdout).hexdigest()})

    def _taking_part(self, link: Link) -> list[Program]:
        return [OURS] if link.resets else list(self.programs)

    def _stage(self, stage: str, link: Link, env: dict[str, str]) -> None:
        """Run the programs in turn (`measure.turns`). One that fails is left out from then on."""
        found: dict[tuple[str, str], list[Run]] = {}
        for turn in turns(self.runs):
            for each in self._taking_part(link):
                if stage not in each.commands or (each.once and turn != 1):
                    continue
                try:
                    done = self._measured(stage, each, env)
                except RuntimeError as exc:
                    if each is OURS:
                        raise
                    sys.stderr.write(f"left out: {exc}\n")
                    self.programs.remove(each)
                    continue
                for title, figures in done.items() if turn else ():
                    found.setdefault((title, each.name), []).append(figures)
        for (title, name), runs in found.items():
            self.figures.setdefault(title, {}).setdefault(name, {})[link.title] = median(runs)
            sys.stderr.write(f"{link.title:18} {title:6} {name:34} {median(runs)}\n")

    def _measured(self, stage: str, program: Program, env: dict[str, str]) -> dict[str, Run]:
        """One run, beginning with nothing but its input, and with an empty registry to load into; then another."""
        for pattern in (*program.left_over, *(program.products if stage == "build" else ())):
            for path in self.work.glob(pattern):
                subprocess.run(["rm", "-rf", "--", path], check=True)
        if stage == "load":
            self.target.stop()
            shutil.rmtree(self.target.storage, ignore_errors=True)
            self.target.start()
        done = {stage: self._run(program.commands[stage], env)}
        return done | {"again": self._run(program.commands[stage], env)} if (stage, program) == ("load", OURS) else done

    def _run(self, command: str, env: dict[str, str]) -> Run:
        return run(["bash", "-ec", command], env=env, log=self.work / "log.txt", cwd=self.work)


def _recipe(source: str) -> str:
    head = {"name": "small", "version": "1.0", "platforms": ["linux/amd64"], "created": "2026-01-01T00:00:00Z"}
    return json.dumps({**head, "images": fixture.small_names(source)})


def _blobs(lock: Path) -> str:
    """What curl is to fetch: configurations and layers, into nothing."""
    document = json.loads(lock.read_text())
    content = {manifest["digest"]: manifest["content"] for manifest in document["manifests"]}
    return "".join(
        f'url = "http://{image["origin"]["location"].replace("/", "/v2/", 1)}/blobs/{digest}"\noutput = "/dev/null"\n'
        for image in document["images"]
        for digest in content[image["digest"]]
    )


def source_registry() -> Registry:
    """The source with the small images, filled once."""
    folder = CACHE / "source-small"
    registry = Registry(folder).start()
    if not (folder / "filled").exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as layouts:
            fixture.fill_small(registry, Path(layouts))
        (folder / "filled").touch()
    return registry


def report(bench: Bench) -> str:
    """The figures as a part of the page."""
    lines = [
        "## Sixty small images, near and far",
        "",
        (
            f"240 blobs, 20 MB; seconds by the clock, medians of {bench.runs} runs (of some programs: one). The link"
            " delays what passes; a new connection costs one more round trip, as TCP's handshake does. Processor and"
            " memory are those without delay. As one index crane brings all images under one name, imgpkg too."
        ),
    ]
    titles = [link.title for link in LINKS]
    for stage, title in STAGES.items():
        rows = []
        for name, runs in bench.figures[stage].items():
            near = runs[LINKS[0].title]
            seconds = [f"{runs[link].wall:.2f}" if link in runs else "" for link in titles]
            rows.append([name, *seconds, f"{near.cpu:.2f}", f"{near.memory:.0f}"])
        lines += ["", f"### {title}", "", table(["program", *titles, "CPU s", "memory MiB"], rows)]
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", type=Path, help="the page of figures")
    arguments = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    go_program("crane")
    source = source_registry()
    try:
        with workspace(CACHE / "bench") as work, workspace(Path("/dev/shm")) as memory:
            with Registry(memory / "target", program=go_program("registry")) as target:
                bench = Bench(work, source, target, arguments.runs, programs(PATH, short=arguments.runs == 1))
                for link in LINKS:
                    bench.measure(link)
            text = report(bench)
    finally:
        source.stop()
    sys.stdout.write(text + "\n")
    if arguments.write:
        put(arguments.write, "latency", text)


if __name__ == "__main__":
    main()

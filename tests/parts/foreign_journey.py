"""A chart of whoever, through the whole journey: locked, built, signed, and rendered at a site with a registry.

What `lock` finds and what the installer renders is compared with what the program `helm` renders, searched for images
by other means (`image_texts`). Images come from a registry on loopback that has whatever `helm` shows to be one.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import resource
import tarfile
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from installer.errors import ContentError
from installer.strict_yaml import load_yaml
from tests.bench.measure import run
from tests.parts.foreign_charts import FOREIGN, VALUES, WANTS
from tests.parts.helm_program import RefusedError, helm
from tests.parts.image_texts import Images, full
from tests.parts.programs import Program, from_source
from tests.parts.willing_registry import WillingRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

ENCLAVE = "registry.enclave.example:5000"
_SITE = f"registry: {{host: '{ENCLAVE}'}}\nnamespace: foreign\n"


@dataclass(frozen=True)
class Step:
    """A chart, and the values that it cannot do without."""

    name: str
    archive: bytes = field(repr=False)
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What came of the journey. `helm` and `lock` are seconds of CPU.

    `needed`, `optional` and `suspected` are what `lock` says, `decided` those of the suspected that the registry has,
    which the recipe accepts then. `refused` is what `lock` says if it refuses, `refused_inside` what a later command
    says if one does, and `refused_by_helm` what `helm template` says if it does. `missed` are images that `helm` shows
    and that `lock` neither needs nor suspects, `doubtful` what it needs and `helm` does not show to be an image,
    `outside` whatever a site would ask for and not find in its registry.
    """

    name: str
    helm: float
    lock: float
    renderings: int
    refused: str = ""
    refused_inside: str = ""
    refused_by_helm: str = ""
    needed: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    suspected: frozenset[str] = frozenset()
    decided: frozenset[str] = frozenset()
    missed: frozenset[str] = frozenset()
    doubtful: frozenset[str] = frozenset()
    outside: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    edits: tuple[str, ...] = ()


def steps_to(file: str) -> list[Step]:
    """The chart at hand of that name, behind the one that it wants before it."""
    step = step_of(FOREIGN[file].read_bytes())
    after = WANTS[step.name].after if step.name in WANTS else ""
    beside = FOREIGN[file].parent.glob(f"{after}-*.tgz") if after else ()
    return [*(other for path in sorted(beside) if (other := step_of(path.read_bytes())).name == after), step]


def step_of(archive: bytes) -> Step:
    """The chart in `archive` with the values that it cannot do without."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as content:
        member = next(each for each in content if re.fullmatch(r"[^/]+/Chart\.yaml", each.name))
        file = content.extractfile(member)
        assert file
        name = load_yaml(file.read(), "Chart.yaml", ContentError)["name"]
    return Step(name, archive, VALUES.get(name, {}))


def journey(steps: Sequence[Step], folder: Path, key: Path) -> Outcome:
    """Go all the way with `steps`, of which the last one is meant, in the empty `folder`, and sign with `key`."""
    seen = Images()
    with WillingRegistry(lambda name: name in seen.all or name in seen.tests) as registry:
        for step in steps:
            (folder / f"{step.name}.tgz").write_bytes(registry.pinned(step.archive))
            (folder / f"{step.name}.json").write_text(json.dumps(step.values))
        before, texts, refused = _cpu(), [], ""
        try:
            for step in steps:
                texts += _by_helm(step.name, folder / f"{step.name}.tgz", folder / f"{step.name}.json")
        except RefusedError as exc:
            refused = str(exc)
        by_helm = _cpu() - before
        for text in texts:
            seen.read(text)
        recipe = {
            "name": "foreign",
            "version": "1.0",
            "charts": [{"name": step.name, "path": f"{step.name}.tgz", "values": step.values} for step in steps],
            "registries": registry.mirrors("\n".join(texts).encode() + b"".join(map(_unpacked, steps))),
        }
        before = _cpu()
        said = _locked(folder, {**recipe, "suspected": "note"})
        renderings = int((folder / "renderings").read_text())
        found = Outcome(steps[-1].name, by_helm, _cpu() - before, renderings, refused=said, refused_by_helm=refused)
        if said:
            return found
        found = _with_lock(found, seen, json.loads((folder / "airferry.lock").read_text()))
        if found.decided:
            said = _locked(folder, {**recipe, "accept_suspected": sorted(found.decided)})
        return replace(found, refused=said) if said else _inside(found, folder, key)


def _unpacked(step: Step) -> bytes:
    return gzip.decompress(step.archive)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _locked(folder: Path, recipe: Mapping[str, Any]) -> str:
    """Lock the recipe; what `lock` says if it refuses."""
    # JSON is YAML.
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    airferry = from_source("tests.parts.counted_renderings", folder)
    log = folder / "lock.log"
    try:
        # All of its processes count.
        run(airferry.arguments("lock"), env=airferry.surroundings(), log=log, cwd=folder)
    except RuntimeError:
        return log.read_text()
    return ""


def _with_lock(found: Outcome, seen: Images, lock: Mapping[str, Any]) -> Outcome:
    needed = frozenset(image["source"] for image in lock["images"])
    suspected = frozenset(full(item["text"]) for item in lock["suspected"])
    return replace(
        found,
        needed=needed,
        optional=frozenset(image["image"] for image in lock["optional"]),
        suspected=suspected,
        decided=frozenset(full(item["text"]) for item in lock["suspected"] if item["verdict"] == "image"),
        missed=frozenset(seen.all - needed - suspected),
        doubtful=needed - seen.told,
    )


def _inside(found: Outcome, folder: Path, key: Path) -> Outcome:
    """Build, sign, and render what is locked in `folder` for a site, as the installer does it and as helm does."""
    lock = json.loads((folder / "airferry.lock").read_text())
    found = replace(
        found,
        prefixes=tuple(path for chart in lock["charts"] for path in chart["prefixes"]),
        edits=tuple(edit["template"] for chart in lock["charts"] for edit in chart["edits"]),
    )
    bundle, site, manifests = folder / "foreign-1.0.tar", folder / "site.yaml", folder / "manifests"
    site.write_text(_SITE)
    airferry = from_source("builder", folder)
    installer = from_source("installer", folder, "--bundle", bundle, "--key", key.with_suffix(".pub"))
    commands: list[tuple[Program, Sequence[str | Path]]] = [
        (airferry, ("build",)),
        (airferry, ("sign", bundle, "--key", key)),
        (installer, ("render", "--site", site, "--output-dir", manifests)),
    ]
    for program, arguments in commands:
        done = program.run(*map(str, arguments))
        if done.returncode:
            return replace(found, refused_inside=done.stderr)
    inside = Images()
    for rendered in sorted(manifests.rglob("*.yaml")):
        inside.read(rendered.read_text())
    for chart in lock["charts"]:
        # What an upgrade runs is in no file.
        packed = folder / "moved.tgz"
        packed.write_bytes(_blob(bundle, chart["archive"]))
        for text in _by_helm(chart["name"], packed, manifests / "review" / f"{chart['name']}-values.yaml"):
            inside.read(text)
    return replace(found, outside=frozenset(_outside(inside, lock)))


def _outside(inside: Images, lock: Mapping[str, Any]) -> Iterator[str]:
    """What is asked for and is not one of the images of `lock` in the enclave's registry."""
    held = {f"{ENCLAVE}/airferry/{image['source']}": image["digest"] for image in lock["images"]}
    by_digest = {f"{name.partition('@')[0]}@{digest}" for name, digest in held.items()}
    by_digest |= {f"{_repository(name)}@{digest}" for name, digest in held.items()}
    yield from inside.all - held.keys() - by_digest


def _repository(name: str) -> str:
    return re.sub(r"(:[\w.-]+)?(@sha256:\w+)?$", "", name)


def _by_helm(name: str, chart: Path, values: Path) -> list[str]:
    """What helm makes of a chart when it is installed and when it is upgraded. Raises RefusedError."""
    options = ["--namespace", "foreign", "--include-crds", "--values", str(values)]
    return [helm(chart.parent, "template", name, chart, *options, *more) for more in ((), ("--is-upgrade",))]


def _blob(bundle: Path, digest: str) -> bytes:
    with tarfile.open(bundle) as volume:
        file = volume.extractfile(f"blobs/{digest.replace(':', '/')}")
        assert file
        return file.read()

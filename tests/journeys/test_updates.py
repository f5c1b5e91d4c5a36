"""A year of monthly updates into two enclaves, one of which loses an update, and the ways to mend that."""

from __future__ import annotations

import contextlib
import io
import json
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from builder.cli.main import cli as builder
from installer.cli.main import cli as installer
from installer.shell import run
from tests.parts.images import File, Image, Layer, Run, write_layout
from tests.parts.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import click

IMAGES, MONTHS, OWN = 10, 12, 3
LAYER = 400_000
"""Bytes of each layer. Real ones are a hundred times as large: what lies around them weighs more here."""


def layer(name: str) -> Layer:
    return Layer({f"/{name}": File(random.Random(name).randbytes(LAYER))}, "none")


def image(number: int, month: int) -> Image:
    """Two layers that all images share, and own ones, of which one changes each month, in turn."""
    turns = [max((past for past in range(1, month + 1) if past % OWN == turn), default=0) for turn in range(OWN)]
    own = [layer(f"app-{number}-{turn}-{past}") for turn, past in enumerate(turns)]
    return Image((layer("os"), layer("libraries"), *own), Run(labels={"version": str(month)}))


@dataclass
class Sender:
    """The release engineer's folder: a lock and an update for each month, and whole bundles to compare with.

    Programs run inside this process: a year has many commands.
    """

    folder: Path
    sizes: dict[int, dict[str, int]] = field(default_factory=dict)

    def run(self, command: click.Command, *arguments: str | Path) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(command, "airferry", [*map(str, arguments)])
        return code, out.getvalue(), err.getvalue()

    def result(self, command: click.Command, *arguments: str | Path) -> Any:
        """The JSON document of a command that succeeds."""
        code, out, err = self.run(command, *arguments, "--output", "json")
        assert code == 0, err
        return json.loads(out)

    def lock(self, month: int) -> Path:
        """The lock of a month, made from fresh images."""
        path = self.folder / f"{month}.lock"
        if path.exists():
            return path
        entries: list[dict[str, str]] = []
        sizes: dict[str, int] = {}
        for number in range(IMAGES):
            layout = write_layout(self.folder / "layouts" / f"{number}-{month}", image(number, month), tag="x")
            sizes.update(layout.blobs)
            name = f"docker.io/demo/app-{number}:{month}.0"
            entries.append({"layout": f"layouts/{number}-{month}", "name": name, "entry": "x"})
        recipe = {"name": "demo", "version": f"{month}.0", "sequence": month, "images": entries}
        recipe["created"] = f"2025-{month:02}-01T00:00:00Z"
        (self.folder / f"{month}.yaml").write_text(yaml.safe_dump(recipe))
        self.result(builder, "lock", self.folder / f"{month}.yaml")
        self.sizes[month] = sizes
        return path

    def build(self, month: int, out: Path, *options: str | Path, reuse: Sequence[str] = ()) -> Any:
        """A bundle of a month, as planned."""
        planned = self.result(builder, "plan", self.lock(month), *options)
        built = self.result(builder, "build", self.lock(month), "-o", out, *options, *reuse)
        assert built["bytes"] == planned["file_bytes"] == out.stat().st_size
        assert built["left_out"] == planned["left_out"]
        return built

    def load(self, built: Any, registry: Registry, *options: str | Path) -> tuple[int, str, str]:
        """Load a bundle in the enclave."""
        trusted = ("--bundle", built["file"], "--sums", built["sums"])
        return self.run(installer, "load", *trusted, "--registry", registry.address, *options)

    def minimum(self, month: int, since: int) -> int:
        """The bytes of all blobs, manifests included, that are in the images of `month` and not in those of `since`."""
        return sum(size for digest, size in self.sizes[month].items() if digest not in self.sizes[since])


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Sender:
    return Sender(tmp_path_factory.mktemp("sender"))


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """An enclave's registry that gets every update."""
    with Registry(tmp_path_factory.mktemp("near")) as registry:
        yield registry


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Another one, which is behind."""
    with Registry(tmp_path_factory.mktemp("far")) as registry:
        yield registry


def tags(registry: Registry) -> dict[str, str]:
    """The digest of every tag of an image, by what the registry has stored."""
    links = registry.storage.rglob("_manifests/tags/*/current/link")
    names = {str(link.relative_to(registry.storage).parent.parent): link for link in links}
    return {name: link.read_text() for name, link in names.items() if "/floors/" not in name}


def test_a_year(sender: Sender, near: Registry, far: Registry, tmp_path: Path) -> None:
    """Each update carries what is new for its receivers, and little else.

    Compared are whole files (payload, headers, padding, signed metadata with an entry for every blob, carried or not)
    with the bytes of the blobs that are new: the changed layers, and the configurations and manifests that follow.
    """
    (tmp_path / "bundles").mkdir()
    built = sender.build(1, tmp_path / "bundles" / "1.tar")
    for registry in (near, far):
        assert sender.load(built, registry)[0] == 0
    carried = wanted = 0
    for month in range(2, MONTHS + 1):
        since = 9 if month == 11 else month - 1
        options: list[str | Path] = ["--base", sender.lock(since)]
        if month == 9:
            # The near enclave sends a file, the far one can only have a line read out.
            lines = {}
            for name, registry in (("near.json", near), ("far.json", far)):
                out = sender.load(built, registry, "--receipt", tmp_path / name, "--output", "json")[1]
                lines[name] = json.loads(out)["receipt"]
            options += ["--have", tmp_path / "near.json", "--have", lines["far.json"]]
        built = sender.build(month, tmp_path / "bundles" / f"{month}.tar", *options)
        carried, wanted = carried + built["bytes"], wanted + sender.minimum(month, since)
        assert sender.load(built, near)[0] == 0
        if month == 6 or month == 10:
            # The far enclave never gets these: one is lost, and the next sender hears of the other before he builds.
            continue
        if month == 7:
            carried += mend(sender, built, far, tmp_path)
            wanted += sender.minimum(6, 5)
        else:
            assert sender.load(built, far)[0] == 0
    assert wanted <= carried <= 1.02 * wanted, carried / wanted
    last = sender.build(MONTHS, tmp_path / "whole.tar")
    with Registry(tmp_path / "fresh") as fresh:
        assert sender.load(last, fresh)[0] == 0
        right = tags(fresh)
    assert len(right) == IMAGES
    for registry in (near, far):
        assert right.items() <= tags(registry).items()
        again = json.loads(sender.load(last, registry, "--output", "json")[1])
        assert (again["sent"], again["mounted"]) == (0, 0)


def test_an_update_in_several_volumes(sender: Sender, tmp_path: Path) -> None:
    """Laid out by what is carried, planned to the byte, and the same bytes again; each volume verifies alone."""
    folders = [tmp_path / name for name in ("first", "second")]
    options = ("--volume-size", "5MiB", "--base", sender.lock(1))
    plan = sender.result(builder, "plan", sender.lock(MONTHS), *options)
    built: dict[str, Any] = {}
    for folder in folders:
        folder.mkdir()
        built = sender.result(builder, "build", sender.lock(MONTHS), "-o", folder, *options)
    files = [(path.name, path.stat().st_size) for path in sorted(folders[0].iterdir())]
    assert files == [(item["file"], item["bytes"]) for item in plan["volumes"]]
    assert files[0][0] == "demo-12-0-update-1of3.tar"
    for name, _ in files:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
        sender.result(builder, "verify", folders[0] / name, "--partial", "--sums", built["sums"])
    with Registry(tmp_path / "registry") as registry:
        before = sender.build(1, tmp_path / "1.tar")
        for bundle in (before, {"file": folders[1], "sums": built["sums"]}):
            code, _, err = sender.load(bundle, registry)
            assert code == 0, err
        assert len(tags(registry)) == 2 * IMAGES


def test_earlier_bundles_are_a_source_of_bytes(sender: Sender, tmp_path: Path) -> None:
    """A whole bundle out of a whole one and two updates, and nothing else; what is damaged there is fetched."""
    held = [sender.build(1, tmp_path / "1.tar"), sender.build(2, tmp_path / "2.tar", "--base", sender.lock(1))]
    held.append(sender.build(3, tmp_path / "3.tar", "--base", sender.lock(2)))
    whole = sender.build(3, tmp_path / "whole.tar")
    reuse = [option for built in held for option in ("--reuse", built["file"])]
    away = (sender.folder / "layouts").rename(sender.folder / "away")
    assert sender.build(3, tmp_path / "again.tar", reuse=reuse)["sums"] == whole["sums"]
    assert (tmp_path / "again.tar").read_bytes() == (tmp_path / "whole.tar").read_bytes()
    # At its end the first bundle has a layer that is still in use.
    with (tmp_path / "1.tar").open("r+b") as file:
        file.seek(-LAYER // 2, 2)
        file.write(bytes(100))
    code, _, err = sender.run(builder, "build", sender.lock(3), "-o", tmp_path / "third.tar", *reuse)
    assert (code, "layouts" in err) == (22, True), err
    away.rename(sender.folder / "layouts")
    code, _, err = sender.run(builder, "build", sender.lock(3), "-o", tmp_path / "third.tar", *reuse)
    assert (code, "fetched instead" in err) == (0, True), err
    assert (tmp_path / "third.tar").read_bytes() == (tmp_path / "whole.tar").read_bytes()


def mend(sender: Sender, update: Any, registry: Registry, folder: Path) -> int:
    """Load an update that builds on one that was lost; the bytes of the patch that it takes."""
    request, patch = folder / "request.json", folder / "patch.tar"
    before = tags(registry)
    code, out, err = sender.load(update, registry, "--request", request, "--output", "json")
    assert (code, len(json.loads(out)["lacking"])) == (14, IMAGES), err
    assert "this update of demo 6.0 leaves out 10 blobs (" in err
    assert (tags(registry), request.exists()) == (before, True)
    lost = folder / "bundles" / "6.tar"
    done = sender.result(builder, "patch", update["file"], "--request", request, "--from", lost, "-o", patch)
    # The other way: what is asked for is fetched again.
    again = folder / "again.tar"
    line = json.loads(out)["request"]
    sender.result(builder, "patch", update["file"], "--request", line, "--lock", sender.lock(7), "-o", again)
    assert again.read_bytes() == patch.read_bytes()
    code, _, err = sender.load(update, registry, "--bundle", patch)
    assert code == 0, err
    return int(done["bytes"])

"""What becomes of each odd image in each registry: airferry's way, and beside it those of its peers.

An image lies in a registry. Every carrier takes it out (`build`, of the peers copies to a disk), and brings it into an
empty registry of the same kind (`load`). From airferry's bundle it is served (`serve`), where the peers read it like
from the registry, and brought onto a node (`import`), where containerd may get it by a pull instead.
"""

from __future__ import annotations

import contextlib
import json
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from installer.report import Silent
from installer.serving.server import Server
from tests.parts.bare_client import BareClient, RefusedError
from tests.parts.bundles import open_bundle
from tests.parts.carriers import Airferry, Crane, Ctr, Place, Skopeo
from tests.parts.gitea import USER
from tests.parts.registry_kinds import running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.parts.carriers import Carrier
    from tests.parts.containerd import Containerd
    from tests.parts.odd_maker import OddImage

Step = Literal["build", "load", "serve", "import"]
AIRFERRY = Airferry.name
OWNER = "zoo"
"""The first part of the names of all repositories: in some registries that is an account."""

_NO_CONTAINER = "no container starts from it; `import` says that it was left out, and `load` and `serve` bring it"
_LARGER = 'no registry need take it (distribution-spec, "Pushing Manifests"); what is built on distribution does not'
ARGUED: dict[tuple[Step, str], str] = {
    ("build", "index-empty"): "a recipe that asks for it has lost its image, which is told before anybody travels",
    ("build", "larger-manifest"): _LARGER,
    ("build", "other-platform"): "the recipe asks for linux/amd64; with `platforms: [linux/arm64]` it is carried",
    (
        "build",
        "wrong-size",
    ): "`plan` is exact to the byte before anything is fetched; crane and containerd refuse it",
    ("build", "sha512"): "a bundle names all content by SHA-256 in `SHA256SUMS`, so that stock tools can check it",
    ("import", "artifact"): _NO_CONTAINER,
    ("import", "artifact-type"): _NO_CONTAINER,
    ("import", "artifact-of-manifest"): _NO_CONTAINER,
}
"""Why airferry stands back, by step and image; what is not built has no further steps."""


@dataclass(frozen=True)
class Cell:
    """What came of a step: for each carrier what stood in the way, nothing if it went well.

    `registry` is its kind, of an import the name of the containerd.
    `refused` is what the registry said if it does not take the image at all.
    """

    step: Step
    registry: str
    image: str
    ended: Mapping[str, str] = field(default_factory=dict)
    refused: str = ""

    @property
    def went(self) -> tuple[str, ...]:
        """The carriers to which nothing happened."""
        return tuple(name for name, said in self.ended.items() if not said)

    @property
    def stands_back(self) -> bool:
        """Whether airferry fails where another succeeds."""
        return AIRFERRY in self.ended and bool(self.went) and AIRFERRY not in self.went


@dataclass(frozen=True)
class Pair:
    """Two registries of a kind: one that images come from, and an empty one. `user` may push into both."""

    kind: str
    source: str
    target: str
    user: tuple[str, str] | None = None


@contextlib.contextmanager
def pair(kind: str, folder: Path) -> Iterator[Pair]:
    """Two fresh registries of a kind."""
    with running(kind, folder / f"{kind}-source") as source, running(kind, folder / f"{kind}-target") as target:
        yield Pair(kind, source, target, USER if kind == "gitea" else None)


class Matrix:
    """Tries images in pairs of registries; `folder` has a short path and takes what is carried. The first of `nodes` is
    also containerd as one of the peers.

    With `lazy`, peers are asked only where airferry fails: whether it stands back is told all the same.
    """

    def __init__(
        self, folder: Path, nodes: Sequence[Containerd], ferry: Airferry | None = None, *, lazy: bool = False
    ) -> None:
        self._folder, self._nodes, self._lazy = folder, nodes, lazy
        self._airferry = ferry or Airferry()
        self._peers: tuple[Carrier, ...] = (Skopeo(), Crane(), Ctr(nodes[0]))
        self._bundles: set[frozenset[str]] = set()

    def row(self, pair: Pair, odd: OddImage) -> Iterator[Cell]:
        """The cells of an image in a kind of registry."""
        source = Place(pair.source, f"{OWNER}/{odd.name}", pair.user)
        try:
            BareClient(pair.source, pair.user).push(odd, source.repository)
        except RefusedError as exc:
            yield Cell("build", pair.kind, odd.name, refused=str(exc))
            return
        took = {AIRFERRY: self._airferry.take(source, odd, self._place(AIRFERRY, pair, odd))}
        brought = {AIRFERRY: took[AIRFERRY] or self._bring(self._airferry, pair, odd)}
        for peer in self._peers if not self._lazy or brought[AIRFERRY] else ():
            took[peer.name] = peer.take(source, odd, self._place(peer.name, pair, odd))
            brought[peer.name] = took[peer.name] or self._bring(peer, pair, odd)
        yield Cell("build", pair.kind, odd.name, took)
        yield Cell("load", pair.kind, odd.name, brought)
        if not took[AIRFERRY]:
            yield from self._inside(pair, odd, source, took)

    def _place(self, carrier: str, pair: Pair, odd: OddImage) -> Path:
        return self._folder / f"{pair.kind}-{odd.name}-{carrier}"

    def _bring(self, carrier: Carrier, pair: Pair, odd: OddImage) -> str:
        path = f"{OWNER}/{odd.name}"
        # airferry puts a project and the upstream host before the upstream path; the others know no such custom.
        repository = f"{OWNER}/docker.io/{path}" if carrier.name == AIRFERRY else f"{OWNER}/{carrier.name}/{path}"
        place = Place(pair.target, repository, pair.user)
        ended = carrier.bring(self._place(carrier.name, pair, odd), odd, place)
        if ended:
            return ended
        lacking = BareClient(pair.target, pair.user).lacks(odd, repository)
        return f"{len(lacking)} of its parts are not there, such as {min(lacking)}" if lacking else ""

    def _inside(self, pair: Pair, odd: OddImage, source: Place, took: Mapping[str, str]) -> Iterator[Cell]:
        """What becomes of the bundle; one that holds the same is not tried again."""
        bundle = self._airferry.bundle(self._place(AIRFERRY, pair, odd))
        content = _content(bundle)
        if content in self._bundles:
            return
        self._bundles.add(content)
        yield Cell("serve", pair.kind, odd.name, self._serve(pair, odd, bundle, took))
        for node in self._nodes:
            yield Cell("import", node.name, odd.name, self._import(pair, odd, source, node))

    def _serve(self, pair: Pair, odd: OddImage, bundle: Path, took: Mapping[str, str]) -> dict[str, str]:
        with open_bundle([bundle]) as opened, Server(opened, "127.0.0.1", 0, Silent()) as server:
            place = Place(server.address, f"docker.io/{OWNER}/{odd.name}")
            lacking = BareClient(server.address).lacks(odd, place.repository)
            if lacking:
                return {AIRFERRY: f"does not serve {min(lacking)}", **took}
            for peer in self._peers:
                # Who could not take it out of the registry is no witness.
                if took.get(peer.name) == "" and (
                    said := peer.take(place, odd, self._folder / f"served-{pair.kind}-{odd.name}-{peer.name}")
                ):
                    return {AIRFERRY: f"{peer.name} cannot read it: {said}", peer.name: ""}
        return {AIRFERRY: "", **{name: said for name, said in took.items() if name != AIRFERRY}}

    def _import(self, pair: Pair, odd: OddImage, source: Place, node: Containerd) -> dict[str, str]:
        client, namespace = Ctr(node), self._folder / f"imported-{pair.kind}-{odd.name}"
        ended = self._airferry.node_import(self._place(AIRFERRY, pair, odd), node, namespace.name)
        if not ended and (lacking := odd.on_node - client.holds(namespace)):
            ended = f"{len(lacking)} of its parts are not there, such as {min(lacking)}"
        found = {AIRFERRY: ended}
        if ended or not self._lazy:
            found[client.name] = client.pull(source, odd, self._folder / f"pulled-{pair.kind}-{odd.name}")
        return found


def _content(bundle: Path) -> frozenset[str]:
    """The digests of all that a bundle holds, but that of its recipe, which names the registry."""
    with tarfile.open(bundle) as archive:
        metadata = archive.extractfile("bundle.json")
        assert metadata is not None
        found = json.load(metadata)
    recipe = {item["digest"] for item in found["documents"] if item["kind"] == "recipe"}
    return frozenset({blob["digest"] for blob in found["blobs"]} - recipe)


def unargued(cells: Sequence[Cell], argued: Mapping[tuple[Step, str], str]) -> list[str]:
    """A line for each cell where airferry stands back without an argument."""
    return [
        f"{cell.step} of {cell.image} with {cell.registry}: {cell.ended[AIRFERRY]}; but for {', '.join(cell.went)}"
        for cell in cells
        if cell.stands_back and not {(cell.step, cell.image), ("build", cell.image)} & argued.keys()
    ]


def needless(cells: Sequence[Cell], argued: Mapping[tuple[Step, str], str]) -> list[str]:
    """A line for each argument that no cell needs."""
    needed = {(cell.step, cell.image) for cell in cells if cell.stands_back}
    return [f"{step} of {image}: needs no argument" for step, image in argued.keys() - needed]

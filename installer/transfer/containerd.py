"""Images straight into the containerd of a node, through its own client `ctr` (tried with containerd 1.6 and 2.1).

One image after the other goes through a pipe, verified in the buffer that is sent, and of each only the blobs that
the node lacks. Until an image is whole it has no name there; what arrived before an interruption stays for a day, so
the next run goes on from it (containerd, docs/garbage-collection.md: leases of clients that vanished expire).
"""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from installer.bundle.manifest import BundleBlob, BundleImage
from installer.bundle.reader import Bundle
from installer.errors import (
    AirferryError,
    BundleError,
    ContentError,
    IncompleteError,
    LackingError,
    NotFoundError,
    RegistryUnreachableError,
    StorageError,
    several,
)
from installer.oci.digest import Digest
from installer.report import Reporter, count, size
from installer.transfer.image_archive import NO_IMAGE, ImageArchive, Names, artifacts_among, described, has_layers
from installer.value import Value

_ELSEWHERE = ("/var/lib/rancher/rke2/bin", "/var/lib/rancher/k3s/data/current/bin")
"""Where RKE2 and k3s keep `ctr`, which is on no PATH there."""
_PIN = "io.cri-containerd.pinned"
"""The label by which containerd tells the kubelet not to clear an image away (containerd, `internal/cri/labels`)."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class ImageStore:
    """The images in one namespace of the containerd at the socket `address`.

    `environment` is that of `ctr`, whose `CONTAINERD_SNAPSHOTTER` thus has its usual meaning.
    """

    address: Path
    namespace: str
    program: str
    environment: Mapping[str, str] = field(repr=False)

    @classmethod
    def at(cls, address: Path, namespace: str, environment: Mapping[str, str]) -> "ImageStore":
        """The store at `address`. Raises NotFoundError without `ctr`, RegistryUnreachableError if nobody answers."""
        places = os.pathsep.join((environment.get("PATH") or os.defpath, *_ELSEWHERE))
        program = shutil.which("ctr", path=places)
        if program is None:
            raise NotFoundError("`ctr`, the client of containerd, is not on the PATH", hint="add its folder to PATH.")
        store = cls(address, namespace, program, environment)
        done = store._run("version")
        if done.returncode:
            raise RegistryUnreachableError(
                f"containerd at {address}: {_said(done.stderr)}",
                hint="run this as root, on the node, with the socket of its containerd.",
            )
        return store

    def blobs(self) -> frozenset[Digest]:
        """The blobs that are there. Raises ContentError if that cannot be told."""
        return frozenset(map(Digest, _DIGEST.findall(self._answer("content", "list", "--quiet"))))

    def complete(self, names: Iterable[str]) -> Mapping[str, tuple[str, bool]]:
        """Which of `names` are pinned images with nothing missing for this node: digests, and whether unpacked."""
        filters = [f'name=="{name}",labels."{_PIN}"==pinned' for name in names]
        found = {}
        for line in self._run("images", "check", *filters).stdout.decode("utf-8", "replace").splitlines()[1:]:
            # REF TYPE DIGEST STATUS (N/N) SIZE UNPACKED
            columns = line.split()
            if len(columns) > 4 and columns[3] == "complete":
                found[columns[0]] = columns[2], columns[-1] == "true"
        return found

    def take(self, archive: ImageArchive, reporter: Reporter) -> None:
        """Import `archive`. Raises ContentError if containerd refuses it, and the errors of its bytes."""
        with subprocess.Popen(
            self._command("images", "import", *self._by_client, "-"),
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # Nothing is held back here that would have to be sent when all is over, to a client that is gone.
            bufsize=0,
        ) as process:
            try:
                # A client that refuses says why when it has ended.
                with contextlib.suppress(BrokenPipeError):
                    for part in archive.parts():
                        _write(process.stdin, part)  # type: ignore[arg-type] # it is a pipe
                        reporter.advance(len(part))
                _, said = process.communicate()
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise _refusal(self.address, _said(said))

    @cached_property
    def _by_client(self) -> tuple[str, ...]:
        """Options that make newer clients import like 1.6; their default knows configured snapshotters only."""
        return ("--local",) if b"--local" in self._run("images", "import", "--help").stdout else ()

    def pin(self, names: Iterable[str]) -> None:
        """Keep the kubelet from clearing these images away when the disk fills: nobody could bring them back."""
        for name in names:
            self._answer("images", "label", name, f"{_PIN}=pinned")

    def forget(self, names: Iterable[str]) -> None:
        """Take away the names of what was refused: `ctr` gives them before it unpacks."""
        self._run("images", "remove", "--sync", *names)

    def _answer(self, *arguments: str) -> str:
        done = self._run(*arguments)
        if done.returncode:
            raise _refusal(self.address, _said(done.stderr))
        return done.stdout.decode("utf-8", "replace")

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self._command(*arguments),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )

    def _command(self, *arguments: str) -> list[str]:
        return [self.program, "--address", str(self.address), "--namespace", self.namespace, *arguments]


class Imported(Value):
    """The result of an import: images that are new and that were there, bytes sent, images left out with the reason.

    `artifacts` are left out too, since a node has no use for them. `lacking` are the blobs that an update does not
    carry and the node does not have.
    """

    new: tuple[BundleImage, ...]
    present: tuple[BundleImage, ...]
    sent: int
    left_out: Mapping[BundleImage, AirferryError]
    artifacts: tuple[BundleImage, ...]
    lacking: tuple[BundleBlob, ...]

    def document(self, names: Names) -> dict[str, Any]:
        """As plain values, each image with its `names`; without what is lacking."""
        new, there = ({image: names[image] for image in some} for some in (self.new, self.present))
        return {
            "images": described(new, present=False) + described(there, present=True),
            "left_out": {image.source: reason for image, reason in self._reasons()},
            "sent": self.sent,
        }

    def text(self, names: Names) -> str:
        """The same for people."""
        lines = [f"{names[image][0]}  imported" for image in self.new]
        lines += [f"{names[image][0]}  was there" for image in self.present]
        lines += [f"{names[image][0]}  left out: {reason}" for image, reason in self._reasons()]
        return "\n".join([*lines, self.summary()])

    def _reasons(self) -> Iterator[tuple[BundleImage, str]]:
        yield from ((image, error.message) for image, error in self.left_out.items())
        yield from ((image, NO_IMAGE) for image in self.artifacts)

    def summary(self) -> str:
        """One line for people."""
        images = count(len(self.new) + len(self.present), "image")
        return f"{images}, {len(self.new)} of them new: {size(self.sent)} sent"

    def check(self) -> None:
        """Raises one error for all images that were left out."""
        found = self.left_out.items()
        errors = [type(error)(f"{image.source}: {error.message}", hint=error.hint) for image, error in found]
        if errors:
            rest = "all others are there" if self.new or self.present else "no image is there"
            raise several(errors, f"images left out; {rest}")


def import_images(bundle: Bundle, store: ImageStore, names: Names, reporter: Reporter) -> Imported:
    """Bring the images of `names` into `store`, and pin them there. What is there already is left alone.

    An image that needs something damaged or missing, or that the node refuses, is left out, and the others go on.
    """
    artifacts = artifacts_among(bundle, names)
    names = {image: some for image, some in names.items() if image not in artifacts}
    there = _there(bundle, store, names)
    missing = sorted((image for image in names if image not in there), key=lambda image: _volumes(bundle, image))
    held, sent = store.blobs() if missing else frozenset(), 0
    left_out: dict[BundleImage, AirferryError] = {}
    lacking: dict[Digest, BundleBlob] = {}
    reporter.begin("import", ImageArchive(bundle, {image: names[image] for image in missing}, held).size)
    for image in missing:
        archive = ImageArchive(bundle, {image: names[image]}, held)
        if needed := archive.lacking:
            lacking |= needed
            left_out[image] = _lacking(bundle, needed.values())
            continue
        try:
            store.take(archive, reporter)
            store.pin(names[image])
        except ContentError as exc:
            left_out[image] = exc
            store.forget(names[image])
            # What only this image kept is gone.
            held = store.blobs()
            continue
        except (BundleError, IncompleteError, StorageError) as exc:
            left_out[image] = exc
            continue
        held |= {blob.digest for blob in bundle.manifest.parts(image)}
        sent += archive.size
    reporter.end()
    new = [image for image in missing if image not in left_out]
    whole = _there(bundle, store, {image: names[image] for image in new})
    left_out |= {image: _lost(store) for image in new if image not in whole}
    return Imported(
        tuple(image for image in new if image in whole),
        tuple(image for image in names if image in there),
        sent,
        left_out,
        artifacts,
        tuple(lacking.values()),
    )


def _there(bundle: Bundle, store: ImageStore, names: Names) -> set[BundleImage]:
    """The images that the node has whole, under all their names; of one without layers it unpacks nothing."""
    if not names:
        return set()
    found = store.complete([name for some in names.values() for name in some])
    return {
        image
        for image, some in names.items()
        if all(
            digest == image.digest.text and (unpacked or not has_layers(bundle, image))
            for digest, unpacked in (found.get(name, ("", False)) for name in some)
        )
    }


def _lost(store: ImageStore) -> ContentError:
    return ContentError(
        f"containerd at {store.address} lacks a part of it after its import",
        hint="somebody may be clearing up there: run the same command again.",
    )


def _lacking(bundle: Bundle, blobs: Collection[BundleBlob]) -> LackingError:
    bases, total = ", ".join(map(str, bundle.manifest.bases)), size(sum(blob.size for blob in blobs))
    return LackingError(
        f"this update of {bases} leaves out {count(len(blobs), 'blob')} ({total}) that the node does not have either",
        hint=f"import {bases} first, or a whole bundle; or ask for just these: `import --request FILE`.",
    )


def _volumes(bundle: Bundle, image: BundleImage) -> list[int]:
    """The volumes that hold a part of `image`, last first. Sorted by this, images need few changes of volumes."""
    return sorted({volume for blob in bundle.manifest.parts(image) for volume, _, _ in blob.pieces}, reverse=True)


def _write(pipe: IO[bytes], part: bytes | memoryview) -> None:
    """All of `part` into a pipe without a buffer, which may take less at a time."""
    view = memoryview(part)
    while view:
        view = view[pipe.write(view) :]


def _said(text: bytes) -> str:
    """The last line of what `ctr` said, which is its error."""
    lines = text[-4000:].decode("utf-8", "replace").strip().splitlines() or ["it ended without a word"]
    return lines[-1].removeprefix("ctr: ")[:500]


def _refusal(address: Path, said: str) -> ContentError:
    full = "no space left" in said
    step = "make room there" if full else "`inspect` names the platforms that the bundle is for; see containerd's log"
    return ContentError(f"containerd at {address}: {said}", hint=f"{step}, then run the same command again.")

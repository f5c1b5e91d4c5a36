"""Real OCI and Docker images, made on the spot without any container engine.

An `Image` is described by its layers and its run-time configuration; `write_layout` turns one image, or several
as a multi-platform index, into an OCI image layout folder, and `push` sends such a folder to a registry with
skopeo, a tool that shares no code with this project. The same description always gives the same bytes: times are
fixed, tar headers are minimal and in order, JSON is compact with sorted keys, gzip carries no name and no time.

Rules: OCI image-spec 1.0 (image-layout.md, manifest.md, config.md, layer.md), Docker "Image Manifest V2, Schema 2".
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
import tempfile
from base64 import b64encode
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CREATED = "2024-01-01T00:00:00Z"
REF_NAME = "org.opencontainers.image.ref.name"
PUSH_SECONDS = 600


@dataclass(frozen=True)
class Family:
    """The media types of one family of manifests."""

    index: str
    manifest: str
    config: str
    layer: str
    layer_gzip: str


OCI = Family(
    index="application/vnd.oci.image.index.v1+json",
    manifest="application/vnd.oci.image.manifest.v1+json",
    config="application/vnd.oci.image.config.v1+json",
    layer="application/vnd.oci.image.layer.v1.tar",
    layer_gzip="application/vnd.oci.image.layer.v1.tar+gzip",
)
DOCKER = Family(
    index="application/vnd.docker.distribution.manifest.list.v2+json",
    manifest="application/vnd.docker.distribution.manifest.v2+json",
    config="application/vnd.docker.container.image.v1+json",
    layer="application/vnd.docker.image.rootfs.diff.tar",
    layer_gzip="application/vnd.docker.image.rootfs.diff.tar.gzip",
)


@dataclass(frozen=True)
class File:
    """A regular file of a layer."""

    data: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class Directory:
    """A directory of a layer; parents that are not named are made with mode 0755."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class Symlink:
    """A symbolic link of a layer."""

    target: str


Entry = File | Directory | Symlink
Compression = Literal["gzip", "none"]


@dataclass(frozen=True)
class Layer:
    """One layer: what lies at which path (absolute or relative to the root of the image)."""

    entries: Mapping[str, Entry]
    compression: Compression = "gzip"
    level: int = 1

    def tar(self) -> bytes:
        """The uncompressed tar archive, whose SHA-256 is the layer's diff_id."""
        tree: dict[str, Entry] = {}
        for path, entry in self.entries.items():
            name = path.strip("/")
            for parent in list(Path(name).parents)[:-1]:
                tree.setdefault(str(parent), Directory())
            tree[name] = entry
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name in sorted(tree):
                header, data = _member(name, tree[name])
                archive.addfile(header, io.BytesIO(data))
        return buffer.getvalue()

    @cached_property
    def stored(self) -> tuple[str, bytes]:
        """Its diff_id, and the bytes that registries have; many images share a layer."""
        plain = self.tar()
        packed = gzip.compress(plain, self.level, mtime=0) if self.compression == "gzip" else plain
        return "sha256:" + hashlib.sha256(plain).hexdigest(), packed


@dataclass(frozen=True)
class Platform:
    """Operating system and architecture in Go's words, as registries name them."""

    architecture: str = "amd64"
    os: str = "linux"
    variant: str | None = None

    def as_json(self) -> dict[str, str]:
        """The `platform` object of an index entry, also the head of a configuration."""
        pairs = {"architecture": self.architecture, "os": self.os, "variant": self.variant}
        return {key: value for key, value in pairs.items() if value is not None}


@dataclass(frozen=True)
class Run:
    """How a container of the image is started."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[str, ...] = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)
    user: str = ""
    working_dir: str = "/"
    ports: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The `config` object of an image configuration; empty fields are left out."""
        pairs: dict[str, Any] = {
            "Entrypoint": list(self.entrypoint),
            "Cmd": list(self.command),
            "Env": list(self.env),
            "User": self.user,
            "WorkingDir": self.working_dir,
            "ExposedPorts": {port: {} for port in self.ports},
            "Labels": dict(self.labels),
        }
        return {key: value for key, value in pairs.items() if value}


@dataclass(frozen=True)
class Image:
    """One image for one platform."""

    layers: tuple[Layer, ...]
    run: Run = Run()
    platform: Platform = Platform()
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """An OCI image layout folder that holds one tagged manifest or index.

    `digest` is what `index.json` points to; `manifests` are the digests of the images in the order given;
    `blobs` are all blobs, the manifests included, as digest → size in bytes.
    """

    path: Path
    tag: str
    digest: str
    media_type: str
    manifests: tuple[str, ...]
    blobs: Mapping[str, int]


class LayoutWriter:
    """Puts blobs into a layout folder and remembers their sizes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sizes: dict[str, int] = {}
        (path / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)

    def put(self, data: bytes, media_type: str) -> dict[str, Any]:
        """Store `data` and return its descriptor."""
        digest = hashlib.sha256(data).hexdigest()
        (self.path / "blobs" / "sha256" / digest).write_bytes(data)
        self.sizes[f"sha256:{digest}"] = len(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def put_document(self, document: Mapping[str, Any], media_type: str) -> dict[str, Any]:
        """Store a manifest or index of any content, and return its descriptor."""
        return self.put(compact({"schemaVersion": 2, "mediaType": media_type, **document}), media_type)

    def put_image(self, image: Image, family: Family) -> dict[str, Any]:
        """Store layers, configuration and manifest of `image`; return the manifest's descriptor."""
        layers, diff_ids = [], []
        for layer in image.layers:
            diff_id, data = layer.stored
            diff_ids.append(diff_id)
            layers.append(self.put(data, family.layer_gzip if layer.compression == "gzip" else family.layer))
        config = {
            **image.platform.as_json(),
            "created": CREATED,
            "config": image.run.as_json(),
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created": CREATED, "created_by": f"layer {n}"} for n in range(len(diff_ids))],
        }
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": family.manifest,
            "config": self.put(compact(config), family.config),
            "layers": layers,
        }
        if image.annotations:
            manifest["annotations"] = dict(image.annotations)
        return self.put(compact(manifest), family.manifest)

    def finish(self, root: dict[str, Any], tag: str) -> None:
        """Write `oci-layout` and the `index.json` that gives `root` its tag."""
        (self.path / "oci-layout").write_bytes(compact({"imageLayoutVersion": "1.0.0"}))
        entry = {**root, "annotations": {REF_NAME: tag}}
        (self.path / "index.json").write_bytes(compact({"schemaVersion": 2, "manifests": [entry]}))


def write_layout(
    path: Path,
    images: Image | Sequence[Image],
    *,
    tag: str = "latest",
    family: Family = OCI,
    index: bool | None = None,
) -> Layout:
    """Write `images` as an OCI image layout into the folder `path`.

    One image becomes a plain manifest and several become an index, unless `index` says otherwise.
    """
    several = [images] if isinstance(images, Image) else list(images)
    if not several:
        raise ValueError("a layout needs at least one image")
    writer = LayoutWriter(path)
    descriptors = [writer.put_image(image, family) for image in several]
    if index if index is not None else len(several) > 1:
        entries = [
            {**descriptor, "platform": image.platform.as_json()}
            for descriptor, image in zip(descriptors, several, strict=True)
        ]
        document = {"schemaVersion": 2, "mediaType": family.index, "manifests": entries}
        root = writer.put(compact(document), family.index)
    else:
        (root,) = descriptors
    writer.finish(root, tag)
    return Layout(
        path=path,
        tag=tag,
        digest=root["digest"],
        media_type=root["mediaType"],
        manifests=tuple(descriptor["digest"] for descriptor in descriptors),
        blobs=writer.sizes,
    )


def push(
    layout: Layout,
    reference: str,
    *,
    prefix: Sequence[str] = (),
    credentials: tuple[str, str] | None = None,
    ca: Path | None = None,
) -> str:
    """Copy all of `layout` to `reference` (`HOST:PORT/REPOSITORY:TAG`) with skopeo; return its digest.

    `prefix` is put before the command, for example to enter a network namespace. With `ca` (a PEM file) the
    registry must speak TLS with a certificate of that authority; otherwise plain HTTP is allowed. The digest is
    kept or the copy fails. Raises RuntimeError with what skopeo said.
    """
    with tempfile.TemporaryDirectory(prefix="airferry-push-") as scratch:
        command = [*prefix, "skopeo", "--insecure-policy", "copy", "--quiet", "--all", "--preserve-digests"]
        command += ["--authfile", str(_authfile(Path(scratch), reference, credentials))]
        if ca is None:
            command += ["--dest-tls-verify=false"]
        else:
            certificates = Path(scratch, "certificates")
            certificates.mkdir()
            (certificates / "ca.crt").write_bytes(ca.read_bytes())
            command += ["--dest-cert-dir", str(certificates)]
        command += [_skopeo_source(layout, Path(scratch, "source")), f"docker://{reference}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PUSH_SECONDS, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"skopeo could not copy {layout.path} to {reference}: {done.stderr.strip()}")
    return layout.digest


def compact(document: object) -> bytes:
    """`document` as JSON with sorted keys and no spaces."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _member(name: str, entry: Entry) -> tuple[tarfile.TarInfo, bytes]:
    """The tar header and the content of one entry; owner names stay empty and the time is 0."""
    header = tarfile.TarInfo(name)
    if isinstance(entry, Symlink):
        header.type, header.linkname, header.mode = tarfile.SYMTYPE, entry.target, 0o777
        return header, b""
    header.mode, header.uid, header.gid = entry.mode, entry.uid, entry.gid
    if isinstance(entry, Directory):
        header.type = tarfile.DIRTYPE
        return header, b""
    header.size = len(entry.data)
    return header, entry.data


def _skopeo_source(layout: Layout, folder: Path) -> str:
    """How skopeo reads `layout`: its "oci" transport refuses Docker's media types, its "dir" transport takes them.

    That is a flat folder: `manifest.json` (the root), `HEX.manifest.json` (members of an index), `HEX` (blobs).
    """
    if layout.media_type in (OCI.index, OCI.manifest):
        return f"oci:{layout.path}:{layout.tag}"
    folder.mkdir()
    (folder / "version").write_text("Directory Transport Version: 1.1\n")
    for digest in layout.blobs:
        blob = layout.path.resolve() / "blobs" / "sha256" / digest.removeprefix("sha256:")
        name = f"{blob.name}.manifest.json" if digest in layout.manifests else blob.name
        (folder / ("manifest.json" if digest == layout.digest else name)).symlink_to(blob)
    return f"dir:{folder}"


def _authfile(folder: Path, reference: str, credentials: tuple[str, str] | None) -> Path:
    """A credentials file of our own, so that neither the user's nor the command line's are involved."""
    auths = {}
    if credentials is not None:
        secret = b64encode(":".join(credentials).encode()).decode()
        auths[reference.partition("/")[0]] = {"auth": secret}
    path = folder / "auth.json"
    path.touch(mode=0o600)
    path.write_bytes(compact({"auths": auths}))
    return path

"""What the benchmark carries: eight images in eight repositories, of bytes that no compressor makes smaller.

Three bases are shared, and one image is an index for two platforms: 43 blobs, about 2 GB; `scale` makes them smaller.
"""

import hashlib
import random
from pathlib import Path
from typing import Any

from tests.parts import images
from tests.parts.registry import Registry

MB = 1_000_000
_BASES = {"a": (130, 15), "b": (100, 12), "c": (60,)}
_IMAGES: dict[str, tuple[str, tuple[tuple[int, ...], ...]]] = {
    "server": ("a", ((400, 90, 20, 4),)),
    "compute": ("a", ((210, 60, 10),)),
    "console": ("a", ((150, 30, 5),)),
    "frontend": ("b", ((130, 40, 8, 1),)),
    "gateway": ("b", ((110, 25, 3),)),
    "cache": ("c", ((90, 20, 2),)),
    "metrics": ("c", ((60, 15, 1),)),
    "agent": ("", ((60, 20, 5), (60, 15, 5))),
}
_PLATFORMS = ("amd64", "arm64")


def names(registry: str) -> list[str]:
    """The images as they are called at `registry`."""
    return [f"{registry}/bench/{name}:1.0" for name in _IMAGES]


SMALL = 60


def small_names(registry: str) -> list[str]:
    """The small images as they are called at `registry`."""
    return [f"{registry}/small/app-{number:02d}:1.0" for number in range(SMALL)]


def _layer(
    writer: images.LayoutWriter, what: str, megabytes: float, cache: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    if what not in cache:
        seed = int.from_bytes(hashlib.sha256(what.encode()).digest()[:8], "big")
        source = random.Random(seed)
        data = b"".join(source.randbytes(int(megabytes * MB / 10)) for _ in range(10))
        cache[what] = writer.put(data, images.OCI.layer)
    return cache[what]


def _image(writer: images.LayoutWriter, name: str, layers: list[dict[str, Any]], architecture: str) -> dict[str, Any]:
    diff_ids = [layer["digest"] for layer in layers]
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Labels": {"name": name}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    document = {
        "schemaVersion": 2,
        "mediaType": images.OCI.manifest,
        "config": writer.put(images.compact(config), images.OCI.config),
        "layers": layers,
    }
    return writer.put(images.compact(document), images.OCI.manifest)


def fill(registry: Registry, folder: Path, scale: float) -> None:
    """Push the images into a running `registry`; `folder` is for their layouts."""
    shared: dict[str, dict[str, Any]] = {}
    for name, (base, variants) in _IMAGES.items():
        writer = images.LayoutWriter(folder / name)
        cache: dict[str, dict[str, Any]] = {}
        found = []
        for architecture, sizes in zip(_PLATFORMS, variants, strict=False):
            parts = [(f"base {base} {n}", size) for n, size in enumerate(_BASES.get(base, ()))]
            parts += [(f"{name} {architecture} {n}", size) for n, size in enumerate(sizes)]
            layers = [_layer(writer, what, size * scale, cache) for what, size in parts]
            platform = {"platform": {"os": "linux", "architecture": architecture}}
            found.append(_image(writer, name, layers, architecture) | (platform if len(variants) > 1 else {}))
        root = found[0]
        if len(found) > 1:
            document = {"schemaVersion": 2, "mediaType": images.OCI.index, "manifests": found}
            root = writer.put(images.compact(document), images.OCI.index)
        writer.finish(root, "1.0")
        digests = tuple(each["digest"] for each in found)
        layout = images.Layout(folder / name, "1.0", root["digest"], root["mediaType"], digests, writer.sizes)
        images.push(layout, f"{registry.address}/bench/{name}:1.0")
        shared |= cache


def fill_small(registry: Registry, folder: Path) -> None:
    """Push 60 images of three layers of a tenth of a megabyte each, none of them shared: 240 blobs, 20 MB."""
    for name in small_names(registry.address):
        own = name.partition("/")[2].removesuffix(":1.0")
        writer = images.LayoutWriter(folder / own)
        cache: dict[str, dict[str, Any]] = {}
        layers = [_layer(writer, f"{own} {number}", 0.109, cache) for number in range(3)]
        root = _image(writer, own, layers, "amd64")
        writer.finish(root, "1.0")
        images.push(
            images.Layout(folder / own, "1.0", root["digest"], root["mediaType"], (root["digest"],), writer.sizes), name
        )

"""A second reader of bundles, written from FORMAT.md alone: it shares no code with the installer, and asks openssl and
minisign about signatures. It reads volumes into memory whole, so it is for small bundles."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from blake3 import blake3

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCK, CHUNK, END = 512, 4_194_304, 1024
SLOTS = {"SHA256SUMS.sig": 512, "SHA256SUMS.minisig": 512, "SHA256SUMS.sigs.json": 8192}
HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
HELM_CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
IMAGE_CONFIGS = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)
MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
METADATA = ("bundle.json", "oci-layout", "index.json", "manifest.json")


class RefusedError(Exception):
    """The volumes are not what the format describes."""


def need(condition: object, what: str) -> None:
    """Raises RefusedError."""
    if not condition:
        raise RefusedError(what)


@dataclass(frozen=True)
class Read:
    """What the second reader found: `bundle.json` and the content of each blob by digest."""

    bundle: dict[str, Any]
    blobs: dict[str, bytes]


def read(volumes: Sequence[bytes], pem: Path, minisign: Path) -> Read:
    """Steps 1 to 5 and 7 of "Reading", for all volumes of a bundle, both key families trusted. Raises RefusedError."""
    fronts = [_Front(volume) for volume in volumes]
    for front in fronts:
        _check_signatures(front.members, pem, minisign)
    need(len({front.members["SHA256SUMS"] for front in fronts}) == 1, "volumes of different bundles")
    named = _sums(fronts[0].members["SHA256SUMS"])
    for front in fronts:
        front.read_metadata()
        for name in METADATA:
            need(_sha256(front.members[name]) == named[name], f"{name} is damaged")
    bundle = _canonical(fronts[0].members["bundle.json"])
    need(bundle["format"] == "airferry-bundle/1", "another format")
    need(fronts[0].members["oci-layout"] == b'{"imageLayoutVersion":"1.0.0"}', "oci-layout")
    need(fronts[0].members["index.json"] == _index(bundle), "index.json")
    members = {name for blob in bundle["blobs"] for name in _names(blob)}
    need(named.keys() == members | set(METADATA), "SHA256SUMS names other files")
    _check_bases(bundle)
    payloads = _payloads(fronts, bundle)
    blobs = {blob["digest"]: _blob(blob, payloads, named) for blob in bundle["blobs"] if blob["pieces"]}
    for image in bundle["images"]:
        parts = {bundle["blobs"][number]["digest"] for number in image["parts"]}
        need(image["parts"] == sorted(set(image["parts"])), "parts out of order")
        manifests: dict[str, Any] = {}
        closure = _closure(image, blobs, manifests, parts)
        for digest in (*image["referrers"], *(digest for _, digest in image["tagged"])):
            closure |= _closure({"digest": digest, "size": len(blobs[digest])}, blobs, manifests, parts)
        need(parts == closure, "parts of an image")
        about = {manifests[digest].get("subject", {}).get("digest") for digest in image["referrers"]}
        need(about <= manifests.keys(), "a referrer of something else")
        tags = [tag for tag, _ in image["tagged"]]
        need(tags == sorted(set(tags)), "tags out of order")
        subjects = {re.sub(r"sha256-([0-9a-f]{64})\.[a-z]{1,16}", r"sha256:\1", tag) for tag in tags}
        need(subjects <= manifests.keys(), "a tag about something else")
    need(fronts[0].members["manifest.json"] == _docker_index(bundle, blobs), "manifest.json")
    try:
        for chart in bundle["charts"]:
            _check_chart(chart, blobs)
        for document in bundle["documents"]:
            _check_document(document, bundle, blobs)
    except (KeyError, TypeError, ValueError, tarfile.TarError) as exc:
        raise RefusedError("a chart, profile or proof that is none") from exc
    return Read(bundle, blobs)


def read_patch(patch: bytes, bundle: dict[str, Any]) -> dict[tuple[int, int], bytes]:
    """Section "Patch": the chunks that a patch for `bundle` holds, by the numbers of blob and chunk, each compared with
    its hash. Raises RefusedError."""
    front = _Front(patch)
    front.read_metadata()
    need(_canonical(front.members["bundle.json"]) == bundle, "a patch for another bundle")
    front.next("patch.json")
    listed = _canonical(front.members["patch.json"])
    need(listed["format"] == "airferry-patch/1", "another format of patches")
    found = {}
    for number, first, count in listed["extents"]:
        blob = bundle["blobs"][number]
        name = f"chunks/{blob['digest'].removeprefix('sha256:')}.{first:06}"
        front.next(name)
        for place in range(count):
            chunk = front.members[name][place * CHUNK : (place + 1) * CHUNK]
            found[number, first + place] = chunk
            start = 64 * (first + place)
            right = not blob["pieces"] or blake3(chunk).hexdigest() == blob["chunks"][start : start + 64]
            need(right, "a chunk of a patch is damaged")
        if not blob["pieces"]:
            need(len(front.members[name]) == blob["size"], "a part of a blob that is not carried")
            need(f"sha256:{_sha256(front.members[name])}" == blob["digest"], "a blob of a patch is damaged")
    need(patch[front.offset :] == bytes(END), "the end of a patch")
    return found


class _Front:
    """The metadata members of a volume, read in order."""

    def __init__(self, volume: bytes) -> None:
        self.volume, self.offset = volume, 0
        self.members: dict[str, bytes] = {}
        self.next("SHA256SUMS")
        for name in SLOTS:
            self.next(name)

    def read_metadata(self) -> None:
        for name in METADATA:
            self.next(name)

    def next(self, name: str) -> None:
        block = self.volume[self.offset : self.offset + BLOCK]
        need(len(block) == BLOCK and any(block), "its build was not finished")
        size = int(block[124:135], 8)
        need(block == header(name, size), f"{name} expected")
        area = -(-size // BLOCK) * BLOCK
        need(area == SLOTS.get(name, area), f"{name} does not fill its place")
        start = self.offset + BLOCK
        self.members[name] = self.volume[start : start + size]
        need(self.volume[start + size : start + area] == bytes(area - size), f"padding after {name}")
        self.offset = start + area


def header(name: str, size: int) -> bytes:
    """The table of section "Tar"."""
    digits = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    block = bytearray(BLOCK)
    for offset, value in (
        (0, name.encode("ascii")),
        (100, b"0000444\0"),
        (108, b"0000000\0" * 2),
        (124, digits),
        (136, b"02263523000\0"),
        (148, b" " * 8),
        (156, b"0"),
        (257, b"ustar\x0000"),
        (329, b"0000000\0" * 2),
    ):
        block[offset : offset + len(value)] = value
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _check_signatures(members: dict[str, bytes], pem: Path, minisign: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for member in ("SHA256SUMS", "SHA256SUMS.sig", "SHA256SUMS.minisig"):
            (folder / member).write_bytes(members[member])
        openssl = ["openssl", "dgst", "-sha256", "-verify", pem.resolve(), "-signature", "SHA256SUMS.sig", "SHA256SUMS"]
        need(_succeeds(openssl, folder), "the P-256 signature")
        need(
            _succeeds(["minisign", "-V", "-p", minisign.resolve(), "-m", "SHA256SUMS"], folder),
            "the minisign signature",
        )
    further = members["SHA256SUMS.sigs.json"].rstrip(b"\n")
    need(further == b"unsigned" or "p256" in _canonical(further), "the further signatures")


def _succeeds(command: list[Any], folder: Path) -> bool:
    return subprocess.run(command, cwd=folder, capture_output=True).returncode == 0


def _sums(text: bytes) -> dict[str, str]:
    lines = re.findall(rb"([0-9a-f]{64})  ([a-zA-Z0-9][a-zA-Z0-9._/-]{0,98})\n", text)
    need(b"".join(b"%s  %s\n" % line for line in lines) == text, "SHA256SUMS")
    names = [name for _, name in lines]
    need(names == sorted(set(names)), "SHA256SUMS is not sorted")
    return {name.decode(): digest.decode() for digest, name in lines}


def _canonical(text: bytes) -> dict[str, Any]:
    need(all(0x20 <= byte <= 0x7E for byte in text), "canonical JSON")
    found: dict[str, Any] = json.loads(text)
    need(json.dumps(found, sort_keys=True, separators=(",", ":")).encode() == text, "canonical JSON")
    return found


def _index(bundle: dict[str, Any]) -> bytes:
    entries = [
        {
            "annotations": {
                "io.containerd.image.name": image["source"],
                "org.opencontainers.image.ref.name": image["source"],
            },
            "digest": image["digest"],
            "mediaType": image["media_type"],
            "size": image["size"],
        }
        for image in bundle["images"]
        if all(bundle["blobs"][number]["pieces"] for number in image["parts"])
    ]
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}
    return json.dumps(index, sort_keys=True, separators=(",", ":")).encode()


def _names(blob: dict[str, Any]) -> list[str]:
    name = f"blobs/sha256/{blob['digest'].removeprefix('sha256:')}"
    count = len(blob["pieces"])
    return [name] if count == 1 else [f"{name}.{number:03}" for number in range(count)]


def _check_bases(bundle: dict[str, Any]) -> None:
    """Section "bases", and which blobs may be left out."""
    left_out = [blob for blob in bundle["blobs"] if not blob["pieces"]]
    need(bool(left_out) == bool(bundle["bases"]), "a base without a need for it, or none")
    types = ("manifest.v1+json", "manifest.v2+json", "index.v1+json", "manifest.list.v2+json")
    for blob in left_out:
        need(blob["size"] > 0 and not blob["chunks"], "a blob that is not carried")
        need(not blob["media_type"].endswith(types), "a manifest that is not carried")


def _payloads(fronts: list[_Front], bundle: dict[str, Any]) -> dict[int, bytes]:
    """The payload of each volume by its number; volumes are told by the first header, sizes and ends are checked."""
    firsts = {
        header(name, piece[2]): piece[0]
        for blob in bundle["blobs"]
        for name, piece in zip(_names(blob), blob["pieces"], strict=True)
        if piece[1] == BLOCK
    }
    found = {}
    for front in fronts:
        first = front.volume[front.offset : front.offset + BLOCK]
        need(first in firsts, "the payload begins with nothing that is named")
        number = firsts[first]
        length = bundle["volumes"][number]["payload"]
        need(len(front.volume) == front.offset + length + END, "the size of a volume")
        need(front.volume[-END:] == bytes(END), "the end of a volume")
        found[number] = front.volume[front.offset : front.offset + length]
    need(sorted(found) == list(range(len(bundle["volumes"]))), "a volume is missing or stands twice")
    # Every byte is accounted for: going through all pieces must lead from the start to the end of each payload.
    ends = dict.fromkeys(found, 0)
    for blob in bundle["blobs"]:
        for name, (number, offset, length) in zip(_names(blob), blob["pieces"], strict=True):
            need(offset == ends[number] + BLOCK, "a gap")
            need(found[number][offset - BLOCK : offset] == header(name, length), "a header")
            ends[number] = offset + -(-length // BLOCK) * BLOCK
            need(not any(found[number][offset + length : ends[number]]), "padding")
    need(all(ends[number] == len(payload) for number, payload in found.items()), "bytes behind the last blob")
    return found


def _blob(blob: dict[str, Any], payloads: dict[int, bytes], named: dict[str, str]) -> bytes:
    pieces = [payloads[number][offset : offset + length] for number, offset, length in blob["pieces"]]
    for name, piece in zip(_names(blob), pieces, strict=True):
        need(_sha256(piece) == named[name], f"{name} is damaged")
    content = b"".join(pieces)
    chunks = [content[start : start + CHUNK] for start in range(0, len(content), CHUNK)]
    need("".join(blake3(chunk).hexdigest() for chunk in chunks) == blob["chunks"], "a chunk is damaged")
    need(len(content) == blob["size"] and f"sha256:{_sha256(content)}" == blob["digest"], "a blob is damaged")
    return content


def _closure(root: dict[str, Any], blobs: dict[str, bytes], manifests: dict[str, Any], parts: set[str]) -> set[str]:
    """Everything that a manifest or index names, itself included; all manifests are put into `manifests`.

    Of what may be missing, only what is among `parts`.
    """
    digest = root["digest"]
    need(len(blobs[digest]) == root["size"], "the size of a manifest")
    manifest = manifests[digest] = json.loads(blobs[digest])
    entries, layers = manifest.get("manifests") or [], manifest.get("layers") or []
    others = [item for item in entries if item["mediaType"] not in MANIFESTS]
    others += [item for item in layers if "foreign" in item["mediaType"] or "nondistributable" in item["mediaType"]]
    named = [*layers, *others, *([manifest["config"]] if "config" in manifest else ())]
    found = {digest, *(item["digest"] for item in named if item not in others or item["digest"] in parts)}
    return found.union(*(_closure(item, blobs, manifests, parts) for item in entries if item not in others))


def _docker_index(bundle: dict[str, Any], blobs: dict[str, bytes]) -> bytes:
    """Section "manifest.json"."""
    types = {blob["digest"]: blob["media_type"] for blob in bundle["blobs"]}
    wanted = [*bundle["platforms"][0].split("/"), ""][:3]
    tags: dict[tuple[str, ...], list[str]] = {}
    for image in bundle["images"]:
        manifest = json.loads(blobs[image["digest"]])
        while "manifests" in manifest:
            fitting = [child for child in manifest["manifests"] if _serves(child.get("platform"), wanted)]
            fitting.sort(key=lambda child: child["platform"].get("variant", "") != wanted[2])
            if len(manifest["manifests"]) == 1 and not _named(manifest["manifests"][0].get("platform")):
                fitting = manifest["manifests"]
            if not fitting or fitting[0]["mediaType"] not in MANIFESTS:
                break
            manifest = json.loads(blobs[fitting[0]["digest"]])
        if "manifests" in manifest:
            continue
        content = (manifest["config"]["digest"], *(layer["digest"] for layer in manifest.get("layers") or ()))
        parts = {bundle["blobs"][number]["digest"] for number in image["parts"]}
        if types[content[0]] in IMAGE_CONFIGS and blobs.keys() & parts >= set(content):
            name = image["source"].split("@")[0]
            tags.setdefault(content, []).extend([name] if ":" in name.rsplit("/", 1)[1] else [])
    entries = [
        {
            "Config": f"blobs/sha256/{content[0].removeprefix('sha256:')}",
            "Layers": [f"blobs/sha256/{layer.removeprefix('sha256:')}" for layer in content[1:]],
            "RepoTags": sorted(names),
        }
        for content, names in sorted(tags.items(), key=lambda item: (sorted(item[1]), item[0]))
    ]
    return json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()


def _named(platform: dict[str, str] | None) -> bool:
    return bool(platform and platform.get("os") and platform.get("architecture"))


def _serves(platform: dict[str, str] | None, wanted: list[str]) -> bool:
    if platform is None or [platform.get("os"), platform.get("architecture")] != wanted[:2]:
        return False
    usual = "v8" if wanted[1] == "arm64" else ""
    asked = wanted[2] or usual
    return not asked or (platform.get("variant") or usual) == asked


def _check_chart(chart: dict[str, Any], blobs: dict[str, bytes]) -> None:
    """Section "charts"."""
    named = chart["name"], chart["version"]
    artifact = json.loads(blobs[chart["artifact"]])
    need("config" in artifact and artifact["config"]["mediaType"] == HELM_CONFIG, "an artifact that is no chart")
    layers = [layer["digest"] for layer in artifact["layers"] if layer["mediaType"] == HELM_CHART]
    need(layers == [chart["archive"]], "the archive in an artifact")
    for item in (artifact["config"], *artifact["layers"]):
        need(len(blobs.get(item["digest"], b"")) == item["size"], "a part of an artifact")
    config = json.loads(blobs[artifact["config"]["digest"]])
    need(len({key.lower() for key in config}) == len(config), "keys that differ in case only")
    need((config.get("name"), config.get("version")) == named, "the configuration of an artifact")
    with tarfile.open(fileobj=io.BytesIO(blobs[chart["archive"]])) as archive:
        members = [archive.extractfile(name) for name in archive.getnames() if re.fullmatch("[^/]+/Chart.yaml", name)]
        documents = [item for member in members if member for item in yaml.load_all(member, yaml.CSafeLoader)]
    need([(item["name"], item["version"]) for item in documents] == [named], "the Chart.yaml in an archive")


def _check_document(document: dict[str, Any], bundle: dict[str, Any], blobs: dict[str, bytes]) -> None:
    """Sections "A profile" and "A proof": what they name of the bundle."""
    if document["kind"] not in ("profile", "proof"):
        return
    content = json.loads(blobs[document["digest"]])
    charts = {(item["name"], item["version"], item["archive"]) for item in bundle["charts"]}
    if document["kind"] == "proof":
        carried = {
            (item["reference"], item["digest"]) for item in content["references"] if item["verdict"] == "carried"
        }
        need(carried == {(item["source"], item["digest"]) for item in bundle["images"]}, "other images in the proof")
        need({(item["name"], item["version"], item["archive"]) for item in content["charts"]} <= charts, "other charts")
        return
    kinds = {(item["kind"], item["name"]) for item in bundle["documents"]}
    for step in content["steps"]:
        if chart := step if "chart" in step else step.get("installs"):
            fitting = [item for item in charts if item[0] == chart["chart"] and chart.get("version") in (None, item[1])]
            need(len(fitting) == 1, "a chart of a step")
        named = {("manifests", name) for name in step.get("manifests", ())}
        named |= {(kind, step[kind]) for kind in ("resource", "values") if isinstance(step.get(kind), str)}
        need(named <= kinds, "a document of a step")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

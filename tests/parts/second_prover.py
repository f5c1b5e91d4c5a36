"""A second program that goes over the proof of completeness in a bundle, written from FORMAT.md alone.

It shares no code with the builder, and asks the program `helm`, not the library, what the charts render to.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import yaml

from tests.parts.image_texts import full
from tests.parts.kubectl import tools
from tests.parts.second_reader import Read, need

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


def check(read: Read, home: Path) -> dict[str, Any]:
    """The proof, after every statement that `helm` can confirm was confirmed. Raises RefusedError."""
    [document] = [item for item in read.bundle["documents"] if item["kind"] == "proof"]
    proof: dict[str, Any] = json.loads(read.blobs[document["digest"]])
    need(proof["format"] == "airferry-proof/1", "another format")
    verdicts: dict[str, set[str]] = {}
    for item in proof["references"]:
        verdicts.setdefault(item["verdict"], set()).add(item["reference"])
        need(item["verdict"] != "excluded" or item["because"], "excluded without a reason")
    carried = {item["reference"]: item["digest"] for item in proof["references"] if item["verdict"] == "carried"}
    need(carried == {item["source"]: item["digest"] for item in read.bundle["images"]}, "other images than carried")
    charts = {(item["name"], item["version"]): item for item in read.bundle["charts"]}
    steps = _steps(read)
    need(sorted(steps) == sorted(item["release"] for item in proof["charts"]), "other steps")
    for chart in proof["charts"]:
        name, version, document = steps[chart["release"]]
        need((name, version, document) == (chart["name"], chart["version"], chart["document"]), "another step")
        need(charts[name, version]["archive"] == chart["archive"], "another chart")
        _check_chart(proof, chart, read.blobs[chart["archive"]], verdicts, home)
    return proof


def _steps(read: Read) -> dict[str, tuple[str, str, str]]:
    """By release: chart, version, and the document with its values, of all steps of the profile that have a chart."""
    digests = [item["digest"] for item in read.bundle["documents"] if item["kind"] == "profile"]
    found = {}
    for step in (step for digest in digests for step in json.loads(read.blobs[digest])["steps"]):
        if "chart" in step:
            found[step.get("name", step["chart"])] = step["chart"], step["version"], step.get("values", "")
        elif "installs" in step:
            found[step["name"]] = step["installs"]["chart"], step["installs"]["version"], step["resource"]
    return found


def _check_chart(
    proof: Mapping[str, Any], chart: Mapping[str, Any], archive: bytes, verdicts: Mapping[str, set[str]], home: Path
) -> None:
    operations = {item["operation"] for item in chart["renderings"] if item["name"] == "profile"}
    need(operations == {"install", "upgrade"}, "not rendered as installation and as upgrade")
    for rendering in chart["renderings"]:
        text = f"{chart['values']}\n{rendering['overlay']}".encode()
        need(rendering["digest"] == f"sha256:{hashlib.sha256(text).hexdigest()}", "the digest of values")
        # No program can tell `helm template` what `lookup` finds, nor render a part of a chart.
        if rendering["lookup"] == "present" or rendering["name"] not in ("profile", "everything"):
            continue
        objects = list(_objects(proof, chart, rendering, archive, home))
        need(rendering["templates"] != "all" or len(objects) == rendering["objects"], f"{len(objects)} objects")
        allowed = verdicts.get("carried", set()) | verdicts.get("excluded", set())
        if rendering["name"] == "everything":
            allowed |= verdicts.get("optional", set())
        asked = {full(image) for item in objects if not _is_test(item) for image in images(item)}
        need(asked <= allowed, f"{chart['name']}: {', '.join(sorted(asked - allowed))}")


def _objects(
    proof: Mapping[str, Any], chart: Mapping[str, Any], rendering: Mapping[str, Any], archive: bytes, home: Path
) -> Iterator[dict[str, Any]]:
    """What `helm template` prints, lists not taken apart."""
    packed = home / "chart.tgz"
    packed.write_bytes(archive if rendering["name"] == "profile" else without_notes(archive))
    files = [home / "values.json", home / "overlay.json"]
    for file, text in zip(files, (chart["values"], rendering["overlay"]), strict=True):
        file.write_text(text)
    options: list[str | Path] = ["--namespace", chart["namespace"], "--include-crds"]
    options += [part for file in files for part in ("--values", file)]
    options += [part for version in proof["api_versions"] for part in ("--api-versions", version)]
    options += ["--kube-version", rendering["kubernetes"]] if rendering["kubernetes"] else []
    options += ["--is-upgrade"] if rendering["operation"] == "upgrade" else []
    text = tools().run_helm("template", chart["release"], packed, *options, home=home)
    yield from (item for item in yaml.load_all(text, yaml.CSafeLoader) if item)


def without_notes(archive: bytes) -> bytes:
    """A chart archive without any NOTES.txt."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as old,
        tarfile.open(fileobj=packed, mode="w") as new,
    ):
        for member in old:
            if member.isfile() and not member.name.endswith("/NOTES.txt"):
                new.addfile(member, old.extractfile(member))
    return gzip.compress(packed.getvalue())


def images(node: Any) -> Iterator[str]:
    """The images of all containers anywhere in an object."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("containers", "initContainers", "ephemeralContainers") and isinstance(value, list):
                yield from (item["image"] for item in value if isinstance(item, dict) and item.get("image"))
            yield from images(value)
    elif isinstance(node, list):
        for part in node:
            yield from images(part)


def _is_test(item: Mapping[str, Any]) -> bool:
    annotations = item["metadata"].get("annotations") or {}
    return bool(annotations.get("helm.sh/hook") in ("test", "test-success"))

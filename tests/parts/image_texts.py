"""What in Kubernetes objects looks like an image, told by the plainest of means: written without a look at airferry.

It finds more than images, and not all of them. What it is for is that airferry misses none of these.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LISTS = ("containers", "initContainers", "ephemeralContainers")
_HOST = r"(?:(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}|localhost|\d+(?:\.\d+){3})(?::\d+)?"
_LIKE = re.compile(
    rf"(?<![\w./@-])(?:(?:docker|oci)://)?({_HOST}/[a-z0-9][\w./-]*(?::\w[\w.-]*)?(?:@sha256:[0-9a-f]{{64}})?)",
    re.ASCII,
)
_DOCUMENT = re.compile(r"^---.*$", re.MULTILINE)
_DEFINITION = re.compile(r"^kind: [\"']?CustomResourceDefinition\b", re.MULTILINE)
_DEFAULT = re.compile(rf"\bdefault: [\"']?{_LIKE.pattern}", re.ASCII)
_VERSIONED = re.compile(r"/[^/]*[:@][^/]*$")
_KEY = re.compile(r"image|imageName|\w*Image", re.ASCII)


@dataclass
class Images:
    """Full names: `told` are the images of containers and what keys or variables call an image, `like` all texts of the
    form HOST/REPOSITORY with a tag or digest, `tests` what only `helm test` would run."""

    told: set[str] = field(default_factory=set)
    like: set[str] = field(default_factory=set)
    tests: set[str] = field(default_factory=set)

    def read(self, stream: str) -> None:
        """Look into the objects in a stream of YAML; into definitions of kinds only for what is a default there."""
        for text in _DOCUMENT.split(stream):
            if _DEFINITION.search(text):
                self.like |= {full(match[1]) for match in _DEFAULT.finditer(text) if _VERSIONED.search(match[1])}
                continue
            for item in yaml.load_all(text, yaml.CBaseLoader):
                if isinstance(item, dict) and "kind" in item:
                    self._add(item)

    def _add(self, item: Mapping[str, Any]) -> None:
        told = {full(text) for text in (*_containers(item), *_told(item))}
        like = {full(text) for text in _like(item)}
        if _is_test(item):
            self.tests |= told | like
        else:
            self.told |= told
            self.like |= like

    @property
    def all(self) -> set[str]:
        """What an installation may ask for."""
        return self.told | self.like


def full(image: str) -> str:
    """`redis` → `docker.io/library/redis:latest`, as docker's reference grammar has it."""
    name, at, digest = image.partition("@")
    last = name.rpartition("/")[2]
    name, tag = (name[: name.rfind(":")], name[name.rfind(":") :]) if ":" in last else (name, "")
    host, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif not ("." in host or ":" in host or host == "localhost"):
        name = f"docker.io/{name}"
    elif host == "docker.io" and name.count("/") == 1:
        name = name.replace("/", "/library/")
    return f"{name}{tag or ('' if at else ':latest')}{at}{digest}"


def _is_test(item: Mapping[str, Any]) -> bool:
    metadata = item.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    events = annotations.get("helm.sh/hook", "") if isinstance(annotations, dict) else ""
    return {event.strip() for event in events.split(",")} <= {"test", "test-success"}


def _like(item: Any) -> set[str]:
    """Every such text in any text of an object, Base64 of Secrets taken off."""
    return {found for text in _texts(item) for match in _LIKE.finditer(text) if _VERSIONED.search(found := match[1])}


def _containers(node: Any) -> set[str]:
    """The images of all containers, and of volumes that are images, as they are written."""
    found = set()
    if isinstance(node, dict):
        for key, value in node.items():
            parts = [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []
            if key in _LISTS:
                found |= {part["image"] for part in parts if isinstance(part.get("image"), str)}
            elif key == "volumes":
                volumes = [part["image"] for part in parts if isinstance(part.get("image"), dict)]
                found |= {image["reference"] for image in volumes if "reference" in image}
            found |= _containers(value)
    elif isinstance(node, list):
        for part in node:
            found |= _containers(part)
    return found - {""}


def _told(node: Any, key: str = "") -> set[str]:
    """What is called `image`, `...Image` or `RELATED_IMAGE_...`, and images spelt in parts."""
    found = set()
    if isinstance(node, dict):
        if str(node.get("name")).startswith("RELATED_IMAGE_") and node.get("value"):
            found.add(str(node["value"]))
        found |= _in_parts(node)
        for below, value in node.items():
            found |= _told(value, below)
    elif isinstance(node, list):
        for part in node:
            found |= _told(part, key)
    elif isinstance(node, str) and _KEY.fullmatch(key) and ("/" in node or ":" in node):
        found.add(node)
    return found


def _in_parts(node: Mapping[str, Any]) -> set[str]:
    texts = {key: str(value) for key, value in node.items() if isinstance(value, str)}
    repository, image = texts.get("repository", ""), texts.get("image", "")
    version = texts.get("digest") or texts.get("tag") or texts.get("version")
    if not repository or not version or ":" in image:
        return set()
    name = f"{repository}/{image}" if image else repository
    name = f"{texts['registry']}/{name}" if texts.get("registry") else name
    return {f"{name}@{version}" if version.startswith("sha256:") else f"{name}:{version}"}


def _texts(node: Any, *, secret: bool = False) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield str(key)
            yield from _texts(value, secret=secret or (key == "data" and node.get("kind") == "Secret"))
    elif isinstance(node, list):
        for part in node:
            yield from _texts(part, secret=secret)
    elif isinstance(node, str):
        yield node
        if secret:
            try:
                yield base64.b64decode(node, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                return

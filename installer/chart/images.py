"""Image references in Kubernetes objects, found by structure and not by schema.

A container list means the same in a Deployment, a CronJob, a hook, and in a custom resource of a kind that nobody here
has heard of; so every map is searched for one. What looks like a reference but stands where no rule says that it is
one (arguments, environment, ConfigMaps) is *suspected*: worth a person's look, too noisy to be pulled unasked.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from installer.chart.helm import Object, hook_events
from installer.errors import AirferryError
from installer.oci.reference import Reference, parse_reference
from installer.value import Value, replace

Certainty = Literal["found", "suspected"]
_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
_TEST_EVENTS = {"test", "test-success"}
_IMAGE_KEY = re.compile(r"image|.*[a-z]Image", re.ASCII)
_IMAGES_KEY = re.compile(r"images?|.*[a-z]Images?", re.ASCII)
_IMAGE_FLAG = re.compile(r"--?[A-Za-z0-9.-]*image[A-Za-z0-9.-]*", re.ASCII | re.IGNORECASE)
_IMAGE_LINE = re.compile(
    r"""[ \t]*(?:- )?["']?[A-Za-z0-9_.]*image["']?[ \t]*[:=][ \t]*["']?([^\s"',]+)["']?,?[ \t\r]*""", re.IGNORECASE
)
# Kinds of these groups hold images in container lists and volumes only; a custom resource's group has a dot.
_BUILT_IN = re.compile(r"(?:[a-z]+/)?v\d\w*|[a-z.]+\.k8s\.io/\w+", re.ASCII)
_MAX_DEPTH = 100
_MAX_REFERENCE = 600
_MAX_LINE = 1000


class Found(Value, order=True):
    """One place that names an image: `text` as it stands there, in the field `path` of an object.

    `hooks` are the Helm hook events of the object; `container` is empty where the image is not a container's. `pulled`
    says that nodes ask the registry each time, also if they have the image.
    """

    text: str
    kind: str
    namespace: str
    name: str
    container: str
    path: str
    hooks: tuple[str, ...]
    certainty: Certainty
    pulled: bool = False

    @property
    def certain(self) -> bool:
        """Whether the cluster will ask for this image, as opposed to a text that only looks like one."""
        return self.certainty == "found"

    @property
    def test_only(self) -> bool:
        """Whether only `helm test` would run it, which nothing in an enclave does unasked."""
        return bool(self.hooks) and _TEST_EVENTS.issuperset(self.hooks)

    @property
    def place(self) -> str:
        """For people: `Deployment app, container web`; for a suspected one the field."""
        owner = f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"
        hook = f" (hook {', '.join(self.hooks)})" if self.hooks else ""
        return f"{owner}{hook}, {f'container {self.container}' if self.container and self.certain else self.path}"

    def reference(self) -> Reference:
        """What `text` refers to, docker.io rules applied. Raises UsageError if it is no reference."""
        return parse_reference(self.text)


def references(objects: Iterable[Object]) -> list[Found]:
    """Every place in `objects` that names an image, in order; the bodies of CustomResourceDefinitions are skipped.

    References of containers and image volumes are found even if malformed; all others only if they parse.
    """
    found: list[Found] = []
    for item in objects:
        found += _Walk(item).run()
    return found


class _Walk:
    """The search through one object."""

    def __init__(self, item: Object) -> None:
        metadata = item.get("metadata") if isinstance(item.get("metadata"), dict) else {}
        self.item = item
        self.kind = str(item.get("kind", ""))
        self.name = str((metadata or {}).get("name", ""))
        self.namespace = str((metadata or {}).get("namespace") or "")
        self.hooks = hook_events(item)
        self.foreign = not _BUILT_IN.fullmatch(str(item.get("apiVersion", "v1")))

    def run(self) -> Iterator[Found]:
        if self.kind == "CustomResourceDefinition":
            return
        items = self.item.get("items")
        if self.kind.endswith("List") and isinstance(items, list):
            for part in items:
                if isinstance(part, dict):
                    yield from _Walk(part).run()
            return
        if self.kind == "ConfigMap":
            yield from self._config_map()
            return
        yield from self._map(self.item, "", 0)

    def _found(self, text: str, path: str, container: str = "", certainty: Certainty = "found") -> Found:
        return Found(text, self.kind, self.namespace, self.name, container, path, self.hooks, certainty)

    def _any(self, node: Any, path: str, depth: int) -> Iterator[Found]:
        if depth > _MAX_DEPTH:
            return
        if isinstance(node, dict):
            yield from self._map(node, path, depth)
        elif isinstance(node, list):
            for index, part in enumerate(node):
                yield from self._any(part, f"{path}[{index}]", depth + 1)

    def _map(self, node: Mapping[str, Any], path: str, depth: int) -> Iterator[Found]:
        for key, value in node.items():
            here = f"{path}.{key}".removeprefix(".")
            if key in _CONTAINERS and isinstance(value, list):
                for index, container in enumerate(value):
                    if isinstance(container, dict):
                        yield from self._container(container, f"{here}[{index}]", depth + 1)
                continue
            if key == "volumes" and isinstance(value, list):
                yield from self._volumes(value, here)
            if self.foreign and _IMAGES_KEY.fullmatch(key):
                yield from self._custom(key, value, here)
            yield from self._any(value, here, depth + 1)

    def _container(self, container: Mapping[str, Any], path: str, depth: int) -> Iterator[Found]:
        name = str(container.get("name", ""))
        image = container.get("image")
        if isinstance(image, str) and image:
            yield replace(
                self._found(image, f"{path}.image", name), pulled=_pulled(image, container.get("imagePullPolicy"))
            )
        for text, field in (*_arguments(container), *_environment(container)):
            yield self._found(text, f"{path}.{field}", name, "suspected")
        rest = {key: value for key, value in container.items() if key != "image" or not isinstance(value, str)}
        yield from self._map(rest, path, depth)

    def _volumes(self, volumes: list[Any], path: str) -> Iterator[Found]:
        """Image volumes (Kubernetes API reference, Volume, `image.reference`)."""
        for index, volume in enumerate(volumes):
            image = volume.get("image") if isinstance(volume, dict) else None
            reference = image.get("reference") if isinstance(image, dict) else None
            if isinstance(reference, str) and reference:
                place = self._found(reference, f"{path}[{index}].image.reference")
                yield replace(place, pulled=_pulled(reference, (image or {}).get("pullPolicy")))

    def _custom(self, key: str, value: Any, path: str) -> Iterator[Found]:
        """Images of a custom resource: `image: text`, or a map of repository, tag, digest and perhaps registry."""
        if isinstance(value, str):
            if _IMAGE_KEY.fullmatch(key) and as_reference(value) is not None:
                yield self._found(value, path)
        elif isinstance(value, dict):
            text = _joined(value)
            if text and as_reference(text) is not None:
                versioned = isinstance(value.get("tag") or value.get("digest"), str | int | float)
                yield self._found(text, path, certainty="found" if versioned else "suspected")

    def _config_map(self) -> Iterator[Found]:
        data = self.item.get("data")
        for key, value in data.items() if isinstance(data, dict) else ():
            if not isinstance(value, str):
                continue
            for line in value.splitlines():
                match = _IMAGE_LINE.fullmatch(line) if len(line) <= _MAX_LINE else None
                text = match[1] if match else line.strip()
                if _explicit(text):
                    yield self._found(text, f"data.{key}", certainty="suspected")


def _pulled(image: str, policy: Any) -> bool:
    """Whether this policy means a pull at each start (Kubernetes documentation, "Images", defaults included)."""
    if policy:
        return bool(policy == "Always")
    return "@" not in image and (not _versioned(image) or image.endswith(":latest"))


def _arguments(container: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """References in `--some-image=REF` and `--some-image REF`, with their fields."""
    for field in ("command", "args"):
        words = container.get(field)
        texts = [word if isinstance(word, str) else "" for word in words] if isinstance(words, list) else []
        for index, word in enumerate(texts):
            flag, equals, value = word.partition("=")
            if not _IMAGE_FLAG.fullmatch(flag):
                continue
            if not equals:
                value = texts[index + 1] if index + 1 < len(texts) else ""
            if _versioned_or_nested(value):
                yield value, f"{field}[{index if equals else index + 1}]"


def _environment(container: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """References in environment values, with their fields."""
    entries = container.get("env")
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        name, value = (entry.get("name"), entry.get("value")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(value, str):
            continue
        if _explicit(value) or ("IMAGE" in name.upper() and _versioned_or_nested(value)):
            yield value, f"env[{index}].value"


def _joined(value: Mapping[str, Any]) -> str:
    """The reference that a map of registry, repository, tag and digest means; empty if it means none."""
    repository = value.get("repository")
    if not isinstance(repository, str) or not repository:
        return ""
    registry = value.get("registry")
    text = f"{registry}/{repository}" if isinstance(registry, str) and registry else repository
    digest, tag = value.get("digest"), value.get("tag")
    if isinstance(digest, str) and digest:
        return f"{text}@{digest}"
    return f"{text}:{tag}" if isinstance(tag, str | int | float) and tag != "" else text


def as_reference(text: str) -> Reference | None:
    """The reference that `text` is; None if it is none."""
    if not text or len(text) > _MAX_REFERENCE:
        return None
    try:
        return parse_reference(text)
    except AirferryError:
        return None


def _versioned(text: str) -> bool:
    return "@" in text or ":" in text.rpartition("/")[2]


def _versioned_or_nested(text: str) -> bool:
    """A reference that is more than one bare word: `latest` and `85` are not meant."""
    return ("/" in text or _versioned(text)) and as_reference(text) is not None


def _explicit(text: str) -> bool:
    """A reference that names its registry's host and a tag or digest: little else looks like that."""
    host = text.partition("/")[0]
    written = "/" in text and ("." in host or ":" in host)
    return written and _versioned(text) and as_reference(text) is not None

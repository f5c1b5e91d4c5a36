"""Image references in Kubernetes objects, found by structure and not by schema.

A container list means the same in a Deployment, a CronJob, a hook, and in a custom resource of a kind that nobody here
has heard of; so every map is searched for one. Operators name the images that they run in keys and variables of their
own (`spec.image`, `RELATED_IMAGE_*`). What looks like a reference in any other text is *suspected*: the cluster may ask
for it, or it may be no image at all.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal

from installer.chart.helm import Object, hook_events
from installer.chart.spelling.keys import meaning, names_image, speaks_of_images
from installer.chart.spelling.parts import Above, above_of, joined
from installer.chart.spelling.rules import NO_RULES, Rules, named
from installer.chart.spelling.text import as_reference, in_text, plausible, versioned, versioned_or_nested
from installer.errors import ContentError
from installer.oci.reference import Reference, parse_reference
from installer.strict_yaml import load_yaml
from installer.value import Value

Certainty = Literal["found", "suspected"]
_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
_TEST_EVENTS = {"test", "test-success"}
OWN_GROUPS = frozenset({"", "apps", "autoscaling", "batch", "extensions", "policy"}) | {
    f"{group}.k8s.io"
    for group in (
        *("admission", "admissionregistration", "apiextensions", "apiregistration", "authentication", "authorization"),
        *("certificates", "coordination", "discovery", "events", "flowcontrol.apiserver", "imagepolicy", "networking"),
        *("internal.apiserver", "node", "rbac.authorization", "resource", "scheduling", "storage", "storagemigration"),
    )
}
"""Those of Kubernetes itself (kubernetes/api): their kinds hold images in container lists and image volumes only."""
_LABELS = ("labels", "matchLabels")
# What operators of the Operator Framework call the images that they run (its documentation, "Offline enabled").
_RELATED = "RELATED_IMAGE_"
_SEPARATOR = re.compile(r"[\s,;]+")
_FLAG = re.compile(r"--?[\w.-]+", re.ASCII)
_DOCUMENT = re.compile(r"^---[ \t]*$", re.MULTILINE)
_MAX_DEPTH = 100
_MAX_FOUND = 10_000
# No object that a cluster takes has longer texts (etcd: 1.5 MiB).
_MAX_TEXT = 4 << 20
_MAX_LIST = 10_000
# Documents within texts: how long they may be, how many nodes they may have (aliases repeat them), and how deep they
# may stand in each other. Beyond that their text is searched all the same.
_MAX_PARSED = 512 << 10
_MAX_NODES = 100_000
_MAX_EMBEDDED = 3
_MAX_KEPT = 64 << 10
_MAX_KEPT_OBJECTS = 2048
_kept: dict[tuple[str, str], tuple["Found", ...]] = {}


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


def references(objects: Iterable[Object], rules: Rules = NO_RULES) -> list[Found]:
    """Every place in `objects` that names an image, in order; the bodies of CustomResourceDefinitions are skipped.

    What `rules` name is found for sure.

    References of containers and image volumes are found even if malformed; all others only if they parse. Each is
    told once for a field. Raises ContentError for an object with more than 10,000.
    """
    ruled = json.dumps({kind: list(rules[kind]) for kind in rules})
    found: list[Found] = []
    for item in objects:
        found += _known(item, rules, ruled)
    return found


def _known(item: Object, rules: Rules, ruled: str) -> tuple[Found, ...]:
    """What one object names. A chart is rendered again and again, and most of its objects stay the same."""
    try:
        text = json.dumps(item, default=str)
    except RecursionError:
        text = ""
    if not 0 < len(text) <= _MAX_KEPT:
        return tuple(_Walk(item, rules=rules).run())
    if (text, ruled) not in _kept:
        if len(_kept) >= _MAX_KEPT_OBJECTS:
            _kept.clear()
        _kept[text, ruled] = tuple(_Walk(item, rules=rules).run())
    return _kept[text, ruled]


class _Walk:
    """The search through one object, or through a document that stands in a text of one (`embedded`)."""

    def __init__(self, item: Object, embedded: int = 0, rules: Rules = NO_RULES) -> None:
        metadata = item.get("metadata") if isinstance(item.get("metadata"), dict) else {}
        self.item = item
        self.kind = str(item.get("kind", ""))
        self.name = str((metadata or {}).get("name", ""))
        self.namespace = str((metadata or {}).get("namespace") or "")
        self.hooks = hook_events(item) if metadata and not embedded else ()
        self.foreign = str(item.get("apiVersion", "v1")).rpartition("/")[0] not in OWN_GROUPS
        self.embedded, self.rules = embedded, rules
        self.container = ""
        self.nodes = 0
        self.found: dict[tuple[str, str], Found] = {}

    def run(self) -> Iterable[Found]:
        """What is found."""
        items = self.item.get("items")
        if self.kind == "CustomResourceDefinition":
            return ()
        if self.kind.endswith("List") and isinstance(items, list):
            parts = [_Walk(part, self.embedded, self.rules) for part in items if isinstance(part, dict)]
            return [found for part in parts for found in part.run()]
        for rule in self.rules.get(self.kind, ()):
            for path, text in named(rule, self.item):
                self._add(text, path, certain=True)
        self._map(_decoded(self.item, self.kind), "", "", 0, Above())
        return self.found.values()

    def _add(self, text: str, path: str, *, certain: bool = False, pulled: bool = False) -> None:
        certainty: Certainty = "found" if certain and not self.embedded else "suspected"
        place = (text, path)
        if not text or place in self.found:
            return
        if len(self.found) == _MAX_FOUND:
            raise ContentError(
                f"{self.kind} {self.name} names more than {_MAX_FOUND} images", hint="divide the object."
            )
        self.found[place] = Found(
            text, self.kind, self.namespace, self.name, self.container, path, self.hooks, certainty, pulled
        )

    def _any(self, node: Any, key: str, path: str, depth: int, above: Above) -> None:
        """Search `node`, which stands at `path` under `key`."""
        self.nodes += 1
        if depth > _MAX_DEPTH or (self.embedded and self.nodes > _MAX_NODES):
            return
        if isinstance(node, str):
            self._text(node, key, path)
        elif isinstance(node, dict):
            self._map(node, key, path, depth, above)
        elif isinstance(node, list):
            self._list(node, key, path, depth, above)

    def _list(self, node: list[Any], key: str, path: str, depth: int, above: Above) -> None:
        before = ""
        for index, part in enumerate(node):
            flag = before if isinstance(part, str) and _FLAG.fullmatch(before) else ""
            self._any(part, flag or key, f"{path}[{index}]", depth + 1, above)
            before = part if isinstance(part, str) else ""
        entries = dict(entry for part in node if (entry := _entry(part)))
        for spelt in joined(entries, Above()) if len(entries) > 1 else ():
            self._add(spelt.text, path)

    def _map(self, node: Mapping[str, Any], key: str, path: str, depth: int, above: Above) -> None:
        under = names_image(key)
        used: set[str] = set()
        for spelt in joined(node, above, under_image=under):
            used.update(spelt.keys)
            self._add(spelt.text, path, certain=spelt.certain and self.foreign)
        above = above_of(node, above)
        entry = _entry(node)
        for own, part in node.items():
            here = f"{path}.{own}".removeprefix(".")
            if own in _CONTAINERS and isinstance(part, list):
                self._containers(part, here, depth + 1)
            elif isinstance(part, str):
                meant = entry[0] if entry and own == "value" else str(own)
                if own not in used:
                    self._text(part, key if under and not meaning(meant).role else meant, here)
            elif own not in _LABELS or not isinstance(part, dict):
                if own == "volumes" and isinstance(part, list):
                    self._volumes(part, here)
                self._any(part, str(own), here, depth + 1, above)
            if "/" in own and ":" in own:
                self._text(own, "", path)

    def _containers(self, containers: list[Any], path: str, depth: int) -> None:
        outer = self.container
        for index, container in enumerate(containers):
            here = f"{path}[{index}]"
            if not isinstance(container, dict):
                self._any(container, "", here, depth, Above())
                continue
            self.container = str(container.get("name", ""))
            image = container.get("image")
            if isinstance(image, str):
                self._pulled(image, f"{here}.image", container.get("imagePullPolicy"))
            rest = {key: value for key, value in container.items() if key != "image" or not isinstance(value, str)}
            self._any(rest, "", here, depth, Above())
            self.container = outer

    def _volumes(self, volumes: list[Any], path: str) -> None:
        """Image volumes (Kubernetes API reference, Volume, `image.reference`)."""
        for index, volume in enumerate(volumes):
            image = volume.get("image") if isinstance(volume, dict) else None
            reference = image.get("reference") if isinstance(image, dict) else None
            if isinstance(image, dict) and isinstance(reference, str):
                self._pulled(reference, f"{path}[{index}].image.reference", image.get("pullPolicy"))

    def _pulled(self, image: str, path: str, policy: Any) -> None:
        """Add what a node pulls, malformed or not; of an embedded document only what is a reference."""
        if image and (not self.embedded or as_reference(image)):
            self._add(image, path, certain=True, pulled=_asks_again(image, policy))

    def _text(self, text: str, key: str, path: str) -> None:
        """Add the references in `text`, the value of `key`."""
        if speaks_of_images(key) and len(text) <= _MAX_LIST:
            self._named(text.strip(), key, path)
        if len(text) <= _MAX_TEXT and _is_worth_a_look(text):
            for found in _in_text(text, self.embedded):
                self._add(found, path)

    def _named(self, text: str, key: str, path: str) -> None:
        """Add what `text` names, the value of a key that speaks of images: short names, too."""
        conventional = names_image(key) and self.foreign
        parts = [part.rpartition("=")[2] for part in _SEPARATOR.split(text)]
        if all(versioned_or_nested(part) and plausible(part) for part in parts):
            sure = key.startswith(_RELATED) or conventional
            for part in parts:
                self._add(part, path, certain=sure and versioned(part))
        elif conventional and not self.embedded and as_reference(text):
            self._add(text, path)


def _entry(node: Any) -> tuple[str, str] | None:
    """Name and value of one that is told as `{name, value}`, such as a variable."""
    name, value = (node.get("name"), node.get("value")) if isinstance(node, dict) else (None, None)
    return (name, value) if isinstance(name, str) and isinstance(value, str) else None


def _asks_again(image: str, policy: Any) -> bool:
    """Whether this policy means a pull at each start (Kubernetes documentation, "Images", defaults included)."""
    if policy:
        return bool(policy == "Always")
    return "@" not in image and (not versioned(image) or image.endswith(":latest"))


def _decoded(item: Object, kind: str) -> Object:
    """`item` with the texts that it holds in base64 (Kubernetes API reference, Secret and ConfigMap)."""
    encoded = {"Secret": "data", "ConfigMap": "binaryData"}.get(kind, "")
    data = item.get(encoded)
    if not isinstance(data, dict):
        return item
    return {**item, encoded: {key: _plain(value) for key, value in data.items()}}


def _plain(value: Any) -> Any:
    try:
        return base64.b64decode(value, validate=True).decode() if isinstance(value, str) else value
    except (binascii.Error, ValueError):
        return ""


def _is_worth_a_look(text: str) -> bool:
    """Whether it is worthwhile to search `text`: nearly no text of an object is."""
    if ":" in text and ("/" in text or "@sha256:" in text):
        return True
    return any(word in text for word in ("mage", "MAGE", "egistry")) and any(sign in text for sign in "/:=")


@lru_cache(maxsize=2048)
def _in_text(text: str, embedded: int) -> tuple[str, ...]:
    """The references in `text`, and in the documents that it consists of. Charts are rendered again and again."""
    found = dict.fromkeys(in_text(text))
    if embedded < _MAX_EMBEDDED and _is_document(text):
        for document in _documents(text):
            item = document if isinstance(document, dict) else {"": document}
            found.update(dict.fromkeys(hit.text for hit in _Walk(item, embedded + 1).run()))
    return tuple(found)


def _is_document(text: str) -> bool:
    """Whether `text` may be YAML or JSON in which keys speak of images."""
    if len(text) > _MAX_PARSED or not ("\n" in text or text.lstrip()[:1] in ("{", "[")):
        return False
    lowered = text.lower()
    return ":" in text and any(word in lowered for word in ("image", "repository", "registry"))


def _documents(text: str) -> Iterator[Any]:
    """The documents that `text` consists of, those left out that are neither JSON nor YAML."""
    try:
        yield json.loads(text)
    except (ValueError, RecursionError):
        for part in _DOCUMENT.split(text):
            try:
                yield load_yaml(part.encode(), "text", ContentError)
            except (ContentError, UnicodeEncodeError):
                continue

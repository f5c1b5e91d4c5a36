"""Who has set which field of an object, and when, by the clock of the API server.

Times are texts like `2026-01-31T00:00:00Z`, which compare as times do; empty if never.

A field manager that applies what another one has set becomes a second owner of it, and of nothing else: what the other
has set beyond stays, and what is changed later is refused for the sake of the other. So whoever takes an object over
has to become the owner of the other's fields before it applies its own: what it does not name goes then. Sources:
Kubernetes documentation, "Server-Side Apply"; sigs.k8s.io/structured-merge-diff, `fieldpath`; k8s.io/client-go,
`csaupgrade`, which does the same for one tool that begins to apply on the server.
"""

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from installer.cluster.cluster import Object

Path = tuple[str, ...]
"""The keys of a field as `fieldsV1` has them, `f:spec` and so on."""
Entry = Mapping[str, Any]
"""One of the entries of `metadata.managedFields`."""
ABSENT = object()
# What is agreed upon between an object's parts and controllers is not whose manifest it stands in.
_NEVER = (("f:metadata", "f:finalizers"), ("f:metadata", "f:ownerReferences"))


def status_time(obj: Mapping[str, Any]) -> str:
    """When the status of `obj` was last changed."""
    return _last(obj, lambda entry: entry.get("subresource") == "status")


def apply_time(obj: Mapping[str, Any], manager: str) -> str:
    """When field manager `manager` last changed what it applies to `obj`."""
    return _last(obj, lambda entry: _applied_by(entry, manager))


def applies(manager: str, obj: Mapping[str, Any]) -> bool:
    """Whether `manager` applies fields of `obj`; there is no time of that if others have set the same before."""
    return any(_applied_by(entry, manager) for entry in _entries(obj))


def change_time(obj: Mapping[str, Any]) -> str:
    """When anything but the status of `obj` was last changed."""
    return _last(obj, lambda entry: entry.get("subresource") != "status")


def shared(held: Object, wanted: Object, manager: str, part: str = "") -> list[Entry]:
    """What others than `manager` have set of `held`, if they own a field of `wanted`, or any below the key `part`.

    Whoever writes the status as well is a controller of the object: below `part` it may set what it needs.
    """
    controllers = {entry.get("manager") for entry in _entries(held) if entry.get("subresource") == "status"}

    def meets(path: Path, entry: Entry) -> bool:
        below = path[0] == f"f:{part}" and entry.get("manager") not in controllers
        return below or at(wanted, path) is not ABSENT

    return [
        entry
        for entry in _entries(held)
        if not _applied_by(entry, manager)
        and entry.get("subresource") != "status"
        and any(meets(path, entry) for path in leaves(entry))
    ]


def handed_over(held: Object, entries: Iterable[Entry], manager: str) -> list[Entry]:
    """The managed fields of `held` once the fields of `entries` belong to `manager`, who applies."""
    given = list(entries)
    own = [entry for entry in _entries(held) if _applied_by(entry, manager)]
    tree: dict[str, Any] = {}
    for entry in (*own, *given):
        _unite(tree, _without(entry["fieldsV1"]) if entry in given else entry["fieldsV1"])
    kept = [entry for entry in _entries(held) if entry not in (*own, *given)]
    kept += [{**entry, "fieldsV1": rest} for entry in given if (rest := _only(entry["fieldsV1"]))]
    time = max(str(entry.get("time") or "") for entry in (*own, *given))
    applied = {"manager": manager, "operation": "Apply", "apiVersion": held["apiVersion"], "fieldsType": "FieldsV1"}
    return [*kept, {**applied, **({"time": time} if time else {}), "fieldsV1": tree}]


def lost(held: Object, entries: Iterable[Entry], wanted: Object, manager: str) -> Iterator[tuple[Path, Entry]]:
    """The fields of `entries` that go when `manager` applies `wanted` as their owner, each with whose it was."""
    given = list(entries)
    others = [entry for entry in _entries(held) if entry not in given and not _applied_by(entry, manager)]
    staying = {path for entry in others for path in leaves(entry)}
    told = set(staying)
    for entry in given:
        for path in leaves(entry):
            if path not in told and at(wanted, path) is ABSENT and at(held, path) is not ABSENT:
                told.add(path)
                yield path, entry


def owners(held: Object, field: str, manager: str) -> list[str]:
    """Who else than `manager` owns `field` of `held`, or what is around it or in it."""
    found = []
    for entry in _entries(held):
        texts = [text(path) for path in leaves(entry)] if not _applied_by(entry, manager) else []
        if any(each.startswith(field) or field.startswith(each) for each in texts):
            found.append(str(entry["manager"]))
    return list(dict.fromkeys(found))


def leaves(entry: Entry) -> list[Path]:
    """The fields of an entry, but for those that belong to nobody's manifest."""
    return list(_leaves(_without(entry.get("fieldsV1") or {}), ()))


def at(node: Any, path: Path) -> Any:
    """What stands at `path` in an object, or ABSENT."""
    for key in path:
        kind, _, name = key.partition(":")
        if kind == "f":
            node = node.get(name, ABSENT) if isinstance(node, Mapping) else ABSENT
        elif not isinstance(node, list):
            return ABSENT
        elif kind == "k":
            wanted = json.loads(name)
            node = next((item for item in node if _has(item, wanted)), ABSENT)
        elif kind == "v":
            node = json.loads(name) if json.loads(name) in node else ABSENT
        else:
            node = node[int(name)] if int(name) < len(node) else ABSENT
    return node


def text(path: Path) -> str:
    """`path` as the API server writes it."""
    return "".join(_written(*key.split(":", 1)) for key in path)


def _written(kind: str, name: str) -> str:
    if kind == "f":
        return f".{name}"
    if kind == "k":
        return f"[{','.join(f'{key}={json.dumps(value)}' for key, value in sorted(json.loads(name).items()))}]"
    return f"[={name}]" if kind == "v" else f"[{name}]"


def _entries(obj: Mapping[str, Any]) -> list[Entry]:
    return list(obj["metadata"].get("managedFields") or [])


def _applied_by(entry: Entry, manager: str) -> bool:
    return entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource")


def _last(obj: Mapping[str, Any], wanted: Callable[[Mapping[str, Any]], bool]) -> str:
    return max((str(entry.get("time") or "") for entry in _entries(obj) if wanted(entry)), default="")


def _has(item: Any, keys: Mapping[str, Any]) -> bool:
    """Whether `item` of a list has these keys; a protocol that is not said is the one that Kubernetes takes."""
    defaults = {"protocol": "TCP"}
    return isinstance(item, Mapping) and all(
        item.get(key, defaults.get(key, ABSENT)) == value for key, value in keys.items()
    )


def _leaves(tree: Mapping[str, Any], place: Path) -> Iterator[Path]:
    """The outermost fields that have no fields of their own; "." is the owner's word for a map or item as such."""
    inner = {key: below for key, below in tree.items() if key != "."}
    if not inner and place:
        yield place
    for key, below in inner.items():
        yield from _leaves(below, (*place, key))


def _without(tree: Mapping[str, Any]) -> dict[str, Any]:
    """`tree` without what is never handed over."""
    result: dict[str, Any] = copy.deepcopy(dict(tree))
    for outer, inner in _NEVER:
        result.get(outer, {}).pop(inner, None)
        if outer in result and not result[outer]:
            del result[outer]
    return result


def _only(tree: Mapping[str, Any]) -> dict[str, Any]:
    """What `_without` leaves out."""
    result: dict[str, Any] = {}
    for outer, inner in _NEVER:
        if inner in tree.get(outer, {}):
            result.setdefault(outer, {})[inner] = tree[outer][inner]
    return result


def _unite(tree: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, below in more.items():
        _unite(tree.setdefault(key, {}), below)

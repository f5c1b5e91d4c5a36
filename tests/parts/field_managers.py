"""Who owns which field of an object, as server-side apply has it (Kubernetes documentation, "Server-Side Apply").

Every list is one field: an API server looks into some lists of its own kinds, which this does not.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

Path = tuple[str, ...]
# The rest of an object's metadata, and its status, belong to nobody who applies.
_METADATA = ("annotations", "finalizers", "labels", "ownerReferences")


@dataclass(frozen=True)
class Owner:
    """Who has set fields, and how: `Apply` or `Update`."""

    manager: str
    operation: str


@dataclass(frozen=True)
class Owned:
    """The fields of an owner, and when they were last set."""

    fields: frozenset[Path]
    time: str


Owners = dict[Owner, Owned]


class ClashError(Exception):
    """Others own `fields` that shall get other values: the argument names them and the owners."""

    def __init__(self, told: list[str]) -> None:
        super().__init__("; ".join(told))
        self.fields = [text.partition(": ")[2] for text in told]


def fields(obj: dict[str, Any]) -> dict[Path, Any]:
    """Every field with its value; an empty map is one as well."""
    metadata = {key: value for key, value in (obj.get("metadata") or {}).items() if key in _METADATA}
    rest = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata", "status")}
    return dict(_leaves({**rest, **({"metadata": metadata} if metadata else {})}, ()))


def _leaves(node: dict[str, Any], place: Path) -> list[tuple[Path, Any]]:
    found = list[tuple[Path, Any]]()
    for key, value in node.items():
        if isinstance(value, dict) and value:
            found += _leaves(value, (*place, key))
        elif value is not None:
            found.append(((*place, key), value))
    return found


def apply(
    live: dict[str, Any], owners: Owners, wanted: dict[str, Any], manager: str, time: str, *, force: bool
) -> tuple[dict[str, Any], Owners]:
    """The object and its owners after `manager` has applied `wanted` to `live`. Raises ClashError."""
    me, mine, before = Owner(manager, "Apply"), fields(wanted), fields(live)
    clashes = {
        owner: {path for path in owned.fields if any(_clash(path, field, mine, before) for field in mine)}
        for owner, owned in owners.items()
        if owner != me
    }
    told = [f"{owner.manager}: .{'.'.join(path)}" for owner, paths in clashes.items() for path in sorted(paths)]
    if told and not force:
        raise ClashError(told)
    others = {owner: Owned(owned.fields - clashes[owner], owned.time) for owner, owned in owners.items() if owner != me}
    kept = frozenset(path for owned in others.values() for path in owned.fields) | frozenset(mine)
    former = owners.get(me, Owned(frozenset(), time))
    result = copy.deepcopy(live)
    for path in former.fields - kept:
        _remove(result, path)
    for path, value in mine.items():
        _set(result, path, value)
    same = former.fields == frozenset(mine) and all(before.get(path) == value for path, value in mine.items())
    return result, _real({**others, me: Owned(frozenset(mine), former.time if same else time)}, result)


def update(
    live: dict[str, Any], owners: Owners, result: dict[str, Any], manager: str, time: str
) -> tuple[dict[str, Any], Owners]:
    """The object and its owners after `manager` has made `result` of `live`: what it changes is its own then."""
    me, before, after = Owner(manager, "Update"), fields(live), fields(result)
    changed = frozenset(path for path, value in after.items() if path not in before or before[path] != value)
    if not changed:
        return result, _real(owners, result)
    former = owners.get(me, Owned(frozenset(), time))
    others = {owner: Owned(owned.fields - changed, owned.time) for owner, owned in owners.items() if owner != me}
    return result, _real({**others, me: Owned(former.fields | changed, time)}, result)


def managed(owners: Owners, api_version: str) -> list[dict[str, Any]]:
    """The value of `metadata.managedFields`."""
    entries = list[dict[str, Any]]()
    for owner, owned in owners.items():
        tree: dict[str, Any] = {}
        for path in sorted(owned.fields):
            node = tree
            for key in path:
                node = node.setdefault(f"f:{key}", {})
        entries.append(
            {
                "manager": owner.manager,
                "operation": owner.operation,
                "apiVersion": api_version,
                "time": owned.time,
                "fieldsType": "FieldsV1",
                "fieldsV1": tree,
            }
        )
    return entries


def owners_of(entries: list[dict[str, Any]]) -> Owners:
    """The owners that `managed` writes down."""
    return {
        Owner(entry["manager"], entry["operation"]): Owned(frozenset(_paths(entry["fieldsV1"], ())), entry["time"])
        for entry in entries
    }


def _paths(tree: dict[str, Any], place: Path) -> list[Path]:
    if not tree:
        return [place]
    return [path for key, below in tree.items() for path in _paths(below, (*place, key.removeprefix("f:")))]


def _clash(theirs: Path, mine: Path, wanted: dict[Path, Any], before: dict[Path, Any]) -> bool:
    """Whether the value for my field takes away theirs."""
    shorter = min(len(theirs), len(mine))
    if theirs[:shorter] != mine[:shorter] or wanted[mine] == {} or before.get(theirs) == {}:
        return False
    return theirs != mine or before.get(theirs) != wanted[mine]


def _real(owners: Owners, obj: dict[str, Any]) -> Owners:
    """Those owners, and those of their fields, that are still there."""
    there = frozenset(path[:count] for path in fields(obj) for count in range(1, len(path) + 1))
    left = {owner: Owned(owned.fields & there, owned.time) for owner, owned in owners.items()}
    return {owner: owned for owner, owned in left.items() if owned.fields}


def _set(obj: dict[str, Any], path: Path, value: Any) -> None:
    *parents, last = path
    for key in parents:
        if not isinstance(obj.get(key), dict):
            obj[key] = {}
        obj = obj[key]
    if value != {} or not isinstance(obj.get(last), dict):
        obj[last] = copy.deepcopy(value)


def _remove(obj: dict[str, Any], path: Path) -> None:
    """Without the field, and without the maps that it leaves empty."""
    nodes = [obj]
    for key in path[:-1]:
        nodes.append(nodes[-1][key])
    for node, key in zip(reversed(nodes), reversed(path), strict=True):
        node.pop(key, None)
        if node:
            return

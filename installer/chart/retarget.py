"""From upstream image names to those of the enclave's registry, and the proof that none was forgotten.

Charts spell an image in their values in many ways; `overrides` finds those spellings in the coalesced values and
answers with values that point into the enclave (`installer.chart.relocation`). Whether a template listens to a value
is not known before it is rendered, so `stray` then looks at what was rendered: that, not the walk, is what is relied
upon.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from installer.chart.helm import Chart, Object
from installer.chart.images import Found, references
from installer.chart.relocation import Relocation
from installer.chart.spelling.text import as_reference, parted
from installer.errors import AirferryError
from installer.oci.reference import Reference, Repository, parse_repository
from installer.value import Value

# The keys by which a map names a repository. `name` alone means many things, so it needs one of the others beside it.
_NAME_COMPANIONS = ("tag", "digest", "base")
# What Bitnami's charts and others put before image names, some of them: the names here are complete without.
_GLOBAL_PREFIXES = ("imageRegistry", "repositoryPrefix")


class Stray(Value, order=True):
    """A place that asks for an image which the enclave's registry will not have, and why."""

    found: Found
    reason: str

    def __str__(self) -> str:
        return f"{self.found.text}: {self.reason} ({self.found.place})"


def overrides(chart: Chart, values: Mapping[str, Any], relocation: Relocation) -> dict[str, Any]:
    """Values that, merged over `values`, make `chart` take its images from the enclave.

    Only images whose repository is in the bundle are touched: what already points into the enclave, and what the
    bundle lacks, stays as it is (and `stray` reports the latter). Tags and digests are left alone. A list with an
    image in it is copied whole, since Helm replaces lists whole. Prefixes for all images, which reach some of them
    only, are taken away. Raises the errors of `Chart.coalesced`.
    """
    coalesced = chart.coalesced(values)
    found = named(coalesced, relocation, ())
    everywhere = coalesced.get("global")
    for prefix in _GLOBAL_PREFIXES:
        if isinstance(everywhere, Mapping) and everywhere.get(prefix):
            found.setdefault("global", {})[prefix] = ""
    if found and _guards_registries(coalesced):
        # Bitnami's common chart refuses images from registries other than its own unless this is set.
        found.setdefault("global", {}).setdefault("security", {})["allowInsecureImages"] = True
    return found


def without_pulls(coalesced: Mapping[str, Any]) -> dict[str, Any]:
    """Values that, merged over those of a chart, replace its pull policies `Always`: there is nothing to pull from."""
    return _without_pulls(coalesced, ())


def _without_pulls(node: Mapping[str, Any], path: "_Path") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, Mapping) and not (key == "global" and path):
            if below := _without_pulls(value, (*path, key)):
                found[key] = below
        elif key.lower().endswith("pullpolicy") and value == "Always":
            found[key] = "IfNotPresent"
    return found


def merged(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` merged over a copy of `values`: maps key by key, everything else replaced."""
    result = copy.deepcopy(dict(values))
    for key, value in over.items():
        below = result.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            result[key] = merged(below, value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def spelt(node: Mapping[str, Any]) -> tuple[str, str] | None:
    """The key by which a map names a repository, and the repository with its registry; None if it names none."""
    key = "repository" if isinstance(node.get("repository"), str) else "name"
    name = node.get(key)
    if not isinstance(name, str) or not name or (key == "name" and not any(mate in node for mate in _NAME_COMPANIONS)):
        return None
    registry = node.get("registry")
    return key, f"{registry}/{name}" if isinstance(registry, str) and registry else name


def sources(coalesced: Mapping[str, Any], text: str) -> list[str]:
    """The dotted paths of the values from which the reference `text` may come; empty if a template has it fixed."""
    return sorted(_sources(coalesced, text, as_reference(text), ()))


def _sources(node: Mapping[str, Any], text: str, wanted: Reference | None, path: "_Path") -> Iterator[str]:
    if (named := spelt(node)) and _names(named[1], node.get("digest") or "", node.get("tag") or "", text, wanted):
        yield ".".join(path)
    for key, value in node.items():
        if isinstance(value, Mapping) and not (key == "global" and path):
            yield from _sources(value, text, wanted, (*path, key))
        elif isinstance(value, str) and "image" in key.lower() and _names(value, "", "", text, wanted):
            yield ".".join((*path, key))


def _names(name: str, digest: str, tag: str, text: str, wanted: Reference | None) -> bool:
    """Whether an image spelt by these three may be rendered as `text`, which means `wanted`; a tag may be added."""
    written = f"{name}@{digest}" if digest else f"{name}:{tag}" if tag else name
    found = as_reference(written)
    if found is None or wanted is None:
        return written == text
    return found == wanted or (written == name and found.repository == wanted.repository)


def stray(objects: Iterable[Object], relocation: Relocation, *, tests: bool = False) -> list[Stray]:
    """Every place in rendered `objects` whose image is not one that the bundle brings into the enclave.

    Places that only `helm test` would run are left out unless `tests`. A text that only looks like a reference counts
    if the bundle carries what it names: then it is one. For others see `suspects`.
    """
    places = [
        found
        for found in references(objects, relocation.rules)
        if (tests or not found.test_only) and (found.certain or _carried(found, relocation))
    ]
    return _strays(places, relocation)


def _carried(found: Found, relocation: Relocation) -> bool:
    return as_reference(found.text) in relocation.images


def suspects(objects: Iterable[Object], relocation: Relocation) -> list[Stray]:
    """The same for texts that only look like references, and name nothing that the bundle carries."""
    found = [place for place in references(objects, relocation.rules) if not place.certain]
    return _strays([place for place in found if not _carried(place, relocation)], relocation)


def _strays(places: Iterable[Found], relocation: Relocation) -> list[Stray]:
    known = {_identity(relocation.target(image)) for image in relocation.images}
    tags: dict[Repository, list[str]] = {}
    for image in sorted(relocation.images, key=str):
        if image.tag:
            tags.setdefault(relocation.target(image).repository, []).append(image.tag)
    strays = []
    for found in places:
        try:
            reference = found.reference()
        except AirferryError:
            strays.append(Stray(found, "is no image reference"))
            continue
        if reference.repository.host != relocation.registry and not relocation.names_stay:
            strays.append(Stray(found, f"points outside, not to {relocation.registry}"))
        elif _identity(reference) not in known:
            held = ", ".join(tags.get(reference.repository, ()))
            strays.append(Stray(found, f"is not among the images of the bundle{f', which has {held}' if held else ''}"))
    return strays


def _identity(reference: Reference) -> tuple[Repository, str]:
    """What a registry is asked for: a tag beside a digest does not count."""
    return reference.repository, reference.selector


_Path = tuple[str, ...]


def named(node: Mapping[str, Any], relocation: Relocation, path: _Path = ()) -> dict[str, Any]:
    """What makes the images that values or an object `node` (at `path`) spell those of the enclave."""
    found = _split_image(node, relocation)
    for key, value in node.items():
        # Coalescing copies the root's `global` into every subchart; the root's own counts.
        if key in found or (key == "global" and path):
            continue
        changed = _value(key, value, relocation, (*path, key))
        if changed is not None:
            found[key] = changed
    return found


def _value(key: str, value: Any, relocation: Relocation, path: _Path) -> Any:
    """What replaces `value`, or None if it stays."""
    if isinstance(value, Mapping):
        return named(value, relocation, path) or None
    if isinstance(value, list):
        changed = [_value(key, part, relocation, path) for part in value]
        if all(part is None for part in changed):
            return None
        return [_replaced(old, new) for old, new in zip(value, changed, strict=True)]
    if isinstance(value, str) and key.lower().endswith(("image", "images", "imagename")):
        return target_of(value, relocation) or None
    return None


def _replaced(old: Any, new: Any) -> Any:
    if new is None:
        return copy.deepcopy(old)
    return merged(old, new) if isinstance(old, Mapping) and isinstance(new, Mapping) else new


def _split_image(node: Mapping[str, Any], relocation: Relocation) -> dict[str, Any]:
    """Overrides for an image spelt as a map: `repository`, or `name` beside a tag, with or without `registry`."""
    named = spelt(node)
    moved = relocation.moved(named[1]) if named else None
    if named is None or moved is None:
        return {}
    key, name = named
    if "registry" not in node:
        return {key: str(moved)}
    # The last part of the host's side goes into `registry`, so that `registry/repository` is what it has to be.
    path = parse_repository(name).path
    return {"registry": str(moved).removesuffix(f"/{path}"), key: path}


def target_of(text: str, relocation: Relocation) -> str:
    """Where the image that is written `text` lies in the enclave, written alike; empty if the bundle lacks it."""
    reference = as_reference(text)
    repository = relocation.moved(str(reference.repository)) if reference else None
    return f"{repository}{parted(text)[1]}" if repository else ""


def _guards_registries(node: Mapping[str, Any]) -> bool:
    """Whether any chart among the coalesced values checks where its images come from."""
    security = node.get("security")
    if isinstance(security, Mapping) and security.get("allowInsecureImages") is False:
        return True
    return any(_guards_registries(value) for value in node.values() if isinstance(value, Mapping))

"""How a chart comes to take its images from the enclave: a chain of means, each proven by rendering.

1. Values that name an image (`installer.chart.retarget.overrides`).
2. Values that begin its name: registry, organisation, ... (`installer.moving.prefixes`).
3. The prefix that an edited chart puts before the names that its templates have fixed (`installer.moving.rewriting`);
   charts are edited on the connected side alone, so that what is installed is what was signed.
4. Names that stay, where the nodes know the registry as a mirror of the upstream ones (`Relocation.names_stay`).
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from installer.chart.helm import Object, Rendering
from installer.chart.images import references
from installer.chart.relocation import Relocation
from installer.chart.retarget import merged, named, overrides, stray, target_of
from installer.chart.spelling.text import parted
from installer.errors import AirferryError
from installer.moving.operations import Operations
from installer.moving.prefixes import Moved, moved
from installer.moving.rewriting import prefix_values, rewrite, rewritten
from installer.value import Value


class Means(Value):
    """`values` by which a chart takes its images from the enclave, as far as values can bring that about.

    `paths` are the dotted paths of those that do not name an image. `fixed` are the templates that ask for an image of
    the bundle by a name that no value moves, each with the name as it is written.
    """

    values: Mapping[str, Any]
    paths: tuple[str, ...] = ()
    fixed: frozenset[tuple[str, str]] = frozenset()


def into_enclave(operations: Operations, values: Mapping[str, Any], relocation: Relocation) -> Means:
    """`values` of the chart of `operations`, moved into the enclave. Raises the errors of `Chart.render`."""
    if relocation.names_stay:
        return Means(values=values)
    chart = operations.chart
    own = merged(values, prefix_values(chart.metadata, relocation))
    over = overrides(chart, values, relocation)
    changed = merged(own, over)
    try:
        rendering = operations.install(changed)
    except AirferryError:
        if not over:
            raise
        # A schema or a template admits the names alone that it knows.
        changed, rendering = own, operations.install(own)
    texts = [item.found.text for item in stray(rendering.objects, relocation)]
    if spoilt := [text for text in texts if relocation.registry.partition(":")[0] in text]:
        # What looks like a name of its own is one part of a longer name, or the template takes it to pieces.
        changed = merged(own, dict(_without(over, spoilt)))
    paths: tuple[str, ...] = ()
    fixed: set[tuple[str, str]] = set()
    for render in operations.renders():
        if (made := operations.rendered(render, changed)) is None:
            continue
        found = moved(changed, made, relocation, render, {text for _, text in fixed})
        changed, paths = dict(found.values), (*paths, *found.paths)
        fixed.update(_fixed(found, relocation))
    return Means(values=changed, paths=paths, fixed=frozenset(fixed))


def _fixed(found: Moved, relocation: Relocation) -> Iterator[tuple[str, str]]:
    left = {item.found for item in found.strays if target_of(item.found.text, relocation)}
    for template, item in found.rendering.manifests if left else ():
        yield from ((template, place.text) for place in references([item], relocation.rules) if place in left)


def _without(over: Mapping[str, Any], spoilt: list[str]) -> Iterator[tuple[str, Any]]:
    """The overrides that do not come out in one of the `spoilt` texts, but whole and at its beginning."""
    for key, value in over.items():
        if isinstance(value, Mapping):
            yield key, dict(_without(value, spoilt))
        elif not (isinstance(value, str) and any(_spoils(value, text) for text in spoilt)):
            yield key, value


def _spoils(value: str, text: str) -> bool:
    return not text.startswith(value) and (value in text or value.startswith(parted(text)[0]))


def moved_object(item: Object, relocation: Relocation) -> Object:
    """A copy of the object `item` that takes its images from the enclave, by digest where a container names a tag.

    Only images whose repository is in the bundle are touched, as with `overrides`.
    """
    if relocation.names_stay:
        return copy.deepcopy(item)

    def rendered(values: Mapping[str, Any]) -> Rendering:
        return Rendering((("", dict(values)),), (), values)

    changed = merged(item, named(item, relocation))
    found = moved(changed, rendered(changed), relocation, rendered)
    texts = {item.found.text for item in found.strays if target_of(item.found.text, relocation)}
    rewrites = sorted(map(rewrite, texts))
    made: Object = rewritten(found.values, rewrites, relocation.prefix)
    digests = {str(relocation.target(tag)): digest for tag, digest in relocation.digests.items()}
    _pin(made, digests)
    return made


def _pin(node: Any, digests: Mapping[str, Any]) -> None:
    """Add the digest to every container's image that is named by one of the tags in `digests`."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("containers", "initContainers") and isinstance(value, list):
                for container in value:
                    image = container.get("image") if isinstance(container, dict) else None
                    if isinstance(image, str) and image in digests:
                        container["image"] = f"{image}@{digests[image]}"
            _pin(value, digests)
    elif isinstance(node, list):
        for value in node:
            _pin(value, digests)

"""Tags replaced by digests in values, where the chart can express that.

A tag names what the registry says it names at that moment; a digest names one content. Whether a template listens to a
`digest` beside `tag` is asked of the chart: every such map gets a digest that exists nowhere, each another one, and a
rendering shows which of them come out, and where. A digest never goes into a field for tags: charts print labels of
those.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from installer.chart.helm import Rendering
from installer.chart.images import Found, references
from installer.chart.relocation import Relocation
from installer.chart.retarget import merged, spelt
from installer.errors import AirferryError
from installer.oci.digest import Digest
from installer.oci.reference import DigestRef, Reference, TagRef, parse_reference

Render = Callable[[Mapping[str, Any]], Rendering]
_Path = tuple[str, ...]


def pins(rendering: Rendering, values: Mapping[str, Any], relocation: Relocation, render: Render) -> dict[str, Any]:
    """Values that, merged over `values`, make a chart ask by digest for images that it asks for by tag.

    `values` point into the enclave already (`retarget.overrides`), `rendering` is what `render` makes of them.
    A map gets the digest only if it names the image with its tag itself, and if every place that follows the map asks
    for that very image without: so another tag that somebody wants is never replaced in silence.
    """
    held = {relocation.target(image): digest for image, digest in relocation.digests.items()}
    named = {path: image for path, image in _named(rendering.coalesced, ()) if image in held}
    if not named:
        return {}
    before = _places(references(rendering.objects))
    probes = {Digest.of("/".join(path).encode()): path for path in named}
    try:
        probed = references(render(merged(values, _tree((path, digest) for digest, path in probes.items()))).objects)
    except AirferryError:
        return {}  # a schema of the chart's values knows no `digest`
    heard: dict[_Path, bool] = {}
    for place, reference in _places(probed).items():
        path = probes.get(reference.digest) if isinstance(reference, DigestRef) else None
        if path is not None:
            same = before.get(place) == named[path] and reference.repository == named[path].repository
            heard[path] = heard.get(path, True) and same
    return _tree((path, held[named[path]]) for path, same in heard.items() if same)


def _named(node: Mapping[str, Any], path: _Path) -> Iterator[tuple[_Path, TagRef]]:
    """Maps that name an image by repository and tag, and could have a digest beside it."""
    named, tag = spelt(node), node.get("tag")
    if named and isinstance(tag, str) and tag and not node.get("digest"):
        try:
            reference = parse_reference(f"{named[1]}:{tag}")
        except AirferryError:
            pass
        else:
            if isinstance(reference, TagRef):
                yield path, reference
    for key, value in node.items():
        # Coalescing copies the root's `global` into every subchart; the root's own counts.
        if isinstance(value, Mapping) and not (key == "global" and path):
            yield from _named(value, (*path, key))


def _places(found: Iterable[Found]) -> dict[tuple[str, ...], Reference]:
    """The references that the cluster would ask for, by where they stand."""
    places: dict[tuple[str, ...], Reference] = {}
    for item in found:
        if item.certain:
            try:
                places[item.kind, item.namespace, item.name, item.path] = item.reference()
            except AirferryError:
                continue
    return places


def _tree(digests: Iterable[tuple[_Path, Digest]]) -> dict[str, Any]:
    """Values with `digest` in the maps at these paths."""
    values: dict[str, Any] = {}
    for path, digest in digests:
        node = values
        for key in path:
            node = node.setdefault(key, {})
        node["digest"] = digest.text
    return values

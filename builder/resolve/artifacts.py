"""What the artifacts name that controllers fetch by themselves: images that no chart and no manifest mentions.

The profile says where their documents name images. That list is closed: a document that names one in any other place is
refused, since its controller may run it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from builder.charts.discover import merged
from builder.charts.version_overrides import tag_of
from builder.charts.version_ranges import newest
from builder.images.artifact import ArtifactDocuments
from builder.recipe.findings import ARTIFACT, Reason
from builder.resolve.steps import Resolved
from installer.apps.application import Application
from installer.apps.profile import Artifact, FoundImage, at_path
from installer.chart.images import references
from installer.chart.relocation import NOWHERE, path_of
from installer.chart.retarget import merged as values_over
from installer.chart.spelling.keys import meaning
from installer.chart.spelling.parts import Above, joined
from installer.chart.spelling.rules import nodes
from installer.chart.spelling.text import as_reference, parted
from installer.errors import ContentError, RecipeError
from installer.oci.digest import Digest
from installer.oci.model import ANEW
from installer.oci.reference import parse_reference
from installer.site.site import Site
from installer.value import Value

Read = Callable[[str], ArtifactDocuments]
"""Reads the artifact of this full name."""


class InArtifacts(Value):
    """What artifacts name: `images` are needed, the artifacts too; `optional` are those that the resource makes
    superfluous. `digests` are what the names of the artifacts stand for. `second` are further names by which
    controllers ask for some of all these in an enclave (see `installer.chart.relocation`), each with the image.
    `artifacts` are those of the profile, with what was found in them."""

    images: Mapping[str, tuple[Reason, ...]]
    optional: Mapping[str, tuple[Reason, ...]]
    digests: Mapping[str, Digest]
    second: Mapping[str, str]
    artifacts: tuple[Artifact, ...] = ()


def in_artifacts(app: Application, steps: Resolved, site: Site | None, read: Read) -> InArtifacts:
    """The artifacts of the profile, and the images that they name for a resource with the answers of `site`.

    Raises RecipeError for what the rules of the profile do not say, ContentError for an artifact that breaks them, and
    what `read` raises.
    """
    images: list[Mapping[str, tuple[Reason, ...]]] = []
    optional: list[Mapping[str, tuple[Reason, ...]]] = []
    digests: dict[str, Digest] = {}
    second: dict[str, str] = {}
    artifacts: list[Artifact] = []
    for artifact in steps.profile.artifacts:
        _check_readers(artifact, steps)
        step = steps.profile.step(artifact.step)
        document = steps.objects[step.resource or ""][0]
        tag = tag_of(artifact, steps.tags)
        source = f"{artifact.repository}:{tag}"
        found = read(source)
        names = {f"{NOWHERE}/{path}:{tag}": source for path in artifact.also_at}
        digests |= dict.fromkeys((source, *names), found.digest)
        images.append({source: (_asking(artifact, document, step.resource or ""),)})
        resource = values_over(document, app.fields(step, site)) if site else document
        named: dict[str, FoundImage] = {}
        for text, reason, unless in _named(artifact, source, found.documents, resource):
            reference = parse_reference(text)
            (optional if reason.switches else images).append({str(reference): (reason,)})
            named[reason.field] = FoundImage(image=str(reference), unless=unless)
            second_name = f"{NOWHERE}/{text}"
            if parted(text)[0] != path_of(reference.repository) and as_reference(second_name):
                names[second_name] = str(reference)
        second |= names
        artifacts.append(artifact.model_copy(update={"found": named}))
    return InArtifacts(merged(images), merged(optional), digests, second, tuple(artifacts))


def _check_readers(artifact: Artifact, steps: Resolved) -> None:
    for release in steps.releases:
        chart = release.fetched.chart
        wanted = artifact.readers.get(chart.name)
        if wanted is not None and not newest(wanted, [chart.version]):
            raise RecipeError(
                f"chart {chart.name} {chart.version} reads {artifact.name} in another way than the profile says, which "
                f"is for {wanted}",
                hint="take such a version into the recipe.",
            )


def _asking(artifact: Artifact, resource: Mapping[str, Any], document: str) -> Reason:
    metadata = resource["metadata"]
    kind, namespace = str(resource["kind"]), metadata.get("namespace") or ""
    return Reason("", kind, namespace, metadata["name"], "", artifact.version_at, "", document)


def _named(
    artifact: Artifact, source: str, files: Mapping[str, Mapping[str, Any]], resource: Mapping[str, Any]
) -> Iterator[tuple[str, Reason, str | None]]:
    """The images as they are written, each with the key that names it and the field that makes it superfluous; with a
    switch where the resource has that."""
    document: dict[str, Any] = {}
    for name, held in files.items():
        _check_contract(artifact, source, name, held)
        counting = _counting(artifact, document, held)
        _check_agreement(artifact, f"{source}: {name}", document, counting)
        document = values_over(document, counting)
    covered: set[str] = set()
    lacking: list[str] = []
    for place, rule in artifact.images.items():
        found = dict(nodes(place, document))
        covered.update(found)
        texts = {path: text for path, node in found.items() if (text := _image_at(node, f"{source}: {path}"))}
        off = rule.unless if rule.unless and at_path(resource, rule.unless) is not None else ""
        if rule.required and not texts and not off:
            lacking.append(place)
        switches = (f"{off}=null",) if off else ()
        for path, text in texts.items():
            reason = Reason("", ARTIFACT, "", source.rpartition("/")[2], "", path, "", switches=switches)
            yield text, reason, rule.unless
    if lacking:
        raise ContentError(
            f"{source}: names no image at {', '.join(lacking)}, and its controller needs one there",
            hint="take another version; or if it is right, say `required: false` there in the profile.",
        )
    _check_closed(source, document, covered)


def _check_agreement(artifact: Artifact, what: str, before: Mapping[str, Any], counting: Mapping[str, Any]) -> None:
    """Raises ContentError where two files name different images in one place: nobody can know which counts."""
    for place in artifact.images:
        known = dict(nodes(place, before))
        for path, node in nodes(place, counting):
            if known.get(path) and _image_at(known[path], what) != _image_at(node, what):
                raise ContentError(f"{what}: names another image at {path} than a file before it", hint=ANEW)


def _counting(artifact: Artifact, before: Mapping[str, Any], held: Mapping[str, Any]) -> dict[str, Any]:
    """What counts of the file `held` beside those `before`."""
    counting = values_over(held, {})
    for place in artifact.first_file:
        above, _, key = place.rpartition(".")
        known = {path for path, node in nodes(above, before) if isinstance(node, dict)}
        for path, node in nodes(above, counting):
            if path in known and isinstance(node, dict):
                node.pop(key, None)
    return counting


def _check_contract(artifact: Artifact, source: str, name: str, document: Mapping[str, Any]) -> None:
    if artifact.contract is None:
        return
    key, supported = artifact.contract.key, artifact.contract.supported
    said = at_path(document, key)
    if said is not None and (type(said) is not int or said not in supported):
        raise ContentError(
            f"{source}: {name}: {key} is {said!r:.40}; the profile knows {', '.join(map(str, supported))}",
            hint="take another version, or a profile that knows this one.",
        )


def _image_at(node: Any, what: str) -> str:
    """The name of the image that stands in `node`, in one text or in parts; empty where none does."""
    if isinstance(node, dict):
        if not any(node.values()):
            return ""
        texts = sorted({item.text for item in joined(node, Above(), under_image=True)})
    else:
        if node in (None, ""):
            return ""
        texts = [str(node)]
    if len(texts) != 1 or not as_reference(texts[0]):
        raise ContentError(f"{what}: not an image: {', '.join(texts) or node!r:.200}", hint=ANEW)
    return texts[0]


def _check_closed(source: str, document: Mapping[str, Any], covered: set[str]) -> None:
    """Raises RecipeError for images in other places than those `covered`."""
    # No kind of Kubernetes: what looks like an image is one wherever it stands.
    looking = [(item.path, item.text) for item in references([{**document, "apiVersion": "x/v1", "kind": ARTIFACT}])]
    others = sorted({pair for pair in (*looking, *_in_parts(document)) if not _below(pair[0], covered)})
    if others:
        lines = [f"  {path}: {text}" for path, text in others]
        raise RecipeError(
            "\n".join([f"{source}: names images where the profile does not know of any:", *lines]),
            hint="take another version; or find out whether the controller runs them, and name these keys in "
            "`artifacts` of the profile.",
        )


def _in_parts(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Images spelt by a repository and a version, under whatever key."""
    if isinstance(node, dict):
        roles = {meaning(str(key)).role for key, value in node.items() if isinstance(value, str | int | float)}
        if "repository" in roles and roles & {"tag", "digest"}:
            yield from ((path, item.text) for item in joined(node, Above(), under_image=True))
        for key, value in node.items():
            yield from _in_parts(value, f"{path}.{key}".removeprefix("."))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _in_parts(value, f"{path}[{number}]")


def _below(path: str, places: set[str]) -> bool:
    """Whether `path` is one of `places`, or below one."""
    return any(path == place or path.startswith((f"{place}.", f"{place}[")) for place in places)

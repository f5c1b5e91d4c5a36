"""Image references that a map spells in parts.

`{registry, repository, tag}`, `{hub, image, tag}`, `{repository, image, version}` (the GPU operator's), `{imageRepo,
imageTag}`, `{proxyImage, proxyTag}`, with a digest in place of the tag or beside it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from installer.chart.spelling.keys import Role, meaning
from installer.chart.spelling.text import as_reference, has_host, versioned
from installer.value import Value

_BARE_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Above(Value):
    """What maps further up say for all images below: `{hub, tag, proxy: {image}}` (Istio's)."""

    registry: str = ""
    tag: str = ""


class Joined(Value):
    """A reference put together from the values of `keys`, empty where a part is missing; `certain` if these can hardly
    mean anything else."""

    text: str
    keys: tuple[str, ...]
    certain: bool


def joined(node: Mapping[str, Any], above: Above, *, under_image: bool = False) -> Iterator[Joined]:
    """The references that the map `node` spells in parts; `under_image` says that the key of the map speaks of images.

    A map that names an image in one text, whatever is beside it, is not meant.
    """
    for prefix, keys in _groups(node).items():
        image = (under_image and not prefix) or any(meaning(key).image for key in keys.values())
        texts = {role: str(node[key]) for role, key in keys.items()}
        yield from _of_group(texts, keys, above if not prefix else Above(), image=image, alone=not prefix)


def above_of(node: Mapping[str, Any], above: Above) -> Above:
    """What `node` and the maps `above` it say for the images below."""
    if "hub" not in node and "registry" not in node and "tag" not in node:
        return above
    found = {role: str(node[key]) for role, key in _groups(node).get("", {}).items()}
    return Above(found.get("registry") or above.registry, found.get("tag") or above.tag)


def _groups(node: Mapping[str, Any]) -> dict[str, dict[Role, str]]:
    """The keys of `node` that hold a part of an image's name, by what they are about and by their role."""
    groups: dict[str, dict[Role, str]] = {}
    for key, value in node.items():
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            found = meaning(str(key))
            if found.role:
                groups.setdefault(found.prefix, {}).setdefault(found.role, key)
    return groups


def _of_group(
    texts: Mapping[Role, str], keys: Mapping[Role, str], above: Above, *, image: bool, alone: bool
) -> Iterator[Joined]:
    registry, repository = texts.get("registry", ""), texts.get("repository", "")
    if not (image or (alone and (registry or has_host(repository)))):
        return
    word, tag, digest = texts.get("image", ""), texts.get("tag", ""), texts.get("digest", "")
    if versioned(word) or versioned(repository):
        return
    if word and "/" not in word and not repository and "repository" in keys:
        yield Joined("", tuple(keys.values()), certain=False)
        return
    certain = image or bool(registry)
    if has_host(word) or not (registry or repository):
        certain = certain and not keys.get("tag", "tag").lower().endswith("version")
        names = [word or (texts.get("name", "") if tag or digest else "")]
        if above.registry and word and not has_host(word):
            names, tag, certain = [f"{above.registry}/{word}"], tag or above.tag, False
    else:
        names = _under(registry, repository, word, texts.get("name", ""))
    certain = certain and len(names) == 1 and bool(tag or digest)
    for name in names:
        text = _with_version(name, tag, digest)
        complete = tag or digest or (image and (registry or repository))
        if name and complete and as_reference(text):
            yield Joined(text, tuple(keys.values()), certain)


def _under(registry: str, repository: str, word: str, name: str) -> list[str]:
    """The names that these may mean; a `name` beside a repository may be a part of it, or a name for people."""
    if registry and repository and not repository.startswith(f"{registry}/"):
        repository = f"{registry}/{repository}"
    base = repository or registry
    if word or not repository:
        return [f"{base}/{word or name}"] if word or name else []
    return [base, f"{base}/{name}"] if name and not base.endswith(f"/{name}") else [base]


def _with_version(name: str, tag: str, digest: str) -> str:
    for text in (digest, tag):
        if _BARE_DIGEST.fullmatch(text):
            return f"{name}@sha256:{text}"
        if text.startswith("sha256:"):
            return f"{name}@{text}"
    return f"{name}@{digest}" if digest else f"{name}:{tag}" if tag else name

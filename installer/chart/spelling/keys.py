"""What keys say about images: which speak of one, and which hold a part of its name."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

from installer.value import Value

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", re.ASCII)
_ROLE = re.compile(r"(.*?)(image)?(registry|hub|repository|repo|name|tag|version|digest|sha256|sha)?", re.ASCII)
# What keys about an image say of it that is not its name.
_ASIDE = frozenset({"policy", "secret", "secrets", "path", "dir", "directory", "file", "format", "type", "size"})
_LAST = ("image", "images")
_NAMING = ("name", "ref", "reference", "url")

Role = Literal["registry", "repository", "image", "name", "tag", "digest"]
_ROLES: Mapping[str, Role] = {
    "registry": "registry",
    "hub": "registry",
    "repository": "repository",
    "repo": "repository",
    "name": "name",
    "tag": "tag",
    "version": "tag",
    "digest": "digest",
    "sha256": "digest",
    "sha": "digest",
}


class Key(Value):
    """The meaning of a key: `prefix` is what it is about (`proxy` of `proxyImageTag`), `role` is None for no part of a
    name; `image` says that the key itself speaks of images."""

    prefix: str
    role: Role | None
    image: bool


@lru_cache(maxsize=4096)
def meaning(key: str) -> Key:
    """What `key` is about, however its words are joined."""
    plain = "".join(character for character in key.lower() if character.isalnum())
    match = _ROLE.fullmatch(plain)
    prefix, image, last = match.groups() if match else (plain, None, None)
    if last is None:
        return Key(prefix, "image" if image else None, bool(image))
    return Key(prefix, "image" if image and last == "name" else _ROLES[last], bool(image))


@lru_cache(maxsize=4096)
def names_image(key: str) -> bool:
    """Whether `key` is one by which operators name an image: `image`, `sidecarImage`, `imageName`, `images`."""
    words = [word.lower() for word in _WORDS.findall(key)]
    return words[-1:] in ([last] for last in _LAST) or (words[-2:-1] == ["image"] and words[-1] in _NAMING)


@lru_cache(maxsize=4096)
def speaks_of_images(key: str) -> bool:
    """Whether the value of `key` may well be an image; keys about policies, secrets, tags and such are not meant."""
    words = [word.lower() for word in _WORDS.findall(key)]
    if not words or words[-1] in _ASIDE or meaning(key).role in ("registry", "tag", "digest"):
        return False
    return any(word.startswith("image") for word in words) or "IMAGE" in key or (key[0] == "-" and "image" in key)

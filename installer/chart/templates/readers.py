"""Which templates of a chart look at something, through all that they include: the others render the same without it.

Templates name what they include by a literal, or a file of the same chart by its end; whoever makes up a name may
include anything, and so may read anything.
"""

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from itertools import pairwise

OBJECTS = re.compile(r"/templates/.*\.ya?ml$")
"""Files that make objects, by their names."""
_DEFINITIONS = re.compile(r"[^/]+/(?:charts/[^/]+/)*crds/")
OPERATION = r"IsInstall|IsUpgrade|Revision|Release(?!\.)"
"""Words by which a template may tell an upgrade from an installation."""
_TEMPLATES = "/templates/"
_SCHEMA = "/values.schema.json"
_ACTION = re.compile(rb"\{\{(?!-?\s*/\*).*?\}\}", re.DOTALL)
_DEFINED = re.compile(rb"\{\{-?\s*(?:define|block)\s+[\"`]([^\"`]+)[\"`]")
_INCLUDED = re.compile(rb"\b(?:include|template)\s+[\"`]([^\"`]+)[\"`]")
# Many objects carry a hash of another file, so that they change with it.
_HASHED = re.compile(rb"\binclude\s+\(\s*print\s+\$?\.Template\.BasePath\s+\"[^\"]+\"\s*\)\s+[.$]\s*\|\s*sha\d+sum")
_FILE = re.compile(rb"\.BasePath\s+\"([^\"]+)\"")
_MADE_UP = re.compile(rb"\b(?:include|template)\s+(?![\"`\s]|\(\s*print\s+\$?\.Template\.BasePath\s+\")")


def readers(files: Mapping[str, bytes], words: str, values: str) -> frozenset[str]:
    """The templates among the `files` of a chart that may come upon one of `words` (a pattern).

    With these templates come the files that they include whole. `values` (JSON) are what the chart is rendered with.
    """
    wanted = re.compile(rf"\b(?:{words})\b".encode())
    actions = {name: _actions(data) for name, data in files.items()}
    texts = {name: found for name, found in actions.items() if _TEMPLATES in name}
    # Texts in values, and files beside the templates, are templates for `tpl`.
    others = (values.encode(), *(actions[name] for name in actions.keys() - texts.keys()))
    beside = any(wanted.search(other) for other in others)

    def reads(text: bytes) -> bool:
        return bool(wanted.search(text) or (beside and b"tpl" in text) or _MADE_UP.search(text))

    known, included = set[bytes](), dict[bytes, set[bytes]]()
    for data in texts.values():
        for name, body in _definitions(data):
            included.setdefault(name, set()).update(_INCLUDED.findall(body))
            if reads(body):
                known.add(name)
    size = -1
    while len(known) != size:
        size = len(known)
        known |= {name for name, others in included.items() if not known.isdisjoint(others)}
    found = {name for name, data in texts.items() if reads(data) or not known.isdisjoint(_INCLUDED.findall(data))}
    including = {name: _ends(data) for name, data in texts.items() if b".BasePath" in data}
    size = -1
    while len(found) != size:
        size = len(found)
        found |= {name for name, ends in including.items() if any(other.endswith(ends) for other in found)}
    ends = tuple(end for name in found for end in including.get(name, ()))
    return frozenset(found | {name for name in texts if name.endswith(ends)})


def _ends(text: bytes) -> tuple[str, ...]:
    """The ends of the files that `text` includes whole."""
    return tuple(end.decode("utf-8", "replace") for end in _FILE.findall(text))


def narrowed(files: Mapping[str, bytes], kept: Collection[str]) -> dict[str, bytes]:
    """The `files` of a chart, those but `kept` empty whose names tell that they make objects, without definitions.

    Schemas of values go too, and a file stays that others may include a part of.
    """
    found = {}
    for name, data in without_definitions(files).items():
        if OBJECTS.search(name) and name not in kept and b"define" not in data:
            found[name] = b""
        elif not name.endswith(_SCHEMA):
            found[name] = data
    return found


def without_definitions(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The `files` of a chart without custom resource definitions, which are large and name no images."""
    return {name: data for name, data in files.items() if not _DEFINITIONS.match(name)}


@lru_cache(maxsize=4096)
def _actions(data: bytes) -> bytes:
    return _HASHED.sub(b"", b"\n".join(_ACTION.findall(data))) if b"{{" in data else b""


def _definitions(data: bytes) -> list[tuple[bytes, bytes]]:
    """The named templates in a file, each with its text, and what follows up to the next."""
    found = list(_DEFINED.finditer(data))
    places = [item.start() for item in found] + [len(data)]
    return [(item[1], data[start:end]) for item, (start, end) in zip(found, pairwise(places), strict=True)]

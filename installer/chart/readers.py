"""Which templates of a chart look at something, through all that they include: the others render the same without it.

Templates name what they include by a literal, or a file of the same chart by its end; whoever makes up a name may
include anything, and so may read anything.
"""

import re
from collections.abc import Collection, Mapping
from itertools import pairwise

OBJECTS = re.compile(r"/templates/.*\.ya?ml$")
"""Files that make objects, by their names."""
_DEFINITIONS = re.compile(r"[^/]+/(?:charts/[^/]+/)*crds/")
_TEMPLATES = "/templates/"
_ACTION = re.compile(rb"\{\{(?!-?\s*/\*).*?\}\}", re.DOTALL)
_DEFINED = re.compile(rb"\{\{-?\s*(?:define|block)\s+[\"`]([^\"`]+)[\"`]")
_INCLUDED = re.compile(rb"\b(?:include|template)\s+[\"`]([^\"`]+)[\"`]")
_FILE = re.compile(rb"\.BasePath\s+\"([^\"]+)\"")
_MADE_UP = re.compile(rb"\b(?:include|template)\s+(?![\"`\s]|\(\s*print\s+\$?\.Template\.BasePath\s+\")")


def readers(files: Mapping[str, bytes], word: str, values: str) -> frozenset[str]:
    """The templates among the `files` of a chart, rendered with `values` (JSON), that may come upon `word`.

    With them come the files that these include whole.
    """
    wanted = re.compile(rf"\b{word}\b".encode())
    actions = {name: b"\n".join(_ACTION.findall(data)) for name, data in files.items()}
    texts = {name: found for name, found in actions.items() if _TEMPLATES in name}
    # Texts in values, and files beside the templates, are templates for `tpl`.
    others = (values.encode(), *(actions[name] for name in actions.keys() - texts.keys()))
    beside = any(wanted.search(other) for other in others)
    bodies: dict[bytes, list[bytes]] = {}
    for data in texts.values():
        for name, body in _definitions(data):
            bodies.setdefault(name, []).append(body)

    def reads(text: bytes, known: set[bytes]) -> bool:
        if wanted.search(text) or (beside and b"tpl" in text) or _MADE_UP.search(text):
            return True
        return not known.isdisjoint(_INCLUDED.findall(text))

    known, size = set[bytes](), -1
    while len(known) != size:
        size = len(known)
        known |= {name for name, parts in bodies.items() if any(reads(part, known) for part in parts)}
    found = {name for name, data in texts.items() if reads(data, known)}
    ends = {end.decode("utf-8", "replace") for name in found for end in _FILE.findall(texts[name])}
    return frozenset(found | {name for name in texts if name.endswith(tuple(ends))})


def narrowed(files: Mapping[str, bytes], kept: Collection[str]) -> dict[str, bytes]:
    """The `files` of a chart, those but `kept` empty whose names tell that they make objects, without definitions."""
    emptied = {name: b"" for name in files if OBJECTS.search(name) and name not in kept}
    return without_definitions({**files, **emptied})


def without_definitions(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The `files` of a chart without custom resource definitions, which are large and name no images."""
    return {name: data for name, data in files.items() if not _DEFINITIONS.match(name)}


def _definitions(data: bytes) -> list[tuple[bytes, bytes]]:
    """The named templates in a file, each with its text, and what follows up to the next."""
    found = list(_DEFINED.finditer(data))
    places = [item.start() for item in found] + [len(data)]
    return [(item[1], data[start:end]) for item, (start, end) in zip(found, pairwise(places), strict=True)]

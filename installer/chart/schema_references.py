"""References by which the schema of a chart's values leaves its own document.

Helm's validator follows them while it renders (github.com/santhosh-tekuri/jsonschema/v6, set up in Helm's
pkg/chart/common/util/jsonschema.go): it fetches `http` and `https`, and reads `file`, which a relative reference
becomes. What it knows without: the document itself, its parts that have an identifier, the metaschemas of the drafts,
and any `urn:`, which Helm takes for a schema that allows everything.
"""

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urldefrag, urljoin

from installer.chart.archive import MAX_UNPACKED, unpacked
from installer.errors import AirferryError, ContentError
from installer.value import Value

_CHART = r"[^/]+(/charts/[^/]+)*"
_SCHEMA = re.compile(rf"{_CHART}/values\.schema\.json")
_SUBCHART = re.compile(rf"{_CHART}/charts/[^/]+\.tgz")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_OLD_DRAFT = re.compile(r"https?://json-schema\.org/draft-0([467])/schema#?")
# Under this name the validator knows the document (`ValidateAgainstSingleSchema`).
_DOCUMENT = "file:///values.schema.json"
_METASCHEMAS = frozenset(
    f"{folder}{name}"
    for folder, names in (
        ("", "schema draft-04/schema draft-06/schema draft-07/schema draft/2019-09/schema draft/2020-12/schema"),
        ("draft/2019-09/meta/", "applicator content core format meta-data validation"),
        ("draft/2020-12/meta/", "applicator content core format-annotation format-assertion meta-data unevaluated"),
        ("draft/2020-12/meta/", "validation"),
    )
    for name in names.split()
)
"""What the validator brings along, below http://json-schema.org/ and https://json-schema.org/ (its metaschemas/)."""
_METASCHEMA = re.compile(r"https?://json-schema\.org/(.*)")


class SchemaReference(Value, order=True):
    """A `reference` in a `file` of a chart: a path in its archive, and behind a colon one in a subchart's archive.

    `address` is the document that it means, without fragment: a file's where the schema says no other (`other.json`
    means `file:///other.json`), and empty for a `$schema`, which the validator looks for nowhere but outside.
    """

    file: str
    reference: str
    address: str


def leaving_references(archive: bytes, source: str, error: type[AirferryError]) -> list[SchemaReference]:
    """The references that leave the schemas of the chart in `archive` and of all its subcharts, packed ones too.

    Whatever looks like a reference counts, wherever it stands in a schema: one may point at any place of its document
    and make a schema of it. Raises `error`, naming `source`, if the archive cannot be unpacked.
    """
    return [
        SchemaReference(file, reference, address)
        for file, content in schemas(archive, source, error)
        for reference, address in leaving(parsed(content))
    ]


def schemas(archive: bytes, source: str, error: type[AirferryError]) -> Iterator[tuple[str, bytes]]:
    """The schemas in the chart `archive`, each with its `file` as in `SchemaReference`. Raises `error`."""
    room, todo = MAX_UNPACKED, [("", unpacked(archive, source, error))]
    while todo:
        above, files = todo.pop()
        room -= sum(map(len, files.values()))
        if room < 0:
            raise error(f"{source}: more than {MAX_UNPACKED} bytes unpacked")
        for name, content in files.items():
            path = cleaned(name)
            if _SCHEMA.fullmatch(path):
                yield f"{above}{path}", content
            elif _SUBCHART.fullmatch(path):
                # Helm says so when it loads the chart, if this is no archive.
                with suppress(ContentError):
                    todo.append((f"{above}{path}:", unpacked(content, path, ContentError)))


def cleaned(name: str) -> str:
    """A name in an archive, as Helm cleans it (pkg/chart/loader/archive)."""
    return posixpath.normpath(name.replace("\\", "/"))


def parsed(content: bytes) -> Any:
    """The schema in the bytes of a file; None for what the validator refuses before it looks for references."""
    try:
        return json.loads(content.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def leaving(schema: Any) -> list[tuple[str, str]]:
    """The references in a schema to what neither is part of it nor known to the validator, with their addresses."""
    identifiers = {_DOCUMENT}
    references: set[tuple[str, str]] = set()
    todo: list[tuple[Any, str, int]] = [(schema, _DOCUMENT, 0)]
    while todo:
        node, base, draft = todo.pop()
        if isinstance(node, list):
            todo += [(item, base, draft) for item in node]
        elif isinstance(node, dict):
            if isinstance(text := node.get("$schema"), str):
                draft = old_draft(node)
                if not _is_known(urldefrag(text)[0]):
                    references.add((text, ""))
            name = node.get("id" if draft == 4 else "$id")
            # Drafts before 2019-09 ignore whatever stands beside `$ref`.
            if isinstance(name, str) and not (draft and "$ref" in node):
                base = _joined(base, name)
                identifiers.add(base)
            for key in _REFERENCES:
                if isinstance(text := node.get(key), str):
                    references.add((text, _joined(base, text)))
            todo += [(item, base, draft) for item in node.values()]
    return sorted(
        (text, address) for text, address in references if address not in identifiers and not _is_known(address)
    )


def old_draft(schema: Mapping[str, Any]) -> int:
    """4, 6 or 7, as `$schema` says; 0 for later drafts, of which the validator takes the latest where none is said."""
    found = _OLD_DRAFT.fullmatch(str(schema.get("$schema")))
    return int(found[1]) if found else 0


def address_of(reference: str) -> str:
    """The address that `reference` means in a schema that does not say its own."""
    return _joined(_DOCUMENT, reference)


def _joined(base: str, reference: str) -> str:
    """The address that a reference means where `base` is that of its surroundings, without the fragment."""
    try:
        return urljoin(base, urldefrag(reference)[0])
    except ValueError:
        return reference  # an address that cannot be read is none of ours


def _is_known(address: str) -> bool:
    found = _METASCHEMA.fullmatch(address)
    return address.startswith("urn:") or (found is not None and found[1] in _METASCHEMAS)

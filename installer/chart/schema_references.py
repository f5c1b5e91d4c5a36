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
from typing import Any
from urllib.parse import urldefrag, urljoin

from installer.chart.archive import unpacked
from installer.errors import AirferryError, ContentError
from installer.value import Value

_CHART = r"[^/]+(/charts/[^/]+)*"
_SCHEMA = re.compile(rf"{_CHART}/values\.schema\.json")
_SUBCHART = re.compile(rf"{_CHART}/charts/[^/]+\.tgz")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef", "$schema")
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


class SchemaReference(Value):
    """A `reference` in a `file` of a chart: a path in its archive, and behind a colon one in a subchart's archive."""

    file: str
    reference: str


def leaving_references(archive: bytes, source: str, error: type[AirferryError]) -> list[SchemaReference]:
    """The references that leave the schemas of the chart in `archive` and of all its subcharts, packed ones too.

    Whatever looks like a reference counts, wherever it stands in a schema: one may point at any place of its document
    and make a schema of it. Raises `error`, naming `source`, if the archive cannot be unpacked.
    """
    found = []
    for file, content in _schemas(unpacked(archive, source, error), ""):
        try:
            document = json.loads(content.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            continue  # the validator refuses it before it looks for references
        found += [SchemaReference(file, reference) for reference in _leaving(document)]
    return found


def _schemas(files: Mapping[str, bytes], above: str) -> Iterator[tuple[str, bytes]]:
    """The schemas among the files of a chart, each with its path behind `above`."""
    for name, content in files.items():
        # Helm cleans the names as these two do (pkg/chart/loader/archive).
        path = posixpath.normpath(name.replace("\\", "/"))
        if _SCHEMA.fullmatch(path):
            yield f"{above}{path}", content
        elif _SUBCHART.fullmatch(path):
            try:
                inner = unpacked(content, path, ContentError)
            except ContentError:
                continue  # Helm says so when it loads the chart
            yield from _schemas(inner, f"{above}{path}:")


def _leaving(document: Any) -> list[str]:
    """The references in a schema to what neither is part of it nor known to the validator, each once."""
    identifiers = {_DOCUMENT}
    references: dict[str, str] = {}
    todo: list[tuple[Any, str]] = [(document, _DOCUMENT)]
    while todo:
        node, base = todo.pop()
        if isinstance(node, list):
            todo += [(item, base) for item in node]
        elif isinstance(node, dict):
            # Drafts before 6 have `id`, which later ones have as an ordinary key.
            for key in ("$id", "id"):
                if isinstance(name := node.get(key), str) and (key == "$id" or _is_draft_4(document)):
                    base = _joined(base, name)
                    identifiers.add(base)
            for key in _REFERENCES:
                if isinstance(text := node.get(key), str):
                    # What `$schema` names is not joined with any base.
                    references[text] = urldefrag(text)[0] if key == "$schema" else _joined(base, text)
            todo += [(item, base) for item in node.values()]
    return sorted(text for text, target in references.items() if target not in identifiers and not _is_known(target))


def _is_draft_4(document: Any) -> bool:
    return isinstance(document, dict) and "draft-04" in str(document.get("$schema"))


def _joined(base: str, reference: str) -> str:
    """The address that a reference means where `base` is that of its surroundings, without the fragment."""
    try:
        return urljoin(base, urldefrag(reference)[0])
    except ValueError:
        return reference  # an address that cannot be read is none of ours


def _is_known(address: str) -> bool:
    found = _METASCHEMA.fullmatch(address)
    return address.startswith("urn:") or (found is not None and found[1] in _METASCHEMAS)

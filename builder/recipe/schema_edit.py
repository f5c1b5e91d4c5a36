"""Documents to which the schemas of a chart refer, put into these schemas: nothing is fetched while Helm renders.

A document becomes a part of each schema that refers to it, below `definitions`, with its address as identifier. So all
references stay as they are, those with fragments, anchors and relative ones too, and the document keeps its draft.

Source of the foreign rules: JSON Schema Core 2020-12, section 9.3.1 ("Bundling"). What differs in older drafts is as in
Helm's validator (github.com/santhosh-tekuri/jsonschema/v6, draft.go and roots.go), which looks for identifiers below
`definitions` in all of them, but not beside a `$ref` before 2019-09, where it ignores whatever stands there.
"""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from installer.chart.archive import packed, unpacked
from installer.chart.schema_references import SchemaReference, cleaned, leaving, old_draft, parsed, schemas
from installer.errors import ContentError, RecipeError
from installer.value import Value

MAX_SCHEMA = 5 << 20
"""The largest file of a chart that Helm loads (pkg/chart/loader/archive, `MaxDecompressedFileSize`)."""
_LATEST = "https://json-schema.org/draft/2020-12/schema"
"""What the validator takes a document for that says no draft of its own."""
_HTTP = re.compile(r"https?://[!-~]+")
_BESIDE_REFERENCE = ("$schema", "definitions", "$defs", "title", "description", "$comment")
"""What stays beside the `$ref` of an old draft: what holds schemas, or explains. All else is ignored there."""
_SHOWN = 20


class Inlined(Value):
    """A chart's `archive` whose schemas hold the documents at the addresses `used`; `left` still leads out of them."""

    archive: bytes
    used: frozenset[str]
    left: tuple[SchemaReference, ...]


def document(raw: bytes, file: str) -> Mapping[str, Any]:
    """The schema in the bytes of `file`. Raises RecipeError."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as exc:
        raise RecipeError(f"{file}: no JSON: {exc}", hint="fetch it again, and look into it.") from exc
    if not isinstance(found, dict):
        raise RecipeError(f"{file}: no JSON Schema: its top is no mapping", hint="name another file in `schemas`.")
    return found


def inlined(archive: bytes, source: str, documents: Mapping[str, Mapping[str, Any]]) -> Inlined:
    """The chart in `archive` with those `documents`, by address, to which its schemas refer, or which these refer to.

    The same input gives the same bytes: the archive itself if there is nothing to do. Raises ContentError, naming
    `source`, for what is no archive, and RecipeError for documents that are nested too deep.
    """
    changed: dict[str, bytes] = {}
    used: set[str] = set()
    left: list[SchemaReference] = []
    for file, content in schemas(archive, source, ContentError):
        schema, held = _completed(parsed(content), documents)
        left += (SchemaReference(file, reference, address) for reference, address in leaving(schema))
        if held:
            changed[file] = _compact(schema, file)
            used |= held
    made = _with_files(archive, source, changed) if changed else archive
    return Inlined(made, frozenset(used), tuple(sorted(left)))


def _completed(schema: Any, documents: Mapping[str, Mapping[str, Any]]) -> tuple[Any, set[str]]:
    """`schema` with those of `documents` that it needs, and their addresses."""
    held: set[str] = set()
    if not (isinstance(schema, dict) and isinstance(schema.get("definitions", {}), dict)):
        return schema, held  # Helm says so when it renders the chart
    while found := {address for _, address in leaving(schema)} & documents.keys() - held:
        parts = {address: _part(address, documents[address]) for address in sorted(found)}
        schema = {**schema, "definitions": {**schema.get("definitions", {}), **parts}}
        held |= found
    return schema, held


def _part(address: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """`schema` as it stands within another."""
    # Draft 4 calls the identifier `id`, which no later draft knows.
    part = {"$schema": _LATEST, **schema, "$id": address, "id": address}
    if old_draft(schema) and "$ref" in schema:
        kept = {key: part[key] for key in (*_BESIDE_REFERENCE, "$id", "id") if key in part}
        return {**kept, "allOf": [{"$ref": schema["$ref"]}]}
    return part


def _compact(schema: Any, file: str) -> bytes:
    try:
        return json.dumps(schema, separators=(",", ":")).encode("ascii")
    except RecursionError as exc:
        raise RecipeError(f"{file}: nested too deep", hint="correct `schemas` in the recipe.") from exc


def _with_files(archive: bytes, source: str, changed: Mapping[str, bytes]) -> bytes:
    """`archive` with other files, those of subcharts' archives too; their names are those of `schemas`."""
    files = unpacked(archive, source, ContentError)
    for name, content in files.items():
        path = cleaned(name)
        inner = {file.removeprefix(f"{path}:"): made for file, made in changed.items() if file.startswith(f"{path}:")}
        files[name] = _with_files(content, f"{source}: {path}", inner) if inner else changed.get(path, content)
    return packed(files, level=9)


def check_inside(left: Iterable[SchemaReference], chart: str, source: str) -> None:
    """Raises RecipeError for references that lead out of the schemas of `chart`, with what the recipe can do."""
    if not (found := list(left)):
        return
    lines = [f"  {item.file}: {json.dumps(item.reference)}" for item in found]
    more = [f"  and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    what = f"{source}: its schemas refer to what is not in them, and nothing is fetched while rendering:"
    addresses = sorted({item.address for item in found if item.address})[:_SHOWN]
    if not addresses:
        hint = "Helm would fetch what `$schema` names: have the chart name a draft that Helm knows."
        raise RecipeError("\n".join([what, *lines[:_SHOWN], *more]), hint=hint)
    put = ["put these documents into its schemas (recipe):", "charts:", f"  - name: {chart}", "    schemas:"]
    put += [f"      {json.dumps(address.removeprefix('file:///'))}: {_file(address)}" for address in addresses]
    fetched = [address for address in addresses if _HTTP.fullmatch(address)]
    get = ["fetch them, beside the recipe:"] if fetched else []
    get += [f"  curl -fL --create-dirs -o {_file(address)} {shlex.quote(address)}" for address in fetched]
    raise RecipeError(
        "\n".join([what, *lines[:_SHOWN], *more, *put, *get]),
        hint="look into each document, name it in the recipe, and commit it; or have the chart mended.",
    )


def _file(address: str) -> str:
    """Where the recipe may keep the document at `address`: a path of its own."""
    parts = re.sub(r"[^A-Za-z0-9._/-]", "_", address.rpartition("://")[2]).split("/")
    return "/".join(["schemas", *(part for part in parts if part.strip("."))])

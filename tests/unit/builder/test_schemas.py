"""Documents to which a chart's schemas refer become parts of these schemas, by the recipe, and by nothing else."""

from __future__ import annotations

import json
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from builder.recipe.lock import Lock
from builder.recipe.locked_files import check_files, locked_files
from builder.recipe.recipe import parse_recipe
from builder.recipe.schema_edit import document, inlined
from builder.resolve.make_lock import make_lock
from installer.chart.archive import packed
from installer.chart.helm import Chart
from installer.chart.schema_references import address_of, leaving_references
from installer.errors import ContentError, RecipeError
from installer.report import Silent
from installer.strict_yaml import load_yaml
from tests.parts.charts import package
from tests.parts.static_files import StaticFiles
from tests.parts.workshop import Workshop

if TYPE_CHECKING:
    from pathlib import Path


DRAFT_4, DRAFT_6, DRAFT_7 = (f"http://json-schema.org/draft-0{number}/schema#" for number in (4, 6, 7))
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"
COMMON = "https://schemas.example/v1/common.json"
PORT = {"type": "object", "properties": {"port": {"type": "integer"}}}
REFERRING = {"properties": {"web": {"$ref": COMMON}}}
FIXED = "apiVersion: v1\nkind: Pod\nmetadata: {name: it}\nspec: {containers: [{name: a, image: docker.io/demo/it:1}]}\n"

# What stands in the chart, and the documents by what the recipe calls them. `web.port` is to be a number.
CASES: dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]] = {
    "a document": (REFERRING, {COMMON: PORT}),
    "an empty fragment": ({"properties": {"web": {"$ref": f"{COMMON}#"}}}, {COMMON: PORT}),
    "the whole schema": ({"$ref": COMMON}, {COMMON: {"properties": {"web": PORT}}}),
    "the whole schema of an old draft": (
        {"$schema": DRAFT_7, "$ref": COMMON},
        {COMMON: {"properties": {"web": PORT}}},
    ),
    "a place in it": (
        {"properties": {"web": {"$ref": f"{COMMON}#/definitions/web~1it"}}},
        {COMMON: {"definitions": {"web/it": {"$ref": "#/definitions/port"}, "port": PORT}}},
    ),
    "an anchor": (
        {"properties": {"web": {"$ref": f"{COMMON}#web"}}},
        {COMMON: {"$defs": {"web": {"$anchor": "web", **PORT}}}},
    ),
    "an anchor of an old draft": (
        {"properties": {"web": {"$ref": f"{COMMON}#web"}}},
        {COMMON: {"$schema": DRAFT_7, "definitions": {"web": {"$id": "#web", **PORT}}}},
    ),
    "a dynamic anchor": (
        REFERRING,
        {
            COMMON: {
                "properties": {"port": {"$dynamicRef": "#port"}},
                "$defs": {"port": {"$dynamicAnchor": "port", "type": "integer"}},
            }
        },
    ),
    "a document that refers to another, and back": (
        REFERRING,
        {
            COMMON: {"$ref": "../v2/web.json#/$defs/web", "$defs": {"port": {"type": "integer"}}},
            "https://schemas.example/v2/web.json": {
                "$defs": {"web": {"properties": {"port": {"$ref": f"{COMMON}#/$defs/port"}}}}
            },
        },
    ),
    "the same words for two documents": (
        {"properties": {"web": {"allOf": [{"$ref": f"https://schemas.example/{n}/web.json"} for n in (1, 2)]}}},
        {
            "https://schemas.example/1/web.json": {"properties": {"port": {"$ref": "port.json"}}},
            "https://schemas.example/2/web.json": {"properties": {"port": {"$ref": "port.json"}}},
            "https://schemas.example/1/port.json": {"type": "integer"},
            "https://schemas.example/2/port.json": {"minimum": 0},
        },
    ),
    "a relative reference": ({"properties": {"web": {"$ref": "parts/web.json"}}}, {"parts/web.json": PORT}),
    "a file": ({"properties": {"web": {"$ref": "file:///parts/web.json"}}}, {"parts/web.json": PORT}),
    "an identifier of its own": (REFERRING, {COMMON: {"$id": "https://elsewhere.example/x.json", **PORT}}),
    "a schema with an identifier": ({"$id": "https://schemas.example/v1/chart.json", **REFERRING}, {COMMON: PORT}),
    "a schema of draft 4": ({"$schema": DRAFT_4, "id": "https://schemas.example/", **REFERRING}, {COMMON: PORT}),
    "an identifier that an old draft does not read": (
        {"$schema": DRAFT_7, "$id": "https://schemas.example/", "$ref": "web.json"},
        {"web.json": {"properties": {"web": PORT}}},
    ),
    "no draft in a schema of an old one": (
        {"$schema": DRAFT_7, **REFERRING},
        {COMMON: {"$ref": "#web", "$defs": {"web": {"$anchor": "web", **PORT}}}},
    ),
    "definitions beside it": (
        {"definitions": {"here": {"$ref": COMMON}}, "properties": {"web": {"$ref": "#/definitions/here"}}},
        {COMMON: PORT},
    ),
    "what is no schema until something points at it": (
        {"properties": {"web": {"$ref": "#/examples/0"}}, "examples": [{"$ref": COMMON}]},
        {COMMON: PORT},
    ),
    **{
        f"draft {draft} in another": (
            {"$schema": other, **REFERRING},
            {COMMON: {"$schema": draft, "$ref": "#/definitions/web", "type": "object", "definitions": {"web": PORT}}},
        )
        for draft, other in [(DRAFT_4, DRAFT_7), (DRAFT_6, DRAFT_2020), (DRAFT_7, DRAFT_2020), (DRAFT_2020, DRAFT_4)]
    },
    # Beside `$ref` old drafts ignore all else, and they know no other `exclusiveMinimum`.
    "what old drafts ignore": (
        REFERRING,
        {COMMON: {"$schema": DRAFT_4, "$ref": "#/definitions/web", "not": {}, "definitions": {"web": PORT}}},
    ),
    "what later drafts write otherwise": (
        REFERRING,
        {
            COMMON: {
                "$schema": DRAFT_4,
                "properties": {"port": {"type": "integer", "minimum": 0, "exclusiveMinimum": True}},
            }
        },
    ),
}


def chart(schema: dict[str, Any], **files: str) -> bytes:
    return package("demo-app", files={"values.schema.json": json.dumps(schema), **files})


def addressed(documents: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {address_of(reference): content for reference, content in documents.items()}


def told(archive: bytes, values: dict[str, Any]) -> str:
    """What Helm says against `values` for a chart; nothing if it renders it."""
    made = Chart.load(archive)
    try:
        made.render(values, release="r", namespace="n")
    except RecipeError as exc:
        return exc.message
    return ""


def checks(archive: bytes, *, below: tuple[str, ...] = (), beside: dict[str, Any] | None = None) -> bool:
    """Whether Helm takes the right port and refuses the wrong one, in the values of the subchart `below`."""
    found = []
    for port in (1, "one"):
        values: dict[str, Any] = {"web": {"port": port}}
        for name in reversed(below):
            values = {name: values}
        found.append(told(archive, {**values, **(beside or {})}))
    return not found[0] and "got string, want integer" in found[1]


@pytest.mark.parametrize("case", CASES)
def test_helm_checks_values_by_the_documents(case: str) -> None:
    schema, documents = CASES[case]
    published = chart(schema)
    made = inlined(published, "chart x", addressed(documents))
    assert made.left == ()
    assert made.used == addressed(documents).keys()
    assert leaving_references(made.archive, "x", ContentError) == []
    assert checks(made.archive)
    assert inlined(published, "chart x", addressed(documents)) == made
    assert inlined(made.archive, "chart x", addressed(documents)).archive == made.archive


def test_subcharts_in_folders_and_archives_get_the_same_document() -> None:
    inner = {
        name: {
            f"{name}/Chart.yaml": f"apiVersion: v2\nname: {name}\nversion: 1.0.0\n".encode(),
            f"{name}/values.schema.json": json.dumps(REFERRING).encode(),
        }
        for name in ("one", "two", "deep")
    }
    inner["two"]["two/charts/deep-1.0.0.tgz"] = packed(inner["deep"], level=1)
    files = {
        "it/Chart.yaml": b"apiVersion: v2\nname: it\nversion: 1.0.0\n",
        "it/templates/it.yaml": b"kind: It\n",
        **{f"it/charts/{name}": content for name, content in inner["one"].items()},
        "it/charts/two-1.0.0.tgz": packed(inner["two"], level=1),
    }
    made = inlined(packed(files, level=1), "chart it", {COMMON: PORT})
    assert made.left == ()
    assert [path for path in (("one",), ("two",), ("two", "deep")) if not checks(made.archive, below=path)] == []


@pytest.mark.parametrize(
    ("raw", "words"),
    [(b"type: object", "no JSON"), (b"[]", "its top is no mapping"), (b'{"a":' * 100_000, "no JSON")],
)
def test_what_is_no_schema_is_refused(raw: bytes, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        document(raw, "common.json")
    assert caught.value.message.startswith("common.json: ")


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def web(workshop: Workshop, schema: dict[str, Any], files: dict[str, str] | None = None, **entry: Any) -> None:
    """A chart `web` with that schema, in the recipe."""
    about = "apiVersion: v2\nname: web\nversion: 1.0.0\n"
    made = {"Chart.yaml": about, "values.yaml": "{}", "values.schema.json": json.dumps(schema), **(files or {})}
    workshop.charts.clear()
    workshop.chart("web", files=made, **entry)


def test_the_lock_says_what_was_put_in_and_build_makes_the_same(workshop: Workshop) -> None:
    workshop.file("common.json", json.dumps(PORT))
    web(workshop, REFERRING, schemas={COMMON: "common.json", "https://schemas.example/other.json": "common.json"})
    lock = workshop.lock()
    (item,) = lock.charts
    assert [(schema.address, schema.file) for schema in item.schemas] == [(COMMON, "common.json")]
    assert Lock.decode(lock.encode()) == lock
    assert workshop.folder / "common.json" in locked_files(lock, workshop.folder)
    check_files(lock, workshop.folder)
    assert checks(workshop.archive(lock, item))
    note = "chart web: none of its schemas refers to https://schemas.example/other.json; remove it from `schemas`"
    assert f"note: {note}" in workshop.notes
    (proof,) = [json.loads(lock.blobs_by_digest()[one.digest].content) for one in lock.documents if one.kind == "proof"]
    assert proof["charts"][0]["schemas"] == {COMMON: item.schemas[0].digest.text}

    workshop.file("common.json", json.dumps({**PORT, "title": "another"}))
    with pytest.raises(RecipeError, match=r"changed since they were locked, or gone: common\.json"):
        check_files(lock, workshop.folder)
    with pytest.raises(ContentError, match=r"file common\.json"):
        workshop.archive(lock, item)


def test_values_that_a_document_forbids_are_refused_at_home(workshop: Workshop) -> None:
    workshop.file("common.json", json.dumps(PORT))
    web(workshop, REFERRING, values={"web": {"port": "one"}}, schemas={COMMON: "common.json"})
    assert "got string, want integer" in workshop.refusal()


def test_templates_are_edited_beside_schemas(workshop: Workshop) -> None:
    workshop.file("common.json", json.dumps({**PORT, "additionalProperties": False}))
    web(
        workshop,
        {**REFERRING, "additionalProperties": False},
        files={"templates/pod.yaml": FIXED},
        schemas={COMMON: "common.json"},
    )
    lock = workshop.lock()
    (item,) = lock.charts
    assert item.schemas
    assert item.edits
    assert checks(workshop.archive(lock, item), beside={"global": {"airferry": {"images": "r.enclave/p/"}}})


CLOSED = {"type": "object", "additionalProperties": False, "properties": {"web": PORT}}


@pytest.mark.parametrize(
    ("schema", "content"),
    [
        ({"$ref": COMMON}, CLOSED),
        ({"$ref": f"{COMMON}#/$defs/a~1b"}, {"$defs": {"a/b": {"$ref": "#/$defs/c"}, "c": CLOSED}}),
        ({"allOf": [{"$ref": "#/$defs/own"}], "$defs": {"own": {"$ref": COMMON}}}, CLOSED),
        (
            {"properties": {"web": PORT, "global": {"$ref": COMMON}}, "additionalProperties": False},
            {"type": "object", "additionalProperties": False},
        ),
        ({"if": {"required": ["web"]}, "then": {"$ref": COMMON}}, CLOSED),
    ],
)
def test_the_value_that_moves_images_passes_whatever_closes_a_schema(
    workshop: Workshop, schema: dict[str, Any], content: dict[str, Any]
) -> None:
    workshop.file("common.json", json.dumps(content))
    web(
        workshop,
        {"properties": {"web": PORT}, **schema},
        {"templates/pod.yaml": FIXED},
        schemas={COMMON: "common.json"},
    )
    lock = workshop.lock()
    archive = workshop.archive(lock, lock.charts[0])
    assert checks(archive, beside={"global": {"airferry": {"images": "r.enclave/p/"}}})
    if content is CLOSED:
        assert "additional properties 'other' not allowed" in told(archive, {"web": {"port": 1}, "other": 1})


def test_a_chart_in_a_repository_is_no_other_because_the_recipe_edits_it(workshop: Workshop) -> None:
    workshop.file("common.json", json.dumps(PORT))
    workshop.file("same.json", json.dumps({**PORT, "title": "the same, said otherwise"}))
    web(workshop, REFERRING)
    (archive,) = workshop.folder.glob("web-*.tgz")
    entries = {"web": [{"version": "1.0.0", "urls": [archive.name]}]}
    workshop.file("index.yaml", json.dumps({"apiVersion": "v1", "entries": entries}))
    with StaticFiles(workshop.folder) as served:
        entry = {"name": "web", "version": "1.0.0", "repository": served.url}
        first = workshop.lock(charts=[{**entry, "schemas": {COMMON: "common.json"}}])
        recipe = workshop.recipe(None, {"charts": [{**entry, "schemas": {COMMON: "same.json"}}]})
        again = make_lock(
            recipe, "recipe.yaml", workshop.places, Silent(), now="2026-01-01T00:00:00Z", old=first, update=()
        )
    assert first.charts[0].published == again.charts[0].published
    assert first.charts[0].archive != again.charts[0].archive


def test_what_is_missing_is_told_with_lines_for_the_recipe(workshop: Workshop) -> None:
    other = "file:///parts/web.json"
    web(workshop, {"properties": {"web": {"$ref": f"{COMMON}#/web"}, "more": {"$ref": other}}})
    with pytest.raises(RecipeError) as caught:
        workshop.needs()
    lines = caught.value.message.splitlines()
    assert lines[0].startswith("chart web (file web-1.0.0.tgz): its schemas refer to what is not in them")
    assert lines[1:] == [
        f'  web/values.schema.json: "{other}"',
        f'  web/values.schema.json: "{COMMON}#/web"',
        "put these documents into its schemas (recipe):",
        "charts:",
        "  - name: web",
        "    schemas:",
        '      "parts/web.json": schemas/parts/web.json',
        f'      "{COMMON}": schemas/schemas.example/v1/common.json',
        "fetch them, beside the recipe:",
        f"  curl -fL --create-dirs -o schemas/schemas.example/v1/common.json {COMMON}",
    ]
    assert "look into each document" in caught.value.hint
    # They can be pasted; and what these documents need is told in turn.
    pasted = load_yaml("\n".join(lines[4:9]).encode(), "lines", RecipeError)["charts"][0]["schemas"]
    workshop.file("schemas/parts/web.json", json.dumps(PORT))
    workshop.file("schemas/schemas.example/v1/common.json", json.dumps({"web": {"$ref": "next.json"}}))
    web(workshop, {"properties": {"web": {"$ref": f"{COMMON}#/web"}, "more": {"$ref": other}}}, schemas=pasted)
    assert '"https://schemas.example/v1/next.json": schemas/schemas.example/v1/next.json' in workshop.refusal()


def test_lines_to_be_pasted_do_nothing_else(workshop: Workshop) -> None:
    hostile = ["https://h.example/$(id);'`\"/x", "https://h.example/a\n  rm -rf .", "https://h.example/ë.json"]
    web(workshop, {"allOf": [{"$ref": address} for address in hostile]})
    with pytest.raises(RecipeError) as caught:
        workshop.needs()
    lines = caught.value.message.splitlines()
    (command,) = [line.strip() for line in lines if "curl" in line]
    told = subprocess.run(
        ["/bin/sh", "-c", f"curl() {{ printf '%s\\n' \"$@\"; }}; {command}"], capture_output=True, text=True, check=True
    )
    *_, file, address = told.stdout.splitlines()
    assert file.startswith("schemas/h.example/")
    assert ".." not in file
    assert address in hostile
    assert not any(line.strip().startswith("rm") for line in lines)


def test_a_draft_of_ones_own_cannot_be_put_in(workshop: Workshop) -> None:
    workshop.file("common.json", json.dumps({"$schema": "https://schemas.example/draft", **PORT}))
    files = {COMMON: "common.json", "https://schemas.example/draft": "common.json"}
    web(workshop, REFERRING, schemas=files)
    told = workshop.refusal()
    assert '"https://schemas.example/draft"' in told
    assert "have the chart name a draft that Helm knows" in told


def test_nothing_is_fetched(workshop: Workshop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/common.json"
        schema = {"properties": {"web": {"$ref": address}}}
        web(workshop, schema)
        assert address in workshop.refusal()
        workshop.file("common.json", json.dumps(PORT))
        web(workshop, schema, schemas={address: "common.json"})
        lock = workshop.lock()
        assert checks(workshop.archive(lock, lock.charts[0]))
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_file_that_is_not_there_is_named(workshop: Workshop) -> None:
    web(workshop, REFERRING, schemas={COMMON: "absent.json"})
    assert "absent.json" in workshop.refusal()


def test_two_names_of_one_document_are_one(workshop: Workshop) -> None:
    workshop.file("first.json", json.dumps({"not": {}}))
    workshop.file("second.json", json.dumps(PORT))
    names = {"web.json": "first.json", "file:///web.json": "second.json"}
    web(workshop, {"properties": {"web": {"$ref": "web.json"}}}, schemas=names)
    lock = workshop.lock()
    assert [schema.file for schema in lock.charts[0].schemas] == ["second.json"]
    assert checks(workshop.archive(lock, lock.charts[0]))


@pytest.mark.parametrize("address", [f"{COMMON}#/web", "a b.json", "", "ë.json"])
def test_addresses_in_a_recipe_are_those_of_documents(address: str) -> None:
    entry = {"name": "web", "path": "web.tgz", "schemas": {address: "common.json"}}
    with pytest.raises(RecipeError, match="without the fragment"):
        parse_recipe(json.dumps({"name": "demo", "version": "1", "charts": [entry]}).encode(), "recipe.yaml")

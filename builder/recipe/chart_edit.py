"""Charts whose templates have image names fixed, edited so that a value moves these names.

What such a template makes passes through `regexReplaceAll`. The chart keeps its name and version; an annotation says
what was edited, and the lock names the archive that was published, so that anybody can make the same edit again.

Source of the foreign rules: helm.sh/docs, "Chart Template Guide": files whose names begin with an underscore make no
objects (Named Templates), `.Template.BasePath` (Built-in Objects), `include` and `regexReplaceAll` (function list).
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from builder.recipe.lock import TemplateEdit
from installer.chart.archive import packed
from installer.chart.helm import Chart
from installer.chart.parts import files_of
from installer.chart.schema_references import address_of
from installer.errors import ContentError
from installer.moving.rewriting import EDITED, VALUE

_INNER = "_airferry-"


def edited(chart: Chart, edits: Iterable[TemplateEdit]) -> bytes:
    """The archive of `chart` after `edits`, the same bytes each time.

    Raises ContentError where a template is not there, or the chart is no chart.
    """
    files, made = dict(files_of(chart)), list(edits)
    root = min(name.partition("/")[0] for name in files)
    for edit in made:
        folder, _, leaf = edit.template.rpartition("/")
        if edit.template not in files:
            raise ContentError(f"{chart.source}: has no {edit.template}", hint="run `airferry lock` again.")
        inner = f"{folder}/{_INNER}{leaf}"
        files[inner] = files[edit.template]
        files[edit.template] = _template(inner.partition("/templates/")[2], edit).encode()
    for name in [name for name in files if name.endswith("/values.schema.json")]:
        files[name] = _allowing(files[name])
    annotations = {**(chart.metadata.get("annotations") or {}), EDITED: " ".join(edit.template for edit in made)}
    # JSON is YAML.
    text = json.dumps({**chart.metadata, "annotations": annotations}, indent=2, sort_keys=True)
    return packed({**files, f"{root}/Chart.yaml": text.encode()}, level=6)


def _template(inner: str, edit: TemplateEdit) -> str:
    """The template that makes what `inner` makes, with the value before the image names."""
    replaced = "".join(
        f"{{{{- $made = regexReplaceAll `{item.pattern}` $made (print `${{1}}` $images `{item.name}${{2}}`) -}}}}\n"
        for item in edit.rewrites
        # Twice, since a character between two names is part of one match.
        for _ in range(2)
    )
    above, middle, key = VALUE
    return (
        f"{{{{- $made := include (print $.Template.BasePath {json.dumps(f'/{inner}')}) . -}}}}\n"
        f"{{{{- with .Values.{above} }}}}{{{{ with .{middle} }}}}{{{{ with .{key} }}}}{{{{ $images := . -}}}}\n"
        f"{replaced}"
        "{{- end }}{{ end }}{{ end -}}\n"
        "{{ $made }}\n"
    )


def _allowing(schema: bytes) -> bytes:
    """A schema of values that lets the value pass; Helm checks it against those of all subcharts."""
    try:
        document = json.loads(schema)
    except (ValueError, RecursionError):
        return schema
    return json.dumps(document, separators=(",", ":")).encode("ascii") if _open(document) else schema


def _open(document: Any) -> bool:
    """Give a property to whatever in `document` checks what stands at `VALUE`, and allows no others; whether any did.

    References are followed to places in the document, and in the documents that have become parts of it.
    """
    changed, seen = False, set()
    todo: list[tuple[Any, Any, tuple[str, ...]]] = [(document, document, VALUE)]
    while todo:
        node, resource, path = todo.pop()
        if not isinstance(node, dict) or (id(node), path) in seen:
            continue
        seen.add((id(node), path))
        key, *below = path
        properties = _of(node, "properties", dict)
        if key not in properties:
            if node.get("additionalProperties", True) is not True or "unevaluatedProperties" in node:
                node["properties"] = {**properties, key: {}}
                changed = True
        elif below:
            todo.append((properties[key], resource, tuple(below)))
        held = [node.get(name) for name in ("if", "then", "else")]
        held += [item for name in ("allOf", "anyOf", "oneOf") for item in _of(node, name, list)]
        todo += ((item, resource, path) for item in held)
        if isinstance(reference := node.get("$ref"), str):
            address, pointer = urldefrag(reference)
            # The parts that `builder.recipe.schema_edit` has made.
            parts, base = _of(document, "definitions", dict), _of(resource, "$id", str)
            there = parts.get(address_of(urljoin(base, address))) if address else resource
            todo.append((_at(there, pointer), there, path))
    return changed


def _of(node: Mapping[str, Any], key: str, kind: type) -> Any:
    """What `node` has below `key`, if it is of that kind, and else an empty one."""
    found = node.get(key)
    return found if isinstance(found, kind) else kind()


def _at(node: Any, pointer: str) -> Any:
    """What is at a JSON pointer (RFC 6901) in a fragment; None for nothing."""
    above, *keys = unquote(pointer).split("/")
    if above:
        return None  # an anchor
    for key in keys:
        name = key.replace("~1", "/").replace("~0", "~")
        node = node.get(name) if isinstance(node, dict) else None
    return node

"""Charts that ask the cluster: what `lookup` finds where Helm does not talk to one.

Helm answers `lookup` with nothing then (helm.sh/helm/v4, pkg/engine, `Engine.clientProvider`), as in an empty cluster.
An upgrade is never made in an empty cluster, and charts that make passwords refuse it. So the word is replaced in the
templates by an object, with the data of the Secrets that the first installation has made.

Source of the foreign rules: helm.sh/docs, "Chart Template Guide", "Template Functions and Pipelines" (`lookup`).
"""

import base64
import json
import re
from collections.abc import Collection, Iterable, Mapping

from installer.chart.helm import Chart, Object
from installer.chart.parts import files_of, with_files
from installer.chart.templates.readers import narrowed

_TEMPLATE = re.compile(r"/templates/.*\.(?:ya?ml|tpl)$|/templates/[^.]*$")
_ACTION = re.compile(rb"\{\{.*?\}\}", re.DOTALL)
_LOOKUP = re.compile(rb"(?<=[\s(])lookup(?=\s+[\"$.(])")
_ENTRY = re.compile(r"[-._a-zA-Z0-9]+ [a-zA-Z0-9+/=]*")
_DATA = "airferry.lookup.data"
# `dict` takes keys and values in turn, so the four arguments of `lookup` become two more entries of what it "finds".
_FOUND = (
    b'dict "kind" "Found" "metadata" (dict "name" "found" "labels" (dict) "annotations" (dict)) '
    b'"data" (include "%s" . | fromJson) "items" (list) "spec" (dict "replicas" 1) '
    b'"status" (dict "replicas" 1 "readyReplicas" 1 "currentReplicas" 1)'
) % _DATA.encode()
MAX_KEPT = 64 * 1024
"""Bytes of one entry of a Secret that `lookup` finds again."""


def asking(files: Mapping[str, bytes]) -> tuple[str, ...]:
    """The templates among the `files` of a chart that ask the cluster."""
    return tuple(name for name in sorted(files) if _TEMPLATE.search(name) and _asks(files[name]))


def held(objects: Iterable[Object]) -> dict[str, str]:
    """The data of all Secrets in `objects`, in Base64: one object stands for all that a chart may look for."""
    found: dict[str, str] = {}
    for item in objects:
        if item.get("kind") == "Secret":
            plain = item.get("stringData") or {}
            texts = {key: base64.b64encode(str(text).encode()).decode() for key, text in plain.items()}
            found = {**{key: str(text) for key, text in (item.get("data") or {}).items()}, **texts, **found}
    return {key: text for key, text in found.items() if len(text) <= MAX_KEPT and _ENTRY.fullmatch(f"{key} {text}")}


def answered(files: Mapping[str, bytes], templates: Collection[str], data: Mapping[str, str]) -> dict[str, bytes]:
    """The `files` of a chart in which each `lookup` of `templates` finds an object that holds `data`."""
    root = min((name.partition("/")[0] for name in files), default="")
    definition = f'{{{{ define "{_DATA}" }}}}{json.dumps(dict(data))}{{{{ end }}}}'.encode()
    return {
        **files,
        **{name: _ACTION.sub(lambda action: _LOOKUP.sub(_FOUND, action[0]), files[name]) for name in templates},
        f"{root}/templates/_airferry.tpl": definition,
    }


def after_installation(chart: Chart, objects: Iterable[Object], only: Collection[str] | None = None) -> Chart | None:
    """`chart` as an upgrade sees the cluster that holds `objects`; None if it does not ask.

    With `only`, no other templates than these (files) are left that make objects.
    """
    files = files_of(chart)
    templates = asking(files)
    if not templates:
        return None
    if only is not None:
        files = narrowed(files, only)
    return with_files(chart, answered(files, templates, held(objects)))


def _asks(data: bytes) -> bool:
    return b"lookup" in data and any(_LOOKUP.search(action) for action in _ACTION.findall(data))

"""A recipe, a profile and a site template to begin with, drawn from one chart and its values."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from builder.charts.tree import ChartTree
from builder.recipe.recipe import ChartEntry
from builder.resolve.site_template import site_template
from installer import strict_json
from installer.apps.application import Application
from installer.apps.profile import Profile
from installer.chart.helm import Chart
from installer.errors import ContentError
from installer.schema import validate

MAX_DEPTH = 5
MAX_RULES = 300
_RECIPE = """\
# yaml-language-server: $schema=recipe.schema.json
#
# What a bundle is made of. `airferry lock` turns this into airferry.lock, in which every tag has become a digest;
# commit both files. File names are relative to this file. Unknown keys are refused.

name: {name}
version: "{version}"
# Rises with each release of this name, whatever the version is called: an enclave can tell what is older.
sequence: 1

# One platform: the image for it is taken out of each multi-platform image. Several: such images are carried whole.
platforms:
  - linux/amd64

# The clusters that the chart is rendered for, the oldest and the newest: what it asks for may differ.
# kubernetes:
#   from: "1.31"
#   to: "1.34"

# What the application is: its steps, and what a site is asked.
profile: profile.yaml

charts:
  - name: {chart}
    {place}

# Images are found by rendering the chart. What it does not mention is named here.
images: []

site: site.yaml
"""
_PROFILE = """\
# yaml-language-server: $schema=profile.schema.json
#
# What the application is: its steps in the order of their installation, and what a site is asked. It travels in the
# bundle. docs/profiles.md explains every key. File names are relative to this file.

# Where the steps go that name no namespace of their own; a site may choose another.
namespace: {name}

steps:
  - chart: {chart}
    name: {name}
    # values: [values.yaml, {{key: value}}]

# What a site is asked: each becomes a key of site.yaml. Until there is one, it answers in the words of the chart.
# questions:
#   host:
#     type: text
#     help: The name by which users reach the application.
#     example: app.enclave.example
#     to: [{{step: {name}, path: ingress.hostname}}]
"""


def draft(chart: Chart, entry: ChartEntry) -> dict[str, bytes]:
    """The files by name; `entry` says where the chart is. Raises ContentError for one whose files cannot be read."""
    name = re.sub(r"[^a-z0-9-]+", "-", chart.name.lower()).strip("-")[:53].strip("-") or "application"
    place = f"path: {json.dumps(entry.path)}"
    if entry.repository:
        place = f'repository: {entry.repository}\n    version: "{chart.version}"  # or a range, such as ^1.2.0'
    texts = {
        "recipe.yaml": _RECIPE.format(name=name, chart=chart.name, version=chart.version, place=place),
        "profile.yaml": _PROFILE.format(name=name, chart=chart.name),
        "site.yaml": _site(chart, name),
    }
    return {file: text.encode() for file, text in texts.items()}


def _site(chart: Chart, name: str) -> str:
    """The site template, with all values of the chart under `charts`, commented out."""
    steps = [{"chart": chart.name, "name": name}]
    profile = validate(Profile, {"namespace": name, "steps": steps}, "profile.yaml", ContentError)
    head, _, _ = site_template(Application(profile)).partition("# charts:\n")
    tree = ChartTree.of(chart)
    folder = tree.folder(tree.parts[0])
    lines = ["# charts:", f"#   {name}:", f"#     namespace: {name}", "#     values:"]
    if raw := tree.files.get(f"{folder}/values.schema.json"):
        schema = strict_json.parse(raw, "values.schema.json", ContentError, known=())
        rules = list(_rules(schema, "", 0))[:MAX_RULES]
        lines = ["# What its values.schema.json says of the values:", *(f"#   {rule}" for rule in rules), *lines]
    values = tree.files.get(f"{folder}/values.yaml", b"{}").decode("utf-8", "replace")
    return f"# yaml-language-server: $schema=site.schema.json\n#\n{head}" + "\n".join(
        [*lines, *(f"#       {line}".rstrip() for line in values.splitlines()), ""]
    )


def _rules(schema: Any, path: str, depth: int) -> Iterator[str]:
    """A line for each value that a schema describes."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict) or depth == MAX_DEPTH:
        return
    required = schema.get("required")
    for key, below in properties.items():
        if isinstance(below, dict):
            here = f"{path}.{key}".removeprefix(".")
            words = ", ".join(_words(below, required=isinstance(required, list) and key in required))
            if words:
                yield f"{here}: {' '.join(words.split())}"
            yield from _rules(below, here, depth + 1)


def _words(schema: Mapping[str, Any], *, required: bool) -> Iterator[str]:
    kind, choices, text = schema.get("type"), schema.get("enum"), schema.get("description") or schema.get("title")
    if required:
        yield "required"
    if isinstance(kind, str) and kind != "object":
        yield kind
    if isinstance(choices, list):
        yield f"one of {', '.join(map(json.dumps, choices))}"
    if isinstance(text, str):
        yield text

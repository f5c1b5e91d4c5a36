"""Image names replaced inside texts: in objects of manifests here, and in what the templates of an edited chart make.

A chart that has names fixed in its templates is edited on the connected side: what such a template makes passes
through Helm's `regexReplaceAll`, which puts the value `global.airferry.images` before them. So the patterns are of the
kind that Python's `re` and Go's RE2 read alike.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from installer.chart.relocation import Relocation, path_of
from installer.chart.spelling.text import parted
from installer.oci.reference import parse_reference
from installer.value import Value

EDITED = "airferry.io/edited"
"""The annotation in Chart.yaml of an edited chart."""
VALUE = ("global", "airferry", "images")
"""Where an edited chart reads what goes before the names: `<registry>/<project>/`."""
# A template may write the lines of a text in quotes, `"a\\nb"`.
_LINE = r"\\[nrt]"
_BEFORE = f"(^|{_LINE}|[^A-Za-z0-9._/@:-])"
_SCALAR = f"((?:^|{_LINE}|[\\s{{,])[\"']?[A-Za-z0-9_.-]*[Ii]mage[\"']?:[ \\t]*[\"']?)"


class Rewrite(Value, order=True):
    """A pattern whose first group stays before the name, and whose last one stays behind it; `name` goes between.

    `name` is the full name of the image's repository as it is called below the prefix.
    """

    pattern: str
    name: str


def rewrite(text: str) -> Rewrite:
    """What replaces the image name in `text`, a reference as it stands somewhere, and with other tags as well.

    A name of one word is replaced with this tag alone, and one without host and tag only where the key beside it
    speaks of an image: such words mean many things. Raises UsageError if `text` is no reference.
    """
    name = path_of(parse_reference(text).repository)
    spelt, version = map(re.escape, parted(text))
    host = text.partition("/")[0]
    if "/" in text and ("." in host or ":" in host):
        return Rewrite(f"{_BEFORE}{spelt}(:[A-Za-z0-9_]|@sha256:|[^A-Za-z0-9._/:@-]|$)", name)
    if "/" in text and version:
        return Rewrite(f"{_BEFORE}{spelt}(:[A-Za-z0-9_]|@sha256:)", name)
    if version:
        return Rewrite(f"{_BEFORE}{spelt}({version}(?:[^A-Za-z0-9._-]|$))", name)
    return Rewrite(f"(?m){_SCALAR}{spelt}([\"']?[ \\t]*(?:$|[,}}\\r]))", name)


def prefix_values(metadata: Mapping[str, Any], relocation: Relocation) -> dict[str, Any]:
    """The value that an edited chart, whose Chart.yaml is `metadata`, reads; none for others."""
    annotations = metadata.get("annotations")
    if not isinstance(annotations, Mapping) or EDITED not in annotations:
        return {}
    above, middle, key = VALUE
    return {above: {middle: {key: relocation.prefix}}}


def rewritten(node: Any, rewrites: Iterable[Rewrite], prefix: str) -> Any:
    """A copy of `node`, a tree of an object, with `prefix` before the names in all its texts; keys stay."""
    if isinstance(node, dict):
        return {key: rewritten(value, rewrites, prefix) for key, value in node.items()}
    if isinstance(node, list):
        return [rewritten(value, rewrites, prefix) for value in node]
    if not isinstance(node, str):
        return node
    for item in rewrites:
        # Twice, since a character between two names is part of one match.
        for _ in range(2):
            node = _compiled(item.pattern).sub(rf"\g<1>{prefix}{item.name}\g<2>", node)
    return node


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)

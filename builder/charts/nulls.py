"""Defaults of subcharts that a chart above them takes away with null: versions of Helm differ there.

Up to 4.1 they are gone. Since 4.2 they come back where the values say nothing of the subchart at all, since nulls among
the chart's own defaults are cleaned away first (helm.sh/helm/v4, pkg/chart/common/util/coalesce.go, `coalesceValues`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from builder.charts.tree import ChartTree
from installer.apps.profile import at_path
from installer.errors import ContentError
from installer.strict_yaml import load_yaml


def taken_away(tree: ChartTree, values: Mapping[str, Any]) -> list[str]:
    """The paths of such defaults, of subcharts of which `values` say nothing."""
    defaults = {part.path: _defaults(tree, f"{tree.folder(part)}/values.yaml") for part in tree.parts}
    found = set()
    for path, own in defaults.items():
        if path and at_path(values, ".".join(path)) is None:
            for above, given in defaults.items():
                inside = path[len(above) :]
                if inside and path[: len(above)] == above:
                    nulls = _nulls(at_path(given, ".".join(inside)))
                    found |= {".".join((*path, null)) for null in nulls if at_path(own, null) is not None}
    return sorted(found)


def _defaults(tree: ChartTree, name: str) -> Mapping[str, Any]:
    found = load_yaml(tree.files.get(name, b""), f"{tree.chart.source}: {name}", ContentError)
    return found if isinstance(found, Mapping) else {}


def _nulls(node: Any) -> Iterator[str]:
    """The dotted paths of nulls in `node`."""
    for key, value in node.items() if isinstance(node, Mapping) else ():
        if value is None:
            yield str(key)
        else:
            yield from (f"{key}.{below}" for below in _nulls(value))

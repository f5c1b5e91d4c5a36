"""Versions that a recipe states once, set wherever a chart's values spell one of W&B's own images.

W&B's server components are published together under one version; the console and the controller have versions of
their own (github.com/wandb/helm-charts, values of charts `operator` and `operator-wandb`). In an enclave nobody else
supplies these versions: online it is W&B's release channel that does.
"""

from collections.abc import Mapping
from typing import Any

from builder.charts.tree import ChartTree
from builder.charts.values_images import overlay, spellings
from builder.recipe.recipe import Recipe
from installer.chart.retarget import merged

SERVER = ("local", "megabinary", "weave-python", "weave-trace", "frontend-nginx", "anaconda2")
CONSOLE, CONTROLLER = "console", "controller"


def versions(recipe: Recipe) -> dict[str, str]:
    """The tag of each of W&B's own images that `recipe` states a version for, by the last part of its name."""
    stated = {
        **dict.fromkeys(SERVER, recipe.wandb_version),
        CONSOLE: recipe.console_version,
        CONTROLLER: recipe.controller_version,
    }
    return {name: version for name, version in stated.items() if version}


def pinned(tree: ChartTree, values: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, Any]:
    """`values`, below them the `tags` for every place that spells one of these images; tags in `values` stay.

    Parts that are off get their tags too: whoever switches one on later must not end with `latest`.
    """
    pins: dict[str, Any] = {}
    defaults = tree.defaults(values)
    for spelling in spellings(defaults):
        folder, _, name = spelling.repository.path.rpartition("/")
        node: Any = defaults
        for key in spelling.path:
            node = node[key]
        if isinstance(node, Mapping) and name in tags and folder.rpartition("/")[2] == "wandb":
            pins = merged(pins, overlay((*spelling.path, "tag"), tags[name]))
    return merged(pins, values)

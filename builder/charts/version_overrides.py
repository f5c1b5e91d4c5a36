"""Versions that a recipe states once, set wherever a chart's values spell one of the images that the profile names.

In an enclave nobody else supplies these versions: online a release channel may do so.
"""

from collections.abc import Mapping
from typing import Any

from builder.charts.tree import ChartTree
from builder.charts.values_images import overlay, spellings
from installer.apps.profile import Artifact, Profile
from installer.chart.retarget import merged
from installer.errors import RecipeError


def tags(profile: Profile, stated: Mapping[str, str]) -> dict[str, str]:
    """The tag of each image that `profile` names in its versions, by the end of its repository; `stated` by version."""
    return {end: stated[key] for key, ends in profile.versions.items() if key in stated for end in ends}


def tag_of(artifact: Artifact, wanted: Mapping[str, str]) -> str:
    """The tag of `artifact` among those `wanted`. Raises RecipeError if the recipe states none."""
    found = [tag for end, tag in wanted.items() if f"/{artifact.repository}".endswith(f"/{end}")]
    if not found:
        raise RecipeError(
            f"no version of the recipe is the tag of {artifact.repository}",
            hint="name it in `versions` of the profile, and state that version in the recipe.",
        )
    return found[0]


def pinned(tree: ChartTree, values: Mapping[str, Any], wanted: Mapping[str, str]) -> dict[str, Any]:
    """`values`, below them the tags in `wanted` for every place that spells one of these images; tags in `values` stay.

    Parts that are off get their tags too: whoever switches one on later must not end with `latest`.
    """
    pins: dict[str, Any] = {}
    defaults = tree.defaults(values)
    for spelling in spellings(defaults):
        tag = next((tag for end, tag in wanted.items() if f"/{spelling.repository.path}".endswith(f"/{end}")), "")
        node: Any = defaults
        for key in spelling.path:
            node = node[key]
        if tag and isinstance(node, Mapping):
            pins = merged(pins, overlay((*spelling.path, "tag"), tag))
    return merged(pins, values)

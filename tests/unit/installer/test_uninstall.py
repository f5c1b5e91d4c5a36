"""What an uninstallation leaves to others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from installer.cluster.kube import CONFIG_MAP, FIELD_MANAGER
from installer.objects.chart_configmap import CONFIG_MAP_NAME, ChartFile, config_map, is_ours
from tests.unit.installer.test_volumes import World

if TYPE_CHECKING:
    from collections.abc import Mapping

PLACE = (CONFIG_MAP.name, CONFIG_MAP_NAME)
FILE = ChartFile("app-1.0.0-abc.tgz", b"chart")


@dataclass
class Charts(World):
    """The ConfigMap of charts, in which others own the keys of `theirs`, applied to as the API server does it."""

    installed: bool = False
    theirs: dict[str, str] = field(default_factory=dict)

    def apply(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        times = [{"manager": FIELD_MANAGER, "operation": "Apply", "time": "2026-01-31T00:00:00Z"}]
        metadata = {**obj["metadata"], "managedFields": times}
        data = {**obj.get("binaryData", {}), **self.theirs}
        self.objects[PLACE] = {"kind": CONFIG_MAP.name, "metadata": metadata, "binaryData": data}
        return self.objects[PLACE]


def test_the_charts_go_with_the_installation() -> None:
    world = Charts()
    world.apply(config_map(FILE, "here", None))
    assert is_ours(world.objects[PLACE])
    done = world.removed()
    assert PLACE not in world.objects
    assert f"ConfigMap here/{CONFIG_MAP_NAME}" in done.removed


@pytest.mark.parametrize("ours", [False, True], ids=["made by others", "used by others later"])
def test_what_others_keep_beside_the_charts_stays(ours: bool) -> None:
    world = Charts(theirs={"other.tgz": "b3RoZXI="})
    current = {"metadata": {"name": CONFIG_MAP_NAME}, "binaryData": dict(world.theirs)}
    world.apply(config_map(FILE, "here", None if ours else current))
    assert is_ours(world.objects[PLACE]) is ours
    assert FILE.key in world.objects[PLACE]["binaryData"]
    done = world.removed()
    assert world.objects[PLACE]["binaryData"] == world.theirs
    assert f"ConfigMap here/{CONFIG_MAP_NAME} (made or used by others)" in done.kept
    assert f"our charts in ConfigMap here/{CONFIG_MAP_NAME}" in done.removed


def test_a_config_map_without_charts_of_ours_is_not_touched() -> None:
    world = Charts()
    theirs: dict[str, Any] = {"kind": CONFIG_MAP.name, "metadata": {"name": CONFIG_MAP_NAME}, "data": {}}
    world.objects[PLACE] = dict(theirs)
    done = world.removed()
    assert world.objects[PLACE] == theirs
    assert not [item for item in (*done.removed, *done.kept) if CONFIG_MAP_NAME in item]

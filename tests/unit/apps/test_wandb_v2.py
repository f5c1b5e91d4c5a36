"""The driver of W&B's operator v2: what it says of the enclave, and that nothing is installed with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from installer.errors import UsageError
from tests.parts.demo_site import REGISTRY, wanted
from tests.parts.steps_world import GREETING, THING, World

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.application import Application

ARTIFACT = {
    "repository": "vendor.example/demo/server-manifest",
    "step": "thing.yaml",
    "version_at": "spec.wandb.version",
    "images": {"image": {}},
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def made(world: World) -> Application:
    made = world.application()
    made.profile |= {"driver": "wandb_v2", "versions": {"server": ["demo/server-manifest"]}, "artifacts": [ARTIFACT]}
    return made


@pytest.mark.parametrize(
    ("registry", "prefix", "secrets"),
    [
        ({}, {"imageRegistry": f"{REGISTRY}/airferry"}, {}),
        ({"project": ""}, {"imageRegistry": REGISTRY}, {}),
        ({"names": "kept"}, {}, {}),
        (
            {"pull_secret": "pull"},
            {"imageRegistry": f"{REGISTRY}/airferry"},
            {"imagePullSecrets": [{"name": "pull"}]},
        ),
    ],
)
def test_the_resource_says_where_the_operator_finds_what_it_fetches(
    world: World, made: Application, registry: dict[str, Any], prefix: dict[str, str], secrets: dict[str, Any]
) -> None:
    charts = {"app": {"values": GREETING}}
    [resource] = wanted(made, world.folder, registry={"host": REGISTRY, **registry}, charts=charts).resources
    place = "/".join(filter(None, (REGISTRY, registry.get("project", "airferry"))))
    assert resource.document["spec"] == {
        "copies": 1,
        "global": {**prefix, **secrets},
        "wandb": {"manifestRepository": f"oci://{place}/vendor.example/demo/server-manifest"},
    }


def test_it_is_not_installed(world: World, made: Application) -> None:
    with pytest.raises(UsageError) as refused:
        world.install(made)
    assert "cannot be installed or upgraded from here yet" in refused.value.message
    assert world.names(THING) == []

"""The enclave that the live tests share, and a namespace of its own for each test."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import ASSETS
from tests.parts import operators, wandb_v2
from tests.parts.enclave import Enclave, folder_for

if TYPE_CHECKING:
    from collections.abc import Iterator


_ASSETS = Path(os.environ[ASSETS]).resolve() if os.environ.get(ASSETS) else None


@pytest.fixture(scope="session", params=operators.controllers(_ASSETS))
def operator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> operators.Operator:
    """The W&B operator, with each controller that there is."""
    return operators.operator(request.param, _ASSETS, tmp_path_factory.mktemp("operator"))


@pytest.fixture(scope="session")
def enclave() -> Iterator[Enclave]:
    """The enclave that runs already, else one that is ended after the tests; each test process has its own."""
    with Enclave(folder_for(os.environ.get("PYTEST_XDIST_WORKER", "gw0"))) as running:
        yield running


@pytest.fixture
def namespace(enclave: Enclave) -> Iterator[str]:
    """A Kubernetes namespace that is deleted with everything in it after the test."""
    name = f"test-{secrets.token_hex(4)}"
    enclave.kubectl("create", "namespace", name)
    enclave.kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={name}", "--timeout=30s")
    yield name
    enclave.abandon(name)


@pytest.fixture(scope="module")
def platform_namespaces(enclave: Enclave) -> Iterator[tuple[str, str]]:
    """The namespaces of platform and operator, which the tests of a module share: deleting them takes its time."""
    names = ("wandb", "wandb-operator")
    yield names
    enclave.kubectl("delete", "namespace", *names, "--ignore-not-found", "--timeout=90s")


@pytest.fixture(scope="session", params=wandb_v2.operators())
def newer(request: pytest.FixtureRequest) -> wandb_v2.Operator:
    """The operator, and the real one as well where somebody has built it."""
    if request.param == wandb_v2.STAND_IN:
        return wandb_v2.stand_in()
    assets: Path = request.getfixturevalue("wandb_v2")
    return wandb_v2.real(assets)


@pytest.fixture
def claimed(enclave: Enclave) -> Iterator[None]:
    """Volumes for what the operator claims."""
    volumes: list[dict[str, Any]] = [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"claimed-{number}"},
            "spec": {
                "capacity": {"storage": "10Gi"},
                "accessModes": ["ReadWriteOnce"],
                "hostPath": {"path": f"/var/lib/kubelet/claimed-{number}", "type": "DirectoryOrCreate"},
            },
        }
        for number in range(3)
    ]
    enclave.kubectl("apply", "--filename=-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": volumes}))
    yield
    enclave.kubectl("delete", "pv", *(item["metadata"]["name"] for item in volumes), "--wait=false")

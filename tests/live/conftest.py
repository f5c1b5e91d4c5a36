"""The enclave that the live tests share, and a namespace of its own for each test."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import pytest

from tests.parts.enclave import Enclave, folder_for

if TYPE_CHECKING:
    from collections.abc import Iterator


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

"""Our client on a real API server: the checks that the cluster in memory passes as well."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.parts.cluster_checks import CHECKS
from tests.parts.enclave_program import ROOT

if TYPE_CHECKING:
    from tests.parts.enclave import Enclave

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("name", CHECKS)
def test_it_does_what_the_one_in_memory_does(enclave: Enclave, namespace: str, name: str) -> None:
    module = "tests.parts.cluster_checks"
    done = enclave.run([sys.executable, "-m", module, enclave.kubeconfig, namespace, name], cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr

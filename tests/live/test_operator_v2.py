"""W&B with operator v2: its whole life, on a stand-in of the operator."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.enclave_program import EnclaveProgram
from tests.parts.wandb_v2 import Release

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.enclave import Enclave

pytestmark = [pytest.mark.cluster]

ALL = {"host": "https://wandb.enclave", "expose": "none"}
MANAGED = {name: {"internal": True} for name in ("mysql", "redis", "bucket", "clickhouse")}


@pytest.fixture
def program(enclave: Enclave, tmp_path: Path) -> Iterator[EnclaveProgram]:
    program = EnclaveProgram(enclave, tmp_path)
    yield program
    done = program.run("uninstall", "--yes", "--delete-data", "--delete-crds", "--timeout", "120")
    assert done.returncode in (0, 42), done.stderr


def objects(enclave: Enclave, kinds: str, namespace: str = "wandb") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        enclave.kubectl("get", kinds, f"--namespace={namespace}", "--output=json")
    )["items"]
    return found


def names(items: list[dict[str, Any]]) -> set[str]:
    return {f"{item['kind']} {item['metadata']['name']}" for item in items}


def test_it_lives_without_https_and_leaves_its_services(enclave: Enclave, program: EnclaveProgram) -> None:
    bundle = Release(program.folder / "bundle").write()
    program.site(**ALL, **MANAGED)
    first = program.result(program.install(bundle))
    print(json.dumps(first, indent=1))
    assert program.result(program.install(bundle))["changed"] == []

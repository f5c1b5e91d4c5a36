"""What comes after the installation, with the real W&B controller: upgrade, rollback, interruptions, removal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.parts.application import KEY, demo_platform
from tests.parts.enclave_program import EnclaveProgram

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.parts.enclave import Enclave

pytestmark = [pytest.mark.cluster, pytest.mark.controller]

NAMESPACE, OPERATOR_NAMESPACE = "life", "life-operator"
# A second version: another chart, another page, one worker more, and a hook image that no node has seen yet.
SECOND = {"templates/added.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: life-added}\n"}


@pytest.fixture(scope="module")
def assets() -> Path:
    """The folder with the real controller and charts."""
    return Path(os.environ["AIRFERRY_TEST_ASSETS"]).resolve()


@pytest.fixture
def program(enclave: Enclave, tmp_path: Path) -> Iterator[EnclaveProgram]:
    """The program with answers for two namespaces; what a test leaves is removed, for operators are rivals."""
    program = EnclaveProgram(enclave, tmp_path)
    program.site(namespace=NAMESPACE, operator_namespace=OPERATOR_NAMESPACE, host="http://life.enclave")
    yield program
    done = program.run("uninstall", "--yes", "--timeout", "120")
    assert done.returncode in (0, 22), done.stderr
    enclave.kubectl("delete", "namespace", NAMESPACE, OPERATOR_NAMESPACE, "--ignore-not-found", "--timeout=90s")


def versions(folder: Path, assets: Path) -> tuple[Path, Path]:
    """Bundles 1.0 and 2.0 of one application."""
    first = demo_platform(folder / "first", "life", assets, values={"web": {"replicas": 1}})
    second = demo_platform(folder / "second", "life", assets, values={"web": {"replicas": 2}}, changes=SECOND)
    second.version, second.sequence = "2.0", 2
    return first.write(), second.write()


def upgrade(program: EnclaveProgram, bundle: Path, *options: str) -> subprocess.CompletedProcess[str]:
    site = program.folder / "site.yaml"
    source = ("--bundle", bundle, "--key", KEY, "--site", site)
    return program.run("upgrade", *source, "--timeout", "240", "--output", "json", *options)


def test_an_upgrade_shows_what_it_changes_and_is_taken_back(
    enclave: Enclave, program: EnclaveProgram, assets: Path
) -> None:
    first, second = versions(program.folder, assets)
    assert upgrade(program, first, "--yes").returncode == 22, "there is nothing to upgrade yet"
    program.result(program.install(first))

    refused = program.install(second)
    assert refused.returncode == 2
    assert "upgrade" in refused.stderr

    shown = program.result(upgrade(program, second, "--dry-run"))["changes"]
    assert [item["what"] for item in shown["bundle"]] == ["life"]
    assert {"what": "life: web.replicas", "old": "1", "new": "2"} in shown["values"]
    asked = upgrade(program, second)
    assert asked.returncode == 130, "nobody answers, so nothing is done"
    assert "web.replicas: 1 -> 2" in asked.stderr

    done = program.result(upgrade(program, second, "--yes"))
    assert "WeightsAndBiases life/life" in done["changed"]
    assert program.result(upgrade(program, second, "--yes"))["changed"] == []
    older = upgrade(program, first, "--yes")
    assert older.returncode == 13
    assert "older than what is installed" in older.stderr

    listed = program.result(program.run("history", "--output", "json"))
    assert [(item["revision"], item["version"], item["finished"]) for item in listed] == [
        (1, "1.0", True),
        (2, "2.0", True),
    ]
    enclave.kubectl("get", "configmap", "life-added", f"--namespace={NAMESPACE}")
    back = program.result(program.run("rollback", "--yes", "--output", "json"))
    print(back)
    assert enclave.kubectl("get", "configmap", "life-added", f"--namespace={NAMESPACE}", "--ignore-not-found") == ""
    assert program.result(program.run("status", "--output", "json"))["installation"]["version"] == "1.0"
    again = program.run("rollback", "--to", "1", "--yes")
    assert again.returncode == 2, again.stderr
    print(program.run("history").stdout)

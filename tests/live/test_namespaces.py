"""Objects in other namespaces than that of their release: of such as nobody makes, and of such as the chart makes."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from tests.parts.application import KEY, Application
from tests.parts.bundles import packed_chart
from tests.parts.enclave_program import EnclaveProgram

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.enclave import Enclave

pytestmark = pytest.mark.cluster

ELSEWHERE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: elsewhere, namespace: PLACE}
data: {said: "here"}
"""
MADE = """
apiVersion: v1
kind: Namespace
metadata: {name: PLACE}
"""


@pytest.mark.parametrize("made", [False, True])
def test_a_namespace_beside_the_release(enclave: Enclave, namespace: str, tmp_path: Path, *, made: bool) -> None:
    place = f"beside-{secrets.token_hex(3)}"
    files = {"templates/elsewhere.yaml": ELSEWHERE, **({"templates/made.yaml": MADE} if made else {})}
    name = f"app-{secrets.token_hex(3)}"
    application = Application(tmp_path / "bundle", name)
    chart = packed_chart("agents", "1.0.0", {path: text.replace("PLACE", place) for path, text in files.items()})
    application.chart(chart, release=name)
    bundle = application.write()
    program = EnclaveProgram(enclave, tmp_path)
    program.site(namespace=namespace)
    options = ("--bundle", bundle, "--key", KEY, "--site", tmp_path / "site.yaml", "--output-dir", tmp_path / "out")
    assert program.run("render", *options).returncode == 0
    rendered = enclave.kubectl("kustomize", str(tmp_path / "out"))
    assert rendered.count(f"name: {place}\n") == rendered.count("kind: Namespace\n") - 1 == 1
    program.result(program.install(bundle))
    assert enclave.kubectl("get", "configmap", "elsewhere", f"--namespace={place}", "--output=name")
    program.result(program.install(bundle))
    assert program.run("uninstall", "--yes", "--timeout", "120").returncode == 0
    enclave.kubectl("delete", "namespace", place, "--ignore-not-found", "--wait=false")

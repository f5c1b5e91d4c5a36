"""The whole way: what leaves the upstream registry arrives in the enclave's, and every tool agrees on what it is."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tarfile
import urllib.request
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.parts import second_prover, second_reader
from tests.parts.images import OCI

if TYPE_CHECKING:
    from pathlib import Path

    from tests.journeys.conftest import Carried
    from tests.parts.programs import Program
    from tests.parts.registry import Registry

HTTPD = "docker.io/demo/httpd:1.0"


def skopeo(*arguments: str) -> bytes:
    """What the stranger's tool prints."""
    return subprocess.run(["skopeo", *arguments], check=True, capture_output=True).stdout


def digest_at(reference: str) -> str:
    """The digest of the manifest that a registry delivers under a name, by its bytes."""
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{reference}")
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def test_digests_are_the_same_upstream_in_the_bundle_and_in_the_enclave(
    carried: Carried, installer: Program, enclave: Registry
) -> None:
    listed = {item["image"]: item for item in installer.result("inspect")["images"]}
    loaded = installer.result("load", "--registry", enclave.address)
    assert {item["source"] for item in loaded["images"]} == set(listed)
    for item in loaded["images"]:
        upstream = digest_at(item["source"].replace("docker.io", carried.upstream.address))
        assert upstream == listed[item["source"]]["upstream"]
        assert digest_at(item["target"]) == listed[item["source"]]["digest"] == item["digest"]
        if item["source"] != HTTPD:
            assert item["digest"] == upstream
    # The tag of the image for two platforms names the part for the one platform that was asked for.
    pushed = carried.layouts[HTTPD]
    assert pushed.media_type == OCI.index
    assert (listed[HTTPD]["upstream"], listed[HTTPD]["digest"]) == (pushed.digest, pushed.manifests[0])
    assert listed[f"docker.io/demo/httpd@{pushed.digest}"]["digest"] == pushed.digest


def test_a_second_load_sends_nothing(installer: Program, enclave: Registry) -> None:
    first = installer.result("load", "--registry", enclave.address, "--project", "")
    count = len(enclave.accesses())
    second = installer.result("load", "--registry", enclave.address, "--project", "")
    assert first["sent"] > 0
    assert second["sent"] == second["mounted"] == 0
    assert all(item["present"] for item in second["images"])
    assert {access.method for access in enclave.accesses()[count:]} <= {"GET", "HEAD"}


def test_a_plan_is_exact_and_a_list_names_every_image(carried: Carried) -> None:
    plan = carried.airferry.result("plan")
    assert plan["file_bytes"] == carried.bundle.stat().st_size
    stored = {"sha256:" + path.parent.name: path.stat().st_size for path in carried.upstream.storage.rglob("data")}
    with tarfile.open(carried.bundle) as volume:
        held = {"sha256:" + name[13:]: volume.getmember(name).size for name in volume.getnames() if "blobs" in name}
    pushed = {digest: size for layout in carried.layouts.values() for digest, size in layout.blobs.items()}
    assert pushed.items() <= stored.items()
    assert pushed.items() <= held.items()
    images = carried.airferry.result("list")["images"]
    assert {item["image"] for item in images} == {
        *carried.layouts,
        f"docker.io/demo/httpd@{carried.layouts[HTTPD].digest}",
    }
    assert all(item["reasons"] for item in images)


def test_the_file_serves_images_and_charts_itself(carried: Carried, installer: Program, tmp_path: Path) -> None:
    with installer.start("serve", "--listen", "127.0.0.1:0", "--output", "json") as server:
        try:
            assert server.stdout is not None
            text = ""
            while not text.endswith("}\n"):
                text += server.stdout.readline()
            address = json.loads(text)["registry"]
            skopeo("copy", "--all", "--src-tls-verify=false", f"docker://{address}/{HTTPD}", f"oci:{tmp_path}/got:1.0")
            index = urllib.request.urlopen(f"http://{address}/charts/index.yaml").read()
            chart = urllib.request.urlopen(f"http://{address}/charts/demo-platform-1.0.0.tgz").read()
        finally:
            server.terminate()
            _, errors = server.communicate()
    assert (server.returncode, errors) == (0, "ended\n")
    layout = json.loads((tmp_path / "got" / "index.json").read_text())
    assert layout["manifests"][0]["digest"] == carried.layouts[HTTPD].manifests[0]
    assert chart == (carried.folder / "demo-platform-1.0.0.tgz").read_bytes()
    (entry,) = json.loads(index)["entries"]["demo-platform"]
    assert entry["digest"] == hashlib.sha256(chart).hexdigest()


def test_what_is_rendered_asks_the_enclave_for_every_image(installer: Program, tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("registry: {host: registry.example:5000}\nnamespace: somewhere\n")
    files = installer.result("render", "--site", "site.yaml", "--output-dir", "out")["files"]
    text = "".join((tmp_path / file).read_text() for file in files)
    objects = [
        item for file in files if "objects" in file for item in yaml.safe_load_all((tmp_path / file).read_bytes())
    ]
    assert len(objects) >= 9
    assert {item["metadata"]["namespace"] for item in objects} == {"somewhere"}
    images = set(re.findall(r"image: [\"']?([^\"'\s]+)", text))
    assert len(images) >= 5
    assert all(image.startswith("registry.example:5000/airferry/docker.io/demo/") for image in images)


def test_another_program_confirms_the_proof_of_completeness(carried: Carried, tmp_path: Path) -> None:
    read = second_reader.read([carried.bundle.read_bytes()], carried.key, carried.folder / "release.minisign.pub")
    proof = second_prover.check(read, tmp_path)
    assert {"profile", "everything"} <= {item["name"] for chart in proof["charts"] for item in chart["renderings"]}
    counts = carried.airferry.result("inspect", carried.bundle, "--key", carried.key)["proof"]
    assert counts["carried"] == len(read.bundle["images"])
    assert counts["renderings"] == sum(len(chart["renderings"]) for chart in proof["charts"])
    assert counts["failures"] == len(proof["failures"]) == 0
    # One image is left out of the bundle, and the proof made to fit.
    forgotten = "docker.io/demo/renew:1.0"
    read.bundle["images"] = [item for item in read.bundle["images"] if item["source"] != forgotten]
    proof["references"] = [item for item in proof["references"] if item["reference"] != forgotten]
    [document] = [item for item in read.bundle["documents"] if item["kind"] == "proof"]
    read.blobs[document["digest"]] = json.dumps(proof).encode()
    with pytest.raises(second_reader.RefusedError, match=forgotten):
        second_prover.check(read, tmp_path)

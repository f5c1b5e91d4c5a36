"""`serve` before those who pull, and before the conformance suites of the OCI distribution specification.

The suites check pull and content discovery; they are told what the bundle holds, since they cannot push it. What they
find is counted, so that a suite that asks nothing any more is noticed, too. containerd pulls in
tests/live/test_without_registry.py.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from tests.parts.bundles import KEYS, Cargo, signing_key
from tests.parts.go_programs import conformance_of_2023, go_program
from tests.parts.images import File, Image, Layer, write_layout
from tests.parts.programs import from_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPOSITORY, TAGS = "docker.io/demo/page", ("1", "2", "3", "4")
BAGEL = "application/vnd.nhl.peanut.butter.bagel"
"""The suite of 2023 filters by this type, and expects two referrers of it among five."""


@dataclass(frozen=True)
class Served:
    """`serve` at `address`, and digests of what it serves: an image, its layer, and one of its referrers."""

    address: str
    image: str
    layer: str
    referrer: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder, cargo = tmp_path_factory.mktemp("conformance"), Cargo()
    layout = write_layout(folder / "page", Image((Layer({"/page": File(b"page")}),)))
    image, *_ = [cargo.image(f"{REPOSITORY}:{tag}", layout) for tag in TAGS]
    kinds = (BAGEL, BAGEL, "application/spdx+json", "application/spdx+json", "text/x-note")
    referrer, *_ = [cargo.refer(f"{REPOSITORY}:1", f"{place}".encode(), kind) for place, kind in enumerate(kinds)]
    layer = max(cargo.blobs, key=lambda blob: blob.media_type.endswith("tar+gzip"))
    (bundle,) = cargo.write(folder, key=signing_key())
    options = ("--bundle", bundle, "--key", KEYS / "test-only.pub")
    running = from_source("installer", folder, *options).start("serve", "--listen", "127.0.0.1:0")
    assert running.stdout
    address = running.stdout.readline().split()[1].rstrip(",")
    yield Served(address, image.digest.text, layer.digest.text, referrer.digest.text)
    running.terminate()
    running.communicate(timeout=60)


def run(program: Path, folder: Path, environment: dict[str, str]) -> str:
    """All that a suite says, which writes its reports into `folder`."""
    known = {"PATH": os.defpath, "HOME": str(folder), **environment}
    done = subprocess.run(
        [program],
        cwd=folder,
        env=known,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout


def test_the_suite_of_2023(served: Served, tmp_path: Path) -> None:
    environment = {
        "OCI_ROOT_URL": f"http://{served.address}",
        "OCI_NAMESPACE": REPOSITORY,
        "OCI_TEST_PULL": "1",
        "OCI_TEST_CONTENT_DISCOVERY": "1",
        "OCI_TAG_NAME": TAGS[0],
        "OCI_TAG_LIST": ",".join(TAGS),
        "OCI_MANIFEST_DIGEST": served.image,
        "OCI_BLOB_DIGEST": served.layer,
        "OCI_REPORT_DIR": str(tmp_path),
    }
    said = run(conformance_of_2023(), tmp_path, environment)
    cases = [
        (workflow, case.get("status"))
        for case in ET.parse(tmp_path / "junit.xml").getroot().iter("testcase")
        for workflow in ("Pull", "Content Discovery", "Push", "Content Management")
        if f"Conformance Tests {workflow}" in (case.get("name") or "")
    ]
    # What is skipped is what pushes.
    counts = Counter(case for case in cases if case[1] != "skipped")
    assert counts == {("Pull", "passed"): 14, ("Content Discovery", "passed"): 7}, said


def test_the_suite_of_2026(served: Served, tmp_path: Path) -> None:
    environment = {
        "OCI_REGISTRY": served.address,
        "OCI_TLS": "disabled",
        "OCI_REPO1": REPOSITORY,
        "OCI_API_PUSH": "false",
        "OCI_API_BLOBS_DELETE": "false",
        "OCI_API_MANIFESTS_DELETE": "false",
        "OCI_API_TAGS_DELETE": "false",
        "OCI_API_BLOBS_DIGEST_HEADER": "true",
        "OCI_RO_DATA_TAGS": " ".join(TAGS),
        "OCI_RO_DATA_MANIFESTS": f"{served.image} {served.referrer}",
        "OCI_RO_DATA_BLOBS": served.layer,
        "OCI_RO_DATA_REFERRERS": served.image,
        "OCI_RESULTS_DIR": str(tmp_path),
    }
    # It breaks down over its report of a registry that takes no pushes, so what it prints before counts.
    said = run(go_program("conformance"), tmp_path, environment)
    counts = {name: int(number) for name, number in re.findall(r"^  (\w+)\.+: +(\d+)$", said, re.MULTILINE)}
    assert {name: counts.get(name) for name in ("Pass", "FAIL", "Error", "Skip")} == {
        "Pass": 22,
        "FAIL": 0,
        "Error": 0,
        "Skip": 0,
    }, said


def said(*command: str | Path) -> str:
    return subprocess.run([*map(str, command)], check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.mark.parametrize("name", [REPOSITORY, "demo/page"])
def test_crane_pulls(served: Served, tmp_path: Path, name: str) -> None:
    """Also under the name without a host, by which docker asks its mirror for what is on Docker Hub."""
    crane, image = go_program("crane"), f"{served.address}/{name}"
    assert said(crane, "ls", image).split() == list(TAGS)
    assert said(crane, "digest", f"{image}:1").strip() == served.image
    said(crane, "pull", "--format", "oci", f"{image}:2", tmp_path / "layout")
    said(crane, "validate", "--remote", f"{image}@{served.image}")
    assert (tmp_path / "layout" / "blobs" / "sha256" / served.layer.removeprefix("sha256:")).is_file()


def test_crane_sees_all_repositories(served: Served) -> None:
    assert said(go_program("crane"), "catalog", served.address).split() == [REPOSITORY]


def test_a_push_is_refused(served: Served, tmp_path: Path) -> None:
    image = f"{served.address}/{REPOSITORY}"
    said(go_program("crane"), "pull", f"{image}:1", tmp_path / "image.tar")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        said(go_program("crane"), "push", tmp_path / "image.tar", f"{image}:5")
    assert "read-only" in caught.value.stderr


def test_skopeo_pulls(served: Served, tmp_path: Path) -> None:
    """A layout has the manifest's bytes as they are, whose digest is compared."""
    image = f"docker://{served.address}/{REPOSITORY}"
    copy = ("skopeo", "--insecure-policy", "copy", "--src-tls-verify=false")
    said(*copy, f"{image}:1", f"oci:{tmp_path / 'layout'}:1")
    assert served.image in (tmp_path / "layout" / "index.json").read_text()
    listed = json.loads(said("skopeo", "list-tags", "--tls-verify=false", image))
    assert listed["Tags"] == list(TAGS)

"""A bundle in the hands of tools that know nothing of this project; they must find the digests of upstream in it.

The bundle goes the whole way by the commands that people type: locked and built from a real registry, signed with the
test key, loaded into another real registry.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts import images, runnable
from tests.parts.authority import Authority
from tests.parts.bundles import KEYS, packed_chart
from tests.parts.containerd import Containerd
from tests.parts.dockerd import Dockerd
from tests.parts.kubectl import tools
from tests.parts.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator

RECIPE = """\
name: strangers
version: "1.0"
charts:
  - name: greeter
    version: 0.1.0
    path: greeter-0.1.0.tgz
images:
  - docker.io/demo/page:1.0
  - docker.io/demo/job:2.0
  - docker.io/demo/job@{index}
  - docker.io/demo/docker:1.0
registries:
  docker.io: {{mirror: "{upstream}"}}
"""
PAGE, JOB, DOCKER = "docker.io/demo/page:1.0", "docker.io/demo/job:2.0", "docker.io/demo/docker:1.0"


@dataclass(frozen=True)
class Carried:
    """A bundle that has arrived: its file, both registries, and a folder into which GNU tar has unpacked it."""

    bundle: Path
    unpacked: Path
    upstream: Registry
    enclave: Registry
    index: str
    """Digest of the image that is asked for by digest, an index of two platforms."""

    @property
    def digests(self) -> dict[str, str]:
        """By name, the digests that bundle.json states."""
        return {image["source"]: image["digest"] for image in self.metadata["images"]}

    @property
    def metadata(self) -> dict[str, Any]:
        """bundle.json as any program reads it."""
        found: dict[str, Any] = json.loads((self.unpacked / "bundle.json").read_bytes())
        return found

    def blob(self, digest: str) -> Path:
        """The file of a blob."""
        return self.unpacked / "blobs" / "sha256" / digest.removeprefix("sha256:")


def run(*command: str | Path, cwd: Path | None = None) -> bytes:
    done = subprocess.run(command, cwd=cwd, capture_output=True)
    assert done.returncode == 0, f"{command}: {done.stdout.decode()}{done.stderr.decode()}"
    return done.stdout


def airferry(*arguments: str | Path, cwd: Path) -> None:
    run(sys.executable, "-P", "-m", "builder", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder with a short path, for sockets."""
    with tempfile.TemporaryDirectory(prefix="af-") as name:
        yield Path(name)


def fill(upstream: Registry, folder: Path) -> str:
    """Push the images; the digest of the index."""
    page = images.write_layout(folder / "page", runnable.httpd())
    job = images.write_layout(folder / "job", runnable.two_platforms(runnable.job()))
    docker = images.write_layout(folder / "docker", runnable.pause(), family=images.DOCKER)
    for layout, name in ((page, PAGE), (job, JOB), (docker, DOCKER)):
        images.push(layout, name.replace("docker.io", upstream.address))
    return job.digest


@pytest.fixture(scope="module")
def carried(folder: Path) -> Iterator[Carried]:
    with Registry(folder / "upstream") as upstream, Registry(folder / "enclave") as enclave:
        index = fill(upstream, folder)
        (folder / "greeter-0.1.0.tgz").write_bytes(packed_chart("greeter", "0.1.0"))
        (folder / "recipe.yaml").write_text(RECIPE.format(index=index, upstream=upstream.url))
        for command in (["lock"], ["build"], ["sign", "strangers-1.0.tar", "--key", str(KEYS / "test-only.key")]):
            airferry(*command, cwd=folder)
        bundle = folder / "strangers-1.0.tar"
        trust = ["--bundle", str(bundle), "--key", str(KEYS / "test-only.pub")]
        load = ["load", *trust, "--registry", enclave.address, "--plain-http"]
        run(sys.executable, "-P", "-m", "installer", *load, cwd=folder)
        unpacked = folder / "unpacked"
        unpacked.mkdir()
        run("tar", "--extract", "--file", bundle, cwd=unpacked)
        yield Carried(bundle, unpacked, upstream, enclave, index)


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def raw_manifest(source: str) -> bytes:
    return run("skopeo", "--insecure-policy", "inspect", "--raw", "--tls-verify=false", source)


def test_openssl_confirms_the_signature(carried: Carried) -> None:
    command: list[str | Path] = ["openssl", "dgst", "-sha256", "-verify", KEYS / "test-only.pub"]
    assert run(*command, "-signature", "SHA256SUMS.sig", "SHA256SUMS", cwd=carried.unpacked) == b"Verified OK\n"


def test_openssl_refuses_another_key(carried: Carried) -> None:
    command: list[str | Path] = ["openssl", "dgst", "-sha256", "-verify", KEYS / "other-test-only.pub"]
    command += ["-signature", "SHA256SUMS.sig", "SHA256SUMS"]
    assert subprocess.run(command, cwd=carried.unpacked, capture_output=True).returncode == 1


def test_minisign_confirms_the_signature(carried: Carried) -> None:
    command: list[str | Path] = ["minisign", "-V", "-p", KEYS / "test-only.minisign.pub", "-m", "SHA256SUMS"]
    assert b"Signature and comment signature verified" in run(*command, cwd=carried.unpacked)


def test_sha256sum_confirms_every_file(carried: Carried) -> None:
    lines = run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=carried.unpacked).decode().splitlines()
    files = {str(path.relative_to(carried.unpacked)) for path in carried.unpacked.rglob("*") if path.is_file()}
    unnamed = {"SHA256SUMS", "SHA256SUMS.sig", "SHA256SUMS.minisig", "SHA256SUMS.sigs.json"}
    assert {line.removesuffix(": OK") for line in lines} == files - unnamed


def test_busybox_confirms_every_file(carried: Carried) -> None:
    run("busybox", "sha256sum", "-c", "SHA256SUMS", cwd=carried.unpacked)


def test_gnu_tar_and_busybox_read_the_same_members(carried: Carried) -> None:
    listed = run("tar", "--list", "--file", carried.bundle).decode().splitlines()
    assert run("busybox", "tar", "-tf", carried.bundle).decode().splitlines() == listed
    assert listed[0] == "SHA256SUMS"


def test_digests_are_those_of_both_registries(carried: Carried) -> None:
    assert len(carried.digests) == 4
    for source, digest in carried.digests.items():
        repository, tag = source.partition("@")[0].rpartition(":")[::2] if "@" not in source else (source, "")
        path = repository.partition("@")[0].removeprefix("docker.io/")
        stated = [f"docker://{carried.enclave.address}/airferry/docker.io/{path}@{digest}"]
        stated.append(f"docker://{carried.upstream.address}/{path}@{digest}")
        if tag:
            stated.append(f"docker://{carried.enclave.address}/airferry/docker.io/{path}:{tag}")
        for place in stated:
            assert sha256(raw_manifest(place)) == digest
    # One platform was asked for: of the tagged index its manifest is carried, of the one asked for by digest all.
    assert carried.digests[JOB] != carried.index
    assert carried.digests[f"docker.io/demo/job@{carried.index}"] == carried.index
    upstream = json.loads(raw_manifest(f"docker://{carried.upstream.address}/demo/job:2.0"))
    assert carried.digests[JOB] in [entry["digest"] for entry in upstream["manifests"]]


def oci_names(carried: Carried) -> list[str]:
    """What skopeo's transport `oci-archive` can name: it knows no entries with Docker's own media types."""
    return sorted(set(carried.digests) - {DOCKER})


def test_skopeo_inspects_the_archive(carried: Carried) -> None:
    for name in oci_names(carried):
        assert sha256(raw_manifest(f"oci-archive:{carried.bundle}:{name}")) == carried.digests[name]


def test_skopeo_copies_out_of_the_archive(carried: Carried, tmp_path: Path) -> None:
    for number, name in enumerate(oci_names(carried)):
        target = tmp_path / str(number)
        copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--all", "--preserve-digests"]
        run(*copy, f"oci-archive:{carried.bundle}:{name}", f"dir:{target}")
        assert sha256((target / "manifest.json").read_bytes()) == carried.digests[name]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="dockerd and containerd need root")


@needs_root
def test_docker_loads_and_runs_the_images(carried: Carried, folder: Path) -> None:
    with Dockerd(folder / "d") as engine:
        loaded = engine.docker("load", "--input", carried.bundle)
        assert sorted(loaded.split("\n")) == [
            "",
            *(f"Loaded image: demo/{n}" for n in ("docker:1.0", "job:2.0", "page:1.0")),
        ]
        for name in (PAGE, JOB, DOCKER):
            (found,) = json.loads(engine.docker("image", "inspect", name))
            manifest = json.loads(carried.blob(carried.digests[name]).read_bytes())
            config = json.loads(carried.blob(manifest["config"]["digest"]).read_bytes())
            assert found["Id"] == manifest["config"]["digest"]
            assert found["RootFS"]["Layers"] == config["rootfs"]["diff_ids"]
        assert engine.docker("run", "--rm", "--network=none", JOB) == "done\n"


@needs_root
def test_containerd_imports_the_images(carried: Carried, folder: Path) -> None:
    with Containerd(folder / "c") as node:
        node.ctr("images", "import", "--snapshotter=native", carried.bundle)
        lines = node.ctr("images", "list").decode().splitlines()[1:]
        assert {line.split()[0]: line.split()[2] for line in lines} == carried.digests
        for digest in carried.digests.values():
            assert sha256(node.ctr("content", "get", digest)) == digest


def mirrors(carried: Carried, folder: Path, registry: dict[str, Any]) -> Path:
    """What `render` writes for the nodes of a site with this `registry`."""
    (folder / "site.yaml").write_text(json.dumps({"registry": registry}))
    trust: list[str | Path] = ["--bundle", carried.bundle, "--key", KEYS / "test-only.pub"]
    command: list[str | Path] = ["render", *trust, "--site", folder / "site.yaml", "--output-dir", folder / "rendered"]
    run(sys.executable, "-P", "-m", "installer", *command, cwd=folder)
    return folder / "rendered" / "nodes"


@needs_root
def test_containerd_finds_upstream_names_in_the_registry(carried: Carried, folder: Path) -> None:
    authority = Authority(folder / "authority")
    served = Registry(folder / "tls", storage=carried.enclave.storage, tls=authority.issue("r", ["127.0.0.1"]))
    with served as registry, Containerd(folder / "m") as node:
        site = {"host": registry.address, "ca": str(authority.certificate)}
        hosts = mirrors(carried, folder, site) / "containerd" / "certs.d"
        pull = ("images", "pull", "--snapshotter=native", "--hosts-dir", hosts)
        for name in (PAGE, JOB, f"{registry.address}/airferry/{DOCKER}"):
            node.ctr(*pull, name)
        found = {line.split()[0]: line.split()[2] for line in node.ctr("images", "list").decode().splitlines()[1:]}
        assert found[PAGE] == carried.digests[PAGE]
        with pytest.raises(subprocess.CalledProcessError):
            node.ctr(*pull, "docker.io/demo/absent:1.0")
        asked = {access.path for access in registry.accesses()}
        assert "/v2/airferry/docker.io/demo/absent/manifests/1.0" in asked


def test_podman_and_crio_find_upstream_names_in_the_registry(carried: Carried, tmp_path: Path) -> None:
    site = {"host": carried.enclave.address, "plain_http": True}
    file = mirrors(carried, tmp_path, site) / "containers" / "registries.conf.d" / "airferry.conf"
    command = ("skopeo", "--insecure-policy", "--registries-conf", file, "inspect", "--raw", f"docker://{PAGE}")
    assert sha256(run(*command)) == carried.digests[PAGE]


def test_helm_shows_the_chart(carried: Carried, tmp_path: Path) -> None:
    (chart,) = carried.metadata["charts"]
    archive = tmp_path / f"{chart['name']}-{chart['version']}.tgz"
    shutil.copyfile(carried.blob(chart["archive"]), archive)
    assert sha256(archive.read_bytes()) == chart["archive"] == sha256(packed_chart("greeter", "0.1.0"))
    shown = tools().run_helm("show", "chart", archive, home=tmp_path)
    assert "name: greeter\n" in shown
    assert "version: 0.1.0\n" in shown

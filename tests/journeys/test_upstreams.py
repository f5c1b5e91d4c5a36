"""Registries and chart repositories that releases are collected from, each with a way of its own."""

from __future__ import annotations

import json
import time
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from builder.charts.fetch import artifact
from installer.chart.helm import Chart
from tests.parts.charts import package
from tests.parts.faulty_proxy import FaultyProxy
from tests.parts.faulty_registry import FaultyRegistry, crowded, status
from tests.parts.images import OCI, File, Image, Layer, push, write_layout
from tests.parts.programs import Program, assert_refused, from_source
from tests.parts.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def airferry(tmp_path: Path) -> Program:
    return from_source("builder", tmp_path)


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "upstream") as running:
        yield running


def write_recipe(airferry: Program, **more: Any) -> None:
    (airferry.folder / "recipe.yaml").write_text(json.dumps({"name": "demo", "version": "1.0", **more}))


def small(folder: Path) -> Any:
    return write_layout(folder, Image((Layer({"/a": File(b"a")}),)))


def test_an_address_of_ipv6_goes_the_whole_way(airferry: Program, upstream: Registry, tmp_path: Path) -> None:
    # skopeo knew no such address for long.
    digest = push(small(tmp_path / "image"), f"{upstream.address}/team/app:1")
    far = Registry(tmp_path / "far", host="[::1]", storage=upstream.storage)
    with far, Registry(tmp_path / "enclave", host="[::1]") as enclave:
        image = f"{far.address}/team/app:1"
        write_recipe(airferry, images=[image])
        airferry.result("lock")
        airferry.result("build")
        airferry.result("keygen", "release", "--no-passphrase")
        airferry.result("sign", "demo-1.0.tar", "--key", "release.key")
        trust = ("--bundle", tmp_path / "demo-1.0.tar", "--key", tmp_path / "release.pub")
        installer = from_source("installer", tmp_path, *trust)
        (loaded,) = installer.result("load", "--registry", enclave.address)["images"]
        name = f"{enclave.address}/airferry/ipv6__0-0-0-0-0-0-0-1__{far.port}/team/app:1"
        assert (loaded["target"], loaded["digest"]) == (name, digest)
    write_recipe(airferry, images=["[:::1]:5000/team/app:1"])
    assert_refused(airferry.run("lock"), 41, "not a registry host")


def test_a_path_that_is_too_long_for_an_enclave_is_refused_at_home(
    airferry: Program, upstream: Registry, tmp_path: Path
) -> None:
    layout = small(tmp_path / "image")
    room = 255 - len(f"airferry/{upstream.address.replace(':', '__')}/")
    for length in (room, room + 1):
        push(layout, f"{upstream.address}/{'a' * length}:1")
    write_recipe(airferry, images=[f"{upstream.address}/{'a' * room}:1"])
    airferry.result("lock")
    write_recipe(airferry, images=[f"{upstream.address}/{'a' * (room + 1)}:1"])
    assert_refused(airferry.run("lock"), 41, "has 256 characters", "registries take 255", "shorter path")


def test_an_index_that_names_artifacts(airferry: Program, tmp_path: Path) -> None:
    """Bitnami's index lists `oci://` addresses."""
    chart = Chart.load(package("demo-app", version="1.2.3+b"), source="test")
    config, raw = artifact(chart)
    with FaultyRegistry() as registry:
        for blob in (config, chart.archive):
            registry.put_blob(blob)
        manifest = registry.put_manifest(raw, OCI.manifest, "1.2.3_b").removeprefix("sha256:")
        write_recipe(
            airferry,
            charts=[{"name": chart.name, "version": "^1", "repository": f"{registry.url}/charts"}],
            suspected="note",
            exclude=[{"image": "docker.io/*", "reason": "not of interest here"}],
        )
        places = [f"{registry.address}/team/{chart.name}{tag}" for tag in (":1.2.3_b", "")]
        for place, digest in product(places, ("", chart.digest.hex, manifest)):
            entry = {"version": chart.version, "urls": [f"oci://{place}"], "digest": digest}
            index = json.dumps({"entries": {chart.name: [entry]}}).encode()
            registry.on("GET", "/index.yaml", status(200, body=index), times=1)
            airferry.result("lock", "--update")
            (locked,) = json.loads((tmp_path / "airferry.lock").read_text())["charts"]
            assert locked["origin"]["location"] == f"{registry.address}/team/{chart.name}"
            assert locked["artifact"] == f"sha256:{manifest}"
        for urls, said in (([f"oci://{places[0]}"], "says sha256 00"), (["ftp://x/y"], "no usable URL")):
            index = json.dumps({"entries": {chart.name: [{"version": "1.2.3", "urls": urls, "digest": "00"}]}}).encode()
            registry.on("GET", "/index.yaml", status(200, body=index), times=1)
            done = airferry.run("lock", "--update")
            assert said in done.stderr
            assert "next:" in done.stderr


def test_few_connections_at_a_time(airferry: Program, upstream: Registry, tmp_path: Path) -> None:
    """nginx's `limit_conn`, before layers that take their time."""
    layers = tuple(Layer({f"/{number}": File(bytes([number]) * 5000)}, "none") for number in range(24))
    with FaultyProxy(upstream.address) as proxy:
        push(write_layout(tmp_path / "image", Image(layers)), f"{upstream.address}/app:1")
        write_recipe(airferry, images=[f"{proxy.address}/app:1"])
        airferry.result("lock")
        proxy.seen.clear()
        proxy.on("GET", "/v2/", crowded(2, 0.3))
        airferry.result("build")
        assert len(proxy.seen) < 95


def test_a_pause_is_told_and_a_limit_named(airferry: Program, upstream: Registry, tmp_path: Path) -> None:
    with FaultyProxy(upstream.address) as proxy:
        image = f"{proxy.address}/app:1"
        push(small(tmp_path / "image"), f"{upstream.address}/app:1")
        write_recipe(airferry, images=[image])
        proxy.on("GET", "/manifests/", status(429, {"Retry-After": "6"}), times=1)
        done = airferry.run("lock")
        assert (done.returncode, f"{proxy.address} asks for a pause: going on in 6 s" in done.stderr) == (0, True)
        write_recipe(airferry, images=[image], registries={proxy.address: {"pause_seconds": 5}})
        proxy.on("GET", "/manifests/", status(429, {"Retry-After": "6"}), times=1)
        done = airferry.run("lock", "--update")
        assert_refused(done, 20, "at most 5 s are waited", "`pause_seconds`")


def test_an_answer_that_takes_too_long(airferry: Program, tmp_path: Path) -> None:
    with FaultyRegistry() as registry:
        registry.on("GET", "/v2/", lambda _: time.sleep(1.5))
        write_recipe(
            airferry, images=[f"{registry.address}/app:1"], registries={registry.address: {"answer_seconds": 1}}
        )
        assert_refused(airferry.run("lock"), 20, "no answer within 1 s", "`answer_seconds`", "--answer-seconds")

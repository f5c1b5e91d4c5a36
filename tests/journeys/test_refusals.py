"""What goes wrong on the way, provoked with real parts: the exit code, a message that says what and where, the next
step, and nothing half-done left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest

from builder.recipe.recipe import MAX_RECIPE
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.value import replace
from tests.parts.authority import Authority
from tests.parts.bundles import KEYS, packed_chart, reference_cargo, signing_key
from tests.parts.faulty_registry import FaultyRegistry, challenge
from tests.parts.programs import Program, assert_refused, docker_config, from_source, on_tmpfs, with_environment
from tests.parts.registry import Registry
from tests.parts.slow_link import SlowLink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.journeys.conftest import Carried

FOREIGN = KEYS / "test-only.pub"
RECIPE = """\
name: small
version: "1"
images: [{image}]
registries:
  docker.io: {{mirror: "{url}"}}
"""


def closed_address() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def stored(registry: Registry) -> list[str]:
    """Manifests and tags that a registry holds."""
    return [str(path) for path in registry.storage.rglob("link") if "_manifests" in path.parts]


def recipe(folder: Path, url: str, *, image: str = "docker.io/demo/worker:1.0") -> None:
    """Write a recipe for one image."""
    (folder / "recipe.yaml").write_text(RECIPE.format(image=image, url=url))


# --- the connected side ---


def test_an_image_that_does_not_exist(carried: Carried, airferry: Program) -> None:
    recipe(airferry.folder, carried.upstream.url, image="docker.io/demo/absent:9.9")
    assert_refused(airferry.run("lock"), 22, "demo/absent", "9.9", "404")
    assert not (airferry.folder / "airferry.lock").exists()


def test_an_upstream_that_refuses_connections(airferry: Program) -> None:
    address = closed_address()
    recipe(airferry.folder, f"http://{address}")
    assert_refused(airferry.run("lock"), 20, address, "refused")
    assert not (airferry.folder / "airferry.lock").exists()


def test_an_upstream_with_another_password(airferry: Program, tmp_path: Path) -> None:
    with Registry(tmp_path / "upstream", users={"ferry": "right horse"}) as upstream:
        recipe(airferry.folder, upstream.url)
        known = with_environment(airferry, docker_config(tmp_path, upstream.address, "wrong horse"))
        done = known.run("lock")
        assert_refused(done, 21, upstream.address, "401")
        assert "wrong horse" not in done.stderr
        assert_refused(airferry.run("lock"), 21, upstream.address)


def test_an_upstream_of_an_unknown_authority(airferry: Program, tmp_path: Path) -> None:
    certificate = Authority(tmp_path / "ca").issue("upstream", ["127.0.0.1"])
    with Registry(tmp_path / "upstream", tls=certificate) as upstream:
        recipe(airferry.folder, upstream.url)
        assert_refused(airferry.run("lock"), 21, upstream.address, "certificate")
        with (airferry.folder / "recipe.yaml").open("a") as file:
            file.write(f'  "{upstream.address}": {{ca: ca/ca.crt}}\n')
        assert_refused(airferry.run("lock"), 22, upstream.address)  # now it is asked, and is empty


def test_a_recipe_with_a_misspelt_key(carried: Carried, airferry: Program) -> None:
    recipe(airferry.folder, carried.upstream.url)
    with (airferry.folder / "recipe.yaml").open("a") as file:
        file.write("platform: [linux/amd64]\n")
    assert_refused(airferry.run("lock"), 41, "recipe.yaml", "platform: unknown key", "platforms")


@pytest.fixture
def locked(carried: Carried, tmp_path: Path) -> Program:
    """The builder in a folder with a copy of the carried release's recipe, lock and keys."""
    folder = tmp_path / "locked"
    shutil.copytree(carried.folder, folder, ignore=shutil.ignore_patterns("*.tar", "demo-installer"))
    return from_source("builder", folder)


def test_a_lock_that_does_not_match_its_recipe(locked: Program) -> None:
    text = (locked.folder / "recipe.yaml").read_text()
    (locked.folder / "recipe.yaml").write_text(text.replace("hello from the enclave", "changed"))
    assert_refused(locked.run("lock", "--check"), 41, "airferry.lock", "not up to date")
    for command in ("plan", "build"):
        assert_refused(locked.run(command), 41, "recipe.yaml")
    assert not list(locked.folder.glob("*.tar*"))


def test_a_disk_that_is_too_small_for_a_bundle(locked: Program) -> None:
    small = on_tmpfs(locked, locked.folder / "disk", "size=4m")
    done = small.run("build", "--file", locked.folder / "disk" / "demo.tar")
    assert_refused(done, 50, "disk", "are needed", "free")
    assert "left: " not in done.stderr


def test_a_disk_that_is_read_only(locked: Program) -> None:
    small = on_tmpfs(locked, locked.folder / "disk", "ro")
    assert_refused(small.run("build", "--file", locked.folder / "disk" / "demo.tar"), 50, "disk", "Read-only")
    shutil.rmtree(locked.folder / "disk")
    small = on_tmpfs(locked, locked.folder / "disk", "ro")
    assert_refused(small.run("keygen", locked.folder / "disk" / "k", "--no-passphrase"), 50, "Read-only")


@pytest.mark.frozen
def test_a_disk_that_is_too_small_for_a_frozen_file(carried: Carried, locked: Program) -> None:
    assert carried.frozen.exists()  # and its program is in the cache
    small = on_tmpfs(locked, locked.folder / "disk", "size=20m")
    out = locked.folder / "disk" / "demo"
    done = small.run("freeze", carried.bundle, "--key", carried.key, "--file", out)
    assert_refused(done, 50, "disk/demo", "free")
    assert "left: " not in done.stderr


def test_a_build_that_the_user_interrupts_continues(carried: Carried, locked: Program) -> None:
    with SlowLink(carried.upstream.address, 4e6) as link:
        lock = locked.folder / "airferry.lock"
        lock.write_text(lock.read_text().replace(carried.upstream.address, link.address))
        with locked.start("build") as running:
            link.wait_for(1_000_000, running)
            running.send_signal(signal.SIGINT)
            out, err = running.communicate()
    assert (running.returncode, out) == (130, "")
    assert "error: interrupted by SIGINT" in err
    assert "next: run the same command again: it continues" in err
    assert [path.name for path in locked.folder.glob("demo*tar*")] == ["demo-1.0.tar.part"]


# --- trust ---


@pytest.fixture
def unsigned(carried: Carried, tmp_path: Path) -> Path:
    """The carried bundle before it was signed."""
    folder = tmp_path / "unsigned"
    shutil.copytree(carried.folder, folder, ignore=shutil.ignore_patterns("*.tar", "demo-installer"))
    from_source("builder", folder).result("build")
    return folder / "demo-1.0.tar"


def opened(folder: Path, bundle: Path, key: Path) -> Program:
    """The enclave's program from source with another bundle or key."""
    return from_source("installer", folder, "--bundle", bundle, "--key", key)


@pytest.mark.parametrize("side", ["airferry", "installer"])
def test_an_unsigned_bundle(carried: Carried, unsigned: Path, tmp_path: Path, enclave: Registry, side: str) -> None:
    if side == "airferry":
        airferry = from_source("builder", tmp_path)
        assert_refused(airferry.run("verify", unsigned, "--key", carried.key), 11, "unsigned")
        out = tmp_path / "installer"
        assert_refused(airferry.run("freeze", unsigned, "--key", carried.key, "--file", out), 11, "unsigned")
        assert not out.exists()
    else:
        installer = opened(tmp_path, unsigned, carried.key)
        assert_refused(installer.run("load", "--registry", enclave.address), 11, "unsigned")
        assert stored(enclave) == []


def test_a_bundle_signed_by_a_foreign_key(carried: Carried, tmp_path: Path, enclave: Registry) -> None:
    installer = opened(tmp_path, carried.bundle, FOREIGN)
    for command in (("inspect",), ("verify",), ("load", "--registry", enclave.address)):
        assert_refused(installer.run(*command), 11, "not made by a trusted key")
    assert_refused(from_source("installer", tmp_path, "--bundle", carried.bundle).run("verify"), 11, "no key was given")
    assert stored(enclave) == []


def test_a_typed_sum_that_is_another(carried: Carried, tmp_path: Path) -> None:
    typed = from_source("installer", tmp_path, "--bundle", carried.bundle, "--sums", "0" * 64)
    assert_refused(typed.run("verify"), 11, "SHA256SUMS has sha256:")
    mistyped = from_source("installer", tmp_path, "--bundle", carried.bundle, "--sums", "0" * 63)
    assert_refused(mistyped.run("verify"), 2, "not a SHA-256")


@pytest.mark.parametrize(
    ("times", "texts"),
    [
        ({"created": "2020-01-01T00:00:00Z", "expires": "2020-02-01T00:00:00Z"}, ("expired", "2020-02-01")),
        ({"created": "2999-01-01T00:00:00Z"}, ("clock", "2999-01-01")),
    ],
    ids=["expired", "future"],
)
def test_a_bundle_of_another_time(
    tmp_path: Path, enclave: Registry, times: dict[str, Any], texts: tuple[str, ...]
) -> None:
    cargo = replace(reference_cargo(tmp_path), **times)
    (bundle,) = cargo.write(tmp_path, key=signing_key())
    installer = opened(tmp_path, bundle, FOREIGN)
    for command in (("verify",), ("load", "--registry", enclave.address)):
        assert_refused(installer.run(*command), 13, *texts)
    assert_refused(from_source("builder", tmp_path).run("verify", bundle, "--key", FOREIGN), 13, *texts)
    assert stored(enclave) == []


def test_a_chart_under_another_name(tmp_path: Path, enclave: Registry) -> None:
    """Signed and whole, and yet not what it is called: nobody hands it on, and nobody renders it."""
    cargo = reference_cargo(tmp_path)
    cargo.charts.clear()
    cargo.chart(packed_chart("greeter", "0.1.0"), {"name": "innocent", "version": "0.1.0"})
    profile = {"steps": [{"chart": "innocent", "version": "0.1.0"}]}
    cargo.document("profile.json", json.dumps(profile).encode(), "profile")
    (bundle,) = cargo.write(tmp_path, key=signing_key())
    (tmp_path / "site.yaml").write_text(f"registry: {{host: '{enclave.address}'}}\n")
    installer, said = opened(tmp_path, bundle, FOREIGN), ("chart innocent 0.1.0", "Chart.yaml", "greeter 0.1.0")
    for command in (
        ("verify",),
        ("load", "--registry", enclave.address),
        ("load", "--site", "site.yaml"),
        ("serve", "--listen", "127.0.0.1:0"),
        ("render", "--site", "site.yaml", "--output-dir", "out"),
    ):
        assert_refused(installer.run(*command), 10, *said)
    assert_refused(from_source("builder", tmp_path).run("verify", bundle, "--key", FOREIGN), 10, *said)
    assert not list(enclave.storage.rglob("data"))
    assert not (tmp_path / "out").exists()


def test_an_artifact_with_another_archive(tmp_path: Path, enclave: Registry) -> None:
    """With --whole-images all else is loaded, and the chart is named."""
    cargo = reference_cargo(tmp_path)
    other = cargo.put(packed_chart("greeter", "0.1.0", {"values.yaml": "greeting: boo\n"}), media_types.HELM_CHART)
    cargo.charts[0] = replace(cargo.charts[0], archive=other.digest)
    (bundle,) = cargo.write(tmp_path, key=signing_key())
    installer, load = opened(tmp_path, bundle, FOREIGN), ("load", "--registry", enclave.address)
    for command in (("verify",), load):
        assert_refused(installer.run(*command), 10, "chart greeter 0.1.0", "artifact", other.digest.text)
    assert not list(enclave.storage.rglob("data"))
    done = installer.run(*load, "--whole-images", "--output", "json")
    assert (done.returncode, list(json.loads(done.stdout)["left_out"])) == (10, ["chart greeter 0.1.0"])
    assert stored(enclave)
    assert not [path for path in stored(enclave) if "/charts/" in path]


def test_an_index_for_docker_that_names_other_files(tmp_path: Path) -> None:
    cargo = reference_cargo(tmp_path)
    entries = json.loads(cargo.manifest_json())
    entries[0]["Layers"][0] = "../../etc/passwd"
    cargo.docker_index = json.dumps(entries).encode()
    (bundle,) = cargo.write(tmp_path, key=signing_key())
    assert_refused(opened(tmp_path, bundle, FOREIGN).run("verify"), 10, "manifest.json", "docker load")


# --- the medium ---


def test_a_truncated_bundle(carried: Carried, tmp_path: Path, enclave: Registry) -> None:
    for length in (100, 20_000, carried.bundle.stat().st_size - 512):
        damaged = tmp_path / "damaged.tar"
        damaged.write_bytes(carried.bundle.read_bytes()[:length])
        installer = opened(tmp_path, damaged, carried.key)
        assert_refused(installer.run("load", "--registry", enclave.address), 10, "damaged.tar")
        assert_refused(from_source("builder", tmp_path).run("verify", damaged, "--key", carried.key), 10)
    assert stored(enclave) == []


@pytest.mark.frozen
def test_a_damaged_frozen_file(carried: Carried, tmp_path: Path, enclave: Registry) -> None:
    damaged = tmp_path / "demo-installer"
    shutil.copy2(carried.frozen, damaged)
    with damaged.open("r+b") as file:
        file.truncate(carried.frozen.stat().st_size - 512)
    program = Program((str(damaged),), tmp_path)
    for command in (("inspect",), ("verify",), ("load", "--registry", enclave.address)):
        assert_refused(program.run(*command), 10, "damaged")
    assert stored(enclave) == []


def test_a_flipped_bit_reaches_no_registry(carried: Carried, tmp_path: Path, enclave: Registry) -> None:
    damaged = tmp_path / "damaged.tar"
    shutil.copy2(carried.bundle, damaged)
    with damaged.open("r+b") as file:
        file.seek(-3_000_000, os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 4]))
    installer = opened(tmp_path, damaged, carried.key)
    assert installer.run("inspect").returncode == 0
    for command in (("verify",), ("verify", "--sha256"), ("load", "--registry", enclave.address)):
        assert_refused(installer.run(*command), 10, "damaged.tar", "damaged between byte", "docker.io/demo/data:1.0")
    # Images that need nothing of it may have arrived whole before it was met.
    assert not [path for path in stored(enclave) if "/demo/data/" in path]
    for blob in enclave.storage.rglob("blobs/sha256/*/*/data"):
        assert Digest.of(blob.read_bytes()).hex == blob.parent.name


def test_a_file_that_is_not_there(tmp_path: Path, carried: Carried) -> None:
    assert_refused(opened(tmp_path, tmp_path / "absent.tar", carried.key).run("verify"), 2, "absent.tar")
    builder = from_source("builder", tmp_path)
    for command in ("plan", "build"):
        assert_refused(builder.run(command), 41, "no airferry.lock", "`airferry lock`")
    for command in ("lock", "list"):
        assert_refused(builder.run(command), 41, "no recipe.yaml", "`airferry init`")
    assert_refused(builder.run("verify", "absent.tar", "--key", carried.key), 2, "absent.tar")
    assert_refused(builder.run("verify", carried.bundle, "--key", "absent.pub"), 2, "absent.pub")
    (tmp_path / "recipe.yaml").write_text("#" * (MAX_RECIPE + 1))
    assert_refused(builder.run("lock"), 41, "recipe.yaml")


def test_answers_that_are_not_there(installer: Program) -> None:
    for site in ("absent.yaml", "."):
        assert_refused(installer.run("render", "--site", site, "--output-dir", "out"), 2, site)


def test_an_address_that_is_taken(installer: Program, enclave: Registry) -> None:
    assert_refused(installer.run("serve", "--listen", enclave.address), 2, enclave.address)


def test_a_cluster_that_nobody_has_named(tmp_path: Path) -> None:
    assert_refused(
        from_source("installer", tmp_path).run("status"),
        2,
        f"{tmp_path}/.kube/config",
        "--kubeconfig",
        "KUBECONFIG",
        "k3s",
    )


# --- the enclave ---


def test_a_registry_that_refuses_connections(installer: Program) -> None:
    address = closed_address()
    assert_refused(installer.run("load", "--registry", address), 20, address, "refused")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[Registry, Path]]:
    """A registry with a user and a certificate of a private authority, and that authority's certificate."""
    authority = Authority(tmp_path / "ca")
    certificate = authority.issue("registry", ["127.0.0.1"])
    with Registry(tmp_path / "guarded", users={"ferry": "right horse"}, tls=certificate) as registry:
        yield registry, authority.certificate


def test_a_registry_of_an_unknown_authority(installer: Program, guarded: tuple[Registry, Path], tmp_path: Path) -> None:
    registry, _ = guarded
    other = Authority(tmp_path / "other", "another authority").certificate
    assert_refused(
        installer.run("load", "--registry", registry.address, "--ca", other), 21, registry.address, "certificate"
    )
    assert stored(registry) == []


def test_a_registry_with_another_password(installer: Program, guarded: tuple[Registry, Path], tmp_path: Path) -> None:
    registry, authority = guarded
    answers = {
        "host": registry.address,
        "ca": str(authority),
        "credentials": {"username": "ferry", "password": {"env": "REGISTRY_PASSWORD"}},
    }
    (tmp_path / "site.yaml").write_text(json.dumps({"registry": answers}))
    load = ("load", "--site", "site.yaml")
    assert_refused(installer.run(*load), 40, "registry.credentials.password", "REGISTRY_PASSWORD")
    done = with_environment(installer, {"REGISTRY_PASSWORD": "wrong horse"}).run(*load)
    assert_refused(done, 21, registry.address)
    assert "wrong horse" not in done.stderr
    assert stored(registry) == []
    right = with_environment(installer, {"REGISTRY_PASSWORD": "right horse"})
    assert right.result(*load)["sent"] > 0


def test_a_token_server_of_another_domain(installer: Program, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    certificate = authority.issue("site", ["127.0.0.1", "127.0.0.2"])
    with FaultyRegistry(tls=certificate) as registry, FaultyRegistry("127.0.0.2", tls=certificate) as tokens:
        registry.on("HEAD", "/v2/", challenge(f'Bearer realm="{tokens.url}/token",service="s"'))
        login = b64encode(b"ferry:right horse").decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.address: {"auth": login}}}))
        program = with_environment(installer, {"DOCKER_CONFIG": str(tmp_path)})
        answers = {"host": registry.address, "ca": str(authority.certificate)}
        load = ("load", "--registry", registry.address, "--ca", authority.certificate)
        assert_refused(program.run(*load), 21, "wants its credentials sent to 127.0.0.2", "--token-host")
        assert tokens.seen == []
        (tmp_path / "site.yaml").write_text(json.dumps({"registry": {**answers, "token_hosts": ["127.0.0.2"]}}))
        for known in ((*load, "--token-host", "127.0.0.2"), ("load", "--site", "site.yaml")):
            assert_refused(program.run(*known), 22, tokens.address)
            assert tokens.seen.pop().headers["authorization"] == f"Basic {login}"
            tokens.seen.clear()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--project", "x"),
        ("--ca", "x.pem"),
        ("--plain-http", ""),
        ("--token-host", "x"),
        ("--answer-seconds", "5"),
        ("--pause-seconds", "5"),
    ],
)
def test_a_registry_that_is_told_twice(installer: Program, tmp_path: Path, option: str, value: str) -> None:
    (tmp_path / "site.yaml").write_text("registry: {host: '127.0.0.1:1'}\n")
    done = installer.run("load", "--site", "site.yaml", option, *filter(None, [value]))
    assert_refused(done, 2, f"{option} has no meaning with --site")


def test_a_registry_that_is_read_only(installer: Program, tmp_path: Path) -> None:
    with Registry(tmp_path / "enclave", read_only=True) as registry:
        assert_refused(installer.run("load", "--registry", registry.address), 23, registry.address)
        assert stored(registry) == []


def test_answers_with_a_misspelt_key(installer: Program, tmp_path: Path, enclave: Registry) -> None:
    (tmp_path / "site.yaml").write_text(f"registry: {{host: '{enclave.address}', projekt: x}}\nnamspace: y\n")
    for command in (("load",), ("render", "--output-dir", "out")):
        done = installer.run(*command, "--site", "site.yaml")
        assert_refused(done, 40, "site.yaml", "registry.projekt", "project", "namspace", "namespace")
    assert stored(enclave) == []
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_refuses_connections(installer: Program, tmp_path: Path, enclave: Registry) -> None:
    address = closed_address()
    (tmp_path / "site.yaml").write_text(f"registry: {{host: '{enclave.address}'}}\n")
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": f"http://{address}"}}],
        "users": [{"name": "x", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    done = installer.run("install", "--site", "site.yaml", "--kubeconfig", "kubeconfig")
    assert_refused(done, 30, address)


def test_a_load_that_the_user_interrupts_continues(installer: Program, enclave: Registry) -> None:
    with SlowLink(enclave.address, 4e6) as link:
        with installer.start("load", "--registry", link.address) as running:
            link.wait_for(1_000_000, running)
            running.send_signal(signal.SIGINT)
            out, err = running.communicate()
        assert (running.returncode, out) == (130, "")
        assert "error: interrupted by SIGINT" in err
        assert "next: run the same command again: it continues" in err
        assert stored(enclave) == []
    assert installer.result("load", "--registry", enclave.address)["sent"] > 0


def test_a_command_that_does_not_exist(installer: Program, airferry: Program) -> None:
    assert_refused(installer.run("fly"), 2, "fly")
    assert_refused(airferry.run("fly"), 2, "fly", "airferry --help")
    assert_refused(airferry.run("sign"), 2, "BUNDLE")

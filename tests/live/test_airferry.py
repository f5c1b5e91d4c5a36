"""The connected side as a program: what it says, how it ends, and what it leaves behind."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from installer.bundle.limits import CHUNK
from tests.parts import images, runnable
from tests.parts.authority import Authority
from tests.parts.images import File, Image, Layer
from tests.parts.registry import Registry
from tests.parts.slow_link import SlowLink

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

USER = ("user", "correct horse")
LARGE = 24 * 1024 * 1024


@dataclass
class Program:
    """`airferry` in a folder and an environment of its own."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def command(self, *arguments: str) -> tuple[list[str], dict[str, str]]:
        """The command line and the environment of `airferry ARGUMENTS`."""
        repository = str(Path(__file__).parent.parent.parent)
        environment = {"PATH": os.defpath, "HOME": str(self.folder), "PYTHONPATH": repository, **self.environment}
        return [sys.executable, "-m", "builder", *arguments], environment

    def run(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """Run it; stdout and stderr."""
        command, environment = self.command(*arguments)
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        if code:
            assert "error: " in done.stderr
            assert "next: " in done.stderr
            assert "Traceback" not in done.stderr
            assert USER[1] not in done.stderr
        return done.stdout, done.stderr

    def recipe(self, image: str, **more: object) -> None:
        document = {"name": "demo", "version": "1.0", "images": [image], **more}
        (self.folder / "recipe.yaml").write_text(json.dumps(document))

    def log_in(self, host: str, word: str = USER[1]) -> None:
        auth = base64.b64encode(f"{USER[0]}:{word}".encode()).decode()
        folder = self.folder / ".docker"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
def program(tmp_path: Path) -> Program:
    folder = tmp_path / "work"
    folder.mkdir()
    return Program(folder)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Registry]:
    """A registry with TLS of a private authority, and a password."""
    folder = tmp_path_factory.mktemp("closed")
    certificate = authority.issue("registry", ["127.0.0.1"])
    with Registry(folder / "registry", tls=certificate, users=dict([USER])) as registry:
        layout = images.write_layout(folder / "layout", runnable.job(), tag="1.0")
        images.push(layout, f"{registry.address}/team/job:1.0", credentials=USER, ca=authority.certificate)
        yield registry


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry without either, with a large image, too."""
    folder = tmp_path_factory.mktemp("open")
    noise = [Layer({f"/noise{n}": File(os.urandom(LARGE // 2))}, compression="none") for n in range(2)]
    with Registry(folder / "registry") as registry:
        for name, image in (("job", runnable.job()), ("large", Image(tuple(noise)))):
            layout = images.write_layout(folder / name, image, tag="1.0")
            images.push(layout, f"{registry.address}/team/{name}:1.0")
        yield registry


@pytest.fixture
def bundle(program: Program, opened: Registry) -> Path:
    """An unsigned bundle, with keys `mine` and `other` beside it."""
    program.recipe(f"{opened.address}/team/job:1.0", created="2026-01-01T00:00:00Z")
    program.run("lock")
    program.run("build", "--file", "bundle.tar")
    for name in ("mine", "other"):
        program.run("keygen", name, "--no-passphrase")
    return program.folder / "bundle.tar"


def private(registry: Registry, **settings: object) -> Mapping[str, object]:
    return {"registries": {registry.address: settings}}


def test_password_and_authority(program: Program, closed: Registry, authority: Authority) -> None:
    (program.folder / "ca.pem").write_bytes(authority.certificate.read_bytes())
    program.recipe(f"{closed.address}/team/job:1.0", **private(closed, ca="ca.pem"))
    program.log_in(closed.address)
    program.run("lock")
    out, _ = program.run("build")
    assert out.startswith("demo-1.0.tar: ")
    assert USER[1] not in (program.folder / "airferry.lock").read_text()


def test_wrong_password(program: Program, closed: Registry, authority: Authority) -> None:
    (program.folder / "ca.pem").write_bytes(authority.certificate.read_bytes())
    program.recipe(f"{closed.address}/team/job:1.0", **private(closed, ca="ca.pem"))
    program.log_in(closed.address, "wrong")
    _, err = program.run("lock", code=21)
    assert closed.address in err
    assert program.files() == {"recipe.yaml", "ca.pem", ".docker"}


def test_unknown_authority(program: Program, closed: Registry) -> None:
    program.recipe(f"{closed.address}/team/job:1.0", **private(closed, plain_http=False))
    _, err = program.run("lock", code=21)
    assert "certificate" in err


def test_refused_connection(program: Program) -> None:
    program.recipe("127.0.0.1:1/team/job:1.0")
    _, err = program.run("lock", code=20)
    assert "127.0.0.1:1" in err


def test_missing_image(program: Program, opened: Registry) -> None:
    program.recipe(f"{opened.address}/team/gone:1.0")
    _, err = program.run("lock", code=22)
    assert "team/gone:1.0" in err


def test_content_that_is_gone_after_locking(program: Program, tmp_path: Path) -> None:
    layout = images.write_layout(program.folder / "layout", runnable.job(), tag="1.0")
    program.recipe("unused", images=[{"layout": "layout", "name": "demo/job:1.0", "entry": "1.0"}])
    program.run("lock")
    (smallest, *_) = sorted(layout.blobs, key=lambda digest: layout.blobs[digest])
    path = layout.path / "blobs" / "sha256" / smallest.removeprefix("sha256:")
    content = path.read_bytes()
    path.unlink()
    _, err = program.run("build", code=22)
    assert "airferry lock" in err
    path.write_bytes(b"x" * len(content))
    program.run("build", code=23)
    path.write_bytes(content)
    program.run("build")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_full_disk(program: Program, opened: Registry, small_disk: Path) -> None:
    program.recipe(f"{opened.address}/team/large:1.0")
    program.run("lock")
    out, err = program.run("plan", "--target", str(small_disk), "--output", "json")
    assert json.loads(out)["free_bytes"] <= 8 * 1024 * 1024 < json.loads(out)["file_bytes"]
    assert "too little free space" in err
    before = len(opened.accesses())
    _, err = program.run("build", "--file", str(small_disk / "bundle.tar"), code=50)
    assert "are needed" in err
    assert list(small_disk.iterdir()) == []
    # It is known before a byte is fetched.
    assert len(opened.accesses()) == before


def test_read_only_target(program: Program, opened: Registry, small_disk: Path) -> None:
    program.recipe(f"{opened.address}/team/job:1.0")
    program.run("lock")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    _, err = program.run("build", "--file", str(small_disk / "bundle.tar"), code=50)
    assert "read-only" in err


def test_unsigned_foreign_and_right_key(program: Program, bundle: Path) -> None:
    _, err = program.run("verify", bundle.name, code=11)
    assert "no key was given" in err
    program.run("verify", bundle.name, "--key", "mine.pub", code=11)
    program.run("sign", bundle.name, "--key", "other.key")
    program.run("verify", bundle.name, "--key", "mine.pub", code=11)
    out, _ = program.run("verify", bundle.name, "--key", "other.pub", "--output", "json")
    found = json.loads(out)
    assert (found["verified"], found["name"], len(found["images"])) == (True, "demo", 1)
    program.run("verify", bundle.name, "--sums", found["sums"])
    program.run("verify", bundle.name, "--sums", "0" * 64, code=11)
    program.run("verify", bundle.name, "--sums", "nonsense", code=2)


def test_inspect_without_a_key_says_so(program: Program, bundle: Path) -> None:
    out, _ = program.run("inspect", bundle.name)
    assert out.startswith("UNVERIFIED")
    program.run("sign", bundle.name, "--key", "mine.key")
    out, _ = program.run("inspect", bundle.name, "--key", "mine.pub", "--output", "json")
    assert json.loads(out)["authentic"] is True
    program.run("inspect", bundle.name, "--key", "other.pub", code=11)


def test_a_signature_made_elsewhere(program: Program, bundle: Path) -> None:
    for arguments in (
        ("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "hsm.key"),
        ("ec", "-in", "hsm.key", "-pubout", "-out", "hsm.pub"),
    ):
        subprocess.run(["openssl", *arguments], cwd=program.folder, check=True, capture_output=True)
    program.run("sign", bundle.name, "--export", "SHA256SUMS")
    subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", "hsm.key", "-out", "signature", "SHA256SUMS"],
        cwd=program.folder,
        check=True,
    )
    program.run("sign", bundle.name, "--attach", "signature", "--public-key", "hsm.pub")
    program.run("verify", bundle.name, "--key", "hsm.pub")


def test_sidecar(program: Program, bundle: Path) -> None:
    program.run("sign", bundle.name, "--key", "mine.key", "--sidecar")
    subprocess.run(["sha256sum", "--check", "--strict", f"{bundle.name}.sha256"], cwd=program.folder, check=True)


def test_a_key_is_encrypted_and_never_overwritten(program: Program, bundle: Path) -> None:
    (program.folder / "word").write_text("correct horse\n")
    (program.folder / "wrong").write_text("battery staple\n")
    program.run("keygen", "safe", "--passphrase-file", "word")
    assert "ENCRYPTED" in (program.folder / "safe.key").read_text()
    assert (program.folder / "safe.key").stat().st_mode & 0o777 == 0o600
    program.run("keygen", "safe", "--passphrase-file", "word", code=2)
    (program.folder / "long").write_text("x" * 2000)
    program.run("keygen", "other-safe", "--passphrase-file", "long", code=2)
    program.run("sign", bundle.name, "--key", "safe.key", "--passphrase-file", "wrong", code=2)
    program.run("sign", bundle.name, "--key", "safe.key", "--passphrase-file", "word")
    program.run("verify", bundle.name, "--key", "safe.pub")


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ({"created": "2020-01-01T00:00:00Z", "expires": "2021-01-01T00:00:00Z"}, "expired on 2021-01-01"),
        ({"created": "2999-01-01T00:00:00Z"}, "this machine's clock"),
    ],
)
def test_expired_and_from_the_future(program: Program, opened: Registry, times: Mapping[str, str], words: str) -> None:
    program.recipe(f"{opened.address}/team/job:1.0", **times)
    program.run("lock")
    program.run("build")
    program.run("keygen", "mine", "--no-passphrase")
    program.run("sign", "demo-1.0.tar", "--key", "mine.key")
    _, err = program.run("verify", "demo-1.0.tar", "--key", "mine.pub", code=13)
    assert words in err


def test_damaged_and_cut(program: Program, bundle: Path) -> None:
    program.run("sign", bundle.name, "--key", "mine.key")
    raw = bytearray(bundle.read_bytes())
    raw[len(raw) // 2] ^= 1
    bundle.write_bytes(raw)
    program.run("verify", bundle.name, "--key", "mine.pub", code=10)
    raw[len(raw) // 2] ^= 1
    bundle.write_bytes(raw[: len(raw) // 2])
    program.run("verify", bundle.name, "--key", "mine.pub", code=10)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["lock", "--nonsense"],
        ["build", "--threads", "0"],
        ["sign", "x"],
        ["sign", "x", "--key", "a", "--export", "b"],
        ["lock", "--update", "--update-image", "x"],
        ["freeze", "x"],
        ["keygen", ".", "--no-passphrase"],
    ],
)
def test_wrong_calls(program: Program, arguments: list[str]) -> None:
    program.run(*arguments, code=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["sign", "bundle.tar", "--export", "bundle.tar"],
        ["patch", "bundle.tar", "--request", "request.json", "--file", "bundle.tar"],
        ["freeze", "bundle.tar", "--key", "mine.pub", "--file", "bundle.tar"],
        ["freeze", "bundle.tar", "--key", "mine.pub", "--beside", "--file", "bundle.tar"],
        ["sheet", "bundle.tar", "--key", "mine.pub", "--file", "bundle.tar"],
    ],
)
def test_no_input_is_replaced(program: Program, bundle: Path, arguments: list[str]) -> None:
    before = bundle.read_bytes()
    request = {"extents": [[0, 0, 1]], "format": "airferry-request/1", "sums": "0" * 16, "volumes": []}
    (program.folder / "request.json").write_text(json.dumps(request, separators=(",", ":")) + "\n")
    _, err = program.run(*arguments, code=2)
    assert "is both an input and the output" in err
    assert bundle.read_bytes() == before


@pytest.mark.parametrize("place", ["stick", ".", ".."])
def test_a_bundle_into_a_folder(program: Program, opened: Registry, place: str) -> None:
    (program.folder / "stick").mkdir()
    program.recipe(f"{opened.address}/team/job:1.0")
    program.run("lock")
    program.run("build", "-o", place)
    assert [path.name for path in (program.folder / place).glob("*.tar*")] == ["demo-1.0.tar"]


@pytest.mark.parametrize("command", ["lock", "list", "plan", "build"])
def test_missing_files(program: Program, command: str) -> None:
    _, err = program.run(command, code=41)
    assert "recipe.yaml" in err or "airferry.lock" in err


def test_a_lock_that_was_edited(program: Program, bundle: Path) -> None:
    path = program.folder / "airferry.lock"
    # All of them: which stands first depends on digests, and not every command needs each.
    path.write_text(path.read_text().replace('"size": ', '"size": 1'))
    for command in ("plan", "build", "list"):
        program.run(command, code=41)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_continues(program: Program, opened: Registry, number: signal.Signals) -> None:
    with SlowLink(opened.address, 1.6e7) as link:
        mirror = {"mirror": f"http://{link.address}"}
        program.recipe(f"{opened.address}/team/large:1.0", registries={opened.address: mirror})
        program.run("lock")
        command, environment = program.command("build")
        with subprocess.Popen(
            command, cwd=program.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            link.wait_for(LARGE // 2, process)
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (130, "")
        assert f"error: interrupted by {number.name}\nnext: run the same command again" in err
        assert "demo-1.0.tar" not in program.files()
        # Only the chunks in flight are waited for, and only those are fetched again: one of each download.
        assert link.down < LARGE
        program.run("build")
        assert link.down < LARGE + 3 * CHUNK
    assert {name for name in program.files() if "tar" in name} == {"demo-1.0.tar"}


def test_every_command_shows_an_example(program: Program) -> None:
    out, _ = program.run("--help")
    listed = out.partition("Commands:\n")[2].partition("\n\n")[0]
    commands = [line.split()[0] for line in listed.splitlines()]
    assert sorted(commands) == [
        "build", "completion", "explain", "freeze", "init", "inspect", "keygen", "list", "lock", "media",
        "observe", "parity", "patch", "plan", "rehearse", "sheet", "sign", "verify", "version",
    ]  # fmt: skip
    for command in commands:
        out, _ = program.run(command, "--help")
        assert f"airferry {command}" in out.partition("Options:")[0].partition("\n")[2]


def test_init_writes_a_recipe_that_can_be_read(program: Program) -> None:
    out, _ = program.run("init", "--profile", "wandb", "new", "--output", "json")
    written = json.loads(out)["written"]
    assert "new/recipe.yaml" in written
    (program.folder / "new" / "site.yaml").write_text("mine")
    out, _ = program.run("init", "--profile", "wandb", "new", "--output", "json")
    assert (json.loads(out)["written"], sorted(json.loads(out)["kept"])) == ([], sorted(written))
    assert (program.folder / "new" / "site.yaml").read_text() == "mine"

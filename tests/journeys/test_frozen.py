"""The frozen file as its users meet it: in an empty root, on hostile hosts, killed, and looked into."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PyInstaller.archive.readers import CArchiveReader

from builder.release import static_wrapper
from builder.release.program import build_program
from installer import __version__
from installer.chart.helm import documents
from installer.errors import ClusterError
from installer.frozen import compressed_libs, program
from installer.report import Silent
from tests.parts.demo_site import platform
from tests.parts.frozen import CACHE, empty_root, enclave_program, freeze_volume, frozen_bundle
from tests.parts.process import Process, wait_until
from tests.parts.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

pytestmark = pytest.mark.frozen


@dataclass(frozen=True)
class Frozen:
    """The frozen file and the volume in it."""

    path: Path
    volume: Path


@pytest.fixture(scope="session")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Frozen:
    folder = tmp_path_factory.mktemp("frozen")
    return Frozen(folder / "installer.run", frozen_bundle(folder, folder / "installer.run"))


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """A temporary folder for one program, so that what it leaves can be seen."""
    folder = tmp_path / "temporary"
    folder.mkdir(mode=0o700)
    return folder


def run(
    path: Path | str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, str(path), *arguments], env=dict(env or {}), capture_output=True, text=True, timeout=300, cwd=cwd
    )


def result(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- where it runs ---


def test_it_runs_in_an_empty_root_with_nothing_but_loopback(frozen: Frozen, tmp_path: Path) -> None:
    root = tmp_path / "root"
    with empty_root(root) as enter, Registry(tmp_path / "registry", prefix=enter) as registry:
        shutil.copy(frozen.path, root / "installer")
        inside = [*enter, "/usr/sbin/chroot", str(root)]
        assert __version__ in result(run(Path("/installer"), "--version", prefix=inside))
        document = json.loads(result(run(Path("/installer"), "inspect", "--output", "json", prefix=inside)))
        assert document["name"] == "reference"
        assert "genuine and whole" in result(run(Path("/installer"), "verify", prefix=inside))
        to = ["--registry", registry.address, "--plain-http", "--project", "carried"]
        result(run(Path("/installer"), "load", *to, prefix=inside))
        tags = f"http://{registry.address}/v2/carried/docker.io/library/page/tags/list"
        assert json.loads(result(run(Path("curl"), "-fsS", tags, prefix=enter)))["tags"] == ["1.0"]
        with served(Path("/installer"), prefix=inside) as (address, _):
            found = result(run(Path("curl"), "-fsS", f"http://{address}/charts/index.yaml", prefix=enter))
            assert "greeter" in found
        assert sorted(path.name for path in root.iterdir()) == ["dev", "installer", "proc", "tmp"]
        assert not list((root / "tmp").iterdir())


@contextlib.contextmanager
def served(
    path: Path, *, prefix: Sequence[str] = (), env: Mapping[str, str] | None = None, started: bool = True
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The frozen file while it serves its bundle: its address and the process that was started."""
    command = [*prefix, str(path), "serve", "--listen", "127.0.0.1:0", "--output", "json"]
    with subprocess.Popen(
        command, env=dict(env or {}), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            text = ""
            while started and not text.rstrip().endswith("}"):
                line = process.stdout.readline()
                assert line, process.stderr and process.stderr.read()
                text += line
            yield (json.loads(text)["registry"] if started else ""), process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)


def test_a_driver_that_is_imported_by_its_name_is_in_it(tmp_path: Path) -> None:
    """Its data and its operating half: the answers of site.yaml, and the source of the controller's chart."""
    volume = platform(tmp_path / "bundle").write()
    freeze_volume(volume, tmp_path / "installer", "demo-1.0")
    schema = json.loads(result(run(tmp_path / "installer", "schema")))
    assert {"registry", "bucket", "chart_source"} <= schema["properties"].keys()
    (tmp_path / "site.yaml").write_text("registry: {host: 'registry.enclave:5000'}\nlicense: {prompt: License}\n")
    to = ["--site", str(tmp_path / "site.yaml"), "--output-dir", str(tmp_path / "out")]
    result(run(tmp_path / "installer", "render", *to))
    (resource,) = documents((tmp_path / "out/3-wandb/objects.yaml").read_text(), "objects.yaml", ClusterError)
    assert resource["kind"] == "WeightsAndBiases"
    (chart,) = documents((tmp_path / "out/1-beforehand/objects.yaml").read_text(), "objects.yaml", ClusterError)
    assert resource["spec"]["chart"] == {"path": f"/charts/{next(iter(chart['binaryData']))}"}


def test_it_serves_until_it_is_asked_to_end(frozen: Frozen, temporary: Path) -> None:
    with served(frozen.path, env={"TMPDIR": str(temporary)}) as (_, process):
        assert len(list(temporary.iterdir())) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert not list(temporary.iterdir())


def test_one_ctrl_c_is_one_interruption(frozen: Frozen, temporary: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a cluster that takes a connection and never answers
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{silent.getsockname()[1]}"}}
        context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
        user = {"name": "u", "user": {"token": "none"}}
        config = {"clusters": [cluster], "contexts": [context], "users": [user], "current-context": "x"}
        (tmp_path / "kubeconfig").write_text(json.dumps(config))
        command = [str(frozen.path), "status", "--kubeconfig", str(tmp_path / "kubeconfig")]
        env = {"TMPDIR": str(temporary)}
        with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
            connection, _ = silent.accept()
            os.killpg(process.pid, signal.SIGINT)  # what a terminal does; the parent passes its own on to the child
            _, errors = process.communicate(timeout=60)
            connection.close()
    assert process.returncode == 130
    assert "interrupted by SIGINT" in errors
    assert not list(temporary.iterdir())


def test_it_finds_itself_under_any_name_and_from_any_folder(frozen: Frozen, tmp_path: Path) -> None:
    odd = tmp_path / "a name with ' and \n and ü"
    shutil.copy(frozen.path, odd)
    (tmp_path / "link").symlink_to(odd.name)
    for path in (odd, tmp_path / "link"):
        assert '"reference"' in result(run(path, "inspect", "--output", "json", cwd=Path("/")))
    assert '"reference"' in result(run("./link", "inspect", "--output", "json", cwd=tmp_path))


# --- hostile hosts ---


def test_libraries_and_settings_of_the_caller_are_not_used(frozen: Frozen, tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    evil.mkdir()
    for name in ("libssl.so.3", "libcrypto.so.3", "libpython3.11.so.1.0", "libz.so.1", "libc.so.6", "libm.so.6"):
        (evil / name).write_bytes(b"not a library")
    (evil / "openssl.cnf").write_text("openssl_conf = none\n")
    (evil / "sitecustomize.py").write_text("raise SystemExit('planted')\n")
    (evil / "click.py").write_text("raise SystemExit('planted')\n")
    hostile = {
        "LD_LIBRARY_PATH": str(evil),
        "OPENSSL_CONF": str(evil / "openssl.cnf"),
        "SSL_CERT_FILE": str(evil / "openssl.cnf"),
        "SSLKEYLOGFILE": str(evil / "keys.log"),
        "HELM_C_LIB": str(evil / "libz.so.1"),
        "PYTHONPATH": str(evil),
        "PYTHONHOME": str(evil),
        "STATICX_PROG_PATH": "/bin/sh",
        "STATICX_BUNDLE_DIR": str(evil),
        "_PYI_ARCHIVE_FILE": "/bin/sh",
        "_PYI_APPLICATION_HOME_DIR": str(evil),
    }
    done = run(frozen.path, "verify", env=hostile, cwd=evil)
    assert "genuine and whole" in result(done)
    assert not (evil / "keys.log").exists()


@pytest.mark.parametrize(
    "env",
    [
        {"LANG": "C", "TERM": "dumb"},
        {"LC_ALL": "tr_TR.UTF-8", "HOME": "/nonexistent"},
        {"PYTHONOPTIMIZE": "2", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"},
        {"TZ": "Pacific/Kiritimati", "PATH": ""},
    ],
)
def test_every_environment_gives_the_same_verdict(frozen: Frozen, env: dict[str, str]) -> None:
    assert result(run(frozen.path, "verify", env=env)) == result(run(frozen.path, "verify"))


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_no_verdict(frozen: Frozen, closed: str) -> None:
    done = run("/bin/sh", "-c", f'"{frozen.path}" verify {closed}')
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_what_lies_beside_the_file_is_neither_code_nor_configuration(frozen: Frozen, tmp_path: Path) -> None:
    shutil.copy(frozen.path, tmp_path / "installer")
    for name in ("base_library.zip", "_internal", "sitecustomize.py", "click.py", "packed.json", "installer?59392"):
        (tmp_path / name).write_text("raise SystemExit('planted')\n")
    assert "genuine and whole" in result(run(tmp_path / "installer", "verify", cwd=tmp_path))


def test_a_temporary_folder_that_forbids_programs_is_named(frozen: Frozen, temporary: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    with empty_root(root) as enter:
        subprocess.run([*enter, "mount", "-t", "tmpfs", "-o", "noexec", "none", str(temporary)], check=True)
        done = run(frozen.path, "--version", prefix=enter, env={"TMPDIR": str(temporary)})
        assert (done.returncode, done.stdout) == (3, "")
        assert "Set TMPDIR" in done.stderr
        assert str(temporary) in done.stderr


def test_a_full_temporary_folder_is_an_error_that_says_what_to_set(
    frozen: Frozen, temporary: Path, tmp_path: Path
) -> None:
    with empty_root(tmp_path / "root") as enter:
        for size, code in (("10m", 2), ("56m", 50)):  # full when unpacking, full when a packed library is needed
            subprocess.run([*enter, "mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(temporary)], check=True)
            done = run(frozen.path, "verify", prefix=enter, env={"TMPDIR": str(temporary)})
            assert (done.returncode, done.stdout) == (code, ""), done.stderr
            assert "TMPDIR" in done.stderr
            assert "Traceback" not in done.stderr


def test_a_temporary_folder_open_to_others_is_refused(frozen: Frozen, temporary: Path) -> None:
    temporary.chmod(0o777)
    done = run(frozen.path, "--version", env={"TMPDIR": str(temporary)})
    assert (done.returncode, done.stdout) == (50, "")
    assert "next: set TMPDIR" in done.stderr


# --- killed ---


def children(pid: int) -> list[Process]:
    """The processes whose parent is `pid`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                child = Process.of(int(entry.name))
                found += [child] if child else []
    return found


def all_gone(processes: Sequence[Process]) -> bool:
    """Whether all of them end within ten seconds."""
    return wait_until(lambda: not any(each.alive() for each in processes), 10)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGQUIT])
def test_no_process_outlives_the_one_that_was_started(frozen: Frozen, temporary: Path, number: signal.Signals) -> None:
    env = {"TMPDIR": str(temporary)}
    with served(frozen.path, env=env) as (_, process):
        inside = children(process.pid)
        assert len(inside) == 1
        process.send_signal(number)
        assert process.wait(30) == -number
        assert all_gone(inside)
    (left,) = temporary.iterdir()
    result(run(frozen.path, "--version", env=env))
    assert not left.exists()
    assert not list(temporary.iterdir())


def test_killed_at_any_moment_of_its_start_nothing_stays_alive(frozen: Frozen, temporary: Path) -> None:
    for step in range(12):
        with served(frozen.path, env={"TMPDIR": str(temporary)}, started=False) as (_, process):
            time.sleep(0.03 * step)
            inside = children(process.pid)
            process.kill()
            process.wait(30)
            assert all_gone(inside), step
    for folder in temporary.iterdir():
        old = time.time() - 7200
        os.utime(folder, (old, old))
    result(run(frozen.path, "--version", env={"TMPDIR": str(temporary)}))
    assert not list(temporary.iterdir())


def test_a_running_program_keeps_its_folder(frozen: Frozen, temporary: Path) -> None:
    env = {"TMPDIR": str(temporary)}
    with served(frozen.path, env=env) as (address, process):
        (folder,) = temporary.iterdir()
        os.utime(folder, (0, 0))
        result(run(frozen.path, "--version", env=env))
        assert folder.is_dir()
        assert process.poll() is None
        result(run(Path("/usr/bin/curl"), "-fsS", f"http://{address}/v2/"))


# --- what is in it ---


@pytest.fixture(scope="session")
def members(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the program unpacks at each start."""
    folder = tmp_path_factory.mktemp("members")
    archive = folder / "archive.tar"
    dump = f".staticx.archive={archive}"
    subprocess.run(["objcopy", "--dump-section", dump, str(enclave_program()), "/dev/null"], check=True)
    with tarfile.open(archive) as files:
        files.extractall(folder / "files")
    return folder / "files"


def modules(members: Path) -> set[str]:
    """The Python modules in the program."""
    reader = CArchiveReader(str(members / "airferry-enclave"))
    (name,) = (name for name, entry in reader.toc.items() if entry[4] == "z")
    return set(reader.open_embedded_archive(name).toc)


def test_only_the_enclave_side_is_in_the_program(members: Path) -> None:
    found = modules(members)
    wanted = {
        "installer.cli.main",
        "installer.frozen.program",
        "installer.bundle.reader",
        "installer.transfer.load",
        "installer.cluster.api_server",
        "segno",
    }
    assert wanted <= found
    foreign = {
        "builder",
        "docker",
        "requests",
        "pytest",
        "setuptools",
        "pip",
        "tkinter",
        "PyInstaller",
        "staticx",
        "tests",
    }
    assert not {name for name in found if name.split(".")[0] in foreign}
    assert not {"installer.bundle.writer", "installer.bundle.part_files"} & found
    entry = CArchiveReader(str(members / "airferry-enclave")).toc
    assert "__main__" in entry


def test_large_libraries_are_in_it_once(members: Path) -> None:
    helm = [path.name for path in members.rglob("*libhelm*")]
    assert helm == [f"{static_wrapper.helm_library().name}.xz"]
    assert [path.name for path in members.rglob("par2*") if path.is_file()] == ["par2.xz"]
    assert "GNU GENERAL PUBLIC LICENSE" in next(members.rglob("par2/LICENSE")).read_text()
    names = [path.name for path in members.rglob("*") if path.is_file() and not path.is_symlink()]
    large = {path.name for path in members.rglob("*") if path.stat().st_size > 200_000 and not path.is_symlink()}
    assert not [name for name in large if names.count(name) > 1]


def test_no_library_searches_folders_of_the_machine_it_was_built_on(members: Path) -> None:
    for path in members.rglob("*.so*"):
        if path.is_file() and not path.is_symlink() and path.suffix not in (".xz", ".zlib"):
            shown = subprocess.run(["readelf", "-d", str(path)], capture_output=True, text=True, check=True).stdout
            for line in shown.splitlines():
                assert "RUNPATH" not in line or "[$ORIGIN" in line, (path, line)
                assert "RPATH" not in line or "[$ORIGIN" in line, (path, line)


def test_its_size_is_as_promised() -> None:
    assert enclave_program().stat().st_size <= 60_000_000


def test_names_that_both_sides_use_are_the_same() -> None:
    assert (static_wrapper.RUN_MARK, static_wrapper.PACKED) == (program.RUN_MARK, compressed_libs.LIST)


# --- built once ---


def test_a_program_is_built_once(frozen: Frozen) -> None:
    path = build_program(CACHE, Silent())
    before = path.stat().st_ino
    assert build_program(CACHE, Silent()) == path
    assert path.stat().st_ino == before
    assert frozen.path.read_bytes().startswith(enclave_program().read_bytes())


def test_freezing_twice_gives_the_same_file(frozen: Frozen, tmp_path: Path) -> None:
    frozen_bundle(tmp_path, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == frozen.path.read_bytes()
    assert frozen.volume.read_bytes() == frozen.path.read_bytes()[-frozen.volume.stat().st_size :]

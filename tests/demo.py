"""`make demo`: the whole way on this machine, with the commands that a user types, between two real registries.

Everything happens on loopback and in one temporary folder, which is removed at the end (`--keep FOLDER` uses a folder
that stays). With KUBECONFIG set the application is also installed into that cluster; its nodes must be able to pull
from the registry `AIRFERRY_DEMO_REGISTRY` (`HOST:PORT`, or `http://HOST:PORT`), or from the demo's own on loopback.
"""

import argparse
import contextlib
import hashlib
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.packages import provide

if TYPE_CHECKING:
    from tests.parts.images import Layout
    from tests.parts.registry import Registry

PAYLOAD = 64 * 1024 * 1024
"""Bytes of a layer that cannot be compressed, so that figures per second mean something."""
LINE = 100

RECIPE = """\
name: demo
version: "1.0"
charts:
  - name: demo-app
    version: 1.0.0
    repository: {charts}
    values: {{greeting: hello from the enclave}}
  - name: demo-platform
    version: 1.0.0
    path: demo-platform-1.0.0.tgz
images:
  - docker.io/demo/data:1.0         # no chart mentions this one
registries:
  docker.io: {{mirror: "{upstream}"}}   # images keep their true names, wherever they are fetched
"""
SITE = """\
registry: {{host: "{registry}", plain_http: {plain}}}
namespace: {namespace}
"""


class DemoError(Exception):
    """A step of the demo failed."""


@dataclass
class Console:
    """Shows commands as a user types them, runs them, and keeps the time."""

    folder: Path
    environment: Mapping[str, str]
    seconds: dict[str, float] = field(default_factory=dict)
    _steps: int = 0

    def part(self, title: str) -> None:
        """A headline for what follows on another machine."""
        self._print(f"\n{'=' * LINE}\n{title}\n{'=' * LINE}", "1;36")

    def step(self, text: str) -> None:
        """Announce the next step."""
        self._steps += 1
        self._print(f"\n{self._steps}. {text}", "1")

    def run(self, command: str, *, key: str = "") -> None:
        """Show and run `command` in a shell. Raises DemoError if it fails. Its seconds are kept under `key`."""
        self._print(f"$ {command}", "32")
        start = time.monotonic()
        done = subprocess.run(
            ["/bin/bash", "-c", command], cwd=self.folder, env=self.environment, stderr=subprocess.STDOUT, check=False
        )
        if key:
            self.seconds[key] = time.monotonic() - start
        if done.returncode != 0:
            raise DemoError(f"exit code {done.returncode}: {command}")

    @contextlib.contextmanager
    def background(self, command: str) -> Iterator[str]:
        """Show and start `command &`; gives its first line, and ends it afterwards."""
        self._print(f"$ {command} &", "32")
        with subprocess.Popen(
            shlex.split(command),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as child:
            try:
                line = child.stdout.readline().strip() if child.stdout else ""
                print(line, flush=True)
                if not line:
                    raise DemoError(f"it said nothing: {command}")
                yield line
            finally:
                child.terminate()

    def _print(self, text: str, colour: str) -> None:
        print(f"\033[{colour}m{text}\033[0m" if sys.stdout.isatty() else text, flush=True)


def fill(registry: "Registry", charts: Path, recipe_folder: Path, payload: int = PAYLOAD) -> "dict[str, Layout]":
    """Push the application's images with skopeo, and publish its charts: one on a web server, one as a file.

    What was pushed, by name; the layouts' folders are gone. `payload` is the size of the largest layer.
    """
    from tests.parts import images, runnable
    from tests.parts.charts import package

    model = random.Random("demo").randbytes(payload)
    data = images.Layer({"/data/model.bin": images.File(model)}, compression="none")
    content: dict[str, images.Image | list[images.Image]] = {
        "docker.io/demo/httpd:1.0": runnable.two_platforms(runnable.httpd()),
        "docker.io/demo/tools:1.0": runnable.job(),
        "docker.io/demo/worker:1.0": runnable.pause(),
        "docker.io/demo/cache:1.0": runnable.pause(),
        "docker.io/demo/renew:1.0": runnable.job(),
        "docker.io/demo/data:1.0": images.Image((runnable.busybox(), data)),
    }
    layouts: dict[str, images.Layout] = {}
    for number, (name, image) in enumerate(content.items()):
        layouts[name] = layout = images.write_layout(charts.parent / f"image-{number}", image)
        images.push(layout, name.replace("docker.io", registry.address))
        shutil.rmtree(layout.path)
        platforms = "linux/amd64 and linux/arm64" if isinstance(image, list) else "linux/amd64"
        print(f"  pushed {name} ({platforms})", flush=True)
    archive = package("demo-app")
    entry = (
        f"{{name: demo-app, version: 1.0.0, urls: [demo-app-1.0.0.tgz], digest: {hashlib.sha256(archive).hexdigest()}}}"
    )
    (charts / "demo-app-1.0.0.tgz").write_bytes(archive)
    (charts / "index.yaml").write_text(f"apiVersion: v1\nentries:\n  demo-app:\n    - {entry}\n")
    # Without its `helm test`, whose image nobody carries.
    platform = package("demo-platform", files={"templates/test.yaml": ""})
    (recipe_folder / "demo-platform-1.0.0.tgz").write_bytes(platform)
    return layouts


def connected(console: Console, charts: str, upstream: "Registry") -> None:
    """What a release engineer does."""
    console.part("On the connected side: a release engineer makes one file")
    console.step("Start. `init` writes commented templates for the real platform; the demo has a recipe of its own.")
    console.run("airferry init --profile wandb templates")
    (console.folder / "recipe.yaml").write_text(RECIPE.format(charts=charts, upstream=upstream.url))
    console.run("cat recipe.yaml")
    console.step("Resolve every name: charts are rendered as the cluster will, and their images found and pinned.")
    console.run("airferry lock", key="lock")
    console.step("What is needed, and who asks for it?")
    console.run("airferry list")
    console.step("How large will it be, to the byte, before anything is fetched?")
    console.run("airferry plan")
    console.step("Fetch it all into one file.")
    console.run("airferry build", key="build")
    console.step("Make a release key and sign. A signature changes no offset: this takes the same time for 30 GB.")
    (console.folder / "passphrase").touch(mode=0o600)
    (console.folder / "passphrase").write_text("correct horse battery staple\n")
    console.run("airferry keygen release --passphrase-file passphrase")
    console.run("airferry sign demo-1.0.tar --key release.key --passphrase-file passphrase", key="sign")
    console.step("Check it as the other side will; strangers' tools come to the same verdict.")
    console.run("airferry verify demo-1.0.tar --key release.pub", key="verify")
    console.run("tar xf demo-1.0.tar SHA256SUMS SHA256SUMS.sig")
    console.run("openssl dgst -sha256 -verify release.pub -signature SHA256SUMS.sig SHA256SUMS")
    console.step("One self-contained executable: installer, bundle, and the only key that it trusts.")
    console.run("airferry freeze demo-1.0.tar --key release.pub -o demo-installer", key="freeze")


def enclave(console: Console, upstream: "Registry", registry: str) -> None:
    """What on-site staff do."""
    console.part("In the enclave: that one file, a registry, and nothing else")
    console.run("ls -sh")
    console.run("./demo-installer --version", key="start")
    console.step("What is this, is it genuine, is it whole?")
    console.run("./demo-installer inspect")
    console.run("./demo-installer verify", key="check")
    console.step("Say where we are, and load the images into the registry of the enclave.")
    console.run("cat site.yaml")
    console.run("./demo-installer load --site site.yaml", key="load")
    console.step("Again: whatever is there is not sent a second time.")
    console.run("./demo-installer load --site site.yaml", key="again")
    console.step("The digests are those of upstream; a tool that is not ours asks both registries.")
    inspect = "skopeo inspect --tls-verify=false --format '{{.Digest}}' docker://"
    console.run(f"{inspect}{upstream.address}/demo/worker:1.0")
    console.run(f"{inspect}{registry}/airferry/docker.io/demo/worker:1.0")
    console.step("No registry at hand? The file is one itself, read-only, and a chart repository too.")
    with console.background("./demo-installer serve --listen 127.0.0.1:0") as line:
        address = line.split()[1].rstrip(",")
        image = f"docker://{address}/docker.io/demo/httpd:1.0"
        console.run(f"skopeo copy --src-tls-verify=false {image} oci:pulled:httpd")
        console.run(f"curl -sS http://{address}/charts/demo-app-1.0.0.tgz | tar tz")
    console.step("What would be applied to the cluster, as files; every image now comes from inside the enclave.")
    console.run("./demo-installer render --site site.yaml --output-dir manifests")
    console.run("grep -rhoE 'image: .*' manifests | sort | uniq -c")


def cluster(console: Console) -> None:
    """The last steps, for those who have a cluster at hand."""
    console.part(f"Into the cluster of KUBECONFIG={console.environment['KUBECONFIG']}")
    console.step("Install. It converges: run it again after whatever happened.")
    console.run("./demo-installer install --site site.yaml", key="install")
    console.step("Does it really run?")
    console.run("./demo-installer status")
    console.step("Remove it again; `kubectl delete namespace airferry-demo` takes the rest.")
    console.run("./demo-installer uninstall --yes")


def summarize(console: Console, bundle: int, installer: int, stored: int) -> None:
    """What was moved, how fast, and what to type for the real thing."""
    took = console.seconds

    def rate(key: str, count: int) -> str:
        return f"{took[key]:5.1f} s  {count / 1e6 / took[key]:6.0f} MB/s"

    console.part("Done")
    print(
        f"moved   : {bundle / 1e6:.1f} MB in one bundle, {installer / 1e6:.1f} MB with the installer\n"
        f"lock    : {took['lock']:5.1f} s\n"
        f"build   : {rate('build', bundle)}   upstream registry -> bundle, read back\n"
        f"verify  : {rate('verify', bundle)}   every byte\n"
        f"freeze  : {took['freeze']:5.1f} s             (building the program, which is done once, takes a minute)\n"
        f"load    : {rate('load', stored)}   bundle -> enclave registry ({stored / 1e6:.1f} MB), confirmed there\n"
        f"again   : {took['again']:5.1f} s             nothing to send\n"
        f"\nTimes are those of whole commands; the frozen file alone takes {took['start']:.1f} s to start.\n"
        "\nFor the real platform, after `airferry init --profile wandb wandb` and a look at its recipe, three lines:\n"
        "  airferry lock && airferry build\n"
        "  airferry sign wandb-VERSION.tar --key release.key && "
        "airferry freeze wandb-VERSION.tar --key release.pub -o wandb-installer\n"
        "  ./wandb-installer install --site site.yaml        # inside the enclave"
    )


def _environment(folder: Path) -> dict[str, str]:
    """The user's environment with `airferry` on the path, without credentials, without a proxy for loopback, and
    without what earlier loads have left there."""
    home = folder / "docker"
    home.mkdir()
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    own = {"PATH": path, "DOCKER_CONFIG": str(home), "XDG_STATE_HOME": str(folder / "state")}
    return {**os.environ, **own, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}


def _stored(storage: Path) -> int:
    return sum(path.stat().st_size for path in storage.rglob("data") if path.is_file())


def demo(folder: Path) -> None:
    """Run the demo in `folder`. Raises DemoError."""
    from tests.parts.registry import Registry
    from tests.parts.static_files import StaticFiles

    release, site, charts = (folder / name for name in ("release", "enclave", "charts"))
    release.mkdir()
    site.mkdir()
    environment = _environment(folder)
    outside = Console(release, environment)
    outside.part("Two registries start: one is the internet, one is the enclave's")
    with Registry(folder / "upstream") as upstream, Registry(folder / "site") as own, StaticFiles(charts) as web:
        print(f"  upstream registry {upstream.address}, chart repository {web.url}, enclave registry {own.address}")
        fill(upstream, charts, release)
        connected(outside, web.url, upstream)
        # From here on nothing of the connected side is used, not even its Python.
        plain = {name: value for name, value in environment.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        inside = Console(site, {**plain, "PATH": os.environ.get("PATH", os.defpath)}, outside.seconds)
        shutil.copy2(release / "demo-installer", site)
        answers = SITE.format(registry=own.address, plain="true", namespace="airferry-demo")
        (site / "site.yaml").write_text(answers)
        enclave(inside, upstream, own.address)
        if environment.get("KUBECONFIG"):
            named = environment.get("AIRFERRY_DEMO_REGISTRY", own.address)
            host = named.removeprefix("http://")
            print(f"\nThe nodes of the cluster have to pull from {host} (AIRFERRY_DEMO_REGISTRY names another).")
            open_http = "true" if host != named or named == own.address else "false"
            (site / "site.yaml").write_text(SITE.format(registry=host, plain=open_http, namespace="airferry-demo"))
            cluster(inside)
        bundle, installer = (path.stat().st_size for path in (release / "demo-1.0.tar", site / "demo-installer"))
        summarize(outside, bundle, installer, _stored(own.storage))


def _end(number: int, _frame: object) -> None:
    raise DemoError(f"ended by {signal.Signals(number).name}")


def main() -> int:
    """The exit code: 0, 1 if a step failed, 2 if packages are missing, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="make demo", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--keep", type=Path, help="work in this new folder and leave it there")
    keep: Path | None = parser.parse_args().keep
    if code := provide(["demo"]):
        return code
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    with contextlib.ExitStack() as stack:
        if keep is not None:
            keep.mkdir(parents=True)
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="airferry-demo-")))
        try:
            demo(folder.resolve())
        except DemoError as exc:
            print(f"\nthe demo failed: {exc}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\ninterrupted; registries ended, files removed", file=sys.stderr)
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

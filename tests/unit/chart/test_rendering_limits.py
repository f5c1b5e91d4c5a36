"""A chart cannot keep Helm busy for ever, take all memory, leave anything behind, or reach beyond itself."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from installer.chart import rendering_process
from installer.chart.archive import packed
from installer.chart.helm import Chart, documents, parse_values
from installer.chart.schema_references import leaving_references
from installer.errors import BundleError, ContentError, SiteError
from tests.parts.charts import package
from tests.parts.process import Process, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
ENDLESS = {"templates/loop.yaml": "{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}"}
RECIPE = 'name: demo\nversion: "1"\ncharts: [{name: demo-app, path: demo-app-1.0.0.tgz}]\n'
SECRET = "hunter2-of-the-values"


def doublings(count: int) -> str:
    """A schema whose every part has the part before in it twice."""
    parts: dict[str, Any] = {"part0": {"type": "string"}}
    for number in range(count):
        parts[f"part{number + 1}"] = {"anyOf": 2 * [{"$ref": f"#/$defs/part{number}"}]}
    return json.dumps({"$defs": parts, "properties": {"greeting": {"$ref": f"#/$defs/part{count}"}}})


def loaded(files: dict[str, str]) -> Chart:
    return Chart.load(package("demo-app", files=files), source="chart x", error=BundleError, values_error=SiteError)


def refused(files: dict[str, str], values: dict[str, Any] | None = None) -> str:
    with pytest.raises(SiteError) as caught:
        loaded(files).render(values or {}, release="r", namespace="n")
    assert caught.value.hint
    return caught.value.message


def children(pid: int) -> list[Process]:
    """The processes that a process has started and that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            text = path.read_text()
            if int(text[text.rindex(")") + 2 :].split()[1]) == pid and (process := Process.of(int(path.parent.name))):
                found.append(process)
    return found


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What this test renders is rendered by a process that it starts."""
    places = rendering_process.unstarted(1)
    monkeypatch.setattr(rendering_process, "processes", places)
    yield
    if process := places.get():
        process.end()


@pytest.mark.parametrize(
    ("files", "values"),
    [(ENDLESS, {}), ({"values.schema.json": doublings(24)}, {"greeting": 1})],
    ids=["loops", "schema"],
)
def test_rendering_without_an_end_is_ended(
    files: dict[str, str], values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering_process, "SECONDS", 2)
    assert refused(files, values) == "chart x: demo-app 1.0.0 takes longer than 2 seconds"
    assert loaded({}).render({}, release="r", namespace="n").objects


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    "template",
    ["a: {{ until 2000000000 | len }}", '{{ $s := "double" }}{{ range until 40 }}{{ $s = print $s $s }}{{ end }}'],
    ids=["a list", "a text"],
)
def test_memory_has_a_limit_and_nothing_is_left_of_what_breaks_off(
    template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        message = refused({"templates/large.yaml": template})
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    assert message == "chart x: demo-app 1.0.0 makes Helm break off (SIGABRT), as it does beyond 2 GiB of memory"
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_the_objects_of_a_chart_have_a_limit() -> None:
    many = {"templates/many.yaml": '{{ range until 70 }}\n---\na: {{ repeat 1000000 "x" }}{{ end }}'}
    assert refused(many) == "chart x: demo-app 1.0.0 makes more than 64 MiB of objects"
    deep = {"templates/deep.yaml": 'a: {{ repeat 5000 "[" }}{{ repeat 5000 "]" }}'}
    assert refused(deep) == "chart x: demo-app 1.0.0 makes objects that are nested too deep"


def test_templates_that_call_each_other_are_the_error_of_the_chart() -> None:
    files = {"templates/self.yaml": '{{ define "self" }}{{ template "self" }}{{ end }}{{ template "self" }}'}
    assert "exceeded maximum template depth" in refused(files)


def test_a_process_that_is_killed_is_an_error_once() -> None:
    chart = loaded(ENDLESS)
    assert documents("a: 1", "text", ContentError)  # starts a process
    before = [process.pid for process in children(os.getpid())]
    killer = "import os, signal, sys, time; time.sleep(1); [os.kill(int(pid), signal.SIGKILL) for pid in sys.argv[1:]]"
    with (
        subprocess.Popen([sys.executable, "-c", killer, *map(str, before)]),
        pytest.raises(SiteError, match=r"break off \(SIGKILL\)"),
    ):
        chart.render({}, release="r", namespace="n")
    assert documents("a: 1", "text", ContentError) == [{"a": 1}]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_a_command_that_renders_and_helm_with_it(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "demo-app-1.0.0.tgz").write_bytes(package("demo-app", files=ENDLESS))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    with _command(tmp_path) as command:
        assert wait_until(lambda: _is_busy(command.pid), 20)
        (helm,) = children(command.pid)
        command.send_signal(number)
        _, talk = command.communicate(timeout=5)
        assert wait_until(helm.gone, 5)
    if number == signal.SIGKILL:
        assert command.returncode == -number
    else:
        assert command.returncode == 130
        assert f"interrupted by {number.name}" in talk


@pytest.mark.usefixtures("fresh")
def test_an_interruption_while_waiting_ends_helm_at_once() -> None:
    before = children(os.getpid())
    chart = loaded(ENDLESS)
    assert documents("a: 1", "text", ContentError)  # starts a process
    (helm,) = [process for process in children(os.getpid()) if process not in before]
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        chart.render({}, release="r", namespace="n")
    assert not helm.alive()


@contextlib.contextmanager
def _command(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """`airferry lock` of the recipe in `folder`."""
    command = subprocess.Popen(
        [sys.executable, "-m", "builder", "lock", "recipe.yaml"],
        cwd=folder,
        env={"PATH": os.defpath, "HOME": str(folder), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield command
    finally:
        command.kill()
        command.communicate()


def _is_busy(pid: int) -> bool:
    """Whether a child of this process has used a second of a processor, which only an endless chart takes."""
    ticks = 0
    for process in children(pid):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{process.pid}/stat").read_text()
            ticks += sum(map(int, text[text.rindex(")") + 2 :].split()[11:13]))
    return ticks > os.sysconf("SC_CLK_TCK")


@pytest.mark.usefixtures("fresh")
def test_the_process_is_told_no_secret_but_by_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_OF_THE_CALLER", SECRET)
    before = children(os.getpid())
    loaded({}).render({"greeting": SECRET}, release="r", namespace="n")
    (started,) = [process for process in children(os.getpid()) if process not in before]
    folder = Path("/proc", str(started.pid))
    assert SECRET.encode() not in (folder / "cmdline").read_bytes()
    with contextlib.suppress(PermissionError):  # of what leaves no core dump, the kernel shows it to root alone
        names = {item.partition(b"=")[0] for item in (folder / "environ").read_bytes().split(b"\0") if item}
        assert names - {b"LC_CTYPE"} == {name.encode() for name in ("GOGC", "GOMEMLIMIT")}
        limits = (folder / "limits").read_text().splitlines()
        (core,) = [line.split()[4:6] for line in limits if line.startswith("Max core file size")]
        assert core == ["0", "0"]
    assert os.getpgid(started.pid) != os.getpgid(0)


def test_helm_opens_no_file_and_no_socket() -> None:
    """What the references of a schema would do, were they not refused before."""
    chart = loaded({})
    for target in ("https://127.0.0.1:9/x.json", "file:///etc/hostname"):
        archive = package("demo-app", files={"values.schema.json": json.dumps({"$ref": target})})
        with pytest.raises(SiteError, match="too many open files"):
            Chart(archive, "chart x", BundleError, SiteError, chart.metadata).render({}, release="r", namespace="n")


def test_what_is_read_for_users_has_the_same_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering_process, "SECONDS", 1)
    levels = [f"a{n}: &a{n} [{', '.join(9 * [f'*a{n - 1}'])}]" for n in range(1, 9)]
    bomb = "\n".join(["a0: &a0 [x]", *levels])
    with pytest.raises(SiteError, match=r"^site\.yaml"):
        parse_values(bomb.encode(), "site.yaml", SiteError)


DRAFT_4, DRAFT_7 = (f"http://json-schema.org/draft-0{number}/schema#" for number in (4, 7))
INSIDE: dict[str, dict[str, Any]] = {
    "the document": {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"properties": {"x": {"$ref": "#"}, "y": {"$ref": "values.schema.json#/$defs/a"}}}},
    },
    "an anchor": {"$defs": {"a": {"$anchor": "one"}}, "$ref": "#one", "$dynamicRef": "#one"},
    "the document by its identifier": {
        "$id": "https://a.example/b/c.json",
        "properties": {"x": {"$ref": "c.json"}, "y": {"$recursiveRef": "#"}},
    },
    "a part by its identifier": {
        "$id": "https://a.example/",
        "$defs": {"part": {"$id": "sub/part.json", "$ref": "part.json#/x", "x": True}},
        "$ref": "/sub/part.json",
    },
    "an old identifier": {"$schema": DRAFT_4, "id": "https://a.example/a", "properties": {"x": {"$ref": "a"}}},
    "a draft": {
        "$schema": DRAFT_7,
        "properties": {"x": {"$ref": DRAFT_7}, "y": {"$ref": "https://json-schema.org/schema"}},
    },
    "a vocabulary": {"$ref": "https://json-schema.org/draft/2020-12/meta/validation"},
    "what Helm takes for anything": {"$ref": "urn:example:anything"},
    "a property of that name": {"properties": {"$ref": {"type": "string"}}},
}
OUTSIDE: dict[str, dict[str, Any]] = {
    "https://a.example/x.json": {"properties": {"x": {"$ref": "https://a.example/x.json"}}},
    "http://127.0.0.1:9/x.json#/a": {"$ref": "http://127.0.0.1:9/x.json#/a"},
    "file:///etc/hostname": {"allOf": [{"$ref": "file:///etc/hostname"}]},
    "other.json": {"anyOf": [{"$ref": "other.json"}]},
    "part.json": {"$id": "https://a.example/", "$ref": "part.json"},
    "c.json#x": {"$dynamicRef": "c.json#x"},
    "https://a.example/meta": {"$schema": "https://a.example/meta"},
    "http://json-schema.org/draft-03/schema#": {
        "properties": {"x": {"$schema": "http://json-schema.org/draft-03/schema#"}}
    },
    "https://json-schema.org/draft/2020-12/meta/own": {"$ref": "https://json-schema.org/draft/2020-12/meta/own"},
    "https://a.example/pointed": {"$ref": "#/examples/0", "examples": [{"$ref": "https://a.example/pointed"}]},
}


@pytest.mark.parametrize("case", INSIDE)
def test_references_inside_of_a_schema_are_followed(case: str) -> None:
    """Helm takes them too, in a process that could fetch nothing."""
    loaded({"values.schema.json": json.dumps(INSIDE[case])}).coalesced({})


@pytest.mark.parametrize("reference", OUTSIDE)
def test_references_that_leave_a_schema_are_refused_and_never_followed(reference: str) -> None:
    schema = json.dumps(OUTSIDE[reference])
    with pytest.raises(BundleError) as caught:
        loaded({"values.schema.json": schema})
    place = f"demo-app/values.schema.json refers to {reference}, which is not part of the chart"
    assert caught.value.message == f"chart x: {place}"
    assert "nothing is fetched" in caught.value.hint
    # Helm would follow each of them.
    archive = package("demo-app", files={"values.schema.json": schema})
    with pytest.raises(SiteError):
        Chart(archive, "x", BundleError, SiteError, loaded({}).metadata).render({}, release="r", namespace="n")


def test_references_of_subcharts_are_found_in_folders_and_archives() -> None:
    schema = json.dumps({"$ref": "https://a.example/x"})
    inner = {"c/charts/d/values.schema.json": schema.encode(), "c/files/values.schema.json": schema.encode()}
    files = {
        "x/charts/a/values.schema.json": schema.encode(),
        "x/charts/./b//values.schema.json": schema.encode(),
        "x/charts/c-1.tgz": packed(
            {"c/charts/e.tgz": packed({"e/values.schema.json": schema.encode()}, level=1), **inner}, level=1
        ),
        "x/templates/values.schema.json": schema.encode(),
        "x/values.schema.json": b'{"$ref": ',
    }
    found = leaving_references(packed(files, level=1), "x", ContentError)
    assert {item.reference for item in found} == {"https://a.example/x"}
    assert sorted(item.file for item in found) == [
        "x/charts/a/values.schema.json",
        "x/charts/b/values.schema.json",
        "x/charts/c-1.tgz:c/charts/d/values.schema.json",
        "x/charts/c-1.tgz:c/charts/e.tgz:e/values.schema.json",
    ]


def test_subcharts_in_archives_have_one_limit_together() -> None:
    inner = packed({"a/Chart.yaml": bytes(30 << 20)}, level=1)
    files = {f"x/charts/{number}.tgz": inner for number in range(3)}
    with pytest.raises(ContentError, match="more than 67108864 bytes unpacked"):
        leaving_references(packed(files, level=1), "x", ContentError)

"""Charts are loaded and rendered as helm does it, whatever was done with them before and whatever the environment."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from installer.chart.helm import MAX_ARCHIVE, Chart, documents, hook_events, parse_values
from installer.chart.rendering_child import answer
from installer.errors import BundleError, ContentError, RecipeError, SiteError
from tests.parts.charts import package

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = {"token": "x"}


def chart(name: str = "demo-app", **changes: Any) -> Chart:
    return Chart.load(package(name, **changes))


def names(objects: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(item["kind"], item.get("metadata", {}).get("name", "")) for item in objects}


def by_name(objects: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(item["kind"], item.get("metadata", {}).get("name", "")): item for item in objects}


def test_a_chart_tells_its_name_version_and_digest() -> None:
    loaded = chart("traps")
    assert (loaded.name, loaded.version) == ("traps", "0.1.0-rc.1+build.5")
    assert loaded.metadata["appVersion"] == "3.1"
    assert loaded.digest == chart("traps").digest != chart("traps", values={"token": "y"}).digest


@pytest.mark.parametrize(
    "archive",
    [b"", b"no archive", package("demo-app")[:500], package("demo-app", files={"Chart.yaml": "name: demo-app"})],
    ids=["empty", "text", "truncated", "no version"],
)
def test_a_broken_archive_raises_the_error_of_the_caller(archive: bytes) -> None:
    with pytest.raises(BundleError, match="my chart"):
        Chart.load(archive, source="my chart", error=BundleError)


def test_an_oversized_archive_is_refused_unread() -> None:
    with pytest.raises(ContentError, match="at most"):
        Chart.load(bytes(MAX_ARCHIVE + 1))


def test_rendering_includes_hooks_and_crds_but_no_notes_and_no_partials() -> None:
    objects = chart("traps").render(TOKEN, release="r", namespace="n").objects
    found = names(objects)
    assert {("Job", "before-install"), ("Pod", "test"), ("CronJob", "suspended")} < found
    assert objects[0]["metadata"]["name"] == "first.demo.example"
    assert objects[1]["metadata"]["name"] == "second.demo.example"
    assert "only-in-notes" not in json.dumps(objects)
    assert all(item.get("kind") for item in objects)


def test_install_and_upgrade_render_differently() -> None:
    loaded = chart("traps")
    install = names(loaded.render(TOKEN, release="r", namespace="n").objects)
    upgrade = names(loaded.render(TOKEN, release="r", namespace="n", upgrade=True).objects)
    assert install ^ upgrade == {("Job", "before-install"), ("Job", "before-upgrade")}


def test_capabilities_decide_what_is_rendered() -> None:
    template = {
        "templates/v.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: v}\n"
        'data: {version: "{{ .Capabilities.KubeVersion.Version }}"}'
    }
    loaded = chart("traps", files=template)
    plain = loaded.render(TOKEN, release="r", namespace="n", kube_version="1.29.3").objects
    known = loaded.render(TOKEN, release="r", namespace="n", api_versions=["demo.example/v1/Proxy"]).objects
    assert by_name(plain)["ConfigMap", "v"]["data"]["version"] == "v1.29.3"
    assert names(known) - names(plain) == {("Proxy", "proxy")}
    with pytest.raises(RecipeError, match="not a version"):
        loaded.render(TOKEN, release="r", namespace="n", kube_version="not a version")


def test_rendering_leaves_the_chart_as_it_was() -> None:
    # The library drops disabled subcharts from a chart for good; every call must see the whole chart again.
    loaded = chart("traps")
    on, off = ({**TOKEN, "store": {"enabled": True}}, {**TOKEN, "store": {"enabled": False}})
    first = names(loaded.render(on, release="r", namespace="n").objects)
    without = names(loaded.render(off, release="r", namespace="n").objects)
    assert first - without == {("Pod", "store")}
    assert names(loaded.render(on, release="r", namespace="n").objects) == first


def test_threads_may_share_a_chart() -> None:
    loaded = chart("traps")

    def render(number: int) -> set[tuple[str, str]]:
        values = {**TOKEN, "store": {"enabled": number % 2 == 0}, "optional": {"enabled": number % 3 == 0}}
        return names(loaded.render(values, release=f"r{number}", namespace="n").objects)

    with ThreadPoolExecutor(8) as pool:
        for number, found in enumerate(pool.map(render, range(48))):
            assert (("Pod", "store") in found, ("Pod", "optional") in found) == (number % 2 == 0, number % 3 == 0)


def test_nothing_of_the_library_stays_allocated() -> None:
    import helm_python

    archive = package("traps")
    before = helm_python.open_handles_count()
    for job in ("load", "render", "coalesced", "defaults"):
        for values in (TOKEN, {}):
            assert answer({"job": job, "values": json.dumps(values), "options": "{}"}, archive)
    assert b"refused" in answer({"job": "load"}, b"broken")
    assert helm_python.open_handles_count() == before


def test_crds_are_those_of_enabled_subcharts() -> None:
    loaded = chart("traps")
    own = ["first.demo.example", "second.demo.example"]
    plain = loaded.render(TOKEN, release="r", namespace="n")
    assert [item["metadata"]["name"] for item in plain.crds] == own
    enabled = loaded.render({**TOKEN, "optional": {"enabled": True}}, release="r", namespace="n").crds
    assert [item["metadata"]["name"] for item in enabled] == [*own, "optional.demo.example"]


def test_coalesced_values_know_aliases_and_leave_out_what_is_disabled() -> None:
    # The values of traps render only with a token, and coalescing must not need it.
    values = chart("traps").coalesced({"store": {"image": {"tag": "2"}}})
    assert values["store"]["image"] == {"registry": "docker.io", "repository": "demo/store", "tag": "2"}
    assert "image" not in values["optional"]
    enabled = chart("traps").coalesced({"optional": {"enabled": True}})
    assert enabled["optional"]["image"] == {"repository": "demo/optional", "tag": "1.0"}


def test_null_removes_a_default() -> None:
    assert "image" not in chart("traps").coalesced({"decoy": {"image": None}})["decoy"]


def test_what_a_template_demands_reaches_the_user() -> None:
    loaded = Chart.load(package("traps"), source="the chart", values_error=SiteError)
    with pytest.raises(SiteError, match=r"the chart: traps 0\.1\.0.*token is required"):
        loaded.render({}, release="r", namespace="n")


def test_the_schema_of_a_chart_is_enforced() -> None:
    schema = {"type": "object", "properties": {"replicas": {"type": "integer"}}}
    loaded = chart(files={"values.schema.json": json.dumps(schema)})
    with pytest.raises(RecipeError, match="replicas"):
        loaded.render({"replicas": "many"}, release="r", namespace="n")


@pytest.mark.parametrize("value", [float("nan"), dt.date(2026, 1, 1), b"bytes", {1, 2}])
def test_values_that_json_cannot_hold_are_refused(value: object) -> None:
    with pytest.raises(RecipeError, match="cannot be rendered"):
        chart().render({"greeting": value}, release="r", namespace="n")


def test_a_template_that_makes_broken_yaml_is_named() -> None:
    loaded = chart(files={"templates/broken.yaml": "kind: [ConfigMap"})
    with pytest.raises(RecipeError, match=r"demo-app/templates/broken\.yaml: not YAML"):
        loaded.render({}, release="r", namespace="n")


def test_values_are_read_as_helm_reads_them() -> None:
    data = b"truth: y\nword: 'y'\nday: 2026-01-02\noctal: 010\nnothing:\n"
    values = parse_values(data, "values.yaml", RecipeError)
    assert values == {"truth": True, "word": "y", "day": "2026-01-02", "octal": 8, "nothing": None}
    assert parse_values(b"# nothing but a comment\n", "values.yaml", RecipeError) == {}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"a: 1\na: 2\n", r"line 2, column 1.*twice"),
        (b"- a\n", "not a values document"),
        (b"a: [\n", r"line \d"),
        (b"\xff\xfe\xfa", "incomplete UTF-16"),
        (b"a: 1\n---\nb: 2\n", "document"),
    ],
)
def test_values_that_are_no_mapping_are_refused_with_the_place(data: bytes, says: str) -> None:
    with pytest.raises(RecipeError, match=f"(?s)^values.yaml: .*{says}"):
        parse_values(data, "values.yaml", RecipeError)


def test_streams_are_cut_where_helm_cuts_them() -> None:
    # Templates make dashes that another text follows on the same line, and keys that stand twice.
    text = "\n\n---\na: 1\n---\n# nothing\n--- \nb: |\n  x\n  ---\n  y\n\n---c: 1\nc: 2\n---\n\n"
    assert documents(text, "stream", ContentError) == [{"a": 1}, {"b": "x\n---\ny\n"}, {"c": 2}]


@pytest.mark.parametrize(
    ("annotations", "events"),
    [
        ({"helm.sh/hook": "pre-install, post-Upgrade"}, ("pre-install", "post-upgrade")),
        ({"helm.sh/hook": ""}, ()),
        ({}, ()),
        (None, ()),
        ("text", ()),
    ],
)
def test_hook_events(annotations: object, events: tuple[str, ...]) -> None:
    assert hook_events({"kind": "Job", "metadata": {"annotations": annotations}}) == events
    assert hook_events({"kind": "Job"}) == ()


def test_neither_environment_nor_home_matter_and_nothing_is_written(tmp_path: Path) -> None:
    program = """
import json, sys
from installer.chart.helm import Chart
chart = Chart.load(open(sys.argv[1], "rb").read())
print(json.dumps([chart.render({}, release="r", namespace="n").objects, chart.coalesced({})]))
"""
    archive, home = tmp_path / "chart.tgz", tmp_path / "home"
    archive.write_bytes(package("demo-platform"))
    home.mkdir()
    hostile = {f"HELM_{name}": "/nonexistent" for name in ("CACHE_HOME", "CONFIG_HOME", "DATA_HOME", "NAMESPACE")}
    hostile |= {"HELM_KUBECONTEXT": "none", "HELM_DRIVER": "sql", "KUBECONFIG": "/nonexistent", "HOME": str(home)}
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program, archive],
            env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(sys.path), **extra},
            check=True,
            capture_output=True,
            text=True,
        )
        for extra in ({}, hostile)
    ]
    assert outputs[0].stdout == outputs[1].stdout
    assert outputs[1].stderr == ""
    assert list(home.iterdir()) == []

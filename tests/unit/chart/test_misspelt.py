"""Keys of values that are probably misspelt, and those that must not be taken for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from installer.chart.helm import Chart, parse_values
from installer.chart.misspelt import misspelt
from installer.chart.parts import files_of
from installer.errors import ContentError
from tests.conftest import ASSETS, CHARTS
from tests.parts.charts import package

FOLDERS = [Path(os.environ[name]).resolve(strict=True) for name in (CHARTS, ASSETS) if os.environ.get(name)]
ARCHIVES: dict[str, bytes] = {
    **{name: package(name) for name in ("demo-app", "demo-platform", "traps")},
    **{path.stem: path.read_bytes() for folder in FOLDERS for path in sorted(folder.glob("*.tgz"))},
}
MORE: dict[str, Any] = {
    "podAnnotations": {"prometheus.io/scrape": "true", "scrape": "true"},
    "env": {"level": "info"},
    "config": {"DEBUG_LEVEL": "1", "a.key": "b"},
    "pool1": {"size": 1},
    "replicaSettings": {},
}
COMMENT = "{{- /* .Values.toolsImages is read here */ -}}"


def found(values: dict[str, Any], name: str = "demo-app") -> list[str]:
    return [str(item) for item in misspelt(Chart.load(package(name, values=MORE)), values)]


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("demo-app", {"greting": "x"}, "greting: chart demo-app 1.0.0 has no such value; did you mean greeting?"),
        ("demo-app", {"image": {"tga": "1", "repositroy": "x"}}, "image.repositroy: chart demo-app 1.0.0 has no such"),
        ("demo-platform", {"global": {"licenceSecret": {}}}, "global.licenceSecret: chart demo-platform 1.0.0 has no"),
        # Of a subchart under its alias, also of one that is off.
        ("demo-platform", {"spare": {"replica": 1}}, "spare.replica: chart demo-platform 1.0.0 has no such value; did"),
        ("demo-platform", {"woker": {"install": False}}, "did you mean worker?"),
    ],
)
def test_a_key_that_resembles_another(name: str, values: dict[str, Any], told: str) -> None:
    assert any(told in line for line in found(values, name))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"greeting": "x", "tags": {"web": True}},
        {"podAnnotations": {"prometheus.io/scraper": "false", "scraper": "false"}, "env": {"levels": "debug"}},
        {"config": {"DEBUG_LEVELS": "1", "a.kez": "b"}},
        {"replicaSettings": {"anything": 1}},
        {"global": {"imageRegistry": "r.example"}},
    ],
)
def test_a_key_that_is_free(values: dict[str, Any]) -> None:
    assert found(values) == []


@pytest.mark.parametrize(
    "values",
    [
        {"other": 1},
        {"pool2": {"size": 1}},
        # Beside the very key that it resembles.
        {"replicas": 1, "replica": 2},
        {"image": {"anything": 1}},
    ],
)
def test_a_key_that_nothing_reads(values: dict[str, Any]) -> None:
    (line,) = found(values)
    assert line.endswith("chart demo-app 1.0.0 reads no such value")


@pytest.mark.parametrize("template", ["{{ toYaml .Values.image }}", "{{ with .Values.image }}{{ . }}{{ end }}"])
def test_a_map_that_a_template_takes_whole_is_free(template: str) -> None:
    archive = package("demo-app", files={"templates/more.yaml": f"# {template}"})
    assert list(misspelt(Chart.load(archive), {"image": {"anything": 1}})) == []


def test_a_key_that_a_template_reads_without_a_default() -> None:
    archive = package("demo-app", files={"templates/more.yaml": COMMENT})
    assert list(misspelt(Chart.load(archive), {"toolsImages": "x"})) == []
    assert found({"toolsImages": "x"})


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_chart_s_own_values_are_known_and_mistakes_in_them_are_found(name: str) -> None:
    chart = Chart.load(ARCHIVES[name])
    files = files_of(chart)
    root = min(file.partition("/")[0] for file in files)
    own = parse_values(files.get(f"{root}/values.yaml", b"{}"), name, ContentError)
    assert list(misspelt(chart, own)) == []
    # The longest name of a map with a content of its own: one letter less is no name of anything.
    key = max((key for key, value in own.items() if isinstance(value, dict) and value), key=len, default="")
    if len(key) > 5:
        wrong = f"{key[:-2]}{key[-1]}"
        assert [item.meant for item in misspelt(chart, {wrong: own[key]})] == [key]

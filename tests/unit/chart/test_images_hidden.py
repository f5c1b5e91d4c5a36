"""References hidden in random objects in all the ways that charts and operators know are found, and nothing else is."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from installer.chart.helm import Chart
from installer.chart.images import references
from installer.chart.spelling.text import versioned
from tests.parts.charts import package
from tests.parts.foreign_charts import FOREIGN, VALUES

if TYPE_CHECKING:
    from collections.abc import Callable

Split = tuple[str, str, str, str]
"""Host, folder, name, and tag of a reference."""

HOSTS = st.sampled_from(["quay.io", "registry.k8s.io", "nvcr.io", "reg.example:5000", "localhost:5000", "10.1.2.3"])
NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}(?:[._-][a-z0-9]{1,8})?", fullmatch=True)
TAGS = st.from_regex(r"v?[0-9]{1,3}(?:\.[0-9]{1,3}){0,2}(?:-[a-z]{1,5})?", fullmatch=True)
SPLITS = st.tuples(HOSTS, NAMES, NAMES, TAGS)

REPEATABLE = settings(deadline=None, derandomize=True, database=None)

# In a text of whatever key.
TEXTS: list[Callable[[str], str]] = [
    lambda ref: ref,
    lambda ref: f"--sidecar={ref}",
    lambda ref: f"4.2.0={ref}\n4.3.0={ref}\n",
    lambda ref: f"first,{ref},last",
    lambda ref: f"It runs `{ref}`, or another.",
    lambda ref: f"The last word is {ref}.",
    lambda ref: f"run ${{X:-{ref}}}",
    lambda ref: f"x:\n- y: {{z: {ref}}}\n",
    lambda ref: json.dumps({"x": [{"y": ref}]}),
    lambda ref: json.dumps({"x": json.dumps({"y": f"a\n{ref}\nb"})}),
    lambda ref: f"x: |\n  docker://{ref}\n",
    lambda ref: f"# {ref}\n",
]
# In keys that say what it is.
PARTS: list[Callable[[Split], dict[str, Any]]] = [
    lambda s: {"image": f"{s[0]}/{s[1]}/{s[2]}:{s[3]}"},
    lambda s: {"images": {"x": f"{s[0]}/{s[1]}/{s[2]}:{s[3]}"}},
    lambda s: {"repository": f"{s[0]}/{s[1]}", "image": s[2], "version": s[3]},
    lambda s: {"image": {"registry": s[0], "repository": f"{s[1]}/{s[2]}", "tag": s[3]}},
    lambda s: {"image": {"repository": f"{s[0]}/{s[1]}/{s[2]}", "tag": s[3]}},
    lambda s: {"registry": s[0], "name": f"{s[1]}/{s[2]}", "tag": s[3]},
    lambda s: {"hub": f"{s[0]}/{s[1]}", "image": s[2], "tag": s[3]},
    lambda s: {"imageRepo": f"{s[0]}/{s[1]}/{s[2]}", "imageTag": s[3]},
    lambda s: {"proxyImageRegistry": s[0], "proxyImageRepository": f"{s[1]}/{s[2]}", "proxyImageTag": s[3]},
    lambda s: {"env": [{"name": "RELATED_IMAGE_X", "value": f"{s[0]}/{s[1]}/{s[2]}:{s[3]}"}]},
]
# Where a whole document, or a text, may stand.
PLACES: list[Callable[[str], dict[str, Any]]] = [
    lambda text: {"apiVersion": "v1", "kind": "ConfigMap", "data": {"x": text}},
    lambda text: {"apiVersion": "v1", "kind": "Secret", "stringData": {"x": text}},
    lambda text: {"apiVersion": "v1", "kind": "Secret", "data": {"x": base64.b64encode(text.encode()).decode()}},
    lambda text: {"apiVersion": "v1", "kind": "Service", "metadata": {"annotations": {"x": text}}},
    lambda text: {"apiVersion": "demo.example/v1", "kind": "Demo", "spec": {"list": [text]}},
    lambda text: {"kind": "Pod", "spec": {"containers": [{"name": "c", "args": ["x", text]}]}},
    lambda text: {"kind": "Pod", "spec": {"containers": [{"name": "c", "env": [{"name": "X", "value": text}]}]}},
]
NOISE = st.one_of(
    st.text(max_size=30).filter(lambda text: "/" not in text),
    st.from_regex(r"[ -~]{0,12}", fullmatch=True).filter(lambda text: ":" not in text and "@" not in text),
    st.sampled_from(
        [
            "https://quay.io/team/app:1",
            "s3://bucket.example/path:1",
            "git@github.com/team/app:1",
            "app.kubernetes.io/name: web",
            "node.example.kubernetes.io/x:NoSchedule",
            "github.com/team/app/main.go:12",
            "prometheus.example.svc:9090/metrics",
            "/etc/demo.d/x:ro",
            "2024-01-02T03:04:05Z",
            "rate(x[5m]) / 1.5",
            "10.0.0.0/8",
        ]
    ),
    st.integers(),
    st.booleans(),
    st.none(),
)
KEYS = st.sampled_from(["spec", "items", "url", "path", "command", "text", "config", "data", "x/y", "metadata"])
TREES = st.recursive(NOISE, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4))


def ref(split: Split) -> str:
    return f"{split[0]}/{split[1]}/{split[2]}:{split[3]}"


def custom(spec: Any) -> dict[str, Any]:
    return {"apiVersion": "demo.example/v1", "kind": "Demo", "metadata": {"name": "d"}, "spec": spec}


@given(st.lists(st.tuples(SPLITS, st.sampled_from(TEXTS)), min_size=1, max_size=4), st.sampled_from(PLACES), TREES)
@REPEATABLE
def test_references_in_texts_are_found(
    hidden: list[tuple[Split, Callable[[str], str]]], place: Callable[[str], dict[str, Any]], noise: Any
) -> None:
    for split, wrapped in hidden:
        item = place(wrapped(ref(split)))
        found = {found.text for found in references([{**item, "noise": noise}])}
        assert found == {ref(split)}
    together = place("\n".join(wrapped(ref(split)) for split, wrapped in hidden))
    assert {found.text for found in references([together])} == {ref(split) for split, _ in hidden}


@given(SPLITS, st.sampled_from(PARTS), TREES)
@REPEATABLE
def test_references_in_parts_are_found_and_are_certain(
    split: Split, spelt: Callable[[Split], dict[str, Any]], noise: Any
) -> None:
    [found] = references([custom({"noise": noise, "deep": [{"x": spelt(split)}]})])
    assert (found.text, found.certainty) == (ref(split), "found")


@given(SPLITS, st.sampled_from(PARTS), st.sampled_from(PLACES), st.booleans())
@REPEATABLE
def test_references_in_parts_are_found_in_documents_in_texts(
    split: Split, spelt: Callable[[Split], dict[str, Any]], place: Callable[[str], dict[str, Any]], as_json: bool
) -> None:
    text = json.dumps({"deep": [{"x": spelt(split)}]}, indent=None if as_json else 1)
    found = references([place(text)])
    assert {item.text for item in found} == {ref(split)}
    assert {item.certainty for item in found} == {"suspected"}


@given(TREES, st.sampled_from(PLACES))
@REPEATABLE
def test_nothing_is_found_where_nothing_is(noise: Any, place: Callable[[str], dict[str, Any]]) -> None:
    assert references([custom(noise), place(json.dumps(noise)), {"data": noise}]) == []


HOST = r"(?:(?:[a-zA-Z0-9-]+\.)+[a-z]{2,}(?::[0-9]+)?|localhost(?::[0-9]+)?|[a-z0-9-]+:[0-9]+)"
WRITTEN = re.compile(
    rf"(?<![\w./:@%-]){HOST}/[a-z0-9._/-]+(?::\w[\w.-]*(?:@sha256:[0-9a-f]{{64}})?|@sha256:[0-9a-f]{{64}})"
)
"""Written without a look at the finder."""


AT_HAND = {"demo-platform": package("demo-platform"), **{name: path.read_bytes() for name, path in FOREIGN.items()}}


@pytest.mark.parametrize("name", AT_HAND)
def test_nothing_that_is_written_out_in_the_objects_of_a_chart_is_missed(name: str) -> None:
    chart = Chart.load(AT_HAND[name])
    made = chart.render(VALUES.get(chart.name, {}), release="r", namespace="n", upgrade=True)
    objects = [item for item in made.objects if item.get("kind") != "CustomResourceDefinition"]
    text = json.dumps(objects, ensure_ascii=False).replace("\\n", " ").replace('\\"', '"')
    found = references(objects)
    assert {match.rstrip(".") for match in WRITTEN.findall(text)} <= {item.text for item in found}
    for item in found:
        if item.certain:
            # A word beside a repository is no reference.
            assert versioned(item.text) or item.container

"""Rules of a profile: paths and templates, with stars, in objects of a kind."""

from __future__ import annotations

from typing import Any

import pytest

from installer.chart.images import references
from installer.chart.spelling.rules import defect, named

SPEC = {
    "engine": {"source": "quay.io/demo/engine:1", "repo": "quay.io/demo", "flavor": "small", "release": 2, "off": ""},
    "parts": [{"repo": "quay.io/demo", "flavor": "a"}, {"repo": "quay.io/demo"}, {"repo": "quay.io/x", "flavor": "c"}],
    "release": "3",
}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("spec.engine.source", [("spec.engine.source", "quay.io/demo/engine:1")]),
        (
            "{spec.engine.repo}/{spec.engine.flavor}:{spec.engine.release}",
            [("spec.engine.repo", "quay.io/demo/small:2")],
        ),
        ("spec.*.source", [("spec.engine.source", "quay.io/demo/engine:1")]),
        (
            "{spec.parts.*.repo}/{spec.parts.*.flavor}:{spec.release}",
            [("spec.parts[0].repo", "quay.io/demo/a:3"), ("spec.parts[2].repo", "quay.io/x/c:3")],
        ),
        ("{spec.engine.repo}/{spec.engine.off}:1", []),
        ("{spec.engine.repo}/{spec.engine.missing}:1", []),
        ("spec.engine", []),
        ("spec.engine.source.deeper", []),
        ("spec.parts.repo", []),
    ],
)
def test_what_a_rule_names(rule: str, expected: list[tuple[str, str]]) -> None:
    assert defect(rule) == ""
    assert list(named(rule, {"spec": SPEC})) == expected


@pytest.mark.parametrize("rule", ["", "a..b", "{a", "a}", "{}", "{a.b}/{c", "a b", "{a.**}", "x:{a b}"])
def test_what_is_no_rule(rule: str) -> None:
    assert defect(rule)


def test_what_a_rule_names_is_certain_in_its_kind_alone() -> None:
    rules = {"Engine": ["spec.engine.source", "{spec.engine.repo}/{spec.engine.flavor}:{spec.engine.release}"]}
    engine: dict[str, Any] = {"apiVersion": "v1", "kind": "Engine", "metadata": {"name": "e"}, "spec": SPEC}
    found = [item.text for item in references([engine], rules) if item.certain]
    assert found == ["quay.io/demo/engine:1", "quay.io/demo/small:2"]
    listed = {"kind": "EngineList", "items": [engine]}
    assert [item.text for item in references([listed], rules) if item.certain] == found
    assert [item for item in references([{**engine, "kind": "Other"}], rules) if item.certain] == []

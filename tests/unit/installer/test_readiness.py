"""When a resource counts as ready, by the rule of its profile."""

from __future__ import annotations

from typing import Any

import pytest

from installer.cluster.readiness import Readiness

READY = Readiness(condition="Ready")
PHASE = Readiness(path="status.phase", value="Up")


def conditions(*items: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {"metadata": {"generation": 2}, "status": {"conditions": list(items), **status}}


def phase(value: Any, **status: Any) -> dict[str, Any]:
    return {"metadata": {"generation": 2}, "status": {"phase": value, **status}}


TRUE = {"type": "Ready", "status": "True"}
# rule, object → ready, words of the state
CASES: list[tuple[Readiness, dict[str, Any], bool, str]] = [
    (Readiness(), {"metadata": {}}, True, "exists"),
    (READY, conditions(TRUE), True, "Ready"),
    (READY, conditions({**TRUE, "message": "all\nis well"}), True, "Ready: all"),
    (READY, conditions({"type": "Other", "status": "True"}), False, "condition Ready is not there yet"),
    (READY, {"metadata": {}}, False, "condition Ready is not there yet"),
    (
        READY,
        conditions({**TRUE, "status": "False", "reason": "NoLicence"}),
        False,
        "condition Ready is False: NoLicence",
    ),
    (READY, conditions({**TRUE, "status": "Unknown", "message": "m", "reason": "r"}), False, "is Unknown: m"),
    (READY, conditions({**TRUE, "status": "true"}), False, "condition Ready is true"),
    # What was said of an earlier generation says nothing; the condition's own word counts more than the status'.
    (READY, conditions(TRUE, observedGeneration=1), False, "waits for its controller to see this generation"),
    (READY, conditions(TRUE, observedGeneration=2), True, "Ready"),
    (READY, conditions({**TRUE, "observedGeneration": 1}, observedGeneration=2), False, "waits for its controller"),
    (READY, conditions({**TRUE, "observedGeneration": 2}, observedGeneration=1), True, "Ready"),
    (PHASE, phase("Up"), True, "status.phase is Up"),
    (PHASE, phase("Down"), False, "status.phase is Down"),
    (PHASE, {"metadata": {}}, False, "status.phase is not there yet"),
    (PHASE, phase("Up", observedGeneration=1), False, "waits for its controller to see this generation"),
    (PHASE, phase({"deep": "Up"}), False, "status.phase is "),
    (Readiness(path="status.ready", value="true"), {"metadata": {}, "status": {"ready": True}}, True, "is true"),
    (Readiness(path="status.count", value="3"), {"metadata": {}, "status": {"count": 3}}, True, "is 3"),
    (Readiness(path="status.a.b", value=""), {"metadata": {}, "status": {"a": []}}, True, "is not there yet"),
]


@pytest.mark.parametrize(("rule", "obj", "ready", "words"), CASES)
def test_ready(rule: Readiness, obj: dict[str, Any], ready: bool, words: str) -> None:
    found, said = rule.state(obj)
    assert found is ready
    assert words in said
    assert "\n" not in said

"""Whether a resource is ready, by the rule of its profile.

Source of the rule for generations: Kubernetes API conventions, "Typical status properties" (`observedGeneration`).
"""

from collections.abc import Mapping
from typing import Any

from installer.cluster.workload import condition
from installer.report import printable
from installer.value import Value


class Readiness(Value):
    """A rule: the condition `condition` is True, or the text at the dotted `path` is `value`; empty: it exists.

    Besides, what stands at each path of `matches` is what stands at the path that it maps to.
    """

    condition: str = ""
    path: str = ""
    value: str = ""
    matches: Mapping[str, str] = {}

    def state(self, obj: Mapping[str, Any]) -> tuple[bool, str]:
        """Whether `obj` is ready, and a phrase for people."""
        ready, said = self._told(obj)
        if ready:
            for path, wanted in self.matches.items():
                if _text(obj, path) != _text(obj, wanted):
                    return False, f"{path} is {printable(_text(obj, path)) or 'not there yet'}"
        return ready, said

    def _told(self, obj: Mapping[str, Any]) -> tuple[bool, str]:
        generation = int(obj["metadata"].get("generation") or 0)
        status = obj.get("status") or {}
        if self.condition:
            found = condition(obj, self.condition)
            observed = found.get("observedGeneration", status.get("observedGeneration"))
            if _behind(observed, generation):
                return False, "waits for its controller to see this generation"
            said = printable(str(found.get("message") or found.get("reason") or ""))
            if found.get("status") == "True":
                return True, f"{self.condition}{f': {said}' if said else ''}"
            what = f"condition {self.condition} is {found.get('status') or 'not there yet'}"
            return False, f"{what}{f': {said}' if said else ''}"
        if self.path:
            if _behind(status.get("observedGeneration"), generation):
                return False, "waits for its controller to see this generation"
            text = _text(obj, self.path)
            return text == self.value, f"{self.path} is {printable(text) or 'not there yet'}"
        return True, "exists"


def _text(obj: Mapping[str, Any], path: str) -> str:
    """What stands at the dotted `path`, as YAML writes it; empty if nothing does."""
    node: Any = obj
    for key in path.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return "" if node is None else str(node).lower() if isinstance(node, bool) else str(node)


def _behind(observed: Any, generation: int) -> bool:
    return isinstance(observed, int) and observed < generation

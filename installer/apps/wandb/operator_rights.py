"""Whether the operator may make what the platform chart consists of, judged by the roles of its own chart.

It can make only kinds that its rules name, and roles that grant no more than it holds itself (Kubernetes documentation,
"Privilege escalation prevention and bootstrapping"); otherwise its installation of the platform fails half way.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from installer.cluster.cluster import Object, namespace_of
from installer.cluster.kinds import Kind
from installer.diagnosis.finding import Finding, warning
from installer.objects.desired import ChartRelease
from installer.preflight.prerequisites import named

_ROLES = ("Role", "ClusterRole")
_MAKE = ("get", "create", "delete")
_Rules = list[Mapping[str, Any]]
_STEP = (
    "use an operator chart that is as new as the platform chart, switch the part off, or grant this to the operator's "
    "service account."
)


def operator_rights(
    operator: ChartRelease, platform: ChartRelease, kinds: Mapping[tuple[str, str], Kind]
) -> Iterator[Finding]:
    """What the operator is not allowed to make or to grant; a warning each, for others may have granted it more.

    `kinds` are the cluster's, by `apiVersion` and `kind`.
    """
    place, home = platform.name.namespace, operator.name.namespace
    held: _Rules = [
        rule
        for item in operator.objects
        if item["kind"] == "ClusterRole" or (item["kind"] == "Role" and namespace_of(item, home) == place)
        for rule in item["rules"] or []
    ]
    told: set[str] = set()
    for item in platform.applied:
        for lack in (*_making(item, kinds, held), *_granting(item, held)):
            if lack not in told:
                told.add(lack)
                yield warning(f"the operator may not {lack}, which {named(item, platform)} needs", _STEP)


def _making(item: Object, kinds: Mapping[tuple[str, str], Kind], held: _Rules) -> Iterator[str]:
    kind = kinds.get((item["apiVersion"], item["kind"]))
    lacking = [verb for verb in _MAKE if kind and not _covered(held, kind.group, kind.plural, verb)]
    if lacking:
        yield f"{', '.join(lacking)} {kind}"


def _granting(item: Object, held: _Rules) -> Iterator[str]:
    for rule in (item.get("rules") or []) if item["kind"] in _ROLES else []:
        for group in rule.get("apiGroups") or []:
            for resource in rule.get("resources") or []:
                lacking = [verb for verb in rule["verbs"] if not _covered(held, group, resource, verb)]
                if lacking:
                    yield f"grant {', '.join(lacking)} {resource}{f'.{group}' if group else ''}"


def _covered(held: Iterable[Mapping[str, Any]], group: str, resource: str, verb: str) -> bool:
    def has(rule: Mapping[str, Any], key: str, value: str) -> bool:
        return bool({value, "*"} & set(rule.get(key) or []))

    return any(
        has(rule, "apiGroups", group) and has(rule, "resources", resource) and has(rule, "verbs", verb)
        for rule in held
        if not rule.get("resourceNames")
    )

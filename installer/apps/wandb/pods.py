"""Proof that answers reach every pod of the platform, hooks included: charts have ways of their own.

What does not is refused, and names the part of the chart that cannot be told.
"""

import re
from collections.abc import Iterator, Mapping

from installer.apps.wandb.pod_security import violations
from installer.apps.wandb.site.answers import Answers
from installer.cluster.cluster import Object
from installer.cluster.workload import pod_templates
from installer.errors import SiteError
from installer.objects.desired import ChartRelease
from installer.schema import report

_WITHOUT_TLS = re.compile(r"mysql://\$\(MYSQL_USER\)(?![^,]*[?&]tls=(true|custom))")
_WITHOUT_USER = re.compile(r"redis://(:\$\(REDIS_PASSWORD\)@|\$\(REDIS_HOST\))")
_HINT = "switch these parts off in `values` of site.yaml, such as otel: {install: false}; or leave the answer out."


def check_pods(answers: Answers, platform: ChartRelease, operator: ChartRelease) -> None:
    """Raises SiteError naming each answer that does not reach every pod of the releases, and these pods."""
    pods = list(_pods(platform))
    defects = [
        *_unmarked("pod_labels", "labels", answers.pod_labels, pods, platform),
        *_unmarked("pod_annotations", "annotations", answers.pod_annotations, pods, platform),
        *_priority(answers.priority_class, pods, platform),
    ]
    if answers.security != "default":
        openshift = answers.security == "openshift"
        for name, pod in (*pods, *_pods(operator)):
            if found := violations(pod["spec"], openshift=openshift):
                defects.append(f"security: the chart cannot make {name} {answers.security}: {', '.join(found)}")
    if answers.mysql and answers.mysql.over_tls:
        defects += _urls("mysql.tls", _WITHOUT_TLS, pods, platform)
    if answers.redis and answers.redis.user:
        defects += _urls("redis.user", _WITHOUT_USER, pods, platform)
    if defects:
        raise report("site.yaml", defects, SiteError, hint=_HINT)


def _unmarked(
    key: str, kind: str, wanted: Mapping[str, str], pods: list[tuple[str, Object]], release: ChartRelease
) -> Iterator[str]:
    """A defect if the `kind` of some pods lack one of `wanted`."""
    without = [
        name for name, pod in pods if not wanted.items() <= ((pod.get("metadata") or {}).get(kind) or {}).items()
    ]
    if without:
        yield _unheard(key, without, release)


def _priority(wanted: str | None, pods: list[tuple[str, Object]], release: ChartRelease) -> Iterator[str]:
    without = [name for name, pod in pods if pod["spec"].get("priorityClassName") != wanted]
    if wanted and without:
        yield _unheard("priority_class", without, release)


def _urls(key: str, wrong: re.Pattern[str], pods: list[tuple[str, Object]], release: ChartRelease) -> Iterator[str]:
    """A defect if pods have variables that hold a URL of the form `wrong`."""
    found = [
        f"{name} ({variable['name']})"
        for name, pod in pods
        for kind in ("initContainers", "containers")
        for container in pod["spec"].get(kind) or ()
        for variable in container.get("env") or ()
        if wrong.search(str(variable.get("value") or ""))
    ]
    if found:
        yield _unheard(key, list(dict.fromkeys(found)), release)


def _unheard(key: str, names: list[str], release: ChartRelease) -> str:
    chart = f"{release.chart.name} {release.chart.version}"
    return f"{key}: chart {chart} has no way to give it to the pods of {', '.join(names)}"


def _pods(release: ChartRelease) -> Iterator[tuple[str, Object]]:
    """The pods of all workloads of `release` with the names of these, as they stand in their templates."""
    found: dict[str, Object] = {}
    for item in release.applied:
        for pod in pod_templates(item):
            found.setdefault(f"{item['kind']} {item['metadata']['name']}", pod)
    yield from found.items()

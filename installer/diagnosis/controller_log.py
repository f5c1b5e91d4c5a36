"""What the log of a controller says about a resource that does not get ready."""

from collections.abc import Iterable, Iterator, Sequence

from installer.cluster.cluster import Cluster
from installer.cluster.workload import ReleaseName, pods_of, workloads
from installer.diagnosis.cause import Cause, brief
from installer.value import Value

LOG_LINES = 200


class LogSign(Value):
    """A text in a controller's log, what it means for people, and the next step."""

    text: str
    cause: str
    next: str


def logged_sign(
    cluster: Cluster, controller: ReleaseName, what: str, signs: Iterable[LogSign], since: str = ""
) -> Cause | None:
    """The cause of the newest log line, not older than `since`, with one of `signs`; None if there is none."""
    return _signed(list(_lines(cluster, controller, since)), what, tuple(signs))


def logged_cause(
    cluster: Cluster, controller: ReleaseName, what: str, signs: Iterable[LogSign], since: str = ""
) -> Cause | None:
    """The same, else the newest line about an error; None if neither."""
    lines = list(_lines(cluster, controller, since))
    if cause := _signed(lines, what, tuple(signs)):
        return cause
    found = next((line for line in lines if "error" in line.lower()), "")
    if not found:
        return None
    step = f"correct what it complains of; the log is that of the pods of {controller}."
    return Cause("controller-says", what, f"its controller's log says: {brief(found)}", step)


def _signed(lines: Iterable[str], what: str, signs: Sequence[LogSign]) -> Cause | None:
    for line in lines:
        for sign in signs:
            if sign.text.lower() in line.lower():
                return Cause("controller-says", what, f"{sign.cause}; the log says: {brief(line)}", sign.next)
    return None


def _lines(cluster: Cluster, controller: ReleaseName, since: str) -> Iterator[str]:
    """The last lines of each pod, newest first."""
    for part in workloads(cluster, controller):
        for pod in pods_of(cluster, part):
            yield from reversed(
                cluster.logs(controller.namespace, pod["metadata"]["name"], tail=LOG_LINES, since=since)
            )

"""What the log of a controller says about a resource that does not get ready."""

from collections.abc import Iterable, Iterator

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


def logged_cause(cluster: Cluster, controller: ReleaseName, what: str, signs: Iterable[LogSign]) -> Cause | None:
    """The cause of the newest log line with one of `signs`, else the newest line about an error; None if neither."""
    signs, lines = tuple(signs), list(_lines(cluster, controller))
    for line in lines:
        for sign in signs:
            if sign.text.lower() in line.lower():
                return Cause("controller-says", what, f"{sign.cause}; the log says: {brief(line)}", sign.next)
    found = next((line for line in lines if "error" in line.lower()), "")
    if not found:
        return None
    step = f"correct what it complains of; the log is that of the pods of {controller}."
    return Cause("controller-says", what, f"its controller's log says: {brief(found)}", step)


def _lines(cluster: Cluster, controller: ReleaseName) -> Iterator[str]:
    """The last lines of each pod, newest first."""
    for part in workloads(cluster, controller):
        for pod in pods_of(cluster, part):
            yield from reversed(cluster.logs(controller.namespace, pod["metadata"]["name"], tail=LOG_LINES))

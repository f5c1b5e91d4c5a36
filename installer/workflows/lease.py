"""One installer at a time: a Lease (coordination.k8s.io) beside the record, held while an installation is changed.

The clocks of two hosts may differ, so nobody judges the other's by his own: a lease counts as abandoned if nothing
renews it while it is watched for its whole duration, or at once if its process was of this host and has ended.
"""

import datetime as dt
import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from installer.chart.releases import Releases
from installer.cluster.cluster import Cluster, ConflictError, Object
from installer.cluster.kinds import LEASE
from installer.diagnosis.wait import Patience
from installer.errors import ClusterError, ClusterForbiddenError, ClusterUnreachableError
from installer.objects.desired import MANAGED_BY
from installer.value import Value, replace
from installer.workflows.record import PREFIX

# A request to the API server may take 65 s, and renewals wait for it.
DURATION_SECONDS = 90
RENEW_SECONDS = 10.0
_MARK = "airferry/process"
_PROC = Path("/proc")


class Holder(Value):
    """Who changes an installation: `name` is for people (`user@host`), `mark` is of one process on one host.

    No other process has the same mark, on any host at any time.
    """

    name: str
    mark: str

    @classmethod
    def this_process(cls) -> "Holder":
        """The process that runs this."""
        try:
            user = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            # Users of a directory service are unknown to a program that brings its own C library.
            user = str(os.getuid())
        pid = os.getpid()
        return cls(f"{user}@{os.uname().nodename}", f"{_machine()} {pid} {_start(pid)}")


class Means(Value):
    """With what an installation is changed, and by whom. `releases` gives Helm's releases in a namespace; `now` the
    time in UTC."""

    cluster: Cluster
    releases: Callable[[str], Releases]
    patience: Patience
    holder: Holder
    now: Callable[[], dt.datetime]


@contextmanager
def held(means: Means, bundle: str, namespace: str) -> Iterator[Means]:
    """Hold the lease of the installation of `bundle` in `namespace`; what it gives renews the lease as it is used.

    Raises ClusterError naming who else is at work, here or, after the lease was lost, wherever `patience` rests.
    """
    lease = _Lease(means, f"{PREFIX}{bundle}", namespace)
    lease.acquire()

    def releases(place: str) -> Releases:
        found = means.releases(place)
        found.while_waiting = lease.renew
        return found

    means.patience.while_waiting = lease.renew
    try:
        yield replace(means, releases=releases)
    finally:
        means.patience.while_waiting = None
        lease.release()


class _Lease:
    def __init__(self, means: Means, name: str, namespace: str) -> None:
        self._means, self._name, self._namespace = means, name, namespace
        self._cluster, self._patience = means.cluster, means.patience
        self._version, self._renewed = "", 0.0

    def acquire(self) -> None:
        """Take the lease. Raises ClusterError if it is being renewed by somebody else."""
        watched, since = "", self._patience.clock()
        while True:
            current = self._cluster.get(LEASE, self._name, self._namespace)
            stamp = _text(current, "renewTime")
            if current is None or stamp != watched:
                if current and watched:
                    raise _busy(current)
                watched, since = stamp, self._patience.clock()
            waited = self._patience.clock() - since
            if current is None or has_ended(_mark(current)) or waited >= DURATION_SECONDS:
                if self._take(current):
                    return
                watched = ""
                continue
            self._patience.state(f"{_who(current)}; watching whether that still goes on")
            self._patience.rest()

    def renew(self) -> None:
        """Renew the lease if it is time. Raises ClusterError if somebody has taken it meanwhile."""
        if self._patience.clock() - self._renewed < RENEW_SECONDS:
            return
        self._renewed = self._patience.clock()
        change = {"metadata": {"resourceVersion": self._version}, "spec": {"renewTime": self._time()}}
        try:
            after = self._cluster.merge(LEASE, self._name, self._namespace, change)
        except ClusterUnreachableError:
            # Whoever works here finds that out on its own; the lease outlives a short silence.
            return
        except ClusterError:
            current = self._cluster.get(LEASE, self._name, self._namespace)
            if current is None or _mark(current) != self._means.holder.mark:
                raise _busy(current) from None
            after = current
        self._version = after["metadata"]["resourceVersion"]

    def release(self) -> None:
        """Give the lease up, if it is still ours; a server that does not answer must not hide why we end."""
        try:
            current = self._cluster.get(LEASE, self._name, self._namespace)
            if current and _mark(current) == self._means.holder.mark:
                self._cluster.delete(LEASE, self._name, self._namespace)
        except (ClusterError, ClusterForbiddenError, ClusterUnreachableError):
            return

    def _take(self, current: Object | None) -> bool:
        """Make the lease ours; False if somebody else was faster."""
        time = self._time()
        spec = {
            "holderIdentity": self._means.holder.name,
            "leaseDurationSeconds": DURATION_SECONDS,
            "acquireTime": time,
            "renewTime": time,
        }
        metadata: Object = {"annotations": {_MARK: self._means.holder.mark}}
        try:
            if current is None:
                place = {"name": self._name, "namespace": self._namespace, "labels": dict(MANAGED_BY)}
                new = {"apiVersion": LEASE.api_version, "kind": LEASE.name, "metadata": {**metadata, **place}}
                after = self._cluster.create({**new, "spec": spec})
            else:
                self._patience.reporter.note(f"{_who(current)}, and was left behind: going on")
                metadata["resourceVersion"] = current["metadata"]["resourceVersion"]
                after = self._cluster.merge(LEASE, self._name, self._namespace, {"metadata": metadata, "spec": spec})
        except ConflictError:
            return False
        self._version, self._renewed = after["metadata"]["resourceVersion"], self._patience.clock()
        return True

    def _time(self) -> str:
        return self._means.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _busy(current: Object | None) -> ClusterError:
    what = _who(current) if current else "another installer has ended this one's turn"
    return ClusterError(what, hint="wait until that is done, then run the same command again.")


def _who(lease: Object) -> str:
    return (
        f"{_text(lease, 'holderIdentity') or 'somebody'} has been changing this installation "
        f"since {_text(lease, 'acquireTime')[:19]}Z"
    )


def _text(lease: Object | None, key: str) -> str:
    return str(((lease or {}).get("spec") or {}).get(key) or "")


def _mark(lease: Object) -> str:
    return str((lease["metadata"].get("annotations") or {}).get(_MARK) or "")


def has_ended(mark: str) -> bool:
    """Whether the process that `mark` means is certainly gone; False where that cannot be known from here."""
    *machine, pid, start = mark.split(" ")
    if " ".join(machine) != _machine() or not pid.isdigit():
        return False
    return _start(int(pid)) != start


def _machine() -> str:
    """This boot of this machine and, since containers count processes anew, the process namespace."""
    boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"


def _start(pid: int) -> str:
    """When a process started, in the kernel's ticks (proc(5), field 22 of stat); empty if it has ended."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return ""
    # The program's name, in parentheses, may hold anything.
    state, *rest = text.rpartition(")")[2].split()
    return "" if state in "ZX" else rest[18]

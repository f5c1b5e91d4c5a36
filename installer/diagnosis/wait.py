"""Waiting that ends in readiness or in a diagnosis, never in a mere "timed out".

It ends early where waiting longer cannot help, and goes on while an API server is being restarted.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from installer.cluster.cluster import Cluster, WebhookError
from installer.cluster.kinds import JOB
from installer.cluster.workload import ReleaseName, Workload, workload, workloads
from installer.diagnosis import diagnosis
from installer.diagnosis.cause import Cause
from installer.diagnosis.image_pull import Holds
from installer.diagnosis.stall_detector import Outlook
from installer.errors import AirferryError, ClusterForbiddenError, ClusterUnreachableError, NotReadyError
from installer.report import Reporter

POLL_SECONDS = 1.0
# Causes are told while waiting as well: somebody can mend them meanwhile.
DIAGNOSE_SECONDS = 5.0
# An API server that has just come back does not know yet who may do what.
UNSETTLED_SECONDS = 20.0
# A program without a probe counts as ready from its start until it fails again.
STEADY_SECONDS = 15.0
AGAIN = "mend the cause, then run the same command again: it continues."
_Answer = TypeVar("_Answer")


@dataclass
class Patience:
    """How long this command may still wait, and how it tells of it. `clock` is monotonic, in seconds.

    `holds` asks the registry for an image that a node cannot find. `while_waiting` is called now and then as long as
    something is waited for.
    """

    seconds: float
    reporter: Reporter
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    holds: Holds = diagnosis.unknown
    while_waiting: Callable[[], None] | None = None
    outlook: Outlook = field(init=False, repr=False)
    _start: float = field(init=False)
    _told: set[tuple[str, str]] = field(init=False, default_factory=set)
    _state: str = field(init=False, default="")
    _diagnosed: float = field(init=False)
    _silence: float | None = field(init=False, default=None)
    _met: dict[tuple[str, str, int], float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._start = self._diagnosed = self.clock()
        self.outlook = Outlook(self.clock)

    def left(self) -> float:
        """Seconds that are left, 0 at least."""
        return max(self.seconds - (self.clock() - self._start), 0.0)

    def over(self) -> bool:
        """Whether the time is used up."""
        return self.left() <= 0

    def rest(self) -> None:
        """Sleep until the next look."""
        if self.while_waiting:
            self.while_waiting()
        self.sleep(POLL_SECONDS)

    def state(self, text: str) -> None:
        """Tell where we are, if that has changed."""
        if text != self._state:
            self._state = text
            self.reporter.note(text)

    def tell(self, causes: Iterable[Cause]) -> None:
        """Tell each cause once for each object."""
        for cause in causes:
            if (cause.cause, cause.object) not in self._told:
                self._told.add((cause.cause, cause.object))
                self.reporter.note(f"  {cause}")

    def may_diagnose(self) -> bool:
        """Whether it is time to look for causes again."""
        if self.clock() - self._diagnosed < DIAGNOSE_SECONDS:
            return False
        self._diagnosed = self.clock()
        return True

    def steady(self, runs: Iterable[tuple[str, str, int]]) -> bool:
        """Whether each of `runs` was met STEADY_SECONDS ago already."""
        now = self.clock()
        first = [self._met.setdefault(run, now) for run in runs]
        return all(now - met >= STEADY_SECONDS for met in first)

    def asked(self, question: Callable[[], _Answer]) -> _Answer:
        """The answer to a question that can be repeated: API servers are restarted while people wait, and so are the
        webhooks behind them.

        Raises ClusterUnreachableError or WebhookError if none comes before the time is over.
        """
        while True:
            try:
                return question()
            except ClusterUnreachableError as exc:
                self._silence = self.clock()
                if self.over():
                    raise ClusterUnreachableError(f"waiting in vain: {exc.message}", hint=AGAIN) from exc
                self.state(f"the API server does not answer; waiting for it ({exc.message})")
            except WebhookError as exc:
                if self.over():
                    raise
                self.state(exc.message)
            except ClusterForbiddenError:
                if self._silence is None or self.clock() - self._silence > UNSETTLED_SECONDS:
                    raise
            with suppress(ClusterUnreachableError):
                self.rest()


def until_rolled_out(cluster: Cluster, release: ReleaseName, patience: Patience) -> list[Workload]:
    """Wait until every workload that Helm made for `release` is rolled out; hook Jobs have then done their work.

    Raises NotReadyError with the cause of each workload that is not, as soon as waiting cannot help;
    ClusterUnreachableError if the API server stays silent until the time is over.
    """

    def look() -> list[Workload] | None:
        # Helm itself waits for hooks: once it calls the release deployed, they have served.
        parts = [item for item in workloads(cluster, release) if not item.hook]
        missing = [item for item in parts if not item.ready]
        if not missing:
            shaky = [item for item in parts if not patience.steady(diagnosis.restarts(cluster, item))]
            if not shaky:
                patience.state(f"{release}: {_count(parts)} rolled out")
                return parts
            if patience.over():
                raise not_ready(cluster, f"release {release}", shaky)
            names = ", ".join(f"{item.kind.name} {item.name}" for item in shaky)
            patience.state(f"{release}: watching whether {names} lasts, which has failed before")
            return None
        patience.state(_progress(release, parts, missing))
        consider(cluster, f"release {release}", missing, patience)
        return None

    while (found := patience.asked(look)) is None:
        patience.rest()
    return found


def consider(cluster: Cluster, what: str, missing: Sequence[Workload], patience: Patience) -> None:
    """Look, from time to time, what is wrong with `missing`, and tell it.

    Raises NotReadyError if the time is over, or if waiting longer cannot help.
    """
    over, failed = patience.over(), any(item.failed for item in missing)
    if not (patience.may_diagnose() or over or failed):
        return
    found = {item: diagnosis.problems(cluster, item, patience.holds) for item in missing}
    if over or patience.outlook.hopeless(found):
        raise not_ready(cluster, what, missing, found)
    patience.tell(cause for causes in found.values() for cause in causes)


def while_hooks_run(
    cluster: Cluster, release: ReleaseName, hooks: Iterable[str], patience: Patience
) -> Callable[[], None]:
    """What to call again and again while Helm waits for the Jobs `hooks`, which it does not explain.

    The call raises NotReadyError once waiting for them cannot help.
    """
    names = sorted(hooks)

    def look() -> None:
        if names and patience.may_diagnose():
            try:
                pending = pending_hooks(cluster, release, names)
                found = {item: diagnosis.problems(cluster, item, patience.holds) for item in pending}
            except ClusterUnreachableError:
                return
            if patience.outlook.hopeless(found):
                raise not_ready(cluster, f"release {release}: a hook", pending, found)
            patience.tell(cause for causes in found.values() for cause in causes)

    return look


def pending_hooks(cluster: Cluster, release: ReleaseName, names: Iterable[str]) -> list[Workload]:
    """Those of the Jobs called `names`, which Helm runs as hooks of `release`, that exist and are not complete."""
    jobs = [cluster.get(JOB, name, release.namespace) for name in sorted(names)]
    return [item for job in jobs if job and not (item := workload(job, JOB)).ready]


def not_ready(
    cluster: Cluster, what: str, missing: Iterable[Workload], found: Mapping[Workload, Sequence[Cause]] | None = None
) -> NotReadyError:
    """The error that names the causes of `missing`, which were `found` or are looked for now."""
    lines = []
    for item in missing:
        lines.append(f"{item}: {item.state}")
        try:
            causes = (found or {}).get(item) or diagnosis.causes(cluster, item)
            lines += [f"  {cause}" for cause in causes]
        except AirferryError as exc:
            lines.append(f"  cause unknown: {exc.message}")
    return NotReadyError("\n  ".join([f"{what} is not ready:", *lines]), hint=AGAIN)


def _count(parts: list[Workload]) -> str:
    return f"{len(parts)} workload{'' if len(parts) == 1 else 's'}"


def _progress(release: ReleaseName, parts: list[Workload], missing: list[Workload]) -> str:
    names = ", ".join(f"{item.kind.name} {item.name} ({item.state})" for item in missing[:4])
    more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
    return f"{release}: {len(parts) - len(missing)} of {_count(parts)} rolled out; waiting for {names}{more}"

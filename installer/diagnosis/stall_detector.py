"""When waiting longer cannot help, from what a wait finds when it looks again and again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from installer.cluster.workload import Workload
from installer.diagnosis.cause import FINAL_AFTER, Cause

# So often a program must have been started again in vain; Kubernetes does it ever more seldom.
FAILED_RUNS = 2
_COUNTED = frozenset({"crash", "out-of-memory", "cannot-start"})
# These may come of waiting for another part of the application, as programs wait for their database.
_DEPENDENT = frozenset({"crash", "deadline-exceeded"})
# A program that fails again and again runs in between: a cause that is away for a moment is not gone.
GAP_SECONDS = 20.0


@dataclass
class _Seen:
    since: float
    last: float
    runs: int
    """How often it had to fail until nothing else was under way."""


class Outlook:
    """Remembers causes by object. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._waiting: frozenset[str] = frozenset()

    def hopeless(self, found: Mapping[Workload, Sequence[Cause]]) -> bool:
        """Whether waiting for the workloads of `found`, which lists what is wrong with each now, is in vain.

        A cause is final once it has lasted (see `cause.FINAL_AFTER`). One that may come of another part of
        the application is so only if no other part can still get ready, and if the program has failed since.
        """
        waiting = frozenset(map(str, found))
        self._note(found, progress=bool(self._waiting - waiting))
        self._waiting = waiting
        lasting = {item: [cause for cause in found[item] if self._lasts(cause)] for item in found}
        if any(item.failed for item in found):
            return True
        if any(cause.cause not in _DEPENDENT for causes in lasting.values() for cause in causes):
            return True
        return bool(found) and all(lasting.values())

    def _note(self, found: Mapping[Workload, Sequence[Cause]], *, progress: bool) -> None:
        now = self._clock()
        self._seen = {key: seen for key, seen in self._seen.items() if now - seen.last <= GAP_SECONDS}
        for cause in (cause for causes in found.values() for cause in causes):
            seen = self._seen.setdefault((cause.cause, cause.object), _Seen(now, now, FAILED_RUNS))
            seen.last = now
            if progress:
                seen.runs = max(FAILED_RUNS, cause.runs + 1)

    def _lasts(self, cause: Cause) -> bool:
        seconds = FINAL_AFTER.get(cause.cause)
        if seconds is None or cause.mending:
            return False
        seen = self._seen[cause.cause, cause.object]
        if cause.cause in _COUNTED and cause.runs < seen.runs:
            return False
        return self._clock() - seen.since >= seconds

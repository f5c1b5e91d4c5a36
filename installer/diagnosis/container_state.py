"""What is wrong with one container of a pod: its image, its start, its end, or its readiness."""

import re
from collections.abc import Iterator
from typing import Any

from installer.cluster.cluster import Cluster, Object
from installer.cluster.kinds import CONFIG_MAP, POD, SECRET, Kind
from installer.diagnosis.cause import MAX_TEXT, Cause, brief
from installer.diagnosis.image_pull import REASONS, Holds, failed_pull, is_silent, pull_cause
from installer.errors import ClusterForbiddenError
from installer.value import Value

LOG_LINES = 5
_MISSING = re.compile(r'(secret|configmap) "([^"]+)" not found', re.IGNORECASE)
_KEY = re.compile(r"couldn't find key (\S+) in (Secret|ConfigMap) (\S+)")
_NOT_STARTED = frozenset({"StartError", "ContainerCannotRun"})
_ROOT_CA = "kube-root-ca.crt"
_CREATION = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "ImageInspectError"})


class ContainerState(Value):
    """One entry of a pod's container statuses; `init` says that it must end before the others start."""

    cluster: Cluster
    pod: Object
    status: dict[str, Any]
    init: bool
    holds: Holds

    @property
    def place(self) -> str:
        """The container, for people."""
        metadata, kind = self.pod["metadata"], "init container" if self.init else "container"
        return f"pod {metadata['namespace']}/{metadata['name']}, {kind} {self.status['name']}"

    def causes(self) -> Iterator[Cause]:
        """What is wrong with it; nothing if it may just need more time."""
        state = self.status.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
        last = (self.status.get("lastState") or {}).get("terminated") or {}
        reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
        if reason in REASONS:
            image, lost = self.status["image"], self._event("FailedToRetrieveImagePullSecret")
            if is_silent(message):
                message = self._event("Failed", failed_pull(image)) or message
            yield pull_cause(self.place, image, reason, message, lost, self.holds)
        elif reason in _CREATION and not last:
            yield configuration_cause(self.cluster, self.pod, self.place, message)
        elif ended.get("exitCode") or (waiting and last.get("exitCode")):
            yield self._ended(ended or last, previous=not ended)
        elif state.get("running") and self.init:
            yield self._still_preparing(state["running"])
        elif state.get("running") and not self.status.get("ready"):
            yield from self._unready(last)

    def _ended(self, run: dict[str, Any], *, previous: bool) -> Cause:
        """It ends with a failure, and is started again and again unless its pod says otherwise."""
        log = self._log(previous=previous)
        runs = int(self.status.get("restartCount") or 0)
        code, reason = run.get("exitCode"), str(run.get("reason") or "Error")
        if reason in _NOT_STARTED:
            step = "correct the command, the security context or the mounts in the values of site.yaml."
            return Cause("cannot-start", self.place, f"cannot start: {brief(run.get('message'))}", step, runs)
        said = f"ends with exit code {code} ({reason}){f' after {runs} restarts' if runs else ''}"
        if reason == "OOMKilled":
            return Cause("out-of-memory", self.place, said, "raise its memory limit in the values of site.yaml.", runs)
        killed = self._event("Killing") if previous else ""
        if "probe" in killed:
            said = f"{said}; {brief(self._event('Unhealthy'))}, therefore the node ended it"
        step = f"read its whole log: {self._command(previous=previous)}; it is the program's own complaint."
        return Cause("crash", self.place, f"{said}{_words(log)}", step, runs)

    def _still_preparing(self, running: dict[str, Any]) -> Cause:
        log = self._log(previous=False)
        said = f"has not ended since {running.get('startedAt', 'its start')}{_words(log)}"
        step = f"it may need more time, or waits for something: {self._command(previous=False)}"
        return Cause("init-running", self.place, said, step)

    def _unready(self, last: dict[str, Any]) -> Iterator[Cause]:
        unhealthy = self._event("Unhealthy")
        if not unhealthy and last.get("exitCode"):
            yield self._ended(last, previous=True)
        if not unhealthy:
            return
        log = self._log(previous=False)
        said = f"runs, but {brief(unhealthy).rstrip(': ')}{_words(log)}"
        step = f"it may need more time; else read its log: {self._command(previous=False)}"
        yield Cause("probe-failing", self.place, said, step)

    def _log(self, *, previous: bool) -> list[str]:
        metadata = self.pod["metadata"]
        where = (metadata["namespace"], metadata["name"], self.status["name"])
        lines = self.cluster.logs(*where, tail=LOG_LINES, previous=previous)
        # The runtime may have thrown the former run away by now.
        return lines or (self.cluster.logs(*where, tail=LOG_LINES) if previous else [])

    def _command(self, *, previous: bool) -> str:
        metadata = self.pod["metadata"]
        words = f"kubectl logs -n {metadata['namespace']} {metadata['name']} -c {self.status['name']}"
        return f"`{words} --previous`" if previous else f"`{words}`"

    def _event(self, reason: str, start: str = "") -> str:
        """The newest message of events of this kind about the pod that begins with `start`; empty if there is none."""
        metadata = self.pod["metadata"]
        found = self.cluster.events(metadata["namespace"], POD.name, metadata["name"])
        said = (str(item.get("message") or "") for item in reversed(found) if item.get("reason") == reason)
        return next((text for text in said if text.startswith(start)), "")


def configuration_cause(cluster: Cluster, pod: Object, where: str, message: str) -> Cause:
    """What a container or volume of `pod` cannot be made from, in the kubelet's words, which may be a while old."""
    said = f"cannot start: {brief(message)}"
    if key := _KEY.search(message):
        return Cause("key-missing", where, said, f"add the key {key[1]} to {key[2]} {key[3]}, or name another one.")
    missing = _MISSING.search(message)
    if not missing:
        return Cause("config-invalid", where, said, "correct the values it is made from in site.yaml.")
    cause, kind = ("secret-missing", SECRET) if missing[1].lower() == "secret" else ("config-map-missing", CONFIG_MAP)
    step = f"create the {kind.name} {missing[2]}, or name another one in site.yaml."
    return Cause(cause, where, said, step, mending=_comes(cluster, kind, missing[2], pod["metadata"]["namespace"]))


def _comes(cluster: Cluster, kind: Kind, name: str, namespace: str) -> bool:
    """Whether the object is there by now, which the kubelet will see, or is made by the cluster in each namespace."""
    try:
        return name == _ROOT_CA or cluster.get(kind, name, namespace) is not None
    except ClusterForbiddenError:
        return False


def _words(log: list[str]) -> str:
    return f"; its last words: {brief(' | '.join(log), 3 * MAX_TEXT)}" if log else "; it wrote nothing"

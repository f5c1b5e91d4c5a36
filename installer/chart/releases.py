"""Helm releases in a cluster: brought to a wanted chart and values, read, removed.

Helm runs in this process (see `installer.chart.helm`). A call into it holds no Python lock but blocks its thread, and
with it the handling of signals; so each runs in a thread of its own, while the caller waits in a way that Ctrl-C ends.
Helm's own configuration, its environment and `KUBECONFIG` are not consulted: every setting is given. Only proxy
variables count, as the process has them when the library is loaded: whoever wants none must take them away before.

What it applies belongs to the field manager `helm`, as with Helm's own program: each goes on with what the other has
made, and what a chart no longer says goes from its objects. Helm's library takes that name from the process's
arguments (Helm, `getManagedFieldsManager` in pkg/kube/client.go), where this program's file may be called anything.
"""

import ctypes
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from installer.chart.helm import Chart, Object, brief, documents
from installer.errors import AirferryError, ClusterError, ClusterForbiddenError, ClusterUnreachableError
from installer.value import Value

HELM_MANAGER = "helm"
CHART_LABEL = "airferry.chart"
TAKEN_LABEL = "airferry.taken"
"""On a release that was made around objects which were there before."""
_LABEL_LENGTH = 63
_POLL_SECONDS = 0.2
_CANCEL_SECONDS = 15.0
RIGHT_LACKING = "forbidden: user "
"""What the API server says, in lower case, of somebody who may not do something (Kubernetes, `forbiddenMessage` in
apiserver/pkg/endpoints/handlers/responsewriters, and pkg/registry/rbac/validation). Quotas, policies and namespaces on
their way out forbid in other words, and no permission helps against them.
"""
# Helm's own words (pkg/action/rollback.go).
_ROLLED_BACK = re.compile(r"Rollback to ([0-9]+)")
_QUOTA = "have the quota raised, or ask for less in the values of site.yaml; then run the same command again."
# Words of the API server, in lower case, and the next step.
_REFUSALS = (
    ("exceeded quota", _QUOTA),
    ("failed quota", _QUOTA),
    ("because it is being terminated", "wait until that namespace is gone; `preflight` tells what it waits for."),
)
_Result = TypeVar("_Result")


class Release(Value):
    """One revision of a release. `status` is Helm's word: deployed, failed, pending-install, superseded, ...

    `origin` is the revision that a rollback made it from, 0 if none did. `taken`: it was made around objects of others.
    """

    name: str
    namespace: str
    revision: int
    status: str
    chart: str
    version: str
    label: str
    origin: int = 0
    taken: bool = False
    objects: tuple[Object, ...] = ()

    @property
    def others(self) -> bool:
        """Whether its objects may be older than it, or somebody else's: they are not ours to remove."""
        return self.taken or not self.label

    @property
    def deployed(self) -> bool:
        """Whether this revision is the one in service."""
        return self.status == "deployed"


class Releases:
    """The releases in one namespace of the cluster that `context` of the file `kubeconfig` names; without a file, of
    the cluster whose pod this is. `server` is the URL of its API server: what is refused there was no answer of it.

    Methods raise ClusterUnreachableError, ClusterForbiddenError, ClusterError. Safe for threads that work on different
    releases. `while_waiting` is called now and then as long as Helm is at work; its errors end that.
    """

    while_waiting: Callable[[], None] | None = None

    def __init__(self, kubeconfig: Path | None, *, context: str = "", namespace: str, server: str = "") -> None:
        self._kubeconfig, self._context, self.namespace = kubeconfig, context, namespace
        self._server = server

    def ensure(
        self,
        chart: Chart,
        release: str,
        values: Mapping[str, Any],
        *,
        timeout: int = 300,
        create_namespace: bool = False,
        skip_crds: bool = False,
        repair: bool = False,
        take_over: bool = False,
        watch: Callable[[], None] | None = None,
    ) -> bool:
        """Bring `release` to `chart` with `values`; whether anything had to be done.

        With `repair` it is upgraded even where it is as wanted, which restores objects that were removed. With
        `take_over` objects of the same names that belong to no release, or to another one, become part of it.

        Waits at most `timeout` seconds for hooks, and for nothing else; `watch` is called meanwhile, and ends the wait
        by raising an error: Helm then marks the release as failed. What an earlier run left unfinished is finished: a
        release that never was in service, or was being removed, is removed and installed anew, since an
        upgrade would not run its install hooks; a broken upgrade goes back to the revision in service first. Objects
        that others have made, or that may be theirs, are never removed for that: it is installed over them.
        """
        wanted = _Wanted(chart, release, values, timeout, skip_crds, take_over, watch)
        history = self.history(release)
        last = history[-1] if history else None
        removed = last is not None and last.status in ("uninstalling", "uninstalled")
        if last is None or removed or not any(item.status in ("deployed", "superseded") for item in history):
            if last and (removed or not last.others):
                self.uninstall(release, timeout=timeout, hooks=False)
            self._install(wanted, create_namespace=create_namespace)
            return True
        if not repair and self.as_wanted(chart, release, values):
            return False
        if last.status.startswith("pending-"):
            self._roll_back(release, history, timeout)
        self._upgrade(wanted)
        return True

    def as_wanted(self, chart: Chart, release: str, values: Mapping[str, Any]) -> bool:
        """Whether `release` is in service with this chart and these values, from here."""
        newest = self.history(release)[-1:]
        found = bool(newest) and newest[0].deployed and newest[0].label == _label(chart)
        return found and _same(self.values(release), values)

    def roll_back(self, release: str, revision: int, *, timeout: int = 300) -> bool:
        """Bring `release` back to what it was at `revision`; whether anything had to be done.

        Waits at most `timeout` seconds for hooks. Raises ClusterError if Helm does not keep that revision any more.
        """
        history = self.history(release)
        newest = history[-1] if history else None
        if newest and newest.deployed and (newest.revision == revision or newest.origin == revision):
            return False
        if revision not in [item.revision for item in history]:
            raise ClusterError(f"release {release}: Helm does not keep revision {revision} any more")
        self._to_revision(release, revision, timeout)
        return True

    def status(self, release: str) -> Release | None:
        """The newest revision with the objects of its manifest (hooks are no part of it); None if there is none."""
        try:
            found = self._run(lambda config: config.status(release), f"read release {release}")
        except _helm().HelmNotFoundError:
            return None
        objects = documents(found.get("manifest", ""), f"release {release}", ClusterError)
        return _release(found, tuple(objects))

    def history(self, release: str) -> list[Release]:
        """All revisions that Helm keeps, oldest first, without their objects; empty if there are none."""
        try:
            found = self._run(lambda config: config.history(release), f"read release {release}")
        except _helm().HelmNotFoundError:
            return []
        return sorted((_release(item, ()) for item in found), key=lambda item: item.revision)

    def values(self, release: str) -> dict[str, Any]:
        """The values that the newest revision was given (not the chart's defaults)."""
        # Helm answers null where nobody has set any.
        return dict(self._run(lambda config: config.get_values(release), f"read the values of release {release}") or {})

    def uninstall(self, release: str, *, timeout: int = 300, hooks: bool = True) -> bool:
        """Remove `release` and wait at most `timeout` seconds until its objects are gone; False if there was none.

        CRDs of the `crds/` folder stay, as Helm leaves them.
        """
        options = json.dumps({"timeout_seconds": timeout, "wait": "watcher", "disable_hooks": not hooks})

        def call(config: Any) -> str:  # the binding's own method lacks `disable_hooks`
            return str(_helm()._native.call_string("helm_uninstall", config._raw(), release, options))  # noqa: SLF001

        try:
            self._run(call, f"uninstall release {release}")
        except _helm().HelmNotFoundError:
            return False
        return True

    def _install(self, wanted: "_Wanted", *, create_namespace: bool) -> None:
        extra = {"replace": True, "create_namespace": create_namespace}
        self._apply("helm_install", wanted, extra, f"install chart {wanted.chart.name} as {wanted.release}")

    def _upgrade(self, wanted: "_Wanted") -> None:
        # Helm 3 has kept its objects from the client's side.
        extra = {"reset_values": True, "max_history": 10, "server_side_apply": "true"}
        self._apply("helm_upgrade", wanted, extra, f"upgrade {wanted.release} to chart {wanted.chart.name}")

    def _apply(self, function: str, wanted: "_Wanted", extra: Mapping[str, Any], doing: str) -> None:
        """Install or upgrade; Ctrl-C makes Helm mark the release as failed."""
        helm = _helm()
        taken = {TAKEN_LABEL: "true"} if wanted.take_over and function == "helm_install" else {}
        options = {
            "namespace": self.namespace,
            "timeout_seconds": wanted.timeout,
            "wait": "hookOnly",
            "labels": {CHART_LABEL: _label(wanted.chart), **taken},
            "skip_crds": wanted.skip_crds,
            "take_ownership": wanted.take_over,
            **extra,
        }
        with helm.HelmContext() as context:

            def call(config: Any) -> str:  # the binding's own methods lack `skip_crds` and `replace`
                with helm.Chart.load_archive(wanted.chart.archive) as handle:
                    arguments = (config._raw(), context._raw(), handle._raw(), None, wanted.release)  # noqa: SLF001
                    texts = (json.dumps(dict(wanted.values)), json.dumps(options))
                    return str(helm._native.call_string(function, *arguments, *texts))  # noqa: SLF001

            self._run(call, doing, cancel=context.cancel, watch=wanted.watch)

    def _roll_back(self, release: str, history: list[Release], timeout: int) -> None:
        """End an upgrade that was killed: Helm refuses the next one while it is pending."""
        good = [item.revision for item in history if item.deployed] or [
            item.revision for item in history if item.status == "superseded"
        ]
        self._to_revision(release, good[-1], timeout)

    def _to_revision(self, release: str, revision: int, timeout: int) -> None:
        self._run(
            lambda config: config.rollback(release, version=revision, timeout=timeout, wait="hookOnly"),
            f"roll release {release} back to revision {revision}",
        )

    def _run(
        self,
        call: Callable[[Any], _Result],
        doing: str,
        cancel: Callable[[], None] | None = None,
        watch: Callable[[], None] | None = None,
    ) -> _Result:
        """`call` with a configuration, in a thread. HelmNotFoundError passes; all else becomes ours."""
        helm = _helm()

        def work() -> _Result:
            place = {"kube_context": self._context or None, "namespace": self.namespace}
            with helm.Config(kubeconfig_path=self._kubeconfig, **place) as config:
                return call(config)

        try:
            return _in_thread(work, cancel, [each for each in (watch, self.while_waiting) if each])
        except helm.HelmNotFoundError:
            raise
        except helm.HelmError as exc:
            raise _converted(exc, doing, self._server) from exc


class _Wanted(Value):
    chart: Chart
    release: str
    values: Mapping[str, Any]
    timeout: int
    skip_crds: bool
    take_over: bool
    watch: Callable[[], None] | None


@cache
def _helm() -> Any:
    """The binding; its library is loaded by a process that seems to be called `helm`, see above.

    The C library keeps the place of the arguments in `_dl_argv` and tells it to every library that is loaded (glibc,
    elf/dl-init.c); Go refers to the texts there ever after. What others see of this process stays as it is.
    """
    arguments = ctypes.POINTER(ctypes.c_void_p).in_dll(ctypes.CDLL(None), "_dl_argv")
    former, arguments[0] = arguments[0], ctypes.addressof(_NAME)
    try:
        import helm_python
    finally:
        arguments[0] = former
    return helm_python


_NAME = ctypes.create_string_buffer(HELM_MANAGER.encode())


def _in_thread(
    work: Callable[[], _Result], cancel: Callable[[], None] | None, watches: Iterable[Callable[[], None]]
) -> _Result:
    """Run `work` in a thread and call `watches` meanwhile.

    If one of them raises, or a signal does, `cancel` the work, give it a moment for that, and pass the exception on.
    Without `cancel` the thread is left behind: it ends with the process.
    """
    results: list[_Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as exc:  # noqa: BLE001 - raised again in the caller
            errors.append(exc)

    thread = threading.Thread(target=run, name="helm", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_POLL_SECONDS)
            for watch in watches if thread.is_alive() else ():
                watch()
    except BaseException:
        if cancel is not None:
            cancel()
            thread.join(_CANCEL_SECONDS)
        raise
    if errors:
        raise errors[0]
    return results[0]


def _converted(exc: Exception, doing: str, server: str) -> AirferryError:
    """Ours for an error of Helm's. What the API server at `server` tells of others, such as webhooks that refuse
    connections, is its answer."""
    text = brief(exc)
    lower = text.lower()
    for sign, hint in _REFUSALS:
        if sign in lower:
            return ClusterError(f"cannot {doing}: {text}", hint=hint)
    if RIGHT_LACKING in lower or "unauthorized" in lower or "provide credentials" in lower:
        return ClusterForbiddenError(
            f"cannot {doing}: {text}", hint="check the kubeconfig's user and what it is allowed to do."
        )
    # As Go words it: the request with its URL, and what became of it.
    refused = server and re.search(rf'"{re.escape(server.rstrip("/"))}[/?][^"]*": dial [^"]*connection refused', text)
    if isinstance(exc, _helm().HelmKubeError) or "kubernetes cluster unreachable" in lower or refused:
        return ClusterUnreachableError(
            f"cannot {doing}: {text}", hint="check the kubeconfig, its context and the network."
        )
    return ClusterError(f"cannot {doing}: {text}", hint="correct the cause, then run the same command again.")


def _label(chart: Chart) -> str:
    """The chart's digest as the value of a label, which holds 63 characters at most."""
    return chart.digest.hex[:_LABEL_LENGTH]


def _release(found: Mapping[str, Any], objects: tuple[Object, ...]) -> Release:
    return Release(
        name=found["name"],
        namespace=found["namespace"],
        revision=found["revision"],
        status=found["status"],
        chart=found.get("chart_name", ""),
        version=found.get("chart_version", ""),
        label=(found.get("labels") or {}).get(CHART_LABEL, ""),
        taken=TAKEN_LABEL in (found.get("labels") or {}),
        origin=int(match[1]) if (match := _ROLLED_BACK.fullmatch(found.get("description") or "")) else 0,
        objects=objects,
    )


def _same(left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    return json.dumps(left, sort_keys=True) == json.dumps(dict(right), sort_keys=True)

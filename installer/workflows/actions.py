"""What an installation, an upgrade, a rollback and a removal do to a cluster; each action converges."""

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress

from installer.chart.releases import HELM_MANAGER, Releases
from installer.cluster import cert_manager, volumes
from installer.cluster.cluster import (
    FIELD_MANAGER,
    AbsentError,
    ConflictError,
    Object,
    WebhookError,
    bare,
    describe,
    in_namespace,
    known,
    live,
    namespace_of,
)
from installer.cluster.kinds import CUSTOM_RESOURCE_DEFINITION, NAMESPACE, SERVICE_ACCOUNT
from installer.cluster.managed_fields import handed_over, shared
from installer.cluster.release_record import forget_pending
from installer.cluster.workload import ReleaseName, Workload, condition, marked, of_release
from installer.diagnosis.wait import AGAIN, not_ready, pending_hooks, until_rolled_out, while_hooks_run
from installer.errors import AirferryError, ClusterError, ClusterForbiddenError, NotReadyError
from installer.objects.desired import ChartRelease
from installer.workflows.lease import Means
from installer.workflows.record import InstalledObject, InstalledStep

LEAST_HOOK_SECONDS = 30
ATTEMPTS = 5
SERVED_SECONDS = 60.0
"""How long a kind, or the webhook in front of it, may take until it can be used."""


class Actions:
    """The actions of one command; `changed` names what they had to write, in order, `kept` what a removal leaves.

    With `take_over` what others have set of the objects is overwritten, and goes where it is not applied from here.
    """

    def __init__(self, means: Means, *, take_over: bool = False, changed: Iterable[str] = ()) -> None:
        self.cluster, self.releases, self.patience = means.cluster, means.releases, means.patience
        self.take_over = take_over
        self.changed, self.kept = list(changed), list[str]()

    def note(self, what: str) -> None:
        """Tell of a change, and keep it in mind."""
        self.changed.append(what)
        self.patience.reporter.note(f"applied {what}")

    # --- objects

    def apply(self, obj: Object, *, force: bool = False) -> Object:
        """Server-side apply; noted as a change if that changed more than its status, which others write meanwhile.

        With `force` what others have set is overwritten.
        """
        cluster, metadata = self.cluster, obj["metadata"]
        kind = cluster.kind(obj["apiVersion"], obj["kind"])
        before = cluster.get(kind, metadata["name"], metadata.get("namespace", ""))
        if kind not in _OF_ALL:
            self._hand_over(obj, FIELD_MANAGER)
        after = cluster.apply(obj, force=force or self.take_over)
        if before is None or bare(before) != bare(after):
            self.note(describe(obj))
        return after

    def apply_once_served(self, obj: Object, *, force: bool = False) -> Object:
        """The same for an object whose kind, or whose webhook, may have been installed a moment ago.

        Raises the API server's refusal once it has lasted for `SERVED_SECONDS`.
        """
        start = self.patience.clock()
        while True:
            try:
                return self.apply(obj, force=force)
            except (AbsentError, WebhookError) as exc:
                if self.patience.over() or self.patience.clock() - start >= SERVED_SECONDS:
                    raise
                self.patience.state(f"{describe(obj)}: {exc.message}")
            self.patience.rest()

    def take_over_whole(self, obj: Object) -> None:
        """With `take_over`: everything in `spec` becomes ours, and goes by and by where it is not in `obj`."""
        self._hand_over(obj, FIELD_MANAGER, "spec")

    def _hand_over(self, obj: Object, manager: str, part: str = "") -> bool:
        """Make `manager` the owner of what others have set of `obj`; see `installer.cluster.managed_fields`.

        Whether there was anything. Nothing but the ownership changes: applying does the rest.
        """
        if not self.take_over or (kind := known(self.cluster, obj)) is None:
            return False
        name, namespace = obj["metadata"]["name"], namespace_of(obj, "")
        for attempt in range(ATTEMPTS):
            held = self.cluster.get(kind, name, namespace)
            entries = shared(held, obj, manager, part) if held else []
            if not (held and entries):
                return False
            version = held["metadata"]["resourceVersion"]
            change = {"managedFields": handed_over(held, entries, manager), "resourceVersion": version}
            try:
                self.cluster.merge(kind, name, namespace, {"metadata": change})
            except ConflictError:
                if attempt + 1 == ATTEMPTS:
                    raise
            else:
                break
        return True

    def delete(self, items: Iterable[InstalledObject]) -> list[str]:
        """Delete objects, the last one first, and see them gone; what was there. Kinds that are gone count as deleted.

        Raises NotReadyError if one is not gone in time.
        """
        gone = []
        for item in reversed(list(items)):
            try:
                kind = self.cluster.kind(item.api_version, item.kind)
            except AbsentError:
                continue
            if not self.cluster.delete(kind, item.name, item.namespace):
                continue
            while held := self.cluster.get(kind, item.name, item.namespace):
                waits = ", ".join(held["metadata"].get("finalizers") or [])
                self.patience.state(f"{item}: being deleted{f', waits for {waits}' if waits else ''}")
                if self.patience.over():
                    what = f"; its finalizers are not served: {waits}" if waits else ""
                    raise NotReadyError(f"{item} is not deleted in time{what}", hint=AGAIN)
                self.patience.rest()
            gone.append(str(item))
        return gone

    def namespaces(self, names: Mapping[str, Mapping[str, str]], owners: Mapping[str, ReleaseName]) -> None:
        """Create the namespaces that are missing, and give all of them their labels.

        One that a chart makes itself, and nobody has made before, is marked for its release in `owners`: then Helm
        takes it as its own (Helm, pkg/action/validate.go).
        """
        for name, labels in names.items():
            try:
                held = self.cluster.get(NAMESPACE, name)
            except ClusterForbiddenError:
                # Who may only work inside a namespace cannot look at it from outside.
                continue
            if held is None or labels:
                item: Object = {"apiVersion": "v1", "kind": "Namespace"}
                item["metadata"] = {"name": name, "labels": dict(labels)}
                owner = owners.get(name)
                self.apply(marked(item, owner) if owner and (held is None or of_release(held, owner)) else item)

    def keep_volumes(self, steps: Iterable[InstalledStep], staying: Collection[str]) -> None:
        """Keep the volumes whose claims Helm will delete when `steps` change or go and only the claims `staying` stay.

        Raises ClusterForbiddenError if that is not allowed.
        """
        names = [step.name for step in steps if step.chart]
        found = volumes.at_stake(self.cluster, self.releases, names, staying)
        volumes.retain(self.cluster, found)
        for item in found:
            self.patience.reporter.note(f"kept {item}")

    def manifests(self, name: ReleaseName, objects: Iterable[Object]) -> list[Workload]:
        """Apply objects, definitions and namespaces first, and wait until the workloads among them are rolled out."""
        ordered = sorted(objects, key=lambda item: _FIRST.get(item["kind"], len(_FIRST)))
        places = {name.namespace}
        for item in ordered:
            placed = item if item["kind"] in _FIRST else in_namespace(self.cluster, item, name.namespace)
            if place := placed["metadata"].get("namespace"):
                places.add(place)
            self.apply_once_served(placed)
            if item["kind"] == CUSTOM_RESOURCE_DEFINITION.name:
                self.until_served([item["metadata"]["name"]])
        return [
            part
            for place in sorted(places)
            for part in until_rolled_out(self.cluster, ReleaseName(name.name, place), self.patience)
        ]

    # --- releases

    def release(self, release: ChartRelease) -> list[Workload]:
        """A chart that Helm installs from here, until its workloads are rolled out."""
        definitions = release.definitions
        for crd in definitions:
            self.apply(crd)
        self.until_served(crd["metadata"]["name"] for crd in definitions)
        self._ensure(release)
        # Definitions among a chart's templates are served a moment after Helm has made them.
        self.until_served(
            item["metadata"]["name"] for item in release.objects if item["kind"] == CUSTOM_RESOURCE_DEFINITION.name
        )
        self._until_trusted(release, release.objects)
        rolled_out = until_rolled_out(self.cluster, release.name, self.patience)
        self._until_trusted(release, [self._definition(*kind) for kind in sorted(release.brought)])
        return rolled_out

    def _until_trusted(self, release: ChartRelease, made: Iterable[Object]) -> None:
        """Wait until cert-manager has done its part for the objects `made`. Raises NotReadyError."""
        objects = cert_manager.waited_for(made)
        while missing := list(cert_manager.pending(self.cluster, objects, release.name.namespace)):
            self.patience.state(f"release {release.name}: {missing[0]}")
            if self.patience.over():
                raise NotReadyError(
                    "\n  ".join([f"release {release.name} is not ready:", *missing]),
                    hint=f"look at the pods of cert-manager and at their logs; {AGAIN}",
                )
            self.patience.rest()

    def _definition(self, api_version: str, name: str) -> Object:
        """The definition of a kind that a hook or a program of a chart makes. Raises ClusterError if it stays away."""
        start = self.patience.clock()
        while True:
            with suppress(AbsentError):
                kind = self.cluster.kind(api_version, name)
                if held := self.cluster.get(CUSTOM_RESOURCE_DEFINITION, str(kind)):
                    return held
            if self.patience.over() or self.patience.clock() - start >= SERVED_SECONDS:
                raise ClusterError(f"kind {name} of {api_version} is not served", hint=AGAIN)
            self.patience.rest()

    def back_to(self, step: InstalledStep, revision: int) -> list[Workload]:
        """A release that Helm has had at `revision` before, until its workloads are rolled out."""
        helm, seconds = self.releases(step.namespace), max(int(self.patience.left()), LEAST_HOOK_SECONDS)
        self.patience.reporter.note(
            f"release {step.name}: chart {step.chart} {step.version}, as in revision {revision}"
        )
        try:
            changed = helm.roll_back(step.release, revision, timeout=seconds)
        except ClusterError as exc:
            raise self._hooks_explained(exc, step.name, step.hooks) from exc
        if changed:
            self.note(f"release {step.name}")
        return until_rolled_out(self.cluster, step.name, self.patience)

    def uninstall(self, step: InstalledStep, *, seconds: int = LEAST_HOOK_SECONDS) -> bool:
        """Remove a release that Helm made from here; whether there was one."""
        longest = max(int(self.patience.left()), seconds)
        return self.releases(step.namespace).uninstall(step.release, timeout=longest)

    def until_served(self, names: Iterable[str]) -> None:
        """Wait until the CustomResourceDefinitions `names` are served. Raises ClusterError if that takes too long."""
        for name in names:
            start = self.patience.clock()
            while not self._served(name):
                if self.patience.over() or self.patience.clock() - start >= SERVED_SECONDS:
                    raise ClusterError(f"CustomResourceDefinition {name} is not served", hint=AGAIN)
                self.patience.rest()

    def _served(self, name: str) -> bool:
        held = self.cluster.get(CUSTOM_RESOURCE_DEFINITION, name)
        return held is not None and condition(held, "Established").get("status") == "True"

    def _ensure(self, release: ChartRelease) -> None:
        """Helm's part; a hook that does not finish is explained. Objects that somebody removed are restored."""
        helm, name = self.releases(release.name.namespace), release.name.name
        seconds = max(int(self.patience.left()), LEAST_HOOK_SECONDS)
        self.patience.reporter.note(f"release {release.name}: chart {release.chart.name} {release.chart.version}")
        watch = while_hooks_run(self.cluster, release.name, release.hooks, self.patience)
        newest = helm.history(name)[-1:]
        if newest and newest[0].status == "pending-install" and newest[0].others:
            # Helm does not go on with that, and what stands there may not be removed: only the record may.
            forget_pending(self.cluster, name, release.name.namespace)
        kept = [item for item in release.kept if item["kind"] != NAMESPACE.name]
        objects = [in_namespace(self.cluster, item, release.name.namespace) for item in kept]
        taken = [self._hand_over(item, HELM_MANAGER) for item in objects]

        def ensure(*, repair: bool = any(taken)) -> bool:
            return helm.ensure(
                release.chart,
                name,
                release.values,
                timeout=seconds,
                skip_crds=True,
                repair=repair,
                take_over=self.take_over,
                watch=watch,
            )

        try:
            changed = self.patience.asked(ensure)
            if not changed and (lost := self._lost(helm, release)):
                self.patience.reporter.note(f"release {release.name}: restoring {', '.join(lost)}")
                changed = self.patience.asked(lambda: ensure(repair=True))
        except ClusterError as exc:
            raise self._hooks_explained(exc, release.name, release.hooks) from exc
        if changed:
            self.note(f"release {release.name}")

    def _hooks_explained(self, exc: ClusterError, name: ReleaseName, hooks: Iterable[str]) -> AirferryError:
        """`exc`, which Helm ended with, or rather the hook that did not finish."""
        pending = pending_hooks(self.cluster, name, hooks)
        return not_ready(self.cluster, f"release {name}: {exc.message}", pending) if pending else exc

    def _lost(self, helm: Releases, release: ChartRelease) -> list[str]:
        """The objects of the deployed revision that are no longer in the cluster."""
        held = helm.status(release.name.name)
        made, place = held.objects if held else (), release.name.namespace
        return [describe(item) for item in made if live(self.cluster, item, place) is None]


_OF_ALL = (NAMESPACE, SERVICE_ACCOUNT)
"""Kinds whose objects others use, too: what they have set there stays."""
_FIRST = {"Namespace": 0, CUSTOM_RESOURCE_DEFINITION.name: 1}

"""Take an installation out of the cluster, whatever state it is in, and say what stays.

Steps go in the reverse of the order in which they came, so that a resource goes while its controller can still tidy up.
"""

from contextlib import suppress
from functools import partial

from installer.cluster import volumes
from installer.cluster.cluster import AbsentError, Cluster, Object
from installer.cluster.kinds import (
    CONFIG_MAP,
    CUSTOM_RESOURCE_DEFINITION,
    JOB,
    SECRET,
    VOLUME,
    VOLUME_CLAIM,
    Kind,
    kind_named,
)
from installer.cluster.workload import ReleaseName, of_release
from installer.diagnosis.wait import AGAIN
from installer.errors import ClusterError, NotReadyError
from installer.objects.desired import MANAGED_BY
from installer.value import Value
from installer.workflows import history, lease
from installer.workflows.actions import Actions
from installer.workflows.driver import driver_of
from installer.workflows.lease import Means
from installer.workflows.phases import Phase, carried_out
from installer.workflows.record import PREFIX, InstalledStep, Record
from installer.workflows.removal import removed


class Leftover(Value):
    """An object that outlives its release. `ours`: the installation made it, nobody else."""

    kind: Kind
    namespace: str
    name: str
    reason: str
    ours: bool

    @property
    def label(self) -> str:
        """`Kind namespace/name`."""
        return f"{self.kind.name} {f'{self.namespace}/' if self.namespace else ''}{self.name}"

    def __str__(self) -> str:
        return f"{self.label} ({self.reason})"


class Removal(Value):
    """What was removed, in order, and what stays on purpose, each with the reason."""

    removed: tuple[str, ...]
    kept: tuple[str, ...]


def uninstall(means: Means, record: Record, *, data: bool = False, crds: bool = False) -> Removal:
    """Remove what `record` describes, with `data` also what `data_of` tells, with `crds` the kinds that it brought.

    Run again after an interruption, it goes on. Raises ClusterError if an object cannot be removed or somebody else is
    at work, ClusterForbiddenError before anything is removed if data cannot be kept from being deleted by a chart,
    NotReadyError if the time does not suffice.
    """
    with lease.held(means, record.bundle, record.namespace) as held:
        work = _Work(held, record, data=data, crds=crds)
        carried_out(phases(record, data=data), work, means.patience.reporter)
    return Removal(tuple(work.removed), tuple(work.kept))


def phases(record: Record, *, data: bool = False) -> list[Phase["_Work"]]:
    """What `uninstall` does, in order: steps in the reverse of the order in which they came."""
    return [
        Phase("look around", _Work.look_around, needed=any(step.brings for step in record.steps)),
        Phase("keep volumes", _Work.keep_volumes, needed=not data),
        *(
            Phase(f"remove {step.kind} {step.name}", partial(_remove, step), tuple(map(str, step.objects)))
            for step in reversed(record.steps)
        ),
        Phase("remove data" if data else "see what stays", _Work.remove_data),
        Phase("remove the record", _Work.remove_record),
    ]


def _remove(step: InstalledStep, work: "_Work") -> None:
    work.remove(step)


class _Work:
    """What the phases of one removal work with, and what they have reached."""

    def __init__(self, means: Means, record: Record, *, data: bool, crds: bool) -> None:
        self._cluster, self._releases, self._patience = means.cluster, means.releases, means.patience
        self._record, self._data, self._crds = record, data, crds
        self._actions, self._driver = Actions(means), driver_of(record.driver)
        self._saved, self._brought = list[Leftover](), set[str]()
        self.removed, self.kept = list[str](), list[str]()

    def look_around(self) -> None:
        """Find the definitions that hooks or programs have made, while those serve."""
        for text in sorted({text for step in self._record.steps for text in step.brings}):
            with suppress(AbsentError):
                self._brought.add(str(self._cluster.kind(*kind_named(text))))

    def keep_volumes(self) -> None:
        """Make the volumes of claims that go with their releases stay."""
        names = [step.name for step in self._record.all_charts]
        found = volumes.at_stake(self._cluster, self._releases, names)
        volumes.retain(self._cluster, found)
        self._saved = [_volume(item) for item in found]

    def remove(self, step: InstalledStep) -> None:
        """Remove one step, and the Jobs of its hooks, which Helm leaves where a chart does not say otherwise."""
        for what in removed(step, self._actions, self._driver, data=self._data):
            self._note(what)
        self._hook_jobs(step)

    def remove_data(self) -> None:
        """See what outlives the steps; delete it if data shall go."""
        record = self._record
        left = list({item.label: item for item in (*self._saved, *data_of(self._cluster, record))}.values())
        if self._data:
            self._delete([item for item in left if item.ours])
            left = [item for item in left if not item.ours]
        self.kept += [str(item) for item in left] + self._kinds(delete=self._crds)
        names = sorted({step.namespace for step in record.steps if step.namespace})
        self.kept += self._actions.kept
        self.kept += [f"Namespace {name}" for name in names]
        self.kept += self._driver.after_removal(record, self._actions, self._note)

    def remove_record(self) -> None:
        """The record goes last: until then a second run finds its way."""
        record = self._record
        own = ((SECRET, history.secret_name(record.bundle)), (CONFIG_MAP, f"{PREFIX}{record.bundle}"))
        for kind, name in own:
            if self._cluster.delete(kind, name, record.namespace):
                self._note(f"{kind.name} {record.namespace}/{name}")

    def _hook_jobs(self, step: InstalledStep) -> None:
        """Remove the Jobs of hooks, which Helm leaves where a chart does not say otherwise."""
        for name in step.hooks:
            if self._cluster.delete(JOB, name, step.namespace):
                self._note(f"Job {step.namespace}/{name}")

    def _delete(self, items: list[Leftover]) -> None:
        """Delete `items` and see them gone: a volume claim waits for the last pod that uses it.

        Volumes that were kept from going with their claims are left to Kubernetes again.
        """
        kept = [item for item in items if item.kind == VOLUME]
        gone = [item for item in items if item.kind != VOLUME]
        for item in [each for each in gone if self._cluster.delete(each.kind, each.name, each.namespace)]:
            while self._cluster.get(item.kind, item.name, item.namespace):
                self._patience.state(f"{item.label}: being deleted")
                if self._patience.over():
                    raise NotReadyError(f"{item.label} is not deleted in time", hint=AGAIN)
                self._patience.rest()
            self._note(item.label)
        for item in kept:
            if volumes.let_go(self._cluster, item.name):
                self._note(item.label)

    def _kinds(self, *, delete: bool) -> list[str]:
        """What is said of the CRDs that stay; with `delete` those go of which no object exists any more."""
        kept = []
        for name in sorted({*(name for step in self._record.steps for name in step.crds), *self._brought}):
            definition = self._cluster.get(CUSTOM_RESOURCE_DEFINITION, name)
            if definition is None:
                continue
            reason = "others may use it"
            if delete:
                count = len(self._cluster.find(_kind_of(definition)))
                if not count and self._cluster.delete(CUSTOM_RESOURCE_DEFINITION, name):
                    self._note(f"CustomResourceDefinition {name}")
                    continue
                reason = f"{count} objects of it exist"
            kept.append(f"CustomResourceDefinition {name} ({reason})")
        return kept

    def _note(self, what: str) -> None:
        self.removed.append(what)
        self._patience.reporter.note(f"removed {what}")


def data_of(cluster: Cluster, record: Record) -> list[Leftover]:
    """Data and keys of the installation, which `uninstall` leaves unless it is told otherwise."""
    found: dict[tuple[Kind, str, str], Leftover] = {}
    for place in _secrets(cluster, record):
        namespace, _, name = place.partition("/")
        held = cluster.get(SECRET, name, namespace)
        if held is not None:
            ours = (held["metadata"].get("labels") or {}).items() >= MANAGED_BY.items()
            found[SECRET, namespace, name] = Leftover(SECRET, namespace, name, "given by the site", ours)
    for chart in record.all_charts:
        for item in _left(cluster, chart.name):
            found.setdefault((item.kind, item.namespace, item.name), item)
        for volume in volumes.retained(cluster, chart.name):
            found[VOLUME, "", volume.name] = _volume(volume)
    return list(found.values())


def _secrets(cluster: Cluster, record: Record) -> list[str]:
    """The site's Secrets of the present state and of former ones, as `namespace/name`."""
    found = set(record.secrets)
    # Who wants to be rid of an installation is not to mend its history first.
    with suppress(ClusterError):
        for revision in history.read(cluster, record).revisions:
            found.update(revision.record.secrets)
    return sorted(found)


def _left(cluster: Cluster, release: ReleaseName) -> list[Leftover]:
    """Volume claims hold data, and Secrets the keys to it: a new installation needs both."""
    # A StatefulSet makes its claims itself, with the labels of its pods and no note of Helm's.
    found = [
        _leftover(VOLUME_CLAIM, item, "holds data", ours=True)
        for item in cluster.find(VOLUME_CLAIM, release.namespace)
        if of_release(item, release) or _labelled(item, release)
    ]
    for item in cluster.find(SECRET, release.namespace):
        made = of_release(item, release)
        if made or _labelled(item, release):
            found.append(_leftover(SECRET, item, "holds keys that a new installation needs", ours=made))
    return found


def _volume(item: volumes.Volume) -> Leftover:
    return Leftover(VOLUME, "", item.name, item.content, ours=True)


def _leftover(kind: Kind, item: Object, reason: str, *, ours: bool) -> Leftover:
    return Leftover(kind, item["metadata"]["namespace"], item["metadata"]["name"], reason, ours)


def _labelled(item: Object, release: ReleaseName) -> bool:
    labels = item["metadata"].get("labels") or {}
    return bool(labels.get("app.kubernetes.io/instance") == release.name)


def _kind_of(definition: Object) -> Kind:
    """The kind that a CustomResourceDefinition makes, in the version that is stored."""
    spec = definition["spec"]
    version = next(item["name"] for item in spec["versions"] if item.get("storage"))
    names = spec["names"]
    return Kind(spec["group"], version, names["kind"], names["plural"], namespaced=spec["scope"] == "Namespaced")

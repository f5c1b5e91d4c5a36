"""What an installation has been, revision by revision, kept in the cluster: what `rollback` goes back to.

One Secret `airferry-NAME-revisions` beside the record, a key for each revision. It is a Secret because values may be
confidential, and holds none of the site's secrets: values only name the Secrets that do.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from installer.cluster.cluster import Cluster, Object
from installer.cluster.kinds import CUSTOM_RESOURCE_DEFINITION, SECRET
from installer.errors import ClusterError
from installer.objects.desired import MANAGED_BY, ChartRelease, Desired
from installer.oci.digest import Digest
from installer.value import Value, plain, replace, typed
from installer.workflows import record
from installer.workflows.hook_images import pod_of
from installer.workflows.record import Record

KEPT = 5
MAX_SECRET = 768 * 1024
_PREFIX, _SUFFIX = "revision-", ".json"


class ReleaseState(Value):
    """A release that Helm installed from the installer: the digest of its values, and Helm's number of its revision.

    `revision` is 0 until it is known.
    """

    release: str
    namespace: str
    values: str
    revision: int = 0


class Access(Value):
    """The registry of the enclave and how it is reached; `ca` is PEM or empty. Credentials are kept in the Secret
    `pull_secret` (empty: there is none), `token_hosts` are further hosts that may get them.

    With `on_nodes` there is none: the nodes have the images under its name.
    """

    host: str
    plain_http: bool
    ca: str = ""
    on_nodes: bool = False
    token_hosts: tuple[str, ...] = ()
    pull_secret: str = ""


class Revision(Value):
    """A state that an installation was brought to, or, unless `finished`, was on its way to.

    `origin` is the number of the revision that a rollback went back to; 0 for an installation or an upgrade.
    `objects` are what resources and manifests were as they were applied, by the keys of their steps; definitions of
    kinds left out. `images` are the references that the cluster asks for, each with its digest. `hook_pods` are what
    runs as hooks of releases that controllers make, by the keys of their steps, see `hook_images.pod_of`. `claims` are
    the volume claims that the charts make as objects of their own.
    """

    number: int
    record: Record
    finished: bool
    origin: int
    releases: tuple[ReleaseState, ...]
    access: Access
    objects: Mapping[str, tuple[Object, ...]]
    images: Mapping[str, str]
    hook_pods: Mapping[str, tuple[Object, ...]]
    claims: tuple[str, ...] = ()

    def same(self, other: "Revision") -> bool:
        """Whether both describe one state, however and whenever it came about."""

        def state(item: Revision) -> tuple[Any, ...]:
            releases = tuple(replace(each, revision=0) for each in item.releases)
            return replace(item.record, time=""), releases, dict(item.objects), dict(item.images)

        return state(self) == state(other)

    def document(self) -> dict[str, Any]:
        """What `history` tells of it, as plain values."""
        charts = {f"{item.namespace}/{item.release}": f"{item.chart} {item.version}" for item in self.record.all_charts}
        return {
            "revision": self.number,
            "bundle": self.record.bundle,
            "version": self.record.version,
            "sequence": self.record.sequence,
            "time": self.record.time,
            "finished": self.finished,
            "from": self.origin,
            "charts": charts,
        }

    def line(self) -> str:
        """The same for people."""
        origin = f", back to revision {self.origin}" if self.origin else ""
        end = "" if self.finished else ", not finished"
        return f"{self.number}  {self.record.time}  {self.record.bundle} {self.record.version}{origin}{end}"


class History(Value):
    """The revisions that are kept of an installation, oldest first."""

    revisions: tuple[Revision, ...]

    @property
    def last(self) -> Revision | None:
        """The newest one, finished or not."""
        return self.revisions[-1] if self.revisions else None

    @property
    def settled(self) -> Revision | None:
        """The newest one that was reached."""
        return next((item for item in reversed(self.revisions) if item.finished), None)

    def before(self) -> Revision | None:
        """What a rollback goes back to: the newest state that was reached and is not the present one."""
        last = self.last
        if last is None:
            return None
        if not last.finished and last.origin:
            return next((item for item in self.revisions if item.number == last.origin), None)
        earlier = [item for item in self.revisions[:-1] if item.finished and not item.same(last)]
        return earlier[-1] if earlier else None

    def with_revision(self, new: Revision) -> "History":
        """This history and `new`, in place of the revision of the same number if there is one."""
        return History((*(item for item in self.revisions if item.number != new.number), new))

    def next_number(self) -> int:
        """The number of a new revision."""
        return self.last.number + 1 if self.last else 1


def revision(number: int, note: Record, wanted: Desired, access: Access) -> Revision:
    """The unfinished revision `number`: what `note` and `wanted` say."""

    def state(release: ChartRelease) -> ReleaseState:
        return ReleaseState(release.name.name, release.name.namespace, values_digest(release.values))

    images = {reference: digest.text for reference, digest in sorted(wanted.images.items())}
    return Revision(
        number=number,
        record=note,
        finished=False,
        origin=0,
        releases=tuple(state(release) for release in wanted.installed),
        access=access,
        objects={
            record.installed_step(step).key: tuple(
                item for item in step.objects if item["kind"] != CUSTOM_RESOURCE_DEFINITION.name
            )
            for step in wanted.applied
        },
        images=images,
        hook_pods={
            record.installed_step(step).key: hook_pods(step.installs) for step in wanted.resources if step.installs
        },
        claims=tuple(sorted(wanted.claims)),
    )


def hook_pods(release: ChartRelease) -> tuple[Object, ...]:
    """What runs as hooks of `release`, see `hook_images.pod_of`."""
    return tuple(pod for item in release.hook_objects if (pod := pod_of(item)))


def values_digest(values: Mapping[str, Any]) -> str:
    """The digest of chart values; equal values have equal ones."""
    return Digest.of(json.dumps(dict(values), sort_keys=True).encode()).text


def read(cluster: Cluster, note: Record) -> History:
    """The history of the installation that `note` describes. Raises ClusterError if it is damaged."""
    held = cluster.get(SECRET, secret_name(note.bundle), note.namespace)
    data = (held or {}).get("data") or {}
    found = [
        _parsed(base64.b64decode(text), f"Secret {note.namespace}/{secret_name(note.bundle)}, {key}")
        for key, text in data.items()
        if key.startswith(_PREFIX) and key.endswith(_SUFFIX)
    ]
    return History(tuple(sorted(found, key=lambda item: item.number)))


def keep(cluster: Cluster, history: History, new: Revision) -> History:
    """Write `history` with `new` as its last revision; the oldest make room. Returns what is kept."""
    whole = history.with_revision(new)
    texts: dict[str, str] = {}
    kept: list[Revision] = []
    room = MAX_SECRET
    for item in reversed(_worth_keeping(whole.revisions)):
        text = json.dumps(plain(item), sort_keys=True)
        room -= len(text)
        if room < 0 and kept:
            break
        kept.append(item)
        texts[f"{_PREFIX}{item.number}{_SUFFIX}"] = base64.b64encode(text.encode()).decode()
    cluster.apply(_object(new.record, texts))
    return History(tuple(reversed(kept)))


def secret_name(bundle: str) -> str:
    """The Secret of the installation of `bundle`."""
    return f"{record.PREFIX}{bundle}-revisions"


def _worth_keeping(revisions: Sequence[Revision]) -> list[Revision]:
    """The last `KEPT`; of attempts that came to nothing only the newest."""
    useful = [item for item in revisions if item.finished or item is revisions[-1]]
    return useful[-KEPT:]


def _object(note: Record, texts: Mapping[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": secret_name(note.bundle),
            "namespace": note.namespace,
            "labels": {**MANAGED_BY, "app.kubernetes.io/component": "revisions"},
        },
        "type": "airferry/revisions",
        "data": dict(texts),
    }


def _parsed(raw: bytes, what: str) -> Revision:
    # Values may hold keys that differ only in case (`http_proxy`, `HTTP_PROXY`): not a matter for the strict reader.
    try:
        doc = json.loads(raw[: 2 * MAX_SECRET])
        record.parsed(doc.get("record") if isinstance(doc, dict) else None, what)
        return typed(doc, Revision)
    except (ValueError, ClusterError) as exc:
        raise ClusterError(f"{what}: damaged ({exc})", hint="delete this Secret: only `rollback` needs it.") from exc

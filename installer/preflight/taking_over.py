"""What others have made of what shall be installed: whose it is, and what becomes of it once it is taken over.

An object is taken over whole: whoever has set a field that is applied from here gives up all that it has set there, in
a resource whoever has set anything. What is applied otherwise is overwritten, what is not applied goes; both are told
beforehand, by path, with their values unless these may be secrets.
"""

import base64
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from installer.chart.releases import HELM_MANAGER, Releases
from installer.cluster.cluster import (
    FIELD_MANAGER,
    AbsentError,
    Cluster,
    ConflictError,
    NoDryRunError,
    Object,
    WebhookError,
    describe,
    in_namespace,
    live,
)
from installer.cluster.kinds import NAMESPACE, SECRET
from installer.cluster.managed_fields import (
    ABSENT,
    Entry,
    Path,
    applies,
    at,
    leaves,
    lost,
    owners,
    shared,
    text,
)
from installer.cluster.workload import is_marked, release_of
from installer.diagnosis.finding import Finding, warning
from installer.errors import ClusterError, ClusterForbiddenError, ClusterUnreachableError, SiteError
from installer.objects.comparison import HIDDEN, compared_values, shown
from installer.objects.desired import ChartRelease, Desired, Resource
from installer.site.secret import SecretSource

_MOST = 20
_NEXT = (
    "change it with that tool, leave its chart out (`without` in site.yaml), or `--take-over`: `preflight --take-over` "
    "tells all that this overwrites and removes."
)
# Labels and annotations by which tools know again what they keep in step with a repository.
_KEEPERS = {
    "argocd.argoproj.io/tracking-id": "Argo CD",
    "argocd.argoproj.io/instance": "Argo CD",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
    "helm.toolkit.fluxcd.io/name": "Flux",
}


class TakenOver:
    """What is found, look by look, and, if all of it is taken over, in `lines` what is overwritten and removed.

    `in_clear` tells the secrets that stand in a resource, each with the key of site.yaml for it; `answers` are the
    secrets that site.yaml names, by key. A resource that is `exempt` is not looked at.
    """

    def __init__(
        self,
        cluster: Cluster,
        wanted: Desired,
        in_clear: Callable[[Object], Iterable[tuple[str, str]]],
        answers: Mapping[str, SecretSource],
        exempt: Callable[[Desired, Object], bool] = lambda _wanted, _item: False,
        *,
        take_over: bool,
    ) -> None:
        self._cluster, self._wanted, self._take_over = cluster, wanted, take_over
        self._in_clear, self._answers, self._exempt = in_clear, answers, exempt
        self.lines: list[str] = []

    def looks(self, releases: Callable[[str], Releases]) -> Iterator[Callable[[], Iterable[Finding]]]:
        """A look at each object, so that one that may not be seen hinders no other."""
        wanted = self._wanted
        definitions = [crd for release in wanted.installed for crd in release.definitions]
        for item in (*wanted.secrets, *definitions):
            yield partial(self._object, item, FIELD_MANAGER)
        for item in wanted.accounts:
            yield partial(self._object, item, FIELD_MANAGER, whole=False)
        for step in wanted.applied:
            for item in step.applied:
                placed = in_namespace(self._cluster, item, step.name.namespace)
                if not isinstance(step, Resource):
                    yield partial(self._object, placed, FIELD_MANAGER)
                else:
                    yield partial(self._resource, placed, succeeds=bool(step.succeeds))
        for release in wanted.installed:
            yield partial(self._release, releases(release.name.namespace), release)

    def _resource(self, item: Object, *, succeeds: bool) -> Iterator[Finding]:
        """A resource; one that may have had another controller before is taken over field by field."""
        held = live(self._cluster, item, "")
        if held is None or (succeeds and self._exempt(self._wanted, item)):
            return
        ours = applies(FIELD_MANAGER, held)
        clear = dict(self._in_clear(held))
        yield from self._object(item, FIELD_MANAGER, part="" if succeeds else "spec", hidden=clear, strange=not ours)
        if self._take_over or not ours:
            for path, answer in clear.items():
                yield from self._secret(item, path, answer, held)

    def _release(self, found: Releases, release: ChartRelease) -> Iterator[Finding]:
        """The objects of a release: Helm refuses those of others, and fields that others have set."""
        newest = found.history(release.name.name)[-1:]
        foreign = bool(newest) and not newest[0].label and newest[0].status != "uninstalled"
        if not self._take_over and (foreign or found.as_wanted(release.chart, release.name.name, release.values)):
            return
        if foreign:
            values = compared_values("value", found.values(release.name.name), release.values, release.hidden)
            self.lines += [f"Helm release {release.name}: {change}" for change in values]
        strangers = []
        for item in release.kept:
            placed = in_namespace(self._cluster, item, release.name.namespace)
            held = live(self._cluster, placed, "")
            if held is None:
                continue
            if not is_marked(held, release.name) and not self._take_over:
                strangers.append(_whose(placed, held))
            elif placed["kind"] != NAMESPACE.name:
                yield from self._object(placed, HELM_MANAGER)
        if strangers:
            what = f"of release {release.name} there are already: {', '.join(strangers)}"
            yield Finding(what, _NEXT, ConflictError)

    def _object(
        self,
        item: Object,
        manager: str,
        *,
        part: str = "",
        whole: bool = True,
        hidden: Iterable[str] = (),
        strange: bool = False,
    ) -> Iterator[Finding]:
        """What becomes of an object; `strange` if nothing of it is from here. Only what `whole` is taken over loses
        anything. Values at the paths `hidden` are never shown."""
        held = live(self._cluster, item, "")
        if held is None:
            return
        refusal = self._refusal(item, manager)
        fields = refusal.fields if isinstance(refusal, ConflictError) else ()
        if refusal and not fields and manager == FIELD_MANAGER:
            yield Finding(refusal.message, refusal.hint, type(refusal))
        if not (fields or strange or self._take_over):
            return
        entries = shared(held, item, manager, part) if whole else []
        lines = list(_lines(held, item, manager, fields, entries, hidden))
        if self._take_over:
            self.lines += [f"{describe(item)}: {line}" for line in lines]
        else:
            more = [f"and {len(lines) - _MOST} more"] if len(lines) > _MOST else []
            told = "\n    ".join([f"{describe(item)} was set by others; to take it over means", *lines[:_MOST], *more])
            yield Finding(told, _NEXT, ConflictError)
        if entries:
            yield from _keepers(held)

    def _refusal(self, item: Object, manager: str) -> ClusterError | None:
        """What the API server has against it that `manager` applies `item`."""
        try:
            self._cluster.apply(item, dry_run=True, manager=manager)
        except (AbsentError, NoDryRunError, WebhookError):
            # Its namespace or kind does not exist yet, so nobody else has set anything; or applying will tell.
            return None
        except (ClusterForbiddenError, ClusterUnreachableError):
            raise
        except ClusterError as exc:
            return exc
        return None

    def _secret(self, item: Object, path: str, answer: str, held: Object) -> Iterator[Finding]:
        """A secret in clear goes with the rest: nobody shall miss it, or find another one in its place."""
        if _stands(item, path) or self._in_a_secret(held, path):
            return
        what = f"{describe(item)}: a secret stands in clear at {path}"
        source = self._answers.get(answer)
        if source is None:
            place = f"{answer} in site.yaml" if answer else "the question for it in site.yaml"
            step = f"answer {place}, or take it out of the resource if it is of no use."
            yield Finding(f"{what}, and site.yaml does not answer it", step, SiteError)
        elif not source.in_cluster:
            step = "see that what it belongs to knows the new one, or correct site.yaml."
            yield warning(f"{what}, and site.yaml answers {answer} otherwise", step)

    def _in_a_secret(self, held: Object, path: str) -> bool:
        """Whether the text at `path` is in a Secret that is made, where it may be written for a URL."""
        plain: Any = held
        for key in path.split("."):
            plain = plain.get(key) if isinstance(plain, Mapping) else None
        made = {base64.b64decode(value) for item in self._wanted.secrets for value in item["data"].values()}
        return bool({str(plain).encode(), urllib.parse.quote(str(plain), safe="").encode()} & made)


def _whose(item: Object, held: Object) -> str:
    owner = release_of(held)
    return f"{describe(item)} of {f'the Helm release {owner}' if owner else 'no Helm release'}"


def _keepers(held: Object) -> Iterator[Finding]:
    """The tools that would put `held` back to what a repository says."""
    metadata = held["metadata"]
    notes = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    for key, tool in _KEEPERS.items():
        if key in notes:
            yield warning(
                f"{tool} keeps {describe(held)} in step with its repository ({notes[key].partition(':')[0]})",
                "let it go of these objects first, without deleting them: it undoes what is changed here.",
            )


def _lines(
    held: Object, item: Object, manager: str, fields: Iterable[str], entries: list[Entry], hidden: Iterable[str]
) -> Iterator[str]:
    """What becomes of `held` once the `fields` that clash and those of `entries` belong to `manager`."""
    paths = {text(path): path for entry in entries for path in leaves(entry)}
    for field in fields:
        change = _values(paths.get(field), held, item, hidden)
        yield f"overwriting {field} of {', '.join(owners(held, field, manager))}{change}"
    for path, entry in lost(held, entries, item, manager):
        yield f"removing {text(path)} of {entry['manager']}{_values(path, held, item, hidden)}"


def _values(path: Path | None, held: Object, item: Object, hidden: Iterable[str]) -> str:
    """What stands at `path`, and what will; nothing where one of them may be a secret."""
    if path is None or held["kind"] == SECRET.name:
        return ""
    place = text(path).removeprefix(".")
    if any(each.startswith(place) or place.startswith(each) for each in hidden):
        return f": {HIDDEN}"
    before, after = at(held, path), at(item, path)
    return f": {shown(place, before)}" + (f" -> {shown(place, after)}" if after is not ABSENT else "")


def _stands(node: Any, path: str) -> bool:
    """Whether something of ours stands at `path` or around it."""
    for key in path.split("."):
        if not isinstance(node, Mapping):
            return True
        if (name := key.partition("[")[0]) not in node:
            return False
        node = node[name]
    return True

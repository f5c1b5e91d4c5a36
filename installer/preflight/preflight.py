"""Everything that can be known to go wrong, found before anything is changed, all of it at once.

The modules beside this one say what they look at. If findings of several kinds stand in the way, the exit code is the
lowest of theirs.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from installer.bundle.manifest import BundleImage
from installer.bundle.reader import Bundle
from installer.chart.releases import Releases
from installer.chart.relocation import Relocation
from installer.cluster import volumes
from installer.cluster.cluster import Cluster, Object, WebhookError
from installer.cluster.kinds import VOLUME
from installer.diagnosis.finding import Finding, warning
from installer.errors import AirferryError, ClusterForbiddenError, SiteError
from installer.objects.desired import Desired
from installer.objects.driver import ChartSourceRequest, Preparing
from installer.objects.make_desired import desired
from installer.preflight import namespaces, prerequisites
from installer.preflight.foreign_releases import foreign_releases
from installer.preflight.permissions import missing_permissions
from installer.preflight.referenced import referenced
from installer.preflight.room import images_on_nodes, nodes
from installer.preflight.taking_over import TakenOver
from installer.preflight.trial import Trial
from installer.registry.client import Registry
from installer.report import Reporter
from installer.site.site import Site
from installer.transfer.existing_blobs import find_existing_blobs, lacking_error

Check = Callable[[], Iterable[Finding]]
_AGAIN = "nothing has been changed; mend these, then run the same command again. `preflight` shows them at any time."


@dataclass(frozen=True)
class Preflight:
    """What was found; `wanted` is None where site.yaml and bundle do not even fit each other.

    `taken_over` tells what of others is overwritten or removed.
    """

    wanted: Desired | None = field(repr=False)
    findings: tuple[Finding, ...]
    taken_over: tuple[str, ...] = ()

    @property
    def refusals(self) -> list[Finding]:
        """What stands in the way, by exit code."""
        found = [item for item in self.findings if item.error]
        return sorted(found, key=lambda item: item.error.exit_code if item.error else 0)

    @property
    def warnings(self) -> list[Finding]:
        """What does not stand in the way."""
        return [item for item in self.findings if not item.error]

    def with_findings(self, more: Iterable[Finding]) -> "Preflight":
        """All of this, and `more`."""
        return Preflight(self.wanted, tuple(dict.fromkeys((*self.findings, *more))), self.taken_over)

    def document(self) -> dict[str, Any]:
        """All of it as plain values."""

        def plain(item: Finding) -> dict[str, Any]:
            return {"what": item.what, "next": item.step, "exit_code": item.error.exit_code if item.error else 0}

        return {
            "ready": not self.refusals,
            "refusals": [plain(item) for item in self.refusals],
            "warnings": [plain(item) for item in self.warnings],
            "taken_over": list(self.taken_over),
        }

    def text(self) -> str:
        """The same for people."""
        lines = [f"error: {item}" for item in self.refusals] + [f"warning: {item}" for item in self.warnings]
        lines += [f"taking over: {line}" for line in self.taken_over]
        return "\n".join([*lines, "not possible yet" if self.refusals else "nothing stands in the way"])

    def verdict(self) -> None:
        """Raises the first of the refusals, in short: the whole has been told."""
        refused = self.refusals
        if refused and refused[0].error:
            raise refused[0].error("this cannot be installed yet", hint="mend what is listed above as an error.")

    def require(self, reporter: Reporter) -> None:
        """Tell of the warnings and go on. Raises the first of the refusals with the words of all."""
        for item in self.warnings:
            reporter.note(f"warning: {item}")
        refused = self.refusals
        if refused and refused[0].error:
            raise refused[0].error("\n  ".join(["this cannot be installed:", *map(str, refused)]), hint=_AGAIN)


def look(
    bundle: Bundle,
    site: Site,
    driver: Preparing,
    cluster: Cluster,
    registry: Registry | None,
    releases: Callable[[str], Releases],
    request: ChartSourceRequest = ChartSourceRequest(),  # noqa: B008 - it cannot be changed
    *,
    take_over: bool = False,
    exempt: Callable[[Desired, Object], bool] = lambda _wanted, _item: False,
) -> Preflight:
    """What stands in the way of installing `bundle` at `site`, with its images in `registry`, or on the nodes.

    `releases` gives the Helm releases of a namespace. With `take_over` what others have made is taken over; a resource
    that is `exempt` from that, of those that are wanted, is not looked at. Changes nothing, in the registry neither.
    Raises BundleError for a bundle that does not hold together, ClusterUnreachableError, and ClusterForbiddenError
    where the credentials as such are refused.
    """
    kube_version, api_versions = cluster.version(), cluster.api_versions()
    findings = list(_registry(bundle, site, registry)) if registry is not None else []
    try:
        wanted = desired(bundle, site, driver, kube_version=kube_version, api_versions=api_versions, request=request)
    except SiteError as exc:
        return Preflight(None, (*findings, Finding.of(exc)))
    cluster.hide(wanted.confidential)
    beforehand = driver.beforehand(wanted)
    trial = Trial(cluster, releases, wanted)
    tried: list[Check] = [partial(trial.of, release) for release in wanted.releases]
    for check in (*_checks(bundle, site, cluster, wanted, beforehand), *driver.checks(cluster, wanted), *tried):
        findings += _held_against(check)
    findings += _held_against(lambda: foreign_releases(cluster, releases, wanted, take_over=take_over))
    answers = site.answers.secret_sources()
    taken = TakenOver(cluster, wanted, driver.in_clear, answers, exempt, take_over=take_over)
    for check in taken.looks(releases):
        findings += _held_against(check)
    return Preflight(wanted, (), tuple(dict.fromkeys(taken.lines))).with_findings(findings)


def _checks(
    bundle: Bundle, site: Site, cluster: Cluster, wanted: Desired, beforehand: Iterable[Object]
) -> Iterator[Check]:
    named = frozenset(_texts(site.answers.model_dump(by_alias=True)))
    own = [
        (place, source.secret, source.key)
        for place in _places_of_secrets(wanted)
        for source in site.answers.secret_sources().values()
        if source.secret and source.key
    ]
    yield lambda: _permissions(cluster, wanted)
    yield lambda: namespaces.leaving(cluster, wanted)
    yield lambda: namespaces.unmade(cluster, wanted)
    yield lambda: prerequisites.versions(cluster, wanted)
    yield lambda: prerequisites.silent_groups(cluster)
    yield lambda: prerequisites.kinds(cluster, wanted)
    yield lambda: prerequisites.definitions(cluster, wanted)
    yield lambda: prerequisites.ingress_classes(cluster, wanted)
    yield lambda: prerequisites.ingress_hosts(wanted)
    yield lambda: prerequisites.storage_classes(cluster, wanted)
    yield lambda: prerequisites.priority_classes(cluster, wanted)
    yield lambda: referenced(cluster, wanted, (*wanted.secrets, *beforehand), named, own)
    yield lambda: (warning(f"not answered: {item}", _UNANSWERED) for item in wanted.open_questions)
    yield lambda: (warning(f"{item} becomes a value of its chart", _EXPOSED) for item in _exposed(wanted))
    yield lambda: (warning(item, _MISSPELT) for item in wanted.misspelt)
    yield lambda: (warning(f"{item} gets no pull secret", _UNSERVED) for item in wanted.unserved)
    yield lambda: nodes(cluster, wanted, bundle.manifest.platforms)
    if site.on_nodes:
        yield lambda: images_on_nodes(cluster, wanted)
    yield lambda: (Finding(f"looks like an image reference: {text}", _SUSPECT, None) for text in wanted.suspects)


_UNANSWERED = "answer it in site.yaml, unless what the bundle has for it will do."
_EXPOSED = "the chart has no other way: whoever may read Secrets in its namespace finds it in Helm's record."
_MISSPELT = "correct it in site.yaml: the chart does not read it."
_UNSERVED = "name the value by which its chart takes pull secrets in the profile (pull_secret), or let nodes log in."
_SUSPECT = "if the program in that container makes pods of it, add the image to the recipe; otherwise ignore this."


def _exposed(wanted: Desired) -> list[str]:
    """The secrets that are values themselves."""
    return [f"secret {path} of {item.name}" for item in wanted.releases for path in sorted(item.hidden)]


def _places_of_secrets(wanted: Desired) -> list[str]:
    """Where a Secret that site.yaml names has to be: beside what a controller makes, else beside the first release."""
    made = [step.name.namespace for step in wanted.resources if step.installs]
    return made[:1] or [release.name.namespace for release in wanted.installed][:1]


def _held_against(check: Check) -> list[Finding]:
    """What `check` finds; a warning if it may not look, or if what it looks at is behind a webhook that is down."""
    try:
        return list(check())
    except (ClusterForbiddenError, WebhookError) as exc:
        return [Finding(f"not checked: {exc.message}", "look at this yourself, or use a context that may.", None)]


def _permissions(cluster: Cluster, wanted: Desired) -> Iterator[Finding]:
    if lines := missing_permissions(cluster, wanted):
        yield Finding(
            "\n    ".join([f"context {cluster.context!r} may not", *lines]),
            "ask for these permissions, or use a context that has them.",
            ClusterForbiddenError,
        )
    made = wanted.releases
    going = sorted(frozenset[str]().union(*(volumes.deletable(item.objects, item.name.namespace) for item in made)))
    lacking = [verb for verb in ("get", "patch") if going and not cluster.can_i(verb, VOLUME)]
    if lacking:
        yield warning(
            f"context {cluster.context!r} may not {', '.join(lacking)} {VOLUME}; Helm deletes the volume "
            f"claim {', '.join(going)} with its release, and its data could not be kept",
            "ask for these permissions: without them, `uninstall` refuses unless the data may go (--delete-data).",
        )


def _registry(bundle: Bundle, site: Site, registry: Registry) -> Iterator[Finding]:
    """Whether the registry answers, accepts the credentials, and takes the images that it does not have yet.

    For an update also whether it holds what that leaves out.
    """
    images = bundle.manifest.images
    relocation = Relocation(site.registry, site.project, frozenset(image.reference for image in images))

    def held(image: BundleImage) -> bool:
        return registry.head_manifest(relocation.target(image.reference)) is not None

    try:
        missing = next((image for image in images if not held(image)), None)
        if missing is None:
            return
        registry.try_push(relocation.target(missing.reference).repository)
        parts = (image for image in images if bundle.lacking(image) and not held(image))
        if lacking := find_existing_blobs(bundle, registry, relocation, parts).lacking:
            raise lacking_error(bundle, lacking)
    except AirferryError as exc:
        yield Finding.of(exc)


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from _texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value)

"""Makes of bundle and site what one step shall be in the cluster, and proves it.

No image reference of any object leaves the enclave's registry or the bundle, for the first installation as well as for
every later change (`helm upgrade` runs hooks that an installation does not).
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from installer.apps.application import Application
from installer.apps.profile import Step, at_path, placed
from installer.bundle.manifest import BundleChart, Contents
from installer.chart import retarget
from installer.chart.bundled import chart_of
from installer.chart.helm import documents, hook_events, parse_values
from installer.chart.images import Found, references
from installer.chart.relocation import Relocation
from installer.chart.spelling.text import as_reference
from installer.chart.templates.drafts import draft
from installer.cluster.cluster import Object
from installer.cluster.workload import STEP_LABEL, ReleaseName
from installer.diagnosis.controller_log import LogSign
from installer.errors import AirferryError, BundleError, SiteError
from installer.moving import means, pinning, prefixes
from installer.moving.operations import Operations
from installer.objects.desired import MANAGED_BY, ChartRelease, DesiredStep, Manifests, Resource
from installer.objects.pull_secret import pod_with_pull_secret, with_pull_secret
from installer.oci.digest import Digest
from installer.oci.reference import DigestRef, Reference
from installer.site.site import Site

MAX_DOCUMENT = 4 * 1024 * 1024
_EVENTS = frozenset({"pre-install", "post-install", "pre-upgrade", "post-upgrade"})
_SHOWN = 20


class Maker:
    """Puts together what bundle and site say about one step each."""

    def __init__(
        self,
        bundle: Contents,
        application: Application,
        site: Site,
        kube_version: str,
        api_versions: tuple[str, ...],
        *,
        blank: bool,
        left_out: Collection[str] = (),
        draft: bool = False,
    ) -> None:
        self.bundle, self.application, self.site, self._blank = bundle, application, site, blank
        self._left_out, self._draft = left_out, draft
        self._kube_version, self._api_versions = kube_version, api_versions
        images = [(image.source, image.digest) for image in bundle.manifest.images]
        self.relocation = Relocation.of(
            images,
            site.registry,
            site.project,
            names_stay=site.answers.registry.names == "kept",
            rules=application.profile.images,
        )
        targets = {self.relocation.target(image.reference): image.digest for image in bundle.manifest.images}
        self._digests = {(target.repository, target.selector): digest for target, digest in targets.items()}

    def made(self, step: Step) -> Callable[[], DesiredStep]:
        """What makes `step`; it raises SiteError or BundleError."""
        if step.chart:
            return lambda: self.chart_release(step)
        return (lambda: self._resource(step)) if step.resource else (lambda: self._manifests(step))

    def labels(self, namespace: str) -> Mapping[str, str]:
        """The labels that the profile asks for on `namespace`."""
        profile = self.application.profile
        asked: dict[str, Mapping[str, str]] = {
            self.application.default_namespace(self.site) if name == profile.namespace else name: entry.labels
            for name, entry in profile.namespaces.items()
        }
        return asked.get(namespace, {})

    def chart(self, name: str, version: str | None) -> BundleChart:
        """The bundle's chart. Raises BundleError."""
        for chart in self.bundle.manifest.charts:
            if (chart.name, chart.version) == (name, version or chart.version):
                return chart
        raise BundleError(f"the bundle has no chart {name} {version or ''}".rstrip())

    def chart_release(self, step: Step, further: Mapping[str, Any] | None = None) -> ChartRelease:
        """The release of the chart step `step`, proven; `further` values are merged over all others."""
        entry = self.chart(step.chart or "", step.version)
        given = merged_values(self._given(step), self._answered(step), further or {})
        name = ReleaseName(step.label, self.application.namespace(step, self.site))
        return self._release(step, entry, name, given)

    def _answered(self, step: Step) -> dict[str, Any]:
        """What the site adds to the values, secrets that have no other way among it."""
        secrets = self.application.secret_values(step, self.site, blank=self._blank)
        return merged_values(self.application.values(step, self.site), secrets)

    def _given(self, step: Step) -> dict[str, Any]:
        """The values that the bundle gives to the chart."""
        if isinstance(step.values, str):
            return parse_values(self.document(step.values), step.values, BundleError)
        return dict(step.values or {})

    def _resource(self, step: Step) -> Resource:
        name = step.resource or ""
        template = parse_values(self.document(name), name, BundleError)
        metadata = template.get("metadata")
        if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
            raise BundleError(f"{name}: not an object with metadata.name")
        namespace = self.application.namespace(step, self.site)
        resource = {**template, "metadata": {**metadata, "name": step.name or metadata["name"], "namespace": namespace}}
        installs = None
        if step.installs:
            installs = self._installed(step, resource)
            values = dict(installs.values)
            resource = merged_values(without(resource, step.installs.values), placed(step.installs.values, values))
        resource = _over(resource, self.application.fields(step, self.site))
        bare = without(resource, step.installs.values) if step.installs else resource
        moved = means.moved_object(bare, self.relocation)
        resource = merged_values(resource, moved) if step.installs else moved
        images, suspects = self._proven(f"resource {name}", [moved], f"the profile's resource {name}")
        return Resource(
            label=step.label,
            document=resource,
            installs=installs,
            ready=step.ready,
            controller=self._controller(step),
            values_at=step.installs.values if step.installs else "",
            succeeds=tuple(step.succeeds),
            signs=tuple(LogSign(item.text, item.cause, item.next) for item in self.application.profile.logs),
            images=images,
            suspects=suspects,
        )

    def _installed(self, step: Step, resource: Object) -> ChartRelease:
        """The release that the controller of the resource `step` makes."""
        if step.installs is None:
            raise AssertionError("asked for without `installs`")
        entry = self.chart(step.installs.chart, step.installs.version)
        given = at_path(resource, step.installs.values) or {}
        if not isinstance(given, Mapping):
            raise BundleError(f"{step.resource}: {step.installs.values} is not a mapping")
        values = merged_values(given, self._answered(step))
        name = ReleaseName(resource["metadata"]["name"], resource["metadata"]["namespace"])
        return self._release(step, entry, name, values)

    def _controller(self, step: Step) -> ReleaseName | None:
        if not step.controller:
            return None
        other = self.application.profile.step(step.controller)
        return ReleaseName(other.label, self.application.namespace(other, self.site))

    def _manifests(self, step: Step) -> Manifests:
        name = ReleaseName(step.label, self.application.namespace(step, self.site))
        objects = []
        for document in step.manifests or ():
            text = self.document(document).decode("utf-8", "replace")
            objects += [self._manifest(item, document, name) for item in documents(text, document, BundleError)]
        images, suspects = self._proven(f"manifests {name.name}", objects, "the manifests themselves")
        return Manifests(name, tuple(objects), images, suspects)

    def _manifest(self, item: Object, document: str, name: ReleaseName) -> Object:
        """An object of a manifest as it is applied: moved into the enclave, and marked as part of its step."""
        _check_object(item, document, BundleError)
        metadata = item["metadata"]
        labels = {**(metadata.get("labels") or {}), **MANAGED_BY, STEP_LABEL: name.name}
        moved = means.moved_object({**item, "metadata": {**metadata, "labels": labels}}, self.relocation)
        pull_secret = self.site.answers.registry.pull_secret_name
        return pod_with_pull_secret(moved, pull_secret) if pull_secret else moved

    def _release(self, step: Step, entry: BundleChart, name: ReleaseName, given: Mapping[str, Any]) -> ChartRelease:
        """The chart `entry` with final values, its references proven."""
        chart = chart_of(self.bundle, entry, SiteError)
        operations = Operations(
            draft(chart) if self._draft else chart,
            name.name,
            name.namespace,
            kube_version=self._kube_version,
            api_versions=self._api_versions,
        )
        found = means.into_enclave(operations, given, self.relocation)
        values = dict(found.values)
        if self.site.on_nodes:
            values = retarget.merged(values, retarget.without_pulls(operations.install(values).coalesced))
        if pull_secret := self.site.answers.registry.pull_secret_name:
            values = with_pull_secret(values, pull_secret, lambda values: operations.install(values).objects)
        if not self._draft:
            pins = pinning.pins(operations.install(values), values, self.relocation, operations.install)
            values = retarget.merged(values, pins)
        made = operations.all(values)
        for template, item in (pair for rendering in made for pair in rendering.manifests):
            _check_object(item, f"chart {entry.name}: {template}", SiteError)
        installed, upgraded, *_ = made
        both = (*installed.objects, *upgraded.objects)
        known = [item for rendering in made for item in rendering.objects]
        above = self.application.place_of_values(step)
        images, suspects = self._proven(f"chart {entry.name}", known, above, installed.coalesced)
        hooks = {
            (item.get("kind"), item["metadata"]["name"]): item
            for item in both
            if _EVENTS.intersection(hook_events(item))
        }
        objects, run = tuple(installed.objects), tuple(hooks.values())
        hidden = frozenset(self.application.secret_paths(step))
        brings = frozenset(step.brings)
        return ChartRelease(chart, name, values, objects, run, images, suspects, installed.crds, hidden, brings)

    def digests(self, images: Iterable[Reference]) -> dict[str, Digest]:
        """What each of `images`, references into the enclave, stands for."""
        return {
            str(image): image.digest
            if isinstance(image, DigestRef)
            else self._digests[image.repository, image.selector]
            for image in images
        }

    def document(self, name: str) -> bytes:
        """The content of the bundle's document `name`. Raises BundleError."""
        for document in self.bundle.manifest.documents:
            if document.name == name:
                return self.bundle.read(document.digest, MAX_DOCUMENT)
        raise BundleError(f"the bundle has no document {name!r}")

    def _proven(
        self, what: str, objects: Sequence[Object], above: str, coalesced: Mapping[str, Any] | None = None
    ) -> tuple[frozenset[Reference], tuple[str, ...]]:
        """The images of `objects`, and texts that only look like images.

        Raises SiteError if an image that the cluster would ask for is not one that the bundle brings along, or if
        nodes would ask for it again where nobody answers. `above` is the key in site.yaml where `coalesced` come from.
        """
        if self.site.on_nodes:
            _prove_held(what, objects)
        strays = sorted({item for item in retarget.stray(objects, self.relocation) if not self._excused(item.found)})
        if strays:
            offenders = list(dict.fromkeys(_offender(stray, above, coalesced) for stray in strays))
            more = [f"and {len(offenders) - _SHOWN} more"] if len(offenders) > _SHOWN else []
            raise SiteError(
                "\n  ".join([f"{what}: images that this enclave will not have:", *offenders[:_SHOWN], *more]),
                hint="remove or correct these values in site.yaml, switch the part off, or add the image to the recipe "
                "and build again.",
            )
        found = references(objects, self.relocation.rules)
        asked = (item for item in found if item.certain and not item.test_only and not self._excused(item))
        images = frozenset(item.reference() for item in asked)
        settled = self.application.profile.settled
        suspects = (
            item
            for item in retarget.suspects(objects, self.relocation)
            if str(as_reference(item.found.text)) not in settled
        )
        return images, tuple(sorted({str(item) for item in suspects}))

    def _excused(self, found: Found) -> bool:
        return bool(self._left_out) and str(as_reference(found.text)) in self._left_out


def _check_object(item: Object, place: str, error: type[AirferryError]) -> None:
    """Raises `error`, naming the `place` of `item`, if it lacks what every object has."""
    metadata = item.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("name") or not item.get("kind"):
        raise error(f"{place}: makes something that is no object with a kind and a name")


def merged_values(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """All `parts` merged, later ones over earlier ones."""
    result: dict[str, Any] = {}
    for part in parts:
        result = retarget.merged(result, part)
    return result


def _over(document: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """`fields` merged over `document`; null takes away what stands there."""
    result = dict(document)
    for key, value in fields.items():
        below = result.pop(key, None)
        if isinstance(value, Mapping):
            result[key] = _over(below if isinstance(below, Mapping) else {}, value)
        elif value is not None:
            result[key] = value
    return result


def without(document: Mapping[str, Any], path: str) -> dict[str, Any]:
    """A copy of `document` without what stands at the dotted `path`."""
    key, _, rest = path.partition(".")
    below = document.get(key)
    found = {name: value for name, value in document.items() if name != key}
    if rest and isinstance(below, Mapping):
        found[key] = without(below, rest)
    return found


def _offender(stray: retarget.Stray, above: str, coalesced: Mapping[str, Any] | None) -> str:
    """A stray, with the places in site.yaml that can change it."""
    if coalesced is None:
        return f"{stray}; named by {above}"
    text = stray.found.text
    if paths := retarget.sources(coalesced, text):
        return f"{stray}; named by {', '.join(f'{above}.{path}' for path in paths)}"
    if paths := prefixes.beginnings(coalesced, text):
        return f"{stray}; perhaps put together from {', '.join(f'{above}.{path}' for path in paths)}"
    return f"{stray}; named by no value: a template of the chart has it fixed"


def _prove_held(what: str, objects: Sequence[Object]) -> None:
    """Raises SiteError if a node would not be content with the image that it has."""
    asking = list(dict.fromkeys(item.place for item in references(objects) if item.pulled and not item.test_only))
    more = [f"and {len(asking) - _SHOWN} more"] if len(asking) > _SHOWN else []
    if asking:
        raise SiteError(
            "\n  ".join([f"{what}: pulled at every start, from nowhere:", *asking[:_SHOWN], *more]),
            hint="set their pull policy to IfNotPresent in the values of site.yaml, or set up a registry.",
        )

"""What the profile of operator v2 cannot say: where its resource finds things in the enclave, what stands in the way of
a change, and what a removal leaves."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from installer.apps.profile import Artifact
from installer.apps.wandb_v2 import from_v1, migrations, resource, v2_checks
from installer.apps.wandb_v2.application import Platform
from installer.apps.wandb_v2.server_manifest import MOUNT, NAME, ManifestFiles, key_prefix, manifest_files
from installer.chart.retarget import merged
from installer.cluster.cluster import FIELD_MANAGER, Cluster, Object, bare, describe, known
from installer.cluster.kinds import CLUSTER_ROLE_BINDING, CONFIG_MAP
from installer.cluster.managed_fields import apply_time
from installer.cluster.owners import heirs, made_for
from installer.cluster.workload import Workload
from installer.diagnosis.finding import Finding
from installer.diagnosis.wait import AGAIN
from installer.errors import BundleError, NotReadyError, SiteError
from installer.objects.desired import Desired, DesiredStep, Resource
from installer.objects.driver import ChartSourceRequest, Completed
from installer.objects.maker import Maker
from installer.oci.reference import Reference, parse_reference
from installer.workflows.actions import Actions
from installer.workflows.driver import PlainDriver
from installer.workflows.record import InstalledStep, Record


class OperatorDriver(PlainDriver):
    """The resource gets the places of what its operator fetches and runs, and comes and goes without a trap."""

    def completed(self, made: Completed, maker: Maker, request: ChartSourceRequest, *, blank: bool) -> Completed:
        """`made` with a resource that names the enclave's registry, the server manifest in it, and the pull secret.

        Where the operator could not fetch the manifest, it gets it as files. Raises SiteError if the resource needs
        images that the bundle does not bring.
        """
        done = super().completed(made, maker, request, blank=blank)
        artifact = _artifact(maker)
        platform = platform_of(done.steps)
        files = None
        if maker.site.on_nodes or maker.site.answers.registry.plain_http:
            files = manifest_files(maker, artifact, platform.document)
        document = merged(platform.document, resource.places(maker, artifact, files))
        images = _needed(maker, artifact, document)
        swapped: dict[str, DesiredStep] = {platform.label: replace(platform, document=document, addition=files)}
        if files:
            swapped[_operator(maker).operator.label] = files.mounted(maker)
        steps = tuple(swapped.get(_label(step), step) for step in done.steps)
        return replace(done, steps=steps, images={**done.images, **maker.digests(images)})

    def checks(self, cluster: Cluster, wanted: Desired) -> Iterable[Callable[[], Iterable[Finding]]]:
        """Rivals, other component operators, storage, versions."""
        return (*super().checks(cluster, wanted), *v2_checks.checks(cluster, wanted))

    def beforehand(self, wanted: Desired) -> tuple[Object, ...]:
        """The ConfigMap with the server manifest, if the operator reads it there."""
        files = _files(platform_of(wanted.steps))
        return (files.config_map(),) if files else ()

    def before(self, actions: Actions, wanted: Desired) -> None:
        """The same, with what is there of other versions: the operator's pod waits for it. Operator v1 makes room."""
        from_v1.make_room(actions, platform_of(wanted.steps))
        if files := _files(platform_of(wanted.steps)):
            actions.apply(files.config_map(actions.cluster.get(CONFIG_MAP, NAME, files.namespace)))

    def bring_back(
        self,
        step: InstalledStep,
        former: Object,
        actions: Actions,
        hooks: Iterable[Object],  # noqa: ARG002
    ) -> list[Workload]:
        """Apply `former` and wait until it is ready, past what an earlier change has left."""
        cluster = actions.cluster
        # The operator has just been rolled out, and converts what is read of an older version.
        before = actions.patience.asked(lambda: resource.held(cluster, step.name))
        if before:
            migrations.until_none_runs(cluster, step.name, actions.patience)
        final = resource.in_words_of(cluster, resource.licensed(cluster, former))
        made = actions.apply_once_served(final, force=from_v1.is_converted(before))
        if before:
            migrations.clear(actions, step.name, apply_time(made, FIELD_MANAGER))
            if bare(made) == bare(before) and not step.ready.state(made)[0]:
                resource.wake(cluster, made)
        self.until_ready(cluster, step, actions.patience)
        if from_v1.finish(actions, step.name):
            # Objects of both may bear the same names, and have gone with the release of v1.
            resource.wake(cluster, resource.held(cluster, step.name) or made)
            self.until_ready(cluster, step, actions.patience)
        return made_for(cluster, made)

    def lost(self, cluster: Cluster, step: InstalledStep, former: Object) -> list[str]:
        """The database of a former version, since migrations are not undone; and the files of its manifest."""
        found = [*super().lost(cluster, step, former), *v2_checks.migrated_past(cluster, former)]
        wandb, operator = former["spec"].get("wandb") or {}, step.controller_name
        if operator and wandb.get("manifestRepository") == f"file://{MOUNT}":
            data = (cluster.get(CONFIG_MAP, NAME, operator.namespace) or {}).get("data") or {}
            if not any(key.startswith(key_prefix(wandb["version"])) for key in data):
                found.append(f"server manifest {wandb['version']} in ConfigMap {operator.namespace}/{NAME}")
        return found

    def remove(self, step: InstalledStep, actions: Actions, *, data: bool = False) -> list[str]:
        """Delete the resource while its operators serve it, and tell what of its services stays."""
        cluster = actions.cluster
        held = resource.held(cluster, step.name)
        if held is None:
            return []
        if data:
            resource.purge(cluster, held)
        before = heirs(cluster, held)
        gone = super().remove(step, actions, data=data)
        for item in before:
            if left := _left(actions, item, held["metadata"]["uid"]):
                actions.kept.append(f"{describe(left)} (a service with its data: the resource says `detach`)")
        if data:
            gone += resource.remove_claims(cluster, step.name)
        binding = f"{step.name.name}-oidc-discovery"
        if cluster.get(CLUSTER_ROLE_BINDING, binding):
            actions.kept.append(f"{CLUSTER_ROLE_BINDING.name} {binding} (the operator leaves it; nothing uses it)")
        return gone

    def after_removal(self, record: Record, actions: Actions, note: Callable[[str], None]) -> list[str]:
        """The ConfigMap with the manifest."""
        for place in sorted({step.controller_name.namespace for step in record.resources if step.controller_name}):
            if actions.cluster.delete(CONFIG_MAP, NAME, place):
                note(f"ConfigMap {place}/{NAME}")
        return super().after_removal(record, actions, note)


DRIVER = OperatorDriver()
"""What the loader asks a driver's folder for."""


def platform_of(steps: Iterable[DesiredStep]) -> Resource:
    """The resource of the platform among `steps`."""
    return next(step for step in steps if isinstance(step, Resource) and step.document["kind"] == resource.KIND)


def _left(actions: Actions, item: Object, owner: str) -> Object | None:
    """What stays of `item`, which the resource with the uid `owner` owned; None once it is gone.

    It is waited for: operators serve finalizers of what they have made, and are removed next. Raises NotReadyError.
    """
    cluster, patience = actions.cluster, actions.patience
    kind = known(cluster, item)
    if kind is None:
        return None
    while left := cluster.get(kind, item["metadata"]["name"], item["metadata"]["namespace"]):
        owners = [each["uid"] for each in left["metadata"].get("ownerReferences") or []]
        if owner not in owners and not left["metadata"].get("deletionTimestamp"):
            return left
        patience.state(f"{describe(item)}: being deleted")
        if patience.over():
            raise NotReadyError(f"{describe(item)} is not deleted in time", hint=AGAIN)
        patience.rest()
    return None


def _label(step: DesiredStep) -> str:
    return step.label if isinstance(step, Resource) else step.name.name


def _operator(maker: Maker) -> Platform:
    if not isinstance(maker.application, Platform):
        raise BundleError("the profile needs the application of operator v2")
    return maker.application


def _artifact(maker: Maker) -> Artifact:
    platform = _operator(maker).platform
    return next(item for item in maker.application.profile.artifacts if item.step == platform.label)


def _needed(maker: Maker, artifact: Artifact, document: Object) -> list[Reference]:
    """What the operator will ask for, in the enclave. Raises SiteError for what the bundle does not bring."""
    brought = {image.reference for image in maker.bundle.manifest.images}
    settled = maker.application.profile.settled
    names = [name for name in artifact.needed(document) if name not in settled]
    if missing := [name for name in names if parse_reference(name) not in brought]:
        raise SiteError(
            "\n  ".join(["services that this site leaves to the operator need images that are not here:", *missing]),
            hint="name servers of the site for them; or leave these services to the operator in wandb.yaml of the "
            "recipe (no `external…` there), and build again.",
        )
    return [maker.relocation.target(parse_reference(name)) for name in names]


def _files(platform: Resource) -> ManifestFiles | None:
    return platform.addition if isinstance(platform.addition, ManifestFiles) else None

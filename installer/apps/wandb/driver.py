"""What the platform's profile cannot say: where its controller reads its chart, how it is made to work and to go."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace

from installer.apps.wandb import operator, wandb_checks
from installer.apps.wandb.application import Platform
from installer.apps.wandb.chart_source import configmap, oci
from installer.apps.wandb.chart_source.source import ChartSource, Placed, choose, is_repository
from installer.apps.wandb.chart_source.source import describe as describe_source
from installer.apps.wandb.controller import CUSTOM_RESOURCE
from installer.apps.wandb.custom_resource import custom_resource, with_chart
from installer.apps.wandb.handover import hand_over
from installer.apps.wandb.installing import Installing
from installer.apps.wandb.pods import check_pods
from installer.apps.wandb.refusals import resource_cause
from installer.apps.wandb.removing import remove_chart_file, remove_resource
from installer.apps.wandb.route import route
from installer.apps.wandb.site.answers import own_answers
from installer.apps.wandb.site.misplaced import misplaced
from installer.apps.wandb.waiting import until_installed
from installer.cluster.cluster import Cluster, Object, describe
from installer.cluster.kinds import CONFIG_MAP, CUSTOM_RESOURCE_DEFINITION
from installer.cluster.workload import ReleaseName, Workload, of_release
from installer.diagnosis.finding import Finding
from installer.diagnosis.wait import Patience, until_rolled_out
from installer.errors import BundleError
from installer.objects.desired import ChartRelease, Desired, DesiredStep, Resource
from installer.objects.driver import ChartSourceRequest, Completed, TemporaryRepository
from installer.objects.maker import Maker
from installer.oci.reference import DigestRef
from installer.report import printable
from installer.workflows import hook_images
from installer.workflows.actions import Actions
from installer.workflows.driver import ResourceState
from installer.workflows.history import hook_pods
from installer.workflows.record import InstalledStep, Record


class PlatformDriver:
    """The operator's controller, and the platform that it installs from its custom resource."""

    def completed(self, made: Completed, maker: Maker, request: ChartSourceRequest, *, blank: bool) -> Completed:
        """The custom resource with the source of its chart, and an operator that trusts what it needs for that.

        Raises SiteError if there is no source, for values that the controller cannot merge, or if an answer does not
        reach every pod.
        """
        platform, controller = platform_of(made.steps), operator_of(made.steps)
        if platform.installs is None or not isinstance(maker.application, Platform):
            raise BundleError("the profile's resource says no chart that its controller installs")
        answers = own_answers(maker.site.answers)
        check_pods(answers, platform.installs, controller)
        chart = platform.installs.chart
        entry = maker.chart(chart.name, chart.version)
        repository = maker.relocation.chart(entry.name, entry.version).repository
        placed = Placed(chart, DigestRef(repository, entry.artifact), platform.name.namespace)
        images = maker.bundle.manifest.images
        version = oci.controller_version(controller.objects, images, maker.relocation)
        source = choose(request, placed, maker.site, version, blank=blank)
        final = source.final
        if final.authorities:
            trusted = [*(controller.values.get("customCACerts") or ()), *final.authorities]
            further = {"customCACerts": list(dict.fromkeys(trusted))}
            controller = maker.chart_release(maker.application.operator, further)
        resource = custom_resource(platform.document, values=platform.installs.values, chart=final.spec)
        done = replace(platform, document=resource, addition=source, chart_source=final.kind)
        steps = tuple(_swapped(step, done, controller) for step in made.steps)
        if way := route(answers, platform.name):
            steps = (*steps, way)
        artifact = {str(final.artifact): final.artifact.digest} if final.artifact else {}
        return Completed(steps, (*made.secrets, *final.secrets), {**made.images, **artifact})

    def checks(self, cluster: Cluster, wanted: Desired) -> Iterable[Callable[[], Iterable[Finding]]]:
        """Rights of the operator, rival operators, the licence."""
        return wandb_checks.checks(cluster, wanted)

    def in_clear(self, resource: Object) -> Iterable[tuple[str, str]]:
        """Secrets among the values of the platform."""
        for path, answer in misplaced((resource.get("spec") or {}).get("values") or {}):
            name = path.rpartition(".")[2]
            yield f"spec.values.{path}", f"{answer}.{name}" if answer == "secret_env" and name.isupper() else answer

    def beforehand(self, wanted: Desired) -> tuple[Object, ...]:
        """The ConfigMap with the chart, if the source is one."""
        file = _source(platform_of(wanted.steps)).final.file
        place = operator_of(wanted.steps).name.namespace
        return (configmap.config_map(file, place, None),) if file else ()

    def before(self, actions: Actions, wanted: Desired) -> None:
        """The ConfigMap with the chart, if the source is one: a pod of the operator sees at its start what there is."""
        platform, namespace = platform_of(wanted.steps), operator_of(wanted.steps).name.namespace
        file = _source(platform).final.file
        if file:
            held = actions.cluster.get(CUSTOM_RESOURCE, platform.name.name, platform.name.namespace)
            current = actions.cluster.get(CONFIG_MAP, configmap.CONFIG_MAP_NAME, namespace)
            in_use = str((((held or {}).get("spec") or {}).get("chart") or {}).get("path") or "")
            actions.apply(configmap.config_map(file, namespace, current, in_use))

    def bring_about(self, step: Resource, actions: Actions, repository: TemporaryRepository | None) -> list[Workload]:
        """Install or change the platform, from whichever source the controller reads its chart."""
        cluster, patience, name = actions.cluster, actions.patience, step.name
        held = cluster.get(CUSTOM_RESOURCE, name.name, name.namespace)
        # A resource that exists had its first installation, or one that was interrupted: both continue with what lasts.
        wanted = _source(step)
        source = wanted.final if held else wanted
        hooks = step.installs.hooks if step.installs else frozenset()
        pods = hook_pods(step.installs) if step.installs else ()
        installing = Installing(actions, _controller(step.controller), hooks)
        with repository.serve() if repository and source.kind == "temporary" else nullcontext():
            operator.until_seen(cluster, _controller(step.controller), _mounted(step, cluster), patience)
            if held:
                installing.announce(held, source)
            resource = with_chart(step.document, source.spec)
            rolled_out = installing.bring_about(resource, pods)
            if source.lasting:
                hand_over(cluster, step.document, _controller(step.controller), frozenset(hooks), patience)
                rolled_out = until_rolled_out(cluster, name, patience)
            elif source.kind == "temporary":
                patience.reporter.note(
                    f"{describe(resource)} reads its chart from {source.spec['url']}, which ends with this program: "
                    "for any later change of it, run `install` again"
                )
        return rolled_out

    def bring_back(
        self, step: InstalledStep, former: Object, actions: Actions, hooks: Iterable[Object]
    ) -> list[Workload]:
        """The platform as it was: its chart lies where the former resource takes it from."""
        return Installing(actions, _controller(step.controller_name), step.hooks).bring_about(former, hooks)

    def lost(self, cluster: Cluster, step: InstalledStep, former: Object) -> list[str]:
        """The chart where the operator would read it: in its ConfigMap; a registry is looked at with the images.

        And the form of the resource, once a newer operator converts it.
        """
        definition = cluster.get(CUSTOM_RESOURCE_DEFINITION, str(CUSTOM_RESOURCE)) or {}
        if ((definition.get("spec") or {}).get("conversion") or {}).get("strategy") == "Webhook":
            return [f"resource {CUSTOM_RESOURCE.api_version}: a newer operator converts it, and there is no way back"]
        spec = (former.get("spec") or {}).get("chart") or {}
        if is_repository(spec):
            return [f"chart repository {spec['url']}, which ended with the installer"]
        path, operator_name = str(spec.get("path") or ""), step.controller_name
        if not operator_name or not path.startswith(f"{configmap.MOUNT}/"):
            return []
        key, name = path.removeprefix(f"{configmap.MOUNT}/"), configmap.CONFIG_MAP_NAME
        held = cluster.get(CONFIG_MAP, name, operator_name.namespace) or {}
        return [] if key in (held.get("binaryData") or {}) else [f"chart {key} in ConfigMap {name}"]

    def remove(self, step: InstalledStep, actions: Actions, *, data: bool = False) -> list[str]:  # noqa: ARG002
        """Delete the custom resource and see it gone, with the controller or without it."""
        hook_images.clear(actions.cluster, step.name)
        operator_name = _controller(step.controller_name)
        gone = remove_resource(actions.cluster, actions.releases, step.name, operator_name, actions.patience)
        return [f"{CUSTOM_RESOURCE.name} {step.name}"] if gone else []

    def after_removal(self, record: Record, actions: Actions, note: Callable[[str], None]) -> list[str]:
        """The ConfigMap of charts."""
        places = {step.controller_name.namespace for step in record.resources if step.controller_name}
        return [text for place in sorted(places) for text in remove_chart_file(actions.cluster, place, note)]

    def state(self, cluster: Cluster, step: InstalledStep) -> ResourceState:
        """What the custom resource says of itself, and why it was refused if it was."""
        held = cluster.get(CUSTOM_RESOURCE, step.release, step.namespace)
        cause = resource_cause(cluster, step.name, _controller(step.controller_name))
        causes = (cause,) if cause else ()
        if held is None:
            return ResourceState("the custom resource does not exist", causes=causes)
        phase = printable(str((held.get("status") or {}).get("phase") or "not seen by the controller yet"))
        return ResourceState(phase, printable(describe_source(held["spec"].get("chart") or {})), causes)

    def until_ready(self, cluster: Cluster, step: InstalledStep, patience: Patience) -> None:
        """Wait until the controller has deployed what stands in the custom resource."""
        held = patience.asked(lambda: cluster.get(CUSTOM_RESOURCE, step.release, step.namespace))
        if held is not None:
            until_installed(cluster, held, "", _controller(step.controller_name), step.hooks, patience)


DRIVER = PlatformDriver()
"""What the loader asks a driver's folder for."""


def platform_of(steps: Iterable[object]) -> Resource:
    """The custom resource among `steps`."""
    return next(step for step in steps if isinstance(step, Resource) and step.installs)


def operator_of(steps: Iterable[object]) -> ChartRelease:
    """The release whose pods run the controller of the custom resource."""
    steps = tuple(steps)
    name = platform_of(steps).controller
    return next(step for step in steps if isinstance(step, ChartRelease) and step.name == name)


def _swapped(step: DesiredStep, platform: Resource, controller: ChartRelease) -> DesiredStep:
    if isinstance(step, Resource):
        return platform if step.name == platform.name else step
    return controller if isinstance(step, ChartRelease) and step.name == controller.name else step


def _source(step: Resource) -> ChartSource:
    if not isinstance(step.addition, ChartSource):
        raise TypeError(f"{step.label}: without a source for its chart")
    return step.addition


def _controller(name: ReleaseName | None) -> ReleaseName:
    if name is None:
        raise BundleError("the profile's resource names no step that runs its controller")
    return name


def _mounted(step: Resource, cluster: Cluster) -> list[Object]:
    """The ConfigMaps that the operator's pods must have seen: the chart, and certificates that may be new."""
    final, place = _source(step).final, _controller(step.controller).namespace
    names = [configmap.CONFIG_MAP_NAME] if final.file else []
    if final.authorities:
        names += [
            item["metadata"]["name"]
            for item in cluster.find(CONFIG_MAP, place)
            if of_release(item, _controller(step.controller))
        ]
    return [item for name in names if (item := cluster.get(CONFIG_MAP, name, place))]

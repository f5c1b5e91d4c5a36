"""What the profile of operator v2 cannot say: where its resource finds things in the enclave.

Installing is refused. The operator's webhooks answer only once cert-manager has put its authority into their
configurations, a resource is ready only for the generation that its condition tells, Jobs of former migrations stand in
the way of later ones, and the operator tells of a manifest that it cannot fetch in its log alone. Waits for all that
are not written yet, and without them an installation that does not come up would not say why.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from installer.apps.profile import Artifact
from installer.chart.retarget import merged
from installer.cluster.cluster import Cluster
from installer.diagnosis.finding import Finding
from installer.errors import UsageError
from installer.objects.desired import Desired, Resource
from installer.objects.driver import ChartSourceRequest, Completed
from installer.objects.maker import Maker
from installer.workflows.driver import PlainDriver

REFUSAL = Finding(
    "W&B with operator v2 cannot be installed or upgraded from here yet: the waits that its operator needs are missing",
    "load the bundle (`load`, `serve` or `import` work as always), and apply what `render` writes, step by step",
    UsageError,
)


class OperatorDriver(PlainDriver):
    """The resource gets the places of what its operator fetches and runs."""

    def completed(self, made: Completed, maker: Maker, request: ChartSourceRequest, *, blank: bool) -> Completed:
        """`made` with a resource that names the enclave's registry, the server manifest in it, and the pull secret."""
        done = super().completed(made, maker, request, blank=blank)
        artifacts = {artifact.step: artifact for artifact in maker.application.profile.artifacts}
        steps = tuple(
            replace(step, document=merged(step.document, _places(maker, artifacts[step.label])))
            if isinstance(step, Resource) and step.label in artifacts
            else step
            for step in done.steps
        )
        return replace(done, steps=steps)

    def checks(self, cluster: Cluster, wanted: Desired) -> Iterable[Callable[[], Iterable[Finding]]]:
        """That it is not supported."""
        return (*super().checks(cluster, wanted), lambda: (REFUSAL,))


def _places(maker: Maker, artifact: Artifact) -> Mapping[str, Any]:
    """Fields of the resource: the operator puts the prefix before every name in the manifest, as it stands there."""
    relocation, pull_secret = maker.relocation, maker.site.answers.registry.pull_secret_name
    # Nodes that know the registry as a mirror are asked for upstream names; the operator itself uses no mirror.
    prefix = {} if relocation.names_stay else {"imageRegistry": relocation.prefix.removesuffix("/")}
    secrets = {"imagePullSecrets": [{"name": pull_secret}]} if pull_secret else {}
    place = {"manifestRepository": f"oci://{relocation.repository(artifact.repository)}"}
    return {"spec": {"global": {**prefix, **secrets}, "wandb": place}}


DRIVER = OperatorDriver()

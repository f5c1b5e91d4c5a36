"""The change of a running platform's chart source, from a repository that ends with the installer to one that lasts.

To the controller it is a change like any other: a Helm upgrade with all its hooks, and with templates that look at
what runs. It has been seen to refuse such a change shortly after an installation, for no reason of the change's own,
and what it has refused it does not try again.
"""

from installer.apps.wandb import operator
from installer.apps.wandb.chart_source.source import describe as describe_source
from installer.apps.wandb.controller import verdict
from installer.apps.wandb.waiting import until_installed
from installer.cluster.cluster import FIELD_MANAGER, Cluster, Object, describe
from installer.cluster.kinds import AUTOSCALER
from installer.cluster.managed_fields import apply_time
from installer.cluster.workload import ReleaseName, of_release
from installer.diagnosis.wait import Patience
from installer.errors import NotReadyError

# The autoscaling controller looks every 15 s; where there is none, that must not hold us up.
AUTOSCALER_SECONDS = 60.0
ATTEMPTS = 3


def until_autoscalers_report(cluster: Cluster, release: ReleaseName, patience: Patience) -> None:
    """Wait, for a minute at most, until every HorizontalPodAutoscaler of `release` says how many replicas there are.

    The W&B charts compute with that number as soon as the object exists (chart `wandb-base`, `replicaCount`).
    """
    start = patience.clock()
    while silent := [item for item in cluster.find(AUTOSCALER, release.namespace) if _silent(item, release)]:
        if patience.over() or patience.clock() - start >= AUTOSCALER_SECONDS:
            return
        patience.state(f"waiting for the first report of {', '.join(map(describe, silent[:4]))}")
        patience.rest()


def hand_over(
    cluster: Cluster,
    resource: Object,
    operator_name: ReleaseName,
    hooks: frozenset[str],
    patience: Patience,
) -> None:
    """Apply `resource`, which differs from what runs in its chart source alone, and see the controller deploy it.

    Raises NotReadyError with the controller's words if it refuses it again and again.
    """
    name = ReleaseName(resource["metadata"]["name"], resource["metadata"]["namespace"])
    until_autoscalers_report(cluster, name, patience)
    patience.reporter.note(f"handing {describe(resource)} over to {describe_source(resource['spec']['chart'])}")
    since = apply_time(cluster.apply(resource), FIELD_MANAGER)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            until_installed(cluster, resource, since, operator_name, hooks, patience)
        except NotReadyError as exc:
            if attempt == ATTEMPTS or not verdict(cluster, resource, since).refused:
                raise
            # The same values have just been installed from the same chart: the refusal is a matter of the moment.
            patience.reporter.note(f"{exc.message}; waking the controller")
            since = operator.wake(cluster, operator_name, patience)
        else:
            return


def _silent(item: Object, release: ReleaseName) -> bool:
    """Whether nobody has looked at this autoscaler yet. One that has nothing to scale has conditions and no number."""
    status = item.get("status") or {}
    return of_release(item, release) and not status.get("currentReplicas") and not status.get("conditions")

"""The last look: that what was installed answers, and not only runs."""

from installer.cluster.cluster import Cluster
from installer.diagnosis.wait import AGAIN, Patience
from installer.errors import NotReadyError
from installer.objects.desired import Endpoint

NOT_FOUND, FAILING = 404, 500


def until_answered(cluster: Cluster, endpoint: Endpoint, patience: Patience) -> None:
    """Wait until a Service answers over HTTP as it should. Raises NotReadyError."""

    def asked() -> int:
        return cluster.http_status(endpoint.namespace, endpoint.service, endpoint.port, endpoint.path)

    while not (status := patience.asked(asked)) or status == NOT_FOUND or status >= FAILING:
        said = f"{endpoint}: {f'answers {status}' if status else 'does not answer'}"
        patience.state(said)
        if patience.over():
            raise NotReadyError(
                f"all runs, and yet {said}",
                hint=f"look at the logs of the pods behind Service {endpoint.namespace}/{endpoint.service}; {AGAIN}",
            )
        patience.rest()

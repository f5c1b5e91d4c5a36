"""A Route of OpenShift to the platform. The chart has none, so it is a step of ours beside what the operator installs.

Source: OpenShift, "Route configuration", the API `route.openshift.io/v1`. A Route leads to one Service, and so to the
chart's nginx, which has all paths behind it.
"""

from installer.apps.wandb.site.answers import Answers
from installer.cluster.workload import STEP_LABEL, ReleaseName
from installer.objects.desired import MANAGED_BY, Manifests

_PORT = 8080  # of the pods of nginx, in all versions of the chart


def route(answers: Answers, platform: ReleaseName) -> Manifests | None:
    """The step with the Route to the release `platform`, if the site wants one.

    With an https address the router ends TLS, with the certificate that it has for its domain.
    """
    if answers.expose != "route":
        return None
    name = ReleaseName(f"{platform.name}-route", platform.namespace)
    spec = {
        "host": answers.host_name,
        "to": {"kind": "Service", "name": f"{platform.name}-nginx", "weight": 100},
        "port": {"targetPort": _PORT},
        "wildcardPolicy": "None",
    }
    if (answers.host or "").startswith("https://"):
        spec["tls"] = {"termination": "edge", "insecureEdgeTerminationPolicy": "Redirect"}
    metadata = {
        "name": platform.name,
        "namespace": platform.namespace,
        "labels": {**MANAGED_BY, STEP_LABEL: name.name},
        "annotations": dict(answers.route.annotations) if answers.route else {},
    }
    item = {"apiVersion": "route.openshift.io/v1", "kind": "Route", "metadata": metadata, "spec": spec}
    return Manifests(name, (item,))

"""Where the W&B operator reads the platform chart: in a ConfigMap, in the registry, or from the installer itself.

The operator reads its chart again on every change of the custom resource, and from an http repository even to delete
it. So the source must last as long as the release does. A repository that ends with the installer serves a first
installation only, and is followed by a handover to one that lasts.

Source of the shapes of `spec.chart`: github.com/wandb/operator v1.22.0, pkg/wandb/spec/charts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from installer.apps.wandb.chart_source import oci
from installer.apps.wandb.chart_source.configmap import ChartFile, chart_file
from installer.apps.wandb.site.answers import own_answers
from installer.chart.helm import Chart
from installer.errors import SiteError
from installer.objects.driver import ChartSourceRequest
from installer.oci.reference import DigestRef
from installer.site.site import Site, SiteSecret
from installer.value import Value

Kind = Literal["configmap", "oci", "temporary"]
AUTO = "auto"
_LASTING = "choose --chart-source configmap or oci, or leave the choice to `auto`."


@dataclass(frozen=True)
class ChartSource:
    """A source: `spec` goes into the custom resource as `spec.chart`, all else is what it takes to make that work.

    Before the operator comes: `file` goes into its ConfigMap, `artifact` is in the registry, `secrets` are made, and
    `authorities` (PEM) are trusted by the operator. Afterwards: the platform is handed over to
    `lasting`, if there is one.
    """

    kind: Kind
    spec: Mapping[str, Any]
    file: ChartFile | None = None
    artifact: DigestRef | None = None
    secrets: tuple[SiteSecret, ...] = field(default=(), repr=False)
    authorities: tuple[str, ...] = field(default=(), repr=False)
    lasting: "ChartSource | None" = None

    @property
    def final(self) -> "ChartSource":
        """The source that the operator has in the end."""
        return self.lasting or self


class Placed(Value):
    """The platform chart: its archive, its place in the registry as an artifact, and the namespace it is for."""

    chart: Chart
    artifact: DigestRef
    namespace: str


def choose(
    request: ChartSourceRequest, placed: Placed, site: Site, controller: str, *, blank: bool = False
) -> ChartSource:
    """The source for the chart `placed`; `controller` is the version of the operator's image, empty if unknown.

    `auto` prefers what needs no server: a ConfigMap, then the registry, and a repository for the time of the
    installation only where neither works. With `blank` no secret is read.
    Raises SiteError if what is asked for, or by `auto` everything, is impossible, with all the reasons.
    """
    kind = request.kind or own_answers(site.answers).chart_source
    file, reason = _fits(placed.chart)
    objection = request.refusal or oci.objection(site, controller)
    if kind == "configmap" and not file:
        raise SiteError(reason, hint="choose --chart-source oci if the operator can reach the registry, or temporary.")
    if kind == "oci" and objection:
        raise SiteError(f"chart source oci: {objection}", hint=_LASTING)
    lasting = None
    if file and kind != "oci":
        lasting = ChartSource("configmap", {"path": file.path}, file)
    elif not objection:
        lasting = _oci(placed, site, blank=blank)
    if lasting and kind != "temporary":
        return lasting
    if request.repository is None:
        raise SiteError(
            f"no source for the platform chart:\n  {reason}\n  {objection}\n  no temporary repository here"
            if kind == AUTO
            else "chart source temporary: there is no address at which this program could serve the chart",
            hint="`install --serve-address` names an address of this host that pods can reach; "
            "what is rendered needs a source that lasts.",
        )
    spec = {"url": request.repository.url, "name": placed.chart.name, "version": placed.chart.version}
    return ChartSource("temporary", spec, lasting=lasting)


def describe(spec: Mapping[str, Any]) -> str:
    """`spec.chart` of a custom resource, for people."""
    if path := spec.get("path"):
        return f"ConfigMap, {path}"
    url = str(spec.get("url") or "none")
    return f"registry, {url}" if url.startswith("oci://") else f"repository, {url}"


def is_repository(spec: Mapping[str, Any]) -> bool:
    """Whether `spec.chart` names an http repository: the operator needs it even to delete the custom resource."""
    return not spec.get("path") and str(spec.get("url") or "").startswith("http")


def _fits(chart: Chart) -> tuple[ChartFile | None, str]:
    """The chart as a ConfigMap holds it, or why none does."""
    try:
        return chart_file(chart), ""
    except SiteError as exc:
        return None, exc.message


def _oci(placed: Placed, site: Site, *, blank: bool) -> ChartSource:
    secrets = oci.secrets(site, placed.namespace, blank=blank)
    return ChartSource(
        "oci",
        oci.spec(placed.artifact, site),
        artifact=placed.artifact,
        secrets=secrets,
        authorities=site.registry_authorities,
    )

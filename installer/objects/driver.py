"""What a driver adds to the steps that a profile describes, before anything is applied.

A driver is the module `installer.apps.NAME.driver` that a profile names; its `DRIVER` also brings resources about and
removes them, see `installer.workflows.driver`.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from installer.cluster.cluster import Cluster, Object
from installer.diagnosis.finding import Finding
from installer.objects.desired import Desired, DesiredStep
from installer.objects.maker import Maker
from installer.oci.digest import Digest
from installer.site.site import SiteSecret
from installer.value import Value


@dataclass(frozen=True, slots=True)
class TemporaryRepository:
    """A chart repository of this process: it answers at `url` while the context that `serve` gives is open."""

    url: str
    serve: Callable[[], AbstractContextManager[object]] = field(repr=False)


class ChartSourceRequest(Value):
    """Where a controller shall read the chart that it installs, and what this host can offer.

    `kind` is a source or `auto`; the site's answer counts where it is empty. `refusal` says why the registry does not
    hold the chart; empty if it does. Without a `repository` there is no temporary one.
    """

    kind: str = ""
    refusal: str = ""
    repository: TemporaryRepository | None = None


@dataclass(frozen=True)
class Completed:
    """The steps with what the driver has added; `images` are what controllers pull beside the images of pods."""

    steps: tuple[DesiredStep, ...]
    secrets: tuple[SiteSecret, ...] = field(default=(), repr=False)
    images: Mapping[str, Digest] = field(default_factory=dict, repr=False)


class Preparing(Protocol):
    """The part of a driver that works before anything is applied."""

    def completed(self, made: Completed, maker: Maker, request: ChartSourceRequest, *, blank: bool) -> Completed:
        """`made` with what the driver adds. Raises SiteError."""

    def checks(self, cluster: Cluster, wanted: Desired) -> Iterable[Callable[[], Iterable[Finding]]]:
        """Further looks of `preflight`."""

    def in_clear(self, resource: Object) -> Iterable[tuple[str, str]]:
        """The paths of secrets in a resource as it stands in the cluster, each with the key of site.yaml for it."""

    def beforehand(self, wanted: Desired) -> tuple[Object, ...]:
        """Objects that must be there before the first step; an installation may add to what is in the cluster."""

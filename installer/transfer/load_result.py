"""What a load did, for people and programs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from installer.bundle.manifest import BundleBlob, BundleManifest
from installer.oci.digest import Digest
from installer.oci.reference import Reference, TagRef
from installer.registry.capabilities import Learnt
from installer.report import size
from installer.transfer.receipt import Receipt
from installer.value import Value


class Loaded(Value):
    """An image in the registry: `target` is its name there; `present` says that it was there before."""

    source: str
    target: Reference
    digest: Digest
    present: bool


class LoadedChart(Value):
    """A chart as an OCI artifact in the registry, or why the registry does not take it: `refusal`."""

    name: str
    version: str
    target: TagRef
    digest: Digest
    present: bool
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What a load did: images, charts, and bytes of blobs that were sent, mounted from a neighbour, or present.

    `resumed` counts those that an interrupted load had brought of blobs that this one completed. `left_out` are images
    and charts that were not loaded, with the reason; `lacking` are blobs that an update does not carry, and that the
    registry does not hold; `learnt` is what its answers told about the registry.
    """

    images: tuple[Loaded, ...]
    charts: tuple[LoadedChart, ...]
    sent: int
    mounted: int
    present: int
    resumed: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)
    lacking: tuple[BundleBlob, ...] = ()
    learnt: Learnt = field(default_factory=Learnt)

    def receipt(self, manifest: BundleManifest, registry: str) -> Receipt:
        """What `registry` holds now of the bundle that was loaded."""
        return Receipt.of(manifest, {image.source for image in self.images}, registry)

    def refusal(self, name: str, version: str) -> str:
        """Why the registry does not take this chart; empty if it has it."""
        return "".join(chart.refusal for chart in self.charts if (chart.name, chart.version) == (name, version))


def summary(result: LoadResult) -> str:
    """One line for people."""
    new = sum(not image.present for image in result.images)
    charts = len([chart for chart in result.charts if not chart.refusal])
    return (
        f"{len(result.images)} images, {new} of them new{f', {charts} charts' if charts else ''}: "
        f"{size(result.sent)} sent, {f'{size(result.resumed)} by an interrupted load, ' if result.resumed else ''}"
        f"{size(result.mounted)} shared inside the registry, "
        f"{size(result.present)} already there"
    )

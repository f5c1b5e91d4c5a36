"""The result of a load, for people and programs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from installer.bundle.manifest import BundleBlob, BundleManifest
from installer.oci.digest import Digest
from installer.oci.reference import Reference, TagRef
from installer.registry.capabilities import Capabilities
from installer.report import size
from installer.transfer.receipt import Receipt
from installer.value import Value


class LoadedImage(Value):
    """An image in the registry: `target` is its name there; `present` if it was there before the load."""

    source: str
    target: Reference
    digest: Digest
    present: bool


class LoadedChart(Value):
    """A chart as an OCI artifact in the registry, or why the registry does not take it: `refusal`."""

    name: str
    role: str
    target: TagRef
    digest: Digest
    present: bool
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Images and charts in the registry, and bytes of blobs that were sent, mounted from a neighbour, or present.

    `resumed` counts bytes that an interrupted load had sent of blobs that this one completed. `left_out` are images
    and charts that were not loaded, with the reason; `lacking` are blobs that an update leaves out and that the
    registry does not hold; `capabilities` are those of the registry, as its answers showed them.
    """

    images: tuple[LoadedImage, ...]
    charts: tuple[LoadedChart, ...]
    sent: int
    mounted: int
    present: int
    resumed: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)
    lacking: tuple[BundleBlob, ...] = ()
    capabilities: Capabilities = field(default_factory=Capabilities)

    def receipt(self, manifest: BundleManifest, registry: str) -> Receipt:
        """The receipt of what `registry` now holds of the loaded bundle."""
        return Receipt.of(manifest, {image.source for image in self.images}, registry)

    def refusal(self, role: str) -> str:
        """Why the registry does not take the charts of `role`; empty if it has them."""
        return "; ".join(chart.refusal for chart in self.charts if chart.role == role and chart.refusal)


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

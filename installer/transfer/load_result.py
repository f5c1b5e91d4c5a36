"""The result of a load, for people and programs."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from installer.bundle.manifest import BundleBlob, BundleManifest
from installer.errors import AirferryError, BundleError, several
from installer.oci.digest import Digest
from installer.oci.reference import Reference, Repository, TagRef
from installer.registry.capabilities import Capabilities
from installer.report import count, size
from installer.transfer.destinations import with_destinations
from installer.transfer.receipt import Receipt
from installer.value import Value, plain


class LoadedImage(Value):
    """An image in the registry: `target` is its name there; `present` if it was there before the load.

    `before` is what its tag named until then, if it was something else.
    """

    source: str
    target: Reference
    digest: Digest
    present: bool
    before: Digest | None = None


class LoadedChart(Value):
    """A chart as an OCI artifact in the registry, or why the registry does not take it (`refusal`)."""

    name: str
    version: str
    target: TagRef
    digest: Digest
    present: bool
    refusal: str = ""
    before: Digest | None = None


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Images and charts in the registry, and bytes of blobs that were sent, mounted from a neighbour, or present.

    `resumed` counts bytes that an interrupted load had sent of blobs that this one completed. `left_out` are images
    and charts that were not loaded, with the reason; `refused` are images that the registry did not take, by source;
    `unattached` are manifests about images, and why the registry does not take them; `destinations` are the
    repositories that all need; `lacking` are blobs that an update leaves out and that the registry does not hold;
    `capabilities` are those of the registry, as its answers showed them.
    """

    images: tuple[LoadedImage, ...]
    charts: tuple[LoadedChart, ...]
    sent: int
    mounted: int
    present: int
    resumed: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, AirferryError] = field(default_factory=dict)
    unattached: Mapping[str, str] = field(default_factory=dict)
    destinations: tuple[Repository, ...] = ()
    lacking: tuple[BundleBlob, ...] = ()
    capabilities: Capabilities = field(default_factory=Capabilities)

    def receipt(self, manifest: BundleManifest, registry: str) -> Receipt:
        """The receipt of what `registry` now holds of the loaded bundle."""
        return Receipt.of(manifest, {image.source for image in self.images}, registry)

    def refusal(self, charts: Collection[tuple[str, str]]) -> str:
        """Why the registry does not take `charts`, each name and version; empty if it has them."""
        return "; ".join(item.refusal for item in self.charts if (item.name, item.version) in charts and item.refusal)

    def document(self) -> dict[str, Any]:
        """As plain values, without what is lacking."""
        return {
            "images": [{"source": item.source, "present": item.present, **_named(item)} for item in self.images],
            "charts": [{"chart": item.name, "refusal": item.refusal, **_named(item)} for item in self.charts],
            "left_out": dict(self.left_out),
            "refused": {
                source: {"code": error.exit_code, "message": error.message, "next": error.hint}
                for source, error in self.refused.items()
            },
            "unattached": dict(self.unattached),
            "sent": self.sent,
            "resumed": self.resumed,
            "mounted": self.mounted,
            "present": self.present,
            "registry": plain(self.capabilities),
        }

    def lines(self) -> list[str]:
        """The same for people, without the counts."""
        return [
            *(f"{item.target}  {_state(item)}" for item in self.images),
            *(f"{item.target}  {item.refusal or _state(item)}" for item in self.charts),
            *(f"{name}  left out: {reason}" for name, reason in self.left_out.items()),
            *(f"{source}  refused: {error.message}" for source, error in self.refused.items()),
        ]

    def check(self) -> None:
        """Raises BundleError if something was left out, and the registry's errors for what it refused: one for all."""
        errors = [type(error)(f"{source}: {error.message}", hint=error.hint) for source, error in self.refused.items()]
        if self.left_out:
            left_out = BundleError(
                f"{len(self.left_out)} left out, because they need what is damaged or missing; all others are loaded",
                hint="bring a good copy of these volumes, and run the same command again.",
            )
            errors.append(left_out)
        if errors:
            rest = "all other images are loaded" if self.images else "no image is loaded"
            raise with_destinations(several(errors, f"refusals; {rest}"), self.destinations)


def _named(item: LoadedImage | LoadedChart) -> dict[str, str]:
    before = item.before.text if item.before else ""
    return {"target": str(item.target), "before": before, "digest": item.digest.text}


def _state(item: LoadedImage | LoadedChart) -> str:
    if item.before:
        return f"loaded: {item.before.text[:19]} -> {item.digest.text[:19]}"
    return "was there" if item.present else "loaded"


def summary(result: LoadResult) -> str:
    """One line for people."""
    new = sum(not image.present for image in result.images)
    charts = [chart for chart in result.charts if not chart.refusal]
    also = f", {count(len(charts), 'chart')}" if charts else ""
    if not new and all(chart.present for chart in charts):
        # Of images that are there as a whole no blob is looked at.
        return f"{count(len(result.images), 'image')}{also}: all there already"
    return (
        f"{count(len(result.images), 'image')}, {new} of them new{also}: "
        f"{size(result.sent)} sent, {f'{size(result.resumed)} by an interrupted load, ' if result.resumed else ''}"
        f"{size(result.mounted)} shared inside the registry, "
        f"{size(result.present)} already there"
    )

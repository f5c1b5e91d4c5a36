"""The charts of a bundle, compared with what bundle.json says of them wherever they are read.

A chart stands in a bundle as an archive, from which it is installed directly, and as an OCI artifact (Helm's HIP 6),
which goes to a registry for others to install. Both have to be the chart of the name and version that people are told.

What opens archives is imported when one is opened: most commands on a bundle without charts never do.
"""

from typing import TYPE_CHECKING, Any

from installer import strict_json
from installer.bundle.failures import ContradictionError
from installer.bundle.manifest import BundleChart, Contents
from installer.bundle.reader import Bundle
from installer.errors import AirferryError, BundleError, ContentError, NotFoundError, RecipeError
from installer.oci import media_types
from installer.oci.model import MAX_MANIFEST, Descriptor, Index, Manifest, parse_manifest

if TYPE_CHECKING:
    from installer.chart.helm import Chart

MAX_CONFIG = MAX_MANIFEST
"""The longest configuration of a chart: it repeats Chart.yaml."""


def chart_of(bundle: Contents, entry: BundleChart, values_error: type[AirferryError] = RecipeError) -> "Chart":
    """The chart `entry` from its archive; `values_error` as in `Chart`.

    Raises BundleError if it is broken or another chart, and what `Bundle.read` raises.
    """
    from installer.chart.helm import Chart

    archive = bundle.read(entry.archive)
    chart = Chart.load(archive, source=f"chart {entry.name}", error=BundleError, values_error=values_error)
    _compare(entry, "the Chart.yaml in its archive", chart.name, chart.version)
    return chart


def artifact_of(bundle: Bundle, entry: BundleChart) -> Manifest:
    """The manifest of the chart `entry` as an artifact.

    Raises BundleError if it is broken, another chart, or not all carried, and what `Bundle.read` raises.
    """
    what = f"chart {entry.name} {entry.version}: its artifact {entry.artifact}"
    try:
        raw = bundle.read(entry.artifact, MAX_MANIFEST)
        node, archive = parts_of(parse_manifest(raw, bundle.blob(entry.artifact).media_type))
        if archive.digest != entry.archive:
            raise ContentError(f"it holds {archive.digest}, but its archive is {entry.archive}")
        for item in node.blobs:
            if (blob := bundle.blob(item.digest)).size != item.size or not blob.carried:
                raise ContentError(f"{item.digest} is not carried, or of another size")
        name, version = named_in(bundle.read(node.config.digest, MAX_CONFIG))
    except (ContentError, NotFoundError) as exc:
        raise ContradictionError(f"{what}: {exc.message}") from exc
    _compare(entry, f"the configuration of its artifact {entry.artifact}", name, version)
    return node


def check_chart(bundle: Bundle, entry: BundleChart) -> None:
    """Raises BundleError unless archive and artifact of `entry` are that chart, and what `Bundle.read` raises.

    Helm itself, whose library takes a second to unpack, is asked only where plain YAML leaves something open.
    """
    from installer.chart.archive import stated

    artifact_of(bundle, entry)
    try:
        plain = stated(bundle.read(entry.archive), f"chart {entry.name}", ContentError)
    except ContentError:
        plain = None
    if plain != (entry.name, entry.version):
        chart_of(bundle, entry)


def parts_of(node: Manifest | Index) -> tuple[Manifest, Descriptor]:
    """The manifest of a chart as an artifact, and the archive in it. Raises ContentError for what is none."""
    if isinstance(node, Index) or node.config.media_type != media_types.HELM_CONFIG:
        raise ContentError("it is no Helm chart", hint="an image of that name?")
    archives = [layer for layer in node.layers if layer.media_type == media_types.HELM_CHART]
    if len(archives) != 1:
        raise ContentError(f"it holds {len(archives)} charts instead of one")
    return node, archives[0]


def named_in(config: bytes) -> tuple[Any, Any]:
    """Name and version in the configuration of an artifact, as they are written there. Raises ContentError."""
    found = strict_json.parse(config, "the configuration", ContentError, known=())
    return (found.get("name"), found.get("version")) if isinstance(found, dict) else (None, None)


def _compare(entry: BundleChart, what: str, name: object, version: object) -> None:
    if (name, version) != (entry.name, entry.version):
        raise ContradictionError(f"chart {entry.name} {entry.version}: {what} says {name!s:.100} {version!s:.100}")

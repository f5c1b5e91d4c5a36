"""Which templates of a chart have image names fixed, found by moving it into a made-up enclave."""

from collections.abc import Iterable, Mapping

from builder.charts.fetch import FetchedChart, with_edits
from builder.charts.rendering import Release
from builder.recipe.lock import TemplateEdit
from builder.rehearse.rehearsal import Cluster
from installer.chart.relocation import Relocation
from installer.chart.retarget import merged
from installer.moving.means import into_enclave
from installer.moving.operations import Operations
from installer.moving.rewriting import Rewrite, rewrite
from installer.oci.digest import Digest
from installer.value import Value, replace

REGISTRY, PROJECT = "registry.enclave.example:5000", "project"
"""The made-up enclave."""


class Movement(Value):
    """How `chart` comes to take its images from an enclave, beside the values that name them.

    `prefixes` are the dotted paths of values that begin their names, `edits` are of templates that have names fixed.
    """

    chart: Digest
    prefixes: frozenset[str]
    edits: frozenset[tuple[str, Rewrite]]


def movement(
    release: Release, images: Iterable[str], cluster: Cluster, overlays: Iterable[Mapping[str, object]]
) -> Movement:
    """How the chart of `release` moves the names of `images` on `cluster`, with each of `overlays` over its values.

    Raises RecipeError.
    """
    chart = release.fetched.chart
    named = ((name, Digest.of(name.encode())) for name in images)
    relocation = Relocation.of(named, REGISTRY, PROJECT, rules=release.rules)
    operations = Operations(
        release.tree.draft,
        release.name,
        release.namespace,
        kube_version=cluster.version,
        api_versions=cluster.api_versions,
    )
    found = [into_enclave(operations, merged(release.values, overlay), relocation) for overlay in overlays]
    fixed = frozenset[tuple[str, str]]().union(*(item.fixed for item in found))
    return Movement(
        chart=chart.digest,
        prefixes=frozenset(path for item in found for path in item.paths),
        edits=frozenset((release.tree.file(template), rewrite(text)) for template, text in fixed),
    )


def moved_chart(item: FetchedChart, movements: Iterable[Movement]) -> FetchedChart:
    """`item` with what its `movements` need, one for each release of it."""
    own = [movement for movement in movements if movement.chart == item.archive]
    edits: dict[str, set[Rewrite]] = {}
    for template, rewrites in sorted({edit for movement in own for edit in movement.edits}):
        edits.setdefault(template, set()).add(rewrites)
    made = [TemplateEdit(template, tuple(sorted(rewrites))) for template, rewrites in edits.items()]
    prefixes = {path for movement in own for path in movement.prefixes}
    return replace(with_edits(item, made) if made else item, prefixes=tuple(sorted(prefixes)))

"""The rehearsal of what a recipe needs: its charts brought to move, and its application installed at home."""

import json
from collections.abc import Iterator

from builder.charts.discover import Discovery
from builder.charts.render_matrix import EVERYTHING
from builder.charts.rendering import PROFILE
from builder.images.parallel import RENDERINGS, in_parallel
from builder.images.source import Places
from builder.recipe.lock import Lock
from builder.recipe.recipe import Recipe
from builder.rehearse.rehearsal import Cluster, LockedContents, rehearse, sample_sites
from builder.rehearse.template_edits import Movement, moved_chart, movement
from builder.resolve.requirements import Needs
from installer.apps.application import Application
from installer.value import replace


def movable(found: Needs, recipe: Recipe) -> Needs:
    """`found` with charts that are edited where their templates have names of images fixed."""
    everything = recipe.include == "everything"

    def moving(item: Discovery) -> Movement:
        names = {PROFILE, EVERYTHING} if everything else {PROFILE}
        overlays = {json.dumps(made.overlay): made.overlay for made in item.renderings if made.name in names}
        return movement(item.release, found.images, recipe.kubernetes, list(overlays.values()))

    movements = in_parallel(moving, found.discoveries, "charts cannot be moved into an enclave", threads=RENDERINGS)
    return replace(found, charts=tuple(moved_chart(item, movements) for item in found.charts))


def rehearsed(found: Needs, app: Application, lock: Lock, recipe: Recipe, places: Places) -> Iterator[str]:
    """What is worth knowing of a rehearsed installation. Raises RecipeError for what an enclave would refuse."""
    sites = [("", found.site)] if found.site else sample_sites(app, found.samples)
    kubernetes, releases = recipe.kubernetes, found.steps.releases if found.steps else ()
    versions = [kubernetes.version]
    if kubernetes.stated and any(release.tree.readers("Capabilities", release.values) for release in releases):
        versions = sorted({kubernetes.versions[0][0], kubernetes.version})
    clusters = [Cluster(version=version, api_versions=tuple(kubernetes.api_versions)) for version in versions]
    made = rehearse(LockedContents(lock, found.charts, places), sites, clusters)
    yield from made.notes
    if made.asked:
        yield f"a site is asked for {', '.join(made.asked)}"

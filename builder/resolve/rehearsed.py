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
from builder.rehearse.sample_site import sample_site
from builder.rehearse.template_edits import Movement, moved_chart, movement
from builder.resolve.requirements import Asking, Needs
from installer.apps.application import Application
from installer.chart.retarget import merged
from installer.chart.spelling.text import as_reference
from installer.value import replace


def movable(found: Needs, recipe: Recipe) -> Needs:
    """`found` with charts that are edited where their templates have names of images fixed."""
    if not found.steps or not found.application:
        return found
    app, steps, everything = found.application, found.steps, recipe.include == "everything"
    sites = [sample_site(app, item.sample.after) for item in found.samples if not _lacking(item, found)]

    def moving(asked: tuple[Discovery, str]) -> Movement:
        item, version = asked
        step = steps.profile.step(item.release.name)
        names = {PROFILE, EVERYTHING} if everything else {PROFILE}
        overlays = [made.overlay for made in item.renderings if made.name in names]
        overlays += [merged(app.values(step, site), app.secret_values(step, site, blank=True)) for site in sites]
        distinct = {json.dumps(overlay, sort_keys=True): overlay for overlay in overlays}
        return movement(item.release, found.images, _cluster(recipe, version), list(distinct.values()))

    asked = [(item, version) for item in found.discoveries for version in (recipe.kubernetes.version, *item.versions)]
    movements = in_parallel(moving, asked, "charts cannot be moved into an enclave", threads=RENDERINGS)
    return replace(found, charts=tuple(moved_chart(item, movements) for item in found.charts))


def rehearsed(found: Needs, app: Application, lock: Lock, recipe: Recipe, places: Places) -> Iterator[str]:
    """What is worth knowing of a rehearsed installation. Raises RecipeError for what an enclave would refuse."""
    others = [] if found.site else [(item, _lacking(item, found)) for item in found.samples]
    samples = [item.sample for item, lacking in others if not lacking]
    sites = [("", found.site)] if found.site else sample_sites(app, samples)
    kubernetes, versions = recipe.kubernetes, {version for item in found.discoveries for version in item.versions}
    oldest = kubernetes.versions[0][0]
    # What charts ask for on it is known; whether they are for it at all, only this shows.
    if kubernetes.stated and not all(item.release.fetched.chart.accepts(oldest) for item in found.discoveries):
        versions.add(oldest)
    clusters = [_cluster(recipe, item) for item in (*sorted(versions - {kubernetes.version}), kubernetes.version)]
    left_out = frozenset(item.image for item in found.excluded)
    made = rehearse(LockedContents(lock, found.charts, places), app, sites, clusters, left_out)
    yield from made.notes
    asked = {name for item in found.discoveries for name in item.images}
    for excluded in found.excluded:
        if excluded.image in asked:
            yield f"{excluded.image} is excluded, and asked for: a site has to switch off what does ({excluded.reason})"
    for item, lacking in others:
        if lacking:
            yield f"a site that answers {item.sample.key} may ask for images that are not carried: {', '.join(lacking)}"
    if made.asked:
        yield f"a site is asked for {', '.join(made.asked)}"


def _lacking(asking: Asking, found: Needs) -> list[str]:
    """The images that sample answers ask for and that are not carried."""
    named = filter(None, map(as_reference, asking.images))
    return sorted({str(item) for item in named} - found.images.keys())


def _cluster(recipe: Recipe, version: str) -> Cluster:
    return Cluster(version=version, api_versions=tuple(recipe.kubernetes.api_versions))

"""The command `rehearse`."""

import json
from pathlib import Path

import click

from builder.charts.rendering import PROFILE
from builder.cli.recipe.recipe_files import answers_in, site_option
from builder.cli.trust import bundle_argument
from builder.images.previous_bundle import open_own
from builder.recipe.recipe import KubernetesEntry
from builder.rehearse.rehearsal import Cluster, rehearse, sample_sites
from builder.resolve.completeness_report import PROOF_NAME
from installer.apps.application import application_of
from installer.bundle.reader import Bundle
from installer.commands import Command
from installer.errors import UsageError
from installer.schema import validate
from installer.shell import Session


@click.command("rehearse", cls=Command)
@bundle_argument
@site_option
@click.option(
    "--kubernetes",
    "versions",
    multiple=True,
    metavar="VERSION",
    help="Version of a cluster, like 1.34; may be repeated. Default: those of the recipe.",
)
@click.option(
    "--api-version",
    "api_versions",
    multiple=True,
    metavar="NAME",
    help="What the cluster serves beside Kubernetes' own, like monitoring.coreos.com/v1; may be repeated.",
)
def rehearse_bundle(
    session: Session,
    *,
    bundle: tuple[Path, ...],
    site: Path | None,
    versions: tuple[str, ...],
    api_versions: tuple[str, ...],
) -> None:
    """Install BUNDLE as far as that can be done without a cluster, and say what an enclave would refuse.

    `airferry lock` has done so already for made-up answers. With the answers of a site (files and secrets that they
    name need not be here), or for another cluster, an evening at home saves a journey.

    \b
      airferry rehearse app-1.0.tar --site site.yaml
      airferry rehearse app-1.0.tar --kubernetes 1.31 --kubernetes 1.34
    """
    for version in versions:
        validate(KubernetesEntry, {"to": version}, "--kubernetes", UsageError)
    with open_own(bundle) as opened:
        app = application_of(opened)
        if app is None:
            raise UsageError("the bundle has no chart: there is nothing to install", hint="`verify` checks its images.")
        load, _ = answers_in(session, site)
        sites = [("", load(app))] if load else sample_sites(app)
        known = _clusters(opened)
        clusters = [
            Cluster(version=version, api_versions=api_versions or known[0].api_versions) for version in versions
        ] or [Cluster(version=item.version, api_versions=api_versions or item.api_versions) for item in known]
        found = rehearse(opened, app, sites, clusters)
    for note in found.notes:
        session.reporter.note(f"note: {note}")
    asked = "".join(f"\n  {question}" for question in found.asked)
    where = ", ".join(item.version for item in clusters if item.version)
    session.emit(
        {"kubernetes": [item.version for item in clusters], "asked": list(found.asked), "notes": list(found.notes)},
        f"it installs{f' on Kubernetes {where}' if where else ''}, as far as that shows without a cluster"
        + (f"\nthe site has not answered:{asked}" if asked else ""),
    )


def _clusters(bundle: Bundle) -> list[Cluster]:
    """The clusters for which the charts were rendered, from the proof in `bundle`."""
    for document in bundle.manifest.documents:
        if document.name == PROOF_NAME:
            proof = json.loads(bundle.read(document.digest))
            made = [item for chart in proof["charts"] for item in chart["renderings"] if item["name"] == PROFILE]
            versions = sorted({item["kubernetes"] for item in made}) or [""]
            return [Cluster(version=version, api_versions=tuple(proof["api_versions"])) for version in versions]
    return [Cluster(version="")]

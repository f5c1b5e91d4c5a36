"""The commands that bring what a bundle holds into a cluster: render, preflight, install, upgrade."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from installer.cli.mutation import TIME, ask, means, report
from installer.cli.options import (
    FILE,
    FOLDER,
    bundle_options,
    cluster_options,
    take_over_option,
    timeout_option,
)
from installer.shell import Session, common

_site_option = click.option("--site", "site_file", type=FILE, required=True, help="Answers about this site.")
_chart_source_option = click.option(
    "--chart-source",
    default="",
    type=click.Choice(["", "auto", "configmap", "oci", "temporary"]),
    metavar="auto|configmap|oci|temporary",
    help="Where the W&B operator reads its chart. [default: the answer in site.yaml, else auto]",
)
_serve_address_option = click.option(
    "--serve-address",
    default="",
    metavar="HOST[:PORT]",
    help="Where a temporary chart repository listens. [default: this host as the API server sees it, port 8879]",
)


@click.command()
@common
@bundle_options
@_site_option
@click.option("-o", "--output-dir", type=FOLDER, required=True, help="Folder for the files; made if it does not exist.")
@click.option("--kube-version", default="", metavar="VERSION", help="Version of Kubernetes that charts shall assume.")
@click.option(
    "--secrets",
    default="placeholder",
    show_default=True,
    type=click.Choice(("placeholder", "external")),
    help="Manifests to be filled in or sealed, or objects of External Secrets Operator.",
)
@click.option("--keep-image-names", is_flag=True, help="For nodes with the mirrors of `nodes`: upstream names stay.")
@_chart_source_option
def render(
    session: Session,
    bundle: Any,
    site_file: Path,
    output_dir: Path,
    kube_version: str,
    secrets: Any,
    chart_source: str,
    *,
    keep_image_names: bool,
) -> None:
    """Write everything that `install` would apply as files, without talking to a cluster.

    \b
    Example: ./wandb-installer render --site site.yaml --output-dir manifests
    The folder is made for kubectl, Argo CD and Flux, and has registry mirrors for the nodes; its README.md tells how
    to use it. Values of Secrets are left out. Images that this enclave would not have are an error, as for `install`.
    """
    from installer.cli.loading import read_site
    from installer.objects.chart_source import Wish
    from installer.objects.desired import desired
    from installer.objects.node_mirrors import node_mirrors
    from installer.objects.render import files, write

    site = read_site(session, site_file)
    wanted = desired(
        bundle, site, kube_version=kube_version, blank=True, wish=Wish(chart_source), names_stay=keep_image_names
    )
    for text in wanted.suspects:
        session.reporter.note(f"looks like an image reference: {text}")
    mirrors = {} if site.on_nodes else node_mirrors(bundle, site)
    written = write({**files(wanted, secrets), **mirrors}, output_dir)
    session.emit({"files": [str(file) for file in written]}, "\n".join(str(file) for file in written))


@click.command()
@common
@bundle_options
@_site_option
@cluster_options
@_chart_source_option
@_serve_address_option
def preflight(
    session: Session, bundle: Any, target: Any, site_file: Path, chart_source: str, serve_address: str
) -> None:
    """Tell everything that stands in the way of `install`, and change nothing.

    \b
    Example: ./wandb-installer preflight --site site.yaml
    Looks at image references, permissions, kinds, classes, Secrets, volumes, nodes, other operators, and the registry.
    `install` and `upgrade` begin with the same. Of several exit codes it ends with the lowest.
    """
    from installer.cli.loading import read_site, registry_of
    from installer.preflight.preflight import look

    site = read_site(session, site_file)
    wish = _wish(session, bundle, target, chart_source, serve_address)
    found = look(bundle, site, target.cluster, registry_of(session, site), target.releases, wish)
    session.emit(found.document(), found.text())
    found.verdict()


@click.command()
@common
@bundle_options
@_site_option
@cluster_options
@take_over_option
@_chart_source_option
@_serve_address_option
@timeout_option
def install(
    session: Session,
    bundle: Any,
    target: Any,
    site_file: Path,
    timeout: int,
    chart_source: str,
    serve_address: str,
    *,
    take_over: bool,
) -> None:
    """Verify, load the images, install the operator and the application, and wait until all of it runs.

    \b
    Example: ./wandb-installer install --site site.yaml --kubeconfig admin.conf
    Run it again after an interruption or a changed site.yaml: it does what is left to do, and nothing else.
    The operator reads its chart again on every later change. `--chart-source auto` puts it into a ConfigMap, or into
    the registry where it is too large; a `temporary` repository serves it from here until it is handed over.
    """
    from installer.cli.loading import read_site
    from installer.verify.verification import verify

    site = read_site(session, site_file)
    wish = _wish(session, bundle, target, chart_source, serve_address)
    attempt = _attempt(session, bundle, target, site, take_over=take_over)
    prepared = attempt(wish=wish)
    verify(bundle, session.reporter)
    for line in prepared.changes.overwritten:
        session.reporter.note(f"overwriting what others have set: {line}")
    for line in prepared.changes.volumes:
        session.reporter.note(f"its claim will be deleted, the volume is kept: {line}")
    _carry_out(session, bundle, target, site, prepared, attempt, wish, timeout)


@click.command()
@common
@bundle_options
@_site_option
@cluster_options
@take_over_option
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--allow-downgrade", is_flag=True, help="Accept a bundle that is older than the installed one.")
@_chart_source_option
@_serve_address_option
@timeout_option
def upgrade(
    session: Session,
    bundle: Any,
    target: Any,
    site_file: Path,
    timeout: int,
    chart_source: str,
    serve_address: str,
    *,
    take_over: bool,
    dry_run: bool,
    yes: bool,
    allow_downgrade: bool,
) -> None:
    """Show what this bundle changes in an installation of an earlier one, ask, and bring it about.

    \b
    Example: ./wandb-installer upgrade --site site.yaml
    Run it again after an interruption: it continues. `rollback` goes back to what ran before.
    """
    from installer.cli.loading import read_site
    from installer.verify.verification import verify
    from installer.workflows.upgrade import Policy

    site = read_site(session, site_file)
    wish = _wish(session, bundle, target, chart_source, serve_address)
    attempt = _attempt(session, bundle, target, site, policy=Policy(downgrade=allow_downgrade), take_over=take_over)
    prepared = attempt(wish=wish)
    if dry_run:
        session.emit({"changes": prepared.changes.document()}, prepared.changes.text())
        return
    for line in prepared.changes.text().splitlines():
        session.reporter.note(line)
    verify(bundle, session.reporter)
    if not yes and not prepared.changes.empty:
        ask(f"Upgrade {prepared.note.bundle} in namespace {prepared.note.namespace}?")
    _carry_out(session, bundle, target, site, prepared, attempt, wish, timeout)


def _attempt(session: Session, bundle: Any, target: Any, site: Any, **how: Any) -> Callable[..., Any]:
    """What prepares an installation or upgrade, once it is told the wish."""
    from installer.cli.loading import registry_of
    from installer.workflows.install import prepare

    how |= {"registry": registry_of(session, site), "reporter": session.reporter}
    time = session.now().strftime(TIME)
    return functools.partial(prepare, bundle, site, target.cluster, target.releases, time=time, **how)


def _wish(session: Session, bundle: Any, target: Any, chart_source: str, serve_address: str) -> Any:
    """Where the operator shall read its chart, and what this host can offer."""
    from installer.cli.own_repository import own_repository
    from installer.objects.chart_source import Wish

    own = own_repository(bundle, target.cluster.endpoint.server, serve_address, session.reporter)
    return Wish(chart_source, repository=own)


def _carry_out(
    session: Session,
    bundle: Any,
    target: Any,
    site: Any,
    prepared: Any,
    attempt: Callable[..., Any],
    wish: Any,
    timeout: int,
) -> None:
    """Load the images, do what was prepared, and print what came of it.

    `attempt` prepares anew, with another wish: whether the registry takes charts is known only now.
    """
    from installer.cli.loading import held_in, load_into, of_site, registry_at
    from installer.transfer.load_result import summary
    from installer.value import replace
    from installer.workflows.install import carry_out

    if site.on_nodes:
        done = carry_out(prepared, means(session, target, timeout), None)
        report(session, done, prepared.changes)
        return
    place = of_site(site)
    loaded = load_into(session, bundle, place)
    session.reporter.note(summary(loaded))
    if prepared.needs_registry and (refusal := loaded.refusal("platform")):
        prepared = attempt(wish=replace(wish, refusal=refusal))
    holds = held_in(session, place)
    done = carry_out(prepared, means(session, target, timeout, holds), registry_at(session, place))
    report(session, done, prepared.changes)

"""The commands that bring the application into a cluster: render, install, upgrade, rollback, status, uninstall."""

import functools
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from installer.cli_options import FILE, FOLDER, bundle_options
from installer.shell import Session, common

_F = TypeVar("_F", bound=Callable[..., Any])
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_site_option = click.option("--site", "site_file", type=FILE, required=True, help="Answers about this site.")
_timeout_option = click.option(
    "--timeout", default=900, show_default=True, type=click.IntRange(1, 86400), help="Seconds to wait in all."
)


def _name_options(command: _F) -> _F:
    """Options that choose an installation in the cluster; the command gets `name` and `namespace`."""
    for option in (
        click.option(
            "--namespace", default="", help="Namespace of the installation's record. [default: all are searched]"
        ),
        click.option("--name", default="", help="Name of the bundle, where several are installed."),
    ):
        command = option(command)
    return command


_take_over_option = click.option(
    "--take-over", is_flag=True, help="Overwrite fields that others have set otherwise; they are named."
)


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


def _cluster_options(command: _F) -> _F:
    """Options that choose the cluster; the command gets `target`."""

    @click.option("--kubeconfig", type=FILE, help="How to reach the cluster. [default: $KUBECONFIG, ~/.kube/config]")
    @click.option("--context", default="", help="Context in that file. [default: its current one]")
    @click.option("--allow-exec-plugin", is_flag=True, help="Run the program that the kubeconfig names for its login.")
    @functools.wraps(command)
    def wrapped(
        session: Session,
        *args: Any,
        kubeconfig: Path | None,
        context: str,
        allow_exec_plugin: bool,
        **kwargs: Any,
    ) -> Any:
        from installer.target import Target

        return command(session, *args, Target(session, kubeconfig, context, plugin=allow_exec_plugin), **kwargs)

    return wrapped  # type: ignore[return-value] # a decorator that changes the signature cannot be typed as one


@click.command()
@common
@bundle_options
@_site_option
@click.option("--output-dir", type=FOLDER, required=True, help="Folder for the files; made if it does not exist.")
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
    from installer.chart_source import Wish
    from installer.desired import desired
    from installer.loading import read_site
    from installer.node_mirrors import node_mirrors
    from installer.render import files, write

    site = read_site(session, site_file)
    wanted = desired(
        bundle, site, kube_version=kube_version, blank=True, wish=Wish(chart_source), names_stay=keep_image_names
    )
    for text in wanted.suspects:
        session.reporter.note(f"looks like an image reference: {text}")
    written = write({**files(wanted, secrets), **node_mirrors(bundle, site)}, output_dir)
    session.emit({"files": [str(file) for file in written]}, "\n".join(str(file) for file in written))


@click.command()
@common
@bundle_options
@_site_option
@_cluster_options
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
    from installer.loading import of_site, read_site, registry_at
    from installer.preflight import look

    site = read_site(session, site_file)
    wish = _wish(session, bundle, target, chart_source, serve_address)
    found = look(bundle, site, target.cluster, registry_at(session, of_site(site)), wish)
    session.emit(found.document(), found.text())
    found.verdict()


@click.command()
@common
@bundle_options
@_site_option
@_cluster_options
@_take_over_option
@_chart_source_option
@_serve_address_option
@_timeout_option
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
    from installer.loading import read_site

    site = read_site(session, site_file)
    wish = _wish(session, bundle, target, chart_source, serve_address)
    attempt = _attempt(session, bundle, target, site, take_over=take_over)
    prepared = attempt(wish=wish)
    bundle.verify(session.reporter)
    for line in prepared.changes.overwritten:
        session.reporter.note(f"overwriting what others have set: {line}")
    _carry_out(session, bundle, target, site, prepared, attempt, wish, timeout)


@click.command()
@common
@bundle_options
@_site_option
@_cluster_options
@_take_over_option
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--allow-downgrade", is_flag=True, help="Accept a bundle that is older than the installed one.")
@_chart_source_option
@_serve_address_option
@_timeout_option
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
    from installer.loading import read_site
    from installer.upgrade import Policy

    site = read_site(session, site_file)
    wish = _wish(session, bundle, target, chart_source, serve_address)
    attempt = _attempt(session, bundle, target, site, policy=Policy(downgrade=allow_downgrade), take_over=take_over)
    prepared = attempt(wish=wish)
    if dry_run:
        session.emit({"changes": prepared.changes.document()}, prepared.changes.text())
        return
    for line in prepared.changes.text().splitlines():
        session.reporter.note(line)
    bundle.verify(session.reporter)
    if not yes and not prepared.changes.empty:
        _ask(f"Upgrade {prepared.note.bundle} in namespace {prepared.note.namespace}?")
    _carry_out(session, bundle, target, site, prepared, attempt, wish, timeout)


def _attempt(session: Session, bundle: Any, target: Any, site: Any, **how: Any) -> Callable[..., Any]:
    """What prepares an installation or upgrade, once it is told the wish."""
    from installer.install import prepare
    from installer.loading import of_site, registry_at

    how |= {"registry": registry_at(session, of_site(site)), "reporter": session.reporter}
    time = session.now().strftime(_TIME)
    return functools.partial(prepare, bundle, site, target.cluster, target.releases, time=time, **how)


def _ask(question: str) -> None:
    """Go on only if the user says yes."""
    click.confirm(question, abort=True, err=True)


def _wish(session: Session, bundle: Any, target: Any, chart_source: str, serve_address: str) -> Any:
    """Where the operator shall read its chart, and what this host can offer."""
    from installer.chart_source import Wish
    from installer.own_repository import own_repository

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
    from installer.install import carry_out
    from installer.load import summary
    from installer.loading import held_in, load_into, of_site, registry_at

    place = of_site(site)
    loaded = load_into(session, bundle, place)
    session.reporter.note(summary(loaded))
    if prepared.needs_registry and (refusal := loaded.refusal("platform")):
        prepared = attempt(wish=replace(wish, refusal=refusal))
    holds = held_in(session, place)
    done = carry_out(prepared, _means(session, target, timeout, holds), registry_at(session, place))
    _report(session, done, prepared.changes)


def _means(session: Session, target: Any, timeout: int, holds: Any = None) -> Any:
    """With what the cluster is changed, and by whom; at most `timeout` seconds are waited; `holds` as in Patience."""
    from installer.holder import Holder
    from installer.lease import Means
    from installer.wait import Patience

    patience = Patience(timeout, session.reporter, **({"holds": holds} if holds else {}))
    return Means(target.cluster, target.releases, patience, Holder.this_process(), session.now)


def _report(session: Session, done: Any, changes: Any) -> None:
    """Print what an installation, an upgrade or a rollback has done."""
    changed = [f"changed {what}" for what in done.changed] or ["nothing had to be changed"]
    ready = [f"{item}: {item.state}" for item in done.workloads]
    document = {
        "installation": asdict(done.record),
        "changed": list(done.changed),
        "changes": changes.document(),
        "workloads": [{"workload": str(item), "ready": item.ready, "state": item.state} for item in done.workloads],
    }
    session.emit(document, "\n".join([*changed, "", *ready, "", f"{done.record.bundle} {done.record.version} runs"]))


@click.command()
@common
@_cluster_options
@_name_options
@_take_over_option
@click.option(
    "--to", "number", default=0, metavar="NUMBER", help="A revision that `history` lists. [default: the one before]"
)
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_timeout_option
def rollback(
    session: Session,
    target: Any,
    name: str,
    namespace: str,
    number: int,
    timeout: int,
    *,
    take_over: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Go back to what ran before the last upgrade or change, from what the cluster holds. Needs no bundle.

    \b
    Example: ./wandb-installer rollback
    Data, Secrets and CustomResourceDefinitions stay as they are. Run it again after an interruption: it continues.
    """
    from installer import record
    from installer import rollback as backwards
    from installer.loading import as_recorded, held_in, registry_at

    cluster = target.cluster
    present = record.find(cluster, name, namespace)
    time = session.now().strftime(_TIME)
    back = backwards.prepare(cluster, target.releases, present, number=number, time=time)
    if dry_run:
        session.emit({"changes": back.changes.document(), "revision": back.goal.number}, back.changes.text())
        return
    for line in back.changes.text().splitlines():
        session.reporter.note(line)
    if not yes:
        _ask(f"Go back to revision {back.goal.number}, {back.note.bundle} {back.note.version}?")
    place = as_recorded(back.goal.access, backwards.credentials(cluster, back.goal))
    means = _means(session, target, timeout, held_in(session, place))
    done = backwards.carry_out(back, means, registry_at(session, place), take_over=take_over)
    _report(session, done, back.changes)


@click.command()
@common
@_cluster_options
@_name_options
def history(session: Session, target: Any, name: str, namespace: str) -> None:
    """List what has been installed, newest last: what `rollback` can go back to.

    \b
    Example: ./wandb-installer history
    """
    from installer import history as past
    from installer import record

    found = past.read(target.cluster, record.find(target.cluster, name, namespace))
    session.emit([item.document() for item in found.revisions], "\n".join(item.line() for item in found.revisions))


@click.command()
@common
@_cluster_options
@_name_options
def status(session: Session, target: Any, name: str, namespace: str) -> None:
    """Tell what is installed, whether all of it runs, and if not, why. Needs no bundle.

    \b
    Example: ./wandb-installer status
    Exit code 0: everything runs; 32: something does not, and the reason is printed.
    """
    from installer import record
    from installer.errors import NotReadyError
    from installer.loading import held_as_recorded
    from installer.status import status as look

    note = record.find(target.cluster, name, namespace)
    found = look(target.cluster, note, held_as_recorded(session, target.cluster, note))
    session.emit(found.document(), found.text())
    if not found.ready:
        raise NotReadyError(f"{found.record.bundle} is not ready", hint="the causes are listed above.")


@click.command()
@common
@_cluster_options
@_name_options
@click.option("--delete-data", is_flag=True, help="Delete the volume claims and Secrets too; they are listed first.")
@click.option("--delete-crds", is_flag=True, help="Delete the CustomResourceDefinitions too, unless others use them.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_timeout_option
def uninstall(
    session: Session,
    target: Any,
    name: str,
    namespace: str,
    timeout: int,
    *,
    delete_data: bool,
    delete_crds: bool,
    yes: bool,
) -> None:
    """Remove the application and the operator. Data stays: volumes and Secrets are listed, not deleted.

    \b
    Examples:
      ./wandb-installer uninstall
      ./wandb-installer uninstall --delete-data --delete-crds
    """
    from installer import record
    from installer.uninstall import data_of
    from installer.uninstall import uninstall as remove

    found = record.find(target.cluster, name, namespace)
    if delete_data:
        for item in data_of(target.cluster, found):
            if item.ours:
                session.reporter.note(f"will be deleted for good: {item}")
    if not yes:
        also = " AND ALL ITS DATA" if delete_data else ""
        _ask(f"Remove {found.bundle} {found.version}{also} from namespace {found.namespace}?")
    done = remove(_means(session, target, timeout), found, data=delete_data, crds=delete_crds)
    lines = [*(f"kept {item}" for item in done.kept), f"{found.bundle} {found.version} is removed"]
    session.emit({"removed": list(done.removed), "kept": list(done.kept)}, "\n".join(lines))

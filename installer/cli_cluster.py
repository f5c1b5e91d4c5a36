"""The commands that bring the application into a cluster: render, install, status, uninstall."""

import functools
from collections.abc import Callable
from dataclasses import asdict
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
def render(session: Session, bundle: Any, site_file: Path, output_dir: Path, kube_version: str) -> None:
    """Write everything that `install` would apply as files, without talking to a cluster.

    \b
    Example: ./wandb-installer render --site site.yaml --output-dir manifests
    Values of Secrets are left out. Images that this enclave would not have are an error, as they are for `install`.
    """
    from installer.desired import desired
    from installer.loading import read_site
    from installer.render import render as write

    files = write(desired(bundle, read_site(session, site_file), kube_version=kube_version, blank=True), output_dir)
    session.emit({"files": [str(file) for file in files]}, "\n".join(str(file) for file in files))


@click.command()
@common
@bundle_options
@_site_option
@_cluster_options
@_timeout_option
def install(session: Session, bundle: Any, target: Any, site_file: Path, timeout: int) -> None:
    """Verify, load the images, install the operator and the application, and wait until all of it runs.

    \b
    Example: ./wandb-installer install --site site.yaml --kubeconfig admin.conf
    Run it again after an interruption or a changed site.yaml: it does what is left to do, and nothing else.
    """
    from installer.install import install as bring_about
    from installer.load import summary
    from installer.loading import load_into, of_site, read_site
    from installer.wait import Patience

    site = read_site(session, site_file)
    bundle.verify(session.reporter)
    session.reporter.note(summary(load_into(session, bundle, of_site(site))))
    time = session.now().strftime(_TIME)
    done = bring_about(bundle, site, target.cluster, target.releases, Patience(timeout, session.reporter), time=time)
    changed = [f"changed {what}" for what in done.changed] or ["nothing had to be changed"]
    ready = [f"{item}: {item.state}" for item in done.workloads]
    document = {
        "installation": asdict(done.record),
        "changed": list(done.changed),
        "workloads": [{"workload": str(item), "ready": item.ready, "state": item.state} for item in done.workloads],
    }
    session.emit(document, "\n".join([*changed, "", *ready, "", f"{done.record.bundle} {done.record.version} runs"]))


@click.command()
@common
@_cluster_options
@click.option("--name", default="", help="Name of the bundle, where several are installed.")
@click.option("--namespace", default="", help="Namespace of the installation's record. [default: all are searched]")
def status(session: Session, target: Any, name: str, namespace: str) -> None:
    """Tell what is installed, whether all of it runs, and if not, why. Needs no bundle.

    \b
    Example: ./wandb-installer status
    Exit code 0: everything runs; 32: something does not, and the reason is printed.
    """
    from installer import record
    from installer.errors import NotReadyError
    from installer.status import status as look

    found = look(target.cluster, record.find(target.cluster, name, namespace))
    session.emit(found.document(), found.text())
    if not found.ready:
        raise NotReadyError(f"{found.record.bundle} is not ready", hint="the causes are listed above.")


@click.command()
@common
@_cluster_options
@click.option("--name", default="", help="Name of the bundle, where several are installed.")
@click.option("--namespace", default="", help="Namespace of the installation's record. [default: all are searched]")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_timeout_option
def uninstall(session: Session, target: Any, name: str, namespace: str, timeout: int, *, yes: bool) -> None:
    """Remove the application and the operator. Data stays: volumes and Secrets are listed, not deleted.

    \b
    Example: ./wandb-installer uninstall
    """
    from installer import record
    from installer.uninstall import uninstall as remove
    from installer.wait import Patience

    found = record.find(target.cluster, name, namespace)
    if not yes:
        click.confirm(f"Remove {found.bundle} {found.version} from namespace {found.namespace}?", abort=True, err=True)
    done = remove(target.cluster, target.releases, found, Patience(timeout, session.reporter))
    lines = [*(f"kept {item}" for item in done.kept), f"{found.bundle} {found.version} is removed"]
    session.emit({"removed": list(done.removed), "kept": list(done.kept)}, "\n".join(lines))

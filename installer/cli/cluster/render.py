"""The command `render`."""

from pathlib import Path

import click

from installer.apps.application import application_of
from installer.cli.cluster.chart_choice import chart_source_option
from installer.cli.opening import BundleChoice, bundle_options
from installer.cli.options import site_option
from installer.cli.site_file import read_site
from installer.commands import NEW_FOLDER, Command, force_option
from installer.errors import UsageError
from installer.objects.driver import ChartSourceRequest
from installer.objects.make_desired import desired
from installer.objects.node_mirrors import node_mirrors
from installer.objects.render import files, write
from installer.objects.secret_manifests import SecretForm
from installer.shell import Session
from installer.workflows.driver import driver_of
from installer.workflows.install import driver_name


@click.command(cls=Command)
@bundle_options
@site_option
@click.option(
    "-o", "--output-dir", type=NEW_FOLDER, required=True, help="Folder for the files; made if it does not exist."
)
@force_option
@click.option("--kube-version", default="", metavar="VERSION", help="Version of Kubernetes that charts shall assume.")
@click.option(
    "--secrets",
    default="placeholder",
    show_default=True,
    type=click.Choice(("placeholder", "external")),
    help="Manifests to be filled in or sealed, or objects of External Secrets Operator.",
)
@chart_source_option
def render(
    session: Session,
    *,
    choice: BundleChoice,
    site_file: Path,
    output_dir: Path,
    force: bool,
    kube_version: str,
    secrets: SecretForm,
    chart_source: str,
) -> None:
    """Write everything that `install` would apply as files, without talking to a cluster.

    The folder is made for kubectl, Argo CD and Flux, and has registry mirrors for the nodes; its README.md tells how
    to use it. Of a bundle of images alone there are the mirrors. Values of Secrets are left out. Images that this
    enclave would not have are an error, as for `install`.

    \b
    Example:
      PROGRAM render --site site.yaml --output-dir manifests
    """
    with choice.open(session) as bundle:
        site = read_site(session, bundle, site_file)
        contents = {} if site.on_nodes else node_mirrors(bundle, site)
        application = application_of(bundle)
        if application is not None:
            driver = driver_of(driver_name(bundle))
            wanted = desired(
                bundle,
                site,
                driver,
                kube_version=kube_version,
                blank=True,
                request=ChartSourceRequest(chart_source),
            )
            for question in wanted.open_questions:
                session.reporter.note(f"not answered: {question}")
            for text in wanted.misspelt:
                session.reporter.note(text)
            for text in wanted.suspects:
                session.reporter.note(f"looks like an image reference: {text}")
            contents = {**files(wanted, driver, secrets, application.secret_notes), **contents}
        if not contents:
            raise UsageError("no chart, and no mirrors for images on nodes: nothing to write", hint="use `import`.")
        written = write(contents, output_dir, force=force)
    session.emit({"files": [str(file) for file in written]}, "\n".join(str(file) for file in written))

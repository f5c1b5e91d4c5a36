"""The command `load`."""

from dataclasses import dataclass
from pathlib import Path

import click
from click.core import ParameterSource

from installer.bundle.reader import Bundle
from installer.chart.relocation import PROJECT
from installer.cli.opening import BundleChoice, bundle_options
from installer.cli.options import back_to_option
from installer.cli.registry.lacking import ask_for
from installer.cli.registry.load_images import load_into
from installer.cli.registry_place import Place, of_site, relocation_to, transport_to
from installer.commands import FILE, Command, together
from installer.errors import LackingError
from installer.files import check_output, read_bounded, write_atomic
from installer.registry.endpoint import ANSWER_SECONDS, MOST_SECONDS, PAUSE_SECONDS, HostSettings
from installer.shell import Session
from installer.transfer.destinations import listed, projects, repositories
from installer.transfer.harbor import create_project
from installer.transfer.load_result import LoadResult, summary

_MAX_CA = 4 * 1024 * 1024


@dataclass(frozen=True)
class Destination:
    """Where the images go: the registry of a site, or one that is described by options."""

    site_file: Path | None
    registry: str
    project: str
    ca: Path | None
    plain_http: bool
    token_hosts: tuple[str, ...]
    answer_seconds: int
    pause_seconds: int

    def place(self, session: Session, bundle: Bundle) -> Place:
        """The registry. Raises click.UsageError unless it is named in one way, SiteError, UsageError, StorageError."""
        if bool(self.site_file) == bool(self.registry):
            raise click.UsageError("say where to: --site FILE, or --registry HOST")
        if self.site_file is None:
            settings = HostSettings(
                plain_http=self.plain_http or None,
                ca=read_bounded(self.ca, _MAX_CA) if self.ca else None,
                token_hosts=self.token_hosts,
                answer_seconds=self.answer_seconds,
                pause_seconds=self.pause_seconds,
            )
            return Place(self.registry, self.project, settings)
        _refuse_beside_site("project", "ca", "plain_http", "token_hosts", "answer_seconds", "pause_seconds")
        # The libraries that read answers are large, and not needed without them.
        from installer.cli.site_file import read_registry_part

        return of_site(read_registry_part(session, bundle, self.site_file))


def _refuse_beside_site(*names: str) -> None:
    """Raise click.UsageError if one of the parameters `names` was given, which site.yaml answers."""
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if parameter.name in names and given:
            raise click.UsageError(f"{parameter.opts[0]} has no meaning with --site: its `registry` part says that")


_destination_options = together(
    "destination",
    Destination,
    [
        click.option("--site", "site_file", type=FILE, help="Answers about this site; its `registry` part is used."),
        click.option("--registry", default="", metavar="HOST[:PORT]", help="The registry, without a site.yaml."),
        click.option(
            "--project", default=PROJECT, show_default=True, help="Path before all images there; may be empty."
        ),
        click.option("--ca", type=FILE, help="PEM file of the authority that the registry's certificate comes from."),
        click.option("--plain-http", is_flag=True, help="The registry speaks HTTP without TLS."),
        click.option(
            "--token-host",
            "token_hosts",
            metavar="HOST[:PORT]",
            multiple=True,
            help="May get the credentials too, as the registry's token server; only needed in another domain.",
        ),
        click.option(
            "--answer-seconds",
            type=click.IntRange(1, MOST_SECONDS),
            default=ANSWER_SECONDS,
            show_default=True,
            help="How long an answer of the registry is waited for.",
        ),
        click.option(
            "--pause-seconds",
            type=click.IntRange(0, MOST_SECONDS),
            default=PAUSE_SECONDS,
            show_default=True,
            help="The longest pause that the registry may ask for.",
        ),
    ],
)


@click.command(cls=Command)
@bundle_options
@_destination_options
@click.option("--sha256", is_flag=True, help="Check every blob with SHA-256 too, before its last part is sent.")
@click.option("--whole-images", is_flag=True, help="Leave out images that need something damaged or missing.")
@back_to_option
@click.option("--create-projects", is_flag=True, help="Have a Harbor make the projects first that are not there.")
@click.option(
    "--ignore-quota", is_flag=True, help="Send even what does not fit into the registry's quota, by its size."
)
@click.option("--list-repositories", is_flag=True, help="Only print what it would write into, for an administrator.")
@click.option("--request", type=FILE, help="If the registry lacks what an update builds on: ask for it in this file.")
@click.option("--receipt", type=FILE, help="Write what the registry holds then: with it the sender leaves that out.")
def load(
    session: Session,
    *,
    choice: BundleChoice,
    destination: Destination,
    sha256: bool,
    whole_images: bool,
    back_to: int | None,
    create_projects: bool,
    ignore_quota: bool,
    list_repositories: bool,
    request: Path | None,
    receipt: Path | None,
) -> None:
    """Load the images, and the charts as OCI artifacts, into the registry of this enclave.

    Volumes on discs are asked for one after the other, if there is a terminal; else run it again with the next ones.
    What is there already is not sent again, and a bundle that is older than what was loaded there is refused. Without
    credentials in site.yaml those of `docker login` are used.

    \b
    Examples:
      PROGRAM load --site site.yaml
      PROGRAM load --registry registry.example --ca ca.pem
      PROGRAM load --site site.yaml --list-repositories
    """
    with choice.open(session) as bundle:
        place = destination.place(session, bundle)
        if list_repositories:
            found = repositories(bundle.manifest, relocation_to(place, bundle))
            session.emit({"projects": projects(found), "repositories": [str(item) for item in found]}, listed(found))
            return
        if create_projects:
            _create_projects(session, bundle, place)
        try:
            result = load_into(
                session,
                bundle,
                place,
                sha256=sha256,
                whole_only=whole_images,
                ignore_quota=ignore_quota,
                back_to=back_to,
            )
        except LackingError as exc:
            lacking = [blob for blob in bundle.manifest.blobs if blob.digest.text in exc.digests]
            document = ask_for(session, bundle, lacking, request)
            if session.output == "json":
                session.emit(document, "")
            raise
        document = result.document() | ask_for(session, bundle, result.lacking, request)
        document["receipt"] = _acknowledge(session, bundle, place, result, receipt)
    session.emit(document, "\n".join([*result.lines(), summary(result)]))
    result.check()


def _create_projects(session: Session, bundle: Bundle, place: Place) -> None:
    """Have a Harbor make the projects that a load writes into. Raises the errors of `create_project`."""
    transport = transport_to(session, place)
    for project in projects(repositories(bundle.manifest, relocation_to(place, bundle))):
        made = create_project(transport, place.registry, project)
        session.reporter.note(f"project {project}: {'made' if made else 'was there'}")


def _acknowledge(session: Session, bundle: Bundle, place: Place, result: LoadResult, file: Path | None) -> str:
    """Write a receipt if a file is named; the line of text that says that all is there, empty if it is not."""
    written = result.receipt(bundle.manifest, f"{place.registry}/{place.project}".rstrip("/"))
    line = "" if result.left_out or result.refused else written.text
    if file:
        check_output(file)
        write_atomic(file, written.encode())
        session.reporter.note(f"written {file}; `airferry build --have {file.name}` leaves out what it names.")
        if line:
            session.reporter.note("the same to be typed or photographed, for a sender who has the old lock or bundle:")
            session.reporter.note(line)
    return line

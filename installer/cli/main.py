"""The command line of the enclave: arguments to one workflow call each."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from installer import __version__, shell
from installer.cli import cluster, installed, node
from installer.cli.options import FILE, FOLDER, bundle_options, proof_option
from installer.errors import BundleError, IncompleteError, InterruptedByUserError
from installer.shell import Session, common, language_option

if TYPE_CHECKING:
    from installer.page import Language
    from installer.verify.verification_report import Witness

_MAX_TEMPLATE = 1 << 20


@click.group(context_settings=shell.CONTEXT)
@click.version_option(__version__, prog_name="airferry installer")
def cli() -> None:
    """Bring a bundle that was carried in into this enclave.

    \b
    The usual order:
      verify     is the bundle genuine and whole?
      template   site.yaml, to be filled in with answers about this place
      preflight  what stands in the way of an installation here?
      load       its images into the registry of this enclave (`import`: onto a node, where there is none)
      install    operator and application into the cluster, from answers in site.yaml
      status     does it really run?
      upgrade    to the bundle of a later version, with the differences shown first
      rollback   to what ran before

    Every command can be run again after an interruption: it continues. A frozen installer carries its bundle and the
    keys it trusts; otherwise name them with --bundle and --key.
    """


@cli.command()
@common
@bundle_options
def inspect(session: Session, bundle: Any) -> None:
    """Show what the bundle holds, after checking its signature.

    \b
    Example: ./wandb-installer inspect
    """
    from installer.verify.describe import description, summary

    session.emit(description(bundle) if session.output == "json" else None, summary(bundle, images=True))


@cli.command()
@common
@proof_option
@bundle_options
@click.option("--sha256", is_flag=True, help="Compare every blob with its SHA-256 as well; takes longer.")
@click.option("--partial", is_flag=True, help="Some of the volumes are enough: each can be verified alone.")
@click.option(
    "--request", type=FILE, help="Write what is damaged or lost to this file; the sender answers with a patch."
)
@click.option("--qr/--no-qr", default=None, help="Show the request as a QR code, too. [default: on a terminal]")
def verify(
    session: Session,
    bundle: Any,
    *,
    witness: "Witness | None",
    sha256: bool,
    partial: bool,
    request: Path | None,
    qr: bool | None,
) -> None:
    """Read every byte of the bundle and compare it with what was signed.

    It goes on to the end whatever it meets, and says which images need what is damaged. A request asks for that, and
    for all of the volumes that are missing, unless --partial says that these are elsewhere. A proof says what was
    verified, when, by whose key, on which media, and how it ended, for the file of whoever has to answer for it.

    \b
    Examples:
      ./wandb-installer verify
      ./wandb-installer verify --proof proof.json
      ./wandb-installer verify --bundle /media/disc --partial
      ./wandb-installer verify --bundle /media/discs --request request.json
    Exit code 0: genuine and whole; 10: damaged; 11: not signed by a trusted key; 12: a volume is missing.
    """
    from installer.cli.requesting import hand_over
    from installer.verify.describe import description, summary
    from installer.verify.verification import verify_by_turns

    facts, text = description(bundle), summary(bundle)
    found = verify_by_turns(bundle, session.reporter, sha256=sha256, witness=witness)
    wanted = found.request(bundle, partial=partial)
    if wanted and (request or qr):
        hand_over(session, wanted, request, qr=qr)
    document = {**facts, **found.document(), "request": wanted.text if wanted else ""}
    if session.output == "json":
        session.emit(document, "")
    try:
        found.check(bundle, partial=partial)
    except (BundleError, IncompleteError) as exc:
        if wanted and (request or qr):
            raise type(exc)(exc.message, hint="send the request; what comes back is named with --bundle, too.") from exc
        raise
    if session.output != "json":
        session.emit(document, f"{text}\n{found.text}")


@cli.command()
@common
@bundle_options
@language_option
def explain(session: Session, bundle: Any, language: "Language") -> None:
    """Say how to reach the verdict of `verify` without this program, with openssl, minisign, tar, sha256sum and grep.

    \b
    Examples:
      ./wandb-installer explain
      ./wandb-installer explain --bundle /media/disc --language ko
    """
    from installer.page import plain, text
    from installer.verify.manual_verification import explanation

    page = explanation(bundle)
    session.emit(plain(page, language), text(page, language))


@cli.command()
@common
@bundle_options
@click.argument("parity", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=FOLDER, required=True, help="Folder for the rebuilt volumes; with room for them.")
def repair(session: Session, bundle: Any, parity: Path, out: Path) -> None:
    """Rebuild volumes that are lost or damaged from PARITY: PAR2 files that the sender made, or their folder.

    \b
    Example: ./wandb-installer repair /media/parity --bundle /media/discs --out /data
    The other volumes are read in place, all at once. What is rebuilt is verified like any volume.
    """
    from installer.verify.repair import repair as rebuild

    written = [str(path) for path in rebuild(bundle, parity, out, session.reporter)]
    lines = [f"{path}: rebuilt, genuine and whole" for path in written] or ["nothing is lost or damaged"]
    session.emit({"files": written}, "\n".join(lines))
    if written:
        session.reporter.note(f"next: name {out} with --bundle, before all other places.")


@cli.command()
@common
@bundle_options
def template(session: Session, bundle: Any) -> None:
    """Print the template of site.yaml that the bundle carries, with comments on every key.

    \b
    Example: ./wandb-installer template > site.yaml
    """
    from installer.errors import NotFoundError

    found = [document for document in bundle.manifest.documents if document.kind == "site"]
    if not found:
        raise NotFoundError("the bundle carries no template", hint="ask the release engineer: `airferry init` has it.")
    text = bundle.read(found[0].digest, _MAX_TEMPLATE).decode("utf-8", "replace")
    session.emit({"name": found[0].name, "text": text}, text)


@cli.command()
@common
@bundle_options
@click.option("--site", "site_file", type=FILE, help="Answers about this site; its `registry` part is used.")
@click.option("--registry", default="", metavar="HOST[:PORT]", help="The registry, where there is no site.yaml.")
@click.option("--project", default="airferry", show_default=True, help="Path before all images there; may be empty.")
@click.option("--ca", type=FILE, help="PEM file of the authority that the registry's certificate comes from.")
@click.option("--plain-http", is_flag=True, help="The registry speaks HTTP without TLS.")
@click.option(
    "--token-host",
    "token_hosts",
    metavar="HOST[:PORT]",
    multiple=True,
    help="May get the credentials too, as the registry's token server; only needed in another domain.",
)
@click.option("--sha256", is_flag=True, help="Check every blob with SHA-256 too, before its last part is sent.")
@click.option("--whole-images", is_flag=True, help="Leave out images that need something damaged or missing.")
@click.option("--create-projects", is_flag=True, help="Have a Harbor make the projects first that are not there.")
@click.option("--list-repositories", is_flag=True, help="Only print what it would write into, for an administrator.")
@click.option("--request", type=FILE, help="If the registry lacks what an update builds on: ask for it in this file.")
@click.option("--receipt", type=FILE, help="Write what the registry holds then: with it the sender leaves that out.")
def load(
    session: Session,
    bundle: Any,
    site_file: Path | None,
    registry: str,
    project: str,
    ca: Path | None,
    token_hosts: tuple[str, ...],
    *,
    plain_http: bool,
    sha256: bool,
    whole_images: bool,
    create_projects: bool,
    list_repositories: bool,
    request: Path | None,
    receipt: Path | None,
) -> None:
    """Load the images, and the charts as OCI artifacts, into the registry of this enclave.

    \b
    Examples:
      ./wandb-installer load --site site.yaml
      ./wandb-installer load --registry registry.example:5000 --ca registry-ca.pem
      ./wandb-installer load --site site.yaml --list-repositories
    Volumes on discs are asked for one after the other, if there is a terminal; else run it again with the next ones.
    What is there already is not sent again. Without credentials in site.yaml those of `docker login` are used.
    """
    from installer.cli import loading
    from installer.errors import LackingError
    from installer.transfer.existing_blobs import lacking_document
    from installer.transfer.load_result import summary
    from installer.value import plain

    if bool(site_file) == bool(registry):
        raise click.UsageError("say where to: --site FILE, or --registry HOST")
    if site_file:
        _refuse_beside_site("project", "ca", "plain_http", "token_hosts")
        place = loading.of_site(loading.read_site(session, site_file, for_charts=False))
    else:
        settings = loading.host_settings(plain_http=plain_http, ca=ca, token_hosts=token_hosts)
        place = loading.Place(registry, project, settings)
    if list_repositories:
        from installer.transfer.destinations import listed, projects, repositories

        found = repositories(bundle.manifest, loading.relocation_to(place, bundle))
        session.emit({"projects": projects(found), "repositories": [str(item) for item in found]}, listed(found))
        return
    if create_projects:
        loading.create_projects(session, bundle, place)
    try:
        result = loading.load_into(session, bundle, place, sha256=sha256, whole_only=whole_images)
    except LackingError as exc:
        lacking = [blob for blob in bundle.manifest.blobs if blob.digest.text in exc.digests]
        line = _ask_for(session, bundle, lacking, request)
        if session.output == "json":
            session.emit({"lacking": lacking_document(bundle, lacking), "request": line}, "")
        raise
    line = _ask_for(session, bundle, result.lacking, request)
    images = [
        {"source": item.source, "target": str(item.target), "digest": item.digest.text, "present": item.present}
        for item in result.images
    ]
    charts = [
        {"chart": item.name, "target": str(item.target), "digest": item.digest.text, "refusal": item.refusal}
        for item in result.charts
    ]
    lines = [f"{item.target}  {'was there' if item.present else 'loaded'}" for item in result.images]
    lines += [f"{item.target}  {item.refusal or ('was there' if item.present else 'loaded')}" for item in result.charts]
    lines += [f"{name}  left out: {reason}" for name, reason in result.left_out.items()]
    counts = {name: getattr(result, name) for name in ("sent", "resumed", "mounted", "present")}
    document = {"images": images, "charts": charts, "left_out": dict(result.left_out), **counts}
    document |= {"lacking": lacking_document(bundle, result.lacking), "request": line}
    document["registry"] = plain(result.capabilities)
    document["receipt"] = _acknowledge(session, bundle, place, result, receipt)
    session.emit(document, "\n".join([*lines, summary(result)]))
    if result.left_out:
        raise BundleError(
            f"{len(result.left_out)} left out, because they need what is damaged or missing; all others are loaded",
            hint="bring a good copy of these volumes, and run the same command again.",
        )


def _refuse_beside_site(*names: str) -> None:
    """Raise click.UsageError if one of the parameters `names` was given, which site.yaml answers."""
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if parameter.name in names and given:
            raise click.UsageError(f"{parameter.opts[0]} has no meaning with --site: its `registry` part says that")


def _acknowledge(session: Session, bundle: Any, place: Any, result: Any, file: Path | None) -> str:
    """Write a receipt if a file is named; the line of text that says that all is there, empty if it is not."""
    written = result.receipt(bundle.manifest, f"{place.registry}/{place.project}".rstrip("/"))
    line = "" if result.left_out else str(written.text)
    if file:
        from installer.files import check_output, write_atomic

        check_output(file)
        write_atomic(file, written.encode())
        session.reporter.note(f"written {file}; `airferry build --have {file.name}` leaves out what it names.")
        if line:
            session.reporter.note("the same to be typed or photographed, for a sender who has the old lock or bundle:")
            session.reporter.note(line)
    return line


def _ask_for(session: Session, bundle: Any, lacking: Any, file: Path | None) -> str:
    """Write a request for what the registry lacks, if a file is named; the same as a line of text, empty for none."""
    from installer.cli.requesting import hand_over
    from installer.transfer.existing_blobs import request_for

    wanted = request_for(bundle, lacking)
    if wanted and file:
        hand_over(session, wanted, file, qr=None)
    return wanted.text if wanted else ""


@cli.command()
@common
@bundle_options
@click.option("--listen", default="127.0.0.1:5000", show_default=True, metavar="HOST:PORT", help="Where to listen.")
def serve(session: Session, bundle: Any, listen: str) -> None:
    """Serve the bundle read-only, in place: images as a registry, charts as a Helm repository.

    \b
    Example: ./wandb-installer serve --listen 10.0.0.5:5000
      images: 10.0.0.5:5000/docker.io/library/redis:7
      charts: http://10.0.0.5:5000/charts
    Whoever reaches the address can read the bundle: there is no login and no TLS, only digests that nodes check. It
    takes nothing in. Of 512 connections 32 are sent something at a time, in chunks of 4 MiB; others wait for their
    turn, and who takes nothing for a minute is cut off. While it does not run, nodes keep what they have and get
    nothing new: so let a supervisor run it, one for each bundle, and leave the volumes where they are. For `install`
    from it, site.yaml says `registry: {host: "10.0.0.5:5000", project: "", plain_http: true}`, and nodes need the files
    in `nodes/containerd` that `render` writes, for they expect TLS otherwise. Ctrl-C ends it.
    """
    import threading

    from installer.parallel import LOOK_SECONDS
    from installer.transfer.serve import Server

    bundle.require_all()
    if partly := [image.source for image in bundle.manifest.images if bundle.lacking(image)]:
        session.reporter.note(
            f"note: not served, since this update does not carry all of them: {', '.join(partly)}; load it into a "
            "registry that holds what it builds on, or serve a whole bundle."
        )
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter("write it HOST:PORT", param_hint="--listen")
    with Server(bundle, host.strip("[]"), int(port), session.reporter) as server:
        # Ctrl-C is how a server is meant to end, from the moment that it says where it is.
        with contextlib.suppress(InterruptedByUserError):
            session.emit(
                {"registry": server.address, "charts": f"http://{server.address}/charts"},
                f"registry {server.address}, charts http://{server.address}/charts",
            )
            ended = threading.Event()
            while not ended.wait(LOOK_SECONDS):
                pass
        session.reporter.note("ended")


@cli.command()
@common
def schema(session: Session) -> None:
    """Print the JSON Schema of site.yaml: with it, editors complete and check what is written there.

    \b
    Example: ./wandb-installer schema > site.schema.json
    """
    import json

    from installer.site.site import Site

    document = Site.json_schema()
    session.emit(document, json.dumps(document, indent=1, sort_keys=True))


for _command in (
    node.import_,
    cluster.render,
    cluster.preflight,
    cluster.install,
    cluster.upgrade,
    installed.rollback,
    installed.history,
    installed.status,
    installed.wait,
    installed.uninstall,
):
    cli.add_command(_command)


def start(executable: Path | None) -> NoReturn:
    """Run the command line as the whole process; `executable` is the frozen file, None when run from source."""
    shell.main(cli, executable.name if executable else "python -m installer", obj=executable)

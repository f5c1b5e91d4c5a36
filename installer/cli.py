"""The command line of the enclave: arguments to one workflow call each."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from installer import __version__, shell
from installer.shell import Session, common

_F = TypeVar("_F", bound=Callable[..., Any])
_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group(context_settings=shell.CONTEXT)
@click.version_option(__version__, prog_name="airferry installer")
def cli() -> None:
    """Bring a bundle that was carried in into this enclave.

    \b
    The usual order:
      verify     is the bundle genuine and whole?
      load       its images into the registry of this enclave
      install    operator and application into the cluster, from answers in site.yaml
      status     does it really run?

    Every command can be run again after an interruption: it continues. A frozen installer carries its bundle and the
    keys it trusts; otherwise name them with --bundle and --key.
    """


def bundle_options(command: _F) -> _F:
    """Options that choose a bundle and whom to trust; the command gets `bundle`, opened and authenticated."""

    @click.option("--bundle", "files", type=_FILE, multiple=True, help="File of the bundle (each volume once).")
    @click.option("--key", "keys", type=_FILE, multiple=True, help="Public key to trust instead of the pinned ones.")
    @click.option("--sums", default="", metavar="HEX", help="Trust by the SHA-256 of SHA256SUMS as its sender states.")
    @functools.wraps(command)
    def wrapped(
        session: Session, *args: Any, files: tuple[Path, ...], keys: tuple[Path, ...], sums: str, **kwargs: Any
    ) -> Any:
        from installer.opening import open_bundle

        executable = click.get_current_context().find_root().obj
        with open_bundle(executable, files, keys, sums, session.now()) as bundle:
            return command(session, bundle, *args, **kwargs)

    return wrapped  # type: ignore[return-value] # a decorator that changes the signature cannot be typed as one


@cli.command()
@common
@bundle_options
def inspect(session: Session, bundle: Any) -> None:
    """Show what the bundle holds, after checking its signature.

    \b
    Example: ./wandb-installer inspect
    """
    from installer import describe

    session.emit(describe.document(bundle), describe.text(bundle))


@cli.command()
@common
@bundle_options
@click.option("--sha256", is_flag=True, help="Check with SHA-256 alone, as some policies demand; takes longer.")
def verify(session: Session, bundle: Any, *, sha256: bool) -> None:
    """Read every byte of the bundle and compare it with what was signed.

    \b
    Example: ./wandb-installer verify
    Exit code 0: genuine and whole; 10: damaged; 11: not signed by a trusted key; 12: a volume is missing.
    """
    from installer import describe

    bundle.verify(session.reporter, sha256=sha256)
    bundle.require_all()
    session.emit(describe.document(bundle), f"{describe.text(bundle)}\n\ngenuine and whole")


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
    Whoever reaches the address can read the bundle. Ctrl-C ends it.
    """
    import threading

    from installer.serve import Server

    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter("write it HOST:PORT", param_hint="--listen")
    with Server(bundle, host.strip("[]"), int(port), session.reporter) as server:
        session.emit(
            {"registry": server.address, "charts": f"http://{server.address}/charts"},
            f"registry {server.address}, charts http://{server.address}/charts",
        )
        threading.Event().wait()


def start(executable: Path | None) -> NoReturn:
    """Run the command line as the whole process; `executable` is the frozen file, None when run from source."""
    shell.main(cli, executable.name if executable else "python -m installer", obj=executable)

"""Options that commands of the enclave share. Heavy libraries are imported only when a command runs."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from installer.shell import PROOF_HELP, Session, language_option

_F = TypeVar("_F", bound=Callable[..., Any])
FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
timeout_option = click.option(
    "--timeout", default=900, show_default=True, type=click.IntRange(1, 86400), help="Seconds to wait in all."
)
take_over_option = click.option(
    "--take-over",
    is_flag=True,
    help="Overwrite what others have set, and replace Helm releases of others; all of it is named.",
)


def bundle_options(command: _F) -> _F:
    """Options that choose a bundle and whom to trust; the command gets `bundle`, opened and authenticated."""

    @click.option(
        "--bundle",
        "places",
        type=click.Path(path_type=Path),
        multiple=True,
        help="File of the bundle, or folder with its volumes; may be repeated.",
    )
    @click.option(
        "-k", "--key", "keys", type=FILE, multiple=True, help="Public key to trust instead of the pinned ones."
    )
    @click.option("--sums", default="", metavar="HEX", help="Trust by the SHA-256 of SHA256SUMS as its sender states.")
    @functools.wraps(command)
    def wrapped(
        session: Session, *args: Any, places: tuple[Path, ...], keys: tuple[Path, ...], sums: str, **kwargs: Any
    ) -> Any:
        from installer.opening.open_bundle import open_bundle

        executable = click.get_current_context().find_root().obj
        ask = session.ask if session.interactive else None
        with open_bundle(executable, places, keys, sums, session.now(), session.reporter, ask) as bundle:
            return command(session, bundle, *args, **kwargs)

    return wrapped  # type: ignore[return-value] # a decorator that changes the signature cannot be typed as one


def proof_option(command: _F) -> _F:
    """Option, before `bundle_options`, for a proof of what the command verifies, written also if it cannot be opened.

    The command gets `witness`, None if nobody wants a proof.
    """

    @click.option("--proof", type=FILE, help=PROOF_HELP)
    @language_option
    @functools.wraps(command)
    def wrapped(session: Session, *args: Any, proof: Path | None, language: Any, **kwargs: Any) -> Any:
        if proof is None:
            return command(session, *args, witness=None, **kwargs)
        from installer.verify.verification_report import kept

        executable = click.get_current_context().find_root().obj
        places = kwargs["places"] or ([executable] if executable else [])
        with kept(proof, places, session.now, session.reporter, language) as witness:
            return command(session, *args, witness=witness, **kwargs)

    return wrapped  # type: ignore[return-value] # a decorator that changes the signature cannot be typed as one


def cluster_options(command: _F) -> _F:
    """Options that choose the cluster; the command gets `target`."""

    @click.option("--kubeconfig", type=FILE, help="How to reach the cluster. [default: as kubectl does]")
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
        from installer.cli.target import Target

        return command(session, *args, Target(session, kubeconfig, context, plugin=allow_exec_plugin), **kwargs)

    return wrapped  # type: ignore[return-value] # a decorator that changes the signature cannot be typed as one


def name_options(command: _F) -> _F:
    """Options that choose an installation in the cluster; the command gets `name` and `namespace`."""
    for option in (
        click.option(
            "--namespace", default="", help="Namespace of the installation's record. [default: all are searched]"
        ),
        click.option("--name", default="", help="Name of the bundle, where several are installed."),
    ):
        command = option(command)
    return command

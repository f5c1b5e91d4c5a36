"""The command `serve`."""

import threading
from contextlib import suppress

import click

from installer.chart.bundled import check_chart
from installer.cli.opening import BundleChoice, bundle_options
from installer.cli.options import back_to_option
from installer.commands import Command
from installer.errors import InterruptedByUserError
from installer.floor.guard import Guard
from installer.parallel import LOOK_SECONDS
from installer.serving.server import Server
from installer.shell import Session


@click.command(cls=Command)
@bundle_options
@click.option("--listen", default="127.0.0.1:5000", show_default=True, metavar="HOST:PORT", help="Where to listen.")
@back_to_option
def serve(session: Session, *, choice: BundleChoice, listen: str, back_to: int | None) -> None:
    """Serve the bundle read-only, in place: images as a registry, charts as a Helm repository.

    \b
    Example:
      PROGRAM serve --listen 10.0.0.5:5000
        images: 10.0.0.5:5000/docker.io/library/redis:7
        charts: http://10.0.0.5:5000/charts

    Whoever reaches the address can read the bundle: there is no login and no TLS, only digests that nodes check. It
    takes nothing in. Of 512 connections 32 are sent something at a time, in chunks of 4 MiB; others wait for their
    turn, and who takes nothing for a minute is cut off. While it does not run, nodes keep what they have and get
    nothing new: so let a supervisor run it, one for each bundle, and leave the volumes where they are.

    A bundle that is older than what was served at this address is refused; that is remembered in XDG_STATE_HOME, or in
    `.local/state` of HOME. With neither, as a supervisor may start it, nothing is.

    For `install` from it, site.yaml says `registry: {host: "10.0.0.5:5000", project: "", plain_http: true}`, and nodes
    need the files in `nodes/containerd` that `render` writes, for they expect TLS otherwise. Ctrl-C ends it.
    """
    with choice.open(session) as bundle:
        bundle.require_all()
        if partly := [image.source for image in bundle.manifest.images if bundle.lacking(image)]:
            session.reporter.note(
                f"note: not served, since this update does not carry all of them: {', '.join(partly)}; load it into "
                "a registry that holds what it builds on, or serve a whole bundle."
            )
        for chart in bundle.manifest.charts:
            check_chart(bundle, chart)
        host, port = _parsed(listen)
        guard = Guard(bundle.manifest, f"served at {listen}", back_to, session.state(), session.reporter.note)
        guard.check()
        with Server(bundle, host, port, session.reporter) as server:
            guard.keep()
            # Ctrl-C is how a server is meant to end, from the moment that it says where it is.
            with suppress(InterruptedByUserError):
                session.emit(
                    {"registry": server.address, "charts": f"http://{server.address}/charts"},
                    f"registry {server.address}, charts http://{server.address}/charts",
                )
                ended = threading.Event()
                while not ended.wait(LOOK_SECONDS):
                    pass
            session.reporter.note("ended")


def _parsed(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter("write it HOST:PORT", param_hint="--listen")
    return host.strip("[]"), int(port)

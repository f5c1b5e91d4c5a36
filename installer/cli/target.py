"""The cluster that arguments and environment name, for our own client and for Helm alike."""

import os
from dataclasses import dataclass
from pathlib import Path

import click

from installer.chart.releases import Releases
from installer.cluster.api_server import ApiServer
from installer.cluster.endpoint import with_plugin
from installer.cluster.kubeconfig import choose, in_cluster, read_kubeconfig
from installer.commands import FILE, together
from installer.errors import StorageError
from installer.files import look_at
from installer.frozen import program
from installer.shell import Session


@dataclass(frozen=True)
class ClusterChoice:
    """Which cluster is meant."""

    kubeconfig: Path | None
    context: str
    allow_exec_plugin: bool

    def target(self, session: Session) -> "Target":
        """The cluster. Raises the errors of Target."""
        return Target(session, self.kubeconfig, self.context, plugin=self.allow_exec_plugin)


cluster_options = together(
    "cluster",
    ClusterChoice,
    [
        click.option("--kubeconfig", type=FILE, help="How to reach the cluster. [default: as kubectl does]"),
        click.option("--context", default="", help="Context in that file. [default: its current one]"),
        click.option(
            "--allow-exec-plugin", is_flag=True, help="Run the program that the kubeconfig names for its login."
        ),
    ],
)
"""The command gets `cluster`."""


class Target:
    """A cluster: that of `kubeconfig`, else of the files in `KUBECONFIG`, else of `~/.kube/config`, else the one that
    this runs in.

    Raises SiteError for an unusable kubeconfig, UsageError where there is none.
    """

    def __init__(self, session: Session, kubeconfig: Path | None, context: str, *, plugin: bool) -> None:
        # Helm's library would take them for the way to the API server as well, if they are there when it is loaded.
        session.leave_no_proxies()
        named = [Path(text) for text in session.environment.get("KUBECONFIG", "").split(os.pathsep) if text]
        home = Path(session.environment.get("HOME") or "/", ".kube", "config")
        files = [kubeconfig] if kubeconfig else named or [home]
        self._file: Path | None = None
        self._context = ""
        inside = None if kubeconfig or named or _is_ours(home) else in_cluster(session.environment)
        if inside:
            # Helm finds its way by itself then.
            endpoint = inside
        else:
            self._file, self._context = choose(files, context)
            endpoint = read_kubeconfig(self._file, self._context)
        if plugin:
            endpoint = with_plugin(endpoint, program.child_environment(session.environment), session.now)
        self.cluster = ApiServer(endpoint)

    def releases(self, namespace: str) -> Releases:
        """Helm's releases in `namespace`."""
        return Releases(self._file, context=self._context, namespace=namespace, server=self.cluster.server)


def _is_ours(file: Path) -> bool:
    """Whether `file` is there; where we may not look, it is another user's, as HOME often is in a pod."""
    try:
        return look_at(file) is not None
    except StorageError:
        return False

"""The cluster that arguments and environment name, for lightkube and for Helm alike."""

from pathlib import Path

from installer import program
from installer.chart.releases import Releases
from installer.kube import Cluster
from installer.kubeconfig import read_kubeconfig, with_plugin
from installer.shell import Session


class Target:
    """A cluster; `KUBECONFIG`, else `~/.kube/config`, is used where no file is named.

    Raises SiteError for an unusable kubeconfig, NotFoundError where there is none.
    """

    def __init__(self, session: Session, kubeconfig: Path | None, context: str, *, plugin: bool) -> None:
        named = session.environment.get("KUBECONFIG", "").split(":")[0]
        home = Path(session.environment.get("HOME") or "/", ".kube", "config")
        self._file = kubeconfig or (Path(named) if named else home)
        self._context = context
        endpoint = read_kubeconfig(self._file, context)
        if plugin:
            endpoint = with_plugin(endpoint, program.child_environment(session.environment))
        self.cluster = Cluster(endpoint)

    def releases(self, namespace: str) -> Releases:
        """Helm's releases in `namespace`."""
        return Releases(self._file, context=self._context, namespace=namespace)

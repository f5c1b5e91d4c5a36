"""The registry that an installation was made from, as the cluster's record says."""

from collections.abc import Callable
from functools import cache

from installer.cli.registry_place import Place, held_in
from installer.cluster.cluster import Cluster
from installer.diagnosis.diagnosis import unknown
from installer.errors import AirferryError
from installer.registry.credentials import Credentials
from installer.registry.endpoint import HostSettings
from installer.shell import Session
from installer.workflows import history
from installer.workflows.history import Access
from installer.workflows.record import Record
from installer.workflows.rollback import credentials


def as_recorded(access: Access, credentials: Credentials | None) -> Place:
    """The registry that an installation was made from. Its images are not loaded, so no project is needed."""
    ca = access.ca.encode() or None
    settings = HostSettings(
        plain_http=access.plain_http or None, ca=ca, credentials=credentials, token_hosts=access.token_hosts
    )
    return Place(access.host, "", settings)


def held_as_recorded(session: Session, cluster: Cluster, note: Record) -> Callable[[str], bool | None]:
    """The same of the registry that the installation `note` was made from; nothing is looked up before it is asked."""

    @cache
    def asker() -> Callable[[str], bool | None]:
        try:
            last = history.read(cluster, note).last
            if last is None or last.access.on_nodes:
                return unknown
            return held_in(session, as_recorded(last.access, credentials(cluster, last)))
        except AirferryError:
            # Who may look at pods may not always read Secrets.
            return unknown

    def held(text: str) -> bool | None:
        return asker()(text)

    return held

"""The registry that a command talks to: where it is, how it is reached, who logs in."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from installer.bundle.reader import Bundle
from installer.chart.relocation import Relocation
from installer.errors import AirferryError, RegistryUnreachableError, UsageError
from installer.oci.reference import parse_reference
from installer.registry.client import Registry
from installer.registry.endpoint import HostSettings
from installer.registry.transport import Transport
from installer.registry.upload_sessions import UploadSessions
from installer.shell import Session
from installer.value import Value

if TYPE_CHECKING:
    from installer.site.site import Site


class Place(Value):
    """A registry, the path before all images there, and how it is reached."""

    registry: str
    project: str
    settings: HostSettings


def of_site(site: "Site") -> Place:
    """The registry of a site. Raises UsageError if it has none."""
    if site.on_nodes:
        raise UsageError("site.yaml says that there is no registry", hint="run `import --site` on each node instead.")
    answers = site.answers.registry
    settings = HostSettings(
        plain_http=answers.plain_http or None,
        ca=site.registry_ca,
        credentials=site.credentials(),
        token_hosts=tuple(answers.token_hosts),
        answer_seconds=answers.answer_seconds,
        pause_seconds=answers.pause_seconds,
    )
    return Place(site.registry, site.project, settings)


def relocation_to(place: Place, bundle: Bundle) -> Relocation:
    """Where the images of `bundle` lie at `place`. Raises UsageError."""
    return Relocation(place.registry, place.project, frozenset(image.reference for image in bundle.manifest.images))


def registry_at(session: Session, place: Place, *, pushes: bool = False) -> Registry:
    """The client for the registry at `place`; without credentials of its own it uses those of `docker login`."""
    state = session.state()
    return Registry(transport_to(session, place), UploadSessions(state / "uploads" if state else None), pushes=pushes)


def transport_to(session: Session, place: Place) -> Transport:
    """The way to the registry at `place`."""
    hosts = {place.registry: place.settings}
    return Transport(
        hosts=hosts, credentials=session.credentials(), proxies=session.proxies(), tell=session.reporter.note
    )


def held_in(session: Session, place: Place) -> Callable[[str], bool | None]:
    """Asks the registry whether it holds the image of a reference; None where that cannot be told at once."""

    def give_up(_seconds: float) -> None:
        raise RegistryUnreachableError(f"{place.registry} does not answer")

    transport = Transport(
        hosts={place.registry: place.settings},
        credentials=session.credentials(),
        proxies=session.proxies(),
        sleep=give_up,
    )
    registry, silent = Registry(transport), False

    def held(text: str) -> bool | None:
        nonlocal silent
        try:
            reference = parse_reference(text)
            if not silent and reference.repository.host == place.registry:
                return registry.head_manifest(reference) is not None
        except RegistryUnreachableError:
            silent = True
        except AirferryError:
            pass
        return None

    return held

"""What the commands that fill a registry share: where it is, how it is reached, who logs in."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from installer.bundle.reader import Bundle
from installer.chart.relocation import Relocation
from installer.errors import AirferryError, RegistryUnreachableError, SiteError, UsageError
from installer.files import read_bounded
from installer.oci.reference import parse_reference
from installer.registry.client import Registry
from installer.registry.endpoint import HostSettings
from installer.registry.transport import Transport
from installer.registry.upload_sessions import UploadSessions
from installer.shell import Session
from installer.transfer.destinations import projects, repositories
from installer.transfer.harbor import create_project
from installer.transfer.load import load
from installer.transfer.load_result import LoadResult
from installer.value import Value

if TYPE_CHECKING:
    from installer.site.site import Site

_MAX_CA = 4 * 1024 * 1024


class Place(Value):
    """A registry, the path before all images there, and how it is reached."""

    registry: str
    project: str
    settings: HostSettings


def host_settings(*, plain_http: bool, ca: Path | None, token_hosts: tuple[str, ...] = ()) -> HostSettings:
    """Settings from arguments; without `plain_http` the host decides, see HostSettings. Raises UsageError."""
    authority = read_bounded(ca, _MAX_CA) if ca else None
    return HostSettings(plain_http=plain_http or None, ca=authority, token_hosts=token_hosts)


def read_site(session: Session, file: Path, *, for_charts: bool = True) -> "Site":
    """The answers in `file`; secrets that are kept in the environment or asked for are had from the session.

    Without `for_charts` its `values` are of no use: they are not read the way Helm does, whose library takes a second
    to unpack.
    """
    from installer.chart.helm import parse_values
    from installer.site.site import MAX_SITE, Site
    from installer.strict_yaml import load_yaml

    site = Site.load(
        read_bounded(file, MAX_SITE, SiteError),
        file.parent,
        name=file.name,
        now=session.now(),
        environment=session.environment.get,
        prompt=session.ask_secret,
        parse=parse_values if for_charts else load_yaml,
    )
    for note in site.notes:
        session.reporter.note(note)
    return site


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
    )
    return Place(site.registry, site.project, settings)


def load_into(
    session: Session, bundle: Bundle, place: Place, *, sha256: bool = False, whole_only: bool = False
) -> LoadResult:
    """Load all images of `bundle`. Raises the errors of `installer.transfer.load.load`."""
    registry, relocation = registry_at(session, place, pushes=True), relocation_to(place, bundle)
    result = load(bundle, registry, relocation, session.reporter, sha256=sha256, whole_only=whole_only)
    if told := str(result.capabilities):
        session.reporter.note(f"{place.registry}: {told}")
    return result


def relocation_to(place: Place, bundle: Bundle) -> Relocation:
    """Where the images of `bundle` lie at `place`. Raises UsageError."""
    return Relocation(place.registry, place.project, frozenset(image.reference for image in bundle.manifest.images))


def create_projects(session: Session, bundle: Bundle, place: Place) -> None:
    """Have a Harbor make the projects that a load writes into. Raises the errors of `create_project`."""
    transport = _transport(session, place)
    for project in projects(repositories(bundle.manifest, relocation_to(place, bundle))):
        made = create_project(transport, place.registry, project)
        session.reporter.note(f"project {project}: {'made' if made else 'was there'}")


def registry_at(session: Session, place: Place, *, pushes: bool = False) -> Registry:
    """The client for the registry at `place`; without credentials of its own it uses those of `docker login`."""
    state = session.state()
    return Registry(_transport(session, place), UploadSessions(state / "uploads" if state else None), pushes=pushes)


def _transport(session: Session, place: Place) -> Transport:
    hosts = {place.registry: place.settings}
    return Transport(hosts=hosts, credentials=session.credentials(), proxies=session.proxies())


def registry_of(session: Session, site: "Site") -> Registry | None:
    """The client for the registry of `site`, that looks with the rights of a load; None if it has none."""
    return None if site.on_nodes else registry_at(session, of_site(site), pushes=True)


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

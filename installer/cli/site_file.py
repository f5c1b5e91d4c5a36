"""The answers of a site, with secrets from the session."""

from pathlib import Path

from installer.apps.application import application_of
from installer.bundle.reader import Bundle
from installer.chart.helm import parse_values
from installer.files import read_bounded
from installer.shell import Session
from installer.site.site import MAX_SITE, ApplicationAnswers, Parse, RegistryOnly, RegistryPart, Site
from installer.strict_yaml import load_yaml


def read_site(session: Session, bundle: Bundle, file: Path) -> Site:
    """The answers in `file` to the questions of `bundle`; secrets that are kept in the environment or asked for are had
    from the session. Raises BundleError, UsageError if there is no such file, SiteError,
    StorageError.
    """
    return _read(session, file, application_of(bundle) or RegistryOnly(), parse_values)


def read_registry_part(session: Session, bundle: Bundle, file: Path) -> Site:
    """The same for who needs only the registry of it.

    Its values are not read the way Helm does, whose library takes a second to unpack. Where the bundle's profile is on
    a volume that is not at hand, keys of the application are not looked at. Raises the same.
    """
    held = [document.digest for document in bundle.manifest.documents if document.kind == "profile"]
    known = not any(bundle.absent(digest) for digest in held)
    return _read(session, file, (application_of(bundle) or RegistryOnly()) if known else RegistryPart(), load_yaml)


def _read(session: Session, file: Path, application: ApplicationAnswers, parse: Parse) -> Site:
    site = Site.load(
        read_bounded(file, MAX_SITE),
        file.parent,
        application=application,
        name=file.name,
        now=session.now(),
        environment=session.environment.get,
        prompt=session.ask_secret,
        parse=parse,
    )
    for note in site.notes:
        session.reporter.note(note)
    return site

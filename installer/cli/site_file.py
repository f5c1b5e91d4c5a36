"""The answers of a site, with secrets from the session."""

from pathlib import Path

from installer.chart.helm import parse_values
from installer.files import read_bounded
from installer.shell import Session
from installer.site.site import MAX_SITE, Site
from installer.strict_yaml import load_yaml


def read_site(session: Session, file: Path, *, for_charts: bool = True) -> Site:
    """The answers in `file`; secrets that are kept in the environment or asked for are had from the session.

    Without `for_charts` its `values` are of no use: they are not read the way Helm does, whose library takes a second
    to unpack. Raises UsageError if there is no such file, SiteError, StorageError.
    """
    site = Site.load(
        read_bounded(file, MAX_SITE),
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

"""Sites that are made up: sample answers, and certificates for all files that they name."""

import base64
import datetime as dt
from pathlib import Path

from installer.apps.application import Application
from installer.site.answers import SiteAnswers
from installer.site.certificates import Certificates
from installer.site.secret import SecretReader
from installer.site.site import Site, SiteFiles


class _SampleFiles(SiteFiles):
    """Certificates for all files that sample answers name."""

    def __init__(self) -> None:
        super().__init__(Path(), dt.datetime.fromtimestamp(0, dt.UTC), elsewhere=True)

    def certificates(self, file: str | None, key: str) -> Certificates:  # noqa: ARG002
        """One that is made up."""
        text = base64.b64encode((file or "").encode()).decode()
        return Certificates((f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n",) if file else ())


def sample_site(app: Application, answers: SiteAnswers) -> Site:
    """The site that gives `answers` to `app`."""
    files, notes = app.read_files(answers, _SampleFiles())
    reader = SecretReader(Path(), lambda _: None, lambda _: "")
    return Site(answers=answers, registry_ca=None, files=files, notes=notes, reader=reader)

"""site.yaml: all that an installation must know of the place where it happens.

`SiteAnswers`, extended by the application, is the schema. `Site` is what the workflows ask: the registry, secrets, and
what the application has read of the files that its answers name. Secrets never stand in the file, and never in values:
values refer to Secret objects, and only those hold them.
"""

import datetime as dt
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from pydantic import ConfigDict

from installer.chart.helm import parse_values
from installer.errors import AirferryError, SiteError
from installer.files import look_at, read_bounded
from installer.registry.credentials import Credentials
from installer.schema import report, validate
from installer.site.answers import PULL_SECRET, SiteAnswers
from installer.site.certificates import Certificates, ServerCertificate
from installer.site.free_values import suspicious
from installer.site.secret import Environment, Prompt, Secret, SecretReader, SecretSource
from installer.value import Value

Parse = Callable[[bytes, str, type[AirferryError]], Any]

MAX_SITE = 1 << 20
_PEM_END = "-----END CERTIFICATE-----"
MAX_CERTIFICATE_FILE = 4 << 20
HINT = "correct site.yaml; the template in the bundle explains every key."


class SiteSecret(Value):
    """A Secret object to be made; `data` is not yet base64, and what stands at the keys `public` need not be hidden."""

    name: str
    namespace: str
    data: Mapping[str, Secret]
    type: str = "Opaque"
    public: frozenset[str] = frozenset()


class SiteFiles:
    """Reads the files that answers name and gathers what is wrong with them in `defects`.

    With `elsewhere` the files are not here, and nothing is read.
    """

    def __init__(self, folder: Path, now: dt.datetime, *, elsewhere: bool) -> None:
        self.folder, self.now, self.elsewhere = folder, now, elsewhere
        self.defects: list[str] = []

    def certificates(self, file: str | None, key: str) -> Certificates:
        """The certificates in `file`; none if there is a defect or no file."""
        if file is None or self.elsewhere:
            return Certificates(())
        try:
            return Certificates.parse(read_bounded(self.folder / file, MAX_CERTIFICATE_FILE), file, self.now)
        except AirferryError as exc:
            self.defects.append(f"{key}: {exc.message}")
            return Certificates(())

    def server(self, file: str | None, key: str) -> ServerCertificate | None:
        """The server's certificate in `file`; none if there is a defect or no file."""
        if file is None or self.elsewhere:
            return None
        try:
            return ServerCertificate.parse(read_bounded(self.folder / file, MAX_CERTIFICATE_FILE), file, self.now)
        except AirferryError as exc:
            self.defects.append(f"{key}: {exc.message}")
            return None

    def exists(self, file: str | None, key: str) -> None:
        """Note a defect where `file` is named and not there."""
        try:
            if file is not None and not self.elsewhere and look_at(self.folder / file) is None:
                self.defects.append(f"{key}: no such file: {file}")
        except AirferryError as exc:
            self.defects.append(f"{key}: {exc.message}")


class ApplicationAnswers(Protocol):
    """The application's part of site.yaml."""

    @property
    def answers(self) -> type[SiteAnswers]:
        """The model of all keys."""

    def read_files(self, answers: SiteAnswers, files: SiteFiles) -> tuple[object, tuple[str, ...]]:
        """What the files hold that the application's answers name, for the application's own use, and remarks."""


class RegistryOnly:
    """No application: the keys that every application has, as for a bundle of images."""

    answers: type[SiteAnswers] = SiteAnswers

    def read_files(self, answers: SiteAnswers, files: SiteFiles) -> tuple[object, tuple[str, ...]]:  # noqa: ARG002
        """Nothing: none of the keys is the application's."""
        return None, ()


class _RegistryPart(SiteAnswers):
    model_config = ConfigDict(extra="ignore")


class RegistryPart(RegistryOnly):
    """The part of site.yaml about the registry; what else stands there is not looked at."""

    answers: type[SiteAnswers] = _RegistryPart


@dataclass(frozen=True)
class Site:
    """The answers, with the files they name read and checked. Secrets are read when they are asked for, once each.

    `files` is what the application has read, `notes` are remarks for people.
    """

    answers: SiteAnswers
    registry_ca: bytes | None
    files: object
    notes: tuple[str, ...]
    reader: SecretReader = field(repr=False, compare=False)
    _read: dict[str, Secret] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(
        cls,
        data: bytes,
        folder: Path,
        *,
        application: ApplicationAnswers,
        name: str = "site.yaml",
        now: dt.datetime,
        environment: Environment,
        prompt: Prompt,
        parse: Parse = parse_values,
        elsewhere: bool = False,
    ) -> Self:
        """The site that the YAML in `data` describes; files in it are relative to `folder`.

        With `elsewhere` these files are not here, and left out: who looks at a site from outside has its answers only.
        `environment` and `prompt` answer for secrets that are kept there; neither is asked before a secret is needed.
        `parse` reads the YAML; Helm's way is the default, since `values` go to charts.
        Raises SiteError naming every defect, and no secret.
        """
        answers = validate(application.answers, parse(data, name, SiteError), name, SiteError, hint=HINT)
        reader = SecretReader(folder, environment, prompt)
        files = SiteFiles(folder, now, elsewhere=elsewhere)
        registry = files.certificates(answers.registry.ca, "registry.ca")
        own, notes = application.read_files(answers, files)
        for key, source in answers.secret_sources().items():
            files.exists(source.file, key)
        if files.defects:
            raise report(name, files.defects, SiteError, hint=HINT)
        remarks = [reader.note(source, key) for key, source in answers.secret_sources().items()]
        return cls(
            answers=answers,
            registry_ca="".join(registry.pems).encode() or None,
            files=own,
            notes=(*registry.notes, *notes, *filter(None, remarks), *_secret_values(answers)),
            reader=reader,
        )

    @property
    def registry(self) -> str:
        """Host and port of the registry."""
        return self.answers.registry.host

    @property
    def registry_authorities(self) -> tuple[str, ...]:
        """The registry's own authorities, each certificate in PEM."""
        text = (self.registry_ca or b"").decode()
        return tuple(f"{pem}{_PEM_END}\n" for pem in text.split(f"{_PEM_END}\n") if pem)

    @property
    def project(self) -> str:
        """The path before all images in the registry; may be empty."""
        return self.answers.registry.project

    @property
    def on_nodes(self) -> bool:
        """Whether the nodes have the images themselves, for there is no registry."""
        return self.answers.registry.on_nodes

    def credentials(self) -> Credentials | None:
        """The registry's user, if the site names one. Raises SiteError if the password cannot be had."""
        login = self.answers.registry.credentials
        if login is None:
            return None
        return Credentials(login.username, self.secret(login.password, "registry.credentials.password").reveal())

    def secret(self, source: SecretSource, key: str, *, lines: bool = False) -> Secret:
        """The secret of the site's `key`, read once. Raises SiteError, see `SecretReader.read`."""
        if key not in self._read:
            self._read[key] = self.reader.read(source, key, lines=lines)
        return self._read[key]

    def pull_secrets(self, namespaces: Iterable[str], *, blank: bool) -> Iterator[SiteSecret]:
        """The pull secret for each of `namespaces`, if the site wants one made; with `blank` without its content.

        Kubernetes documentation, "Pull an Image from a Private Registry": the form of docker's config.json.
        Raises SiteError if the password cannot be had.
        """
        if self.answers.registry.pull_secret is not True:
            return
        config = {".dockerconfigjson": Secret("" if blank else self._docker_config())}
        for namespace in sorted(set(namespaces)):
            yield SiteSecret(PULL_SECRET, namespace, config, "kubernetes.io/dockerconfigjson")

    def _docker_config(self) -> str:
        credentials = self.credentials()
        if credentials is None:
            raise SiteError("registry.pull_secret: needs credentials", hint=HINT)
        token = credentials.basic().removeprefix("Basic ")
        login = {"username": credentials.username, "password": credentials.password, "auth": token}
        return json.dumps({"auths": {self.registry: login}}, sort_keys=True)


def _secret_values(answers: SiteAnswers) -> Iterator[str]:
    """A remark for each value that looks like a secret."""
    for above, values in answers.free_values():
        for path in suspicious(values):
            yield f"{above}.{path}: looks like a secret, and many may read what is made of it; name a Secret instead"

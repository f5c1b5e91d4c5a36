"""site.yaml: all that an installation must know of the place where it happens.

`Answers` is the schema. `Site` is what the workflows ask: values per chart, Secrets to make, how to reach the registry.
Secrets never stand in the file, and never in values: values refer to Secret objects, and only those hold them.
"""

import datetime as dt
import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from installer.bundle.manifest import BundleChart
from installer.chart.helm import parse_values
from installer.chart.retarget import merged
from installer.errors import AirferryError, SiteError
from installer.files import look_at, read_bounded
from installer.registry.credentials import Credentials
from installer.schema import json_schema, report, validate
from installer.site import platform_values
from installer.site.answers import Answers, ChartAnswers
from installer.site.certificates import Certificates, ServerCertificate
from installer.site.free_values import misplaced, suspicious
from installer.site.secret import Environment, Prompt, Secret, SecretReader, SecretSource
from installer.site.service_values import TLS_SECRET, Authorities, needed
from installer.value import Value

Parse = Callable[[bytes, str, type[AirferryError]], Any]

MAX_SITE = 1 << 20
_PEM_END = "-----END CERTIFICATE-----"
MAX_CERTIFICATE_FILE = 4 << 20
_HINT = "correct site.yaml; the template in the bundle explains every key."


class SiteSecret(Value):
    """A Secret object to be made; `data` is not yet base64."""

    name: str
    namespace: str
    data: Mapping[str, Secret]
    type: str = "Opaque"


@dataclass(frozen=True)
class Site:
    """The answers, with the files they name read and checked. Secrets are read when they are asked for, once each."""

    answers: Answers
    certificates: tuple[str, ...]
    registry_ca: bytes | None
    authorities: Authorities
    server: ServerCertificate | None
    notes: tuple[str, ...]
    reader: SecretReader = field(repr=False, compare=False)
    _read: dict[str, Secret] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(
        cls,
        data: bytes,
        folder: Path,
        *,
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
        answers = validate(Answers, parse(data, name, SiteError), name, SiteError, hint=_HINT)
        reader = SecretReader(folder, environment, prompt)
        files = _Files(folder, now, elsewhere=elsewhere)
        trusted = Certificates.joined(files.trusted(answers))
        registry, mysql, redis = (
            files.certificates(part.ca if part else None, f"{key}.ca")
            for key, part in (("registry", answers.registry), ("mysql", answers.mysql), ("redis", answers.redis))
        )
        server = files.server(answers.ingress.certificate if answers.ingress else None, "ingress.certificate")
        for key, source in answers.secret_sources().items():
            files.exists(source.file, key)
        if files.defects:
            raise report(name, files.defects, SiteError, hint=_HINT)
        remarks = [reader.note(source, key) for key, source in answers.secret_sources().items()]
        return cls(
            answers=answers,
            certificates=trusted.pems,
            registry_ca="".join(registry.pems).encode() or None,
            authorities=Authorities(mysql="".join(mysql.pems), redis="".join(redis.pems)),
            server=server,
            notes=(
                *(note for part in (trusted, registry, mysql, redis) for note in part.notes),
                *_uncovered(answers, server),
                *filter(None, remarks),
                *_secret_values(answers),
            ),
            reader=reader,
        )

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """The JSON Schema of site.yaml, for editors."""
        return json_schema(Answers, "site.yaml of airferry")

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
        return Credentials(login.username, self._secret(login.password, "registry.credentials.password").reveal())

    def check(self, charts: Iterable[BundleChart]) -> None:
        """Raises SiteError if an answer is about a chart that is not among `charts`, or a secret is among values."""
        known = sorted({name for chart in charts for name in (chart.name, chart.release)})
        for name in self.answers.charts:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                also = f"did you mean {near[0]}?" if near else f"known are {', '.join(known) or 'none'}"
                raise SiteError(f"site.yaml: charts.{name}: the bundle has no such chart; {also}", hint=_HINT)
        own = {name for chart in charts if chart.role == "platform" for name in (chart.name, chart.release)}
        defects = [
            f"{above}.{path}: a secret must not stand here, for many may read what is made of it; use {answer}"
            for above, values in _free(self.answers)
            if above == "values" or above.removeprefix("charts.").removesuffix(".values") in own
            for path, answer in misplaced(values)
        ]
        if defects:
            raise report("site.yaml", defects, SiteError, hint=_HINT)

    def release(self, chart: BundleChart) -> str:
        """The release name of `chart`; for the platform also the name of its custom resource."""
        return chart.release

    def namespace(self, chart: BundleChart) -> str:
        """The namespace of `chart`."""
        general = self.answers.operator_namespace if chart.role == "operator" else self.answers.namespace
        return self._chart(chart).namespace or general or chart.namespace

    def values(self, chart: BundleChart) -> dict[str, Any]:
        """What this site adds to the values of `chart`: later answers win, `charts` over all. Holds no secret."""
        values: dict[str, Any] = {}
        if chart.role == "platform":
            answered = platform_values.platform(self.answers, self.certificates, self.authorities, self.release(chart))
            values = merged(answered, self.answers.values)
        elif chart.role == "operator":
            values = merged(platform_values.operator(self.answers, self.certificates), self.answers.operator_values)
        return merged(values, self._chart(chart).values)

    def secrets(self, charts: Iterable[BundleChart], *, blank: bool = False) -> tuple[SiteSecret, ...]:
        """The Secrets that `charts` need. Raises SiteError if one cannot be had.

        With `blank` their values are left empty, and nothing is read or asked for.
        """
        charts = list(charts)
        found: list[SiteSecret] = []
        if self.answers.registry.pull_secret:
            places = sorted({self.namespace(chart) for chart in charts})
            found += [self._pull_secret(place, blank=blank) for place in places]
        for chart in charts:
            if chart.role == "platform":
                found += self._platform_secrets(self.namespace(chart), blank=blank)
        return tuple(found)

    def _chart(self, chart: BundleChart) -> ChartAnswers:
        return self.answers.charts.get(chart.release) or self.answers.charts.get(chart.name) or ChartAnswers()

    def _platform_secrets(self, namespace: str, *, blank: bool) -> list[SiteSecret]:
        """The Secrets that the platform's values name, the one of its Ingress included."""
        found = []
        for item in needed(self.answers, self.authorities):
            data = {key: Secret(text) for key, text in item.public.items()}
            for key, part in item.data.items():
                data[key] = Secret("") if blank else part.written(self._secret(part.source, part.path))
            found.append(SiteSecret(item.name, namespace, data))
        if self.server and self.answers.ingress and self.answers.ingress.key:
            own = Secret("") if blank else self._secret(self.answers.ingress.key, "ingress.key", lines=True)
            if not blank:
                self.server.check_key(own, "ingress.key")
            pair = {"tls.crt": Secret(self.server.chain), "tls.key": own}
            found.append(SiteSecret(TLS_SECRET, namespace, pair, "kubernetes.io/tls"))
        return found

    def _pull_secret(self, namespace: str, *, blank: bool) -> SiteSecret:
        """Kubernetes documentation, "Pull an Image from a Private Registry": the form of docker's config.json."""
        config = "" if blank else self._docker_config()
        return SiteSecret(
            platform_values.PULL_SECRET,
            namespace,
            {".dockerconfigjson": Secret(config)},
            "kubernetes.io/dockerconfigjson",
        )

    def _docker_config(self) -> str:
        credentials = self.credentials()
        if credentials is None:
            raise SiteError("registry.pull_secret: needs credentials", hint=_HINT)
        token = credentials.basic().removeprefix("Basic ")
        login = {"username": credentials.username, "password": credentials.password, "auth": token}
        return json.dumps({"auths": {self.registry: login}}, sort_keys=True)

    def _secret(self, source: SecretSource, key: str, *, lines: bool = False) -> Secret:
        if key not in self._read:
            self._read[key] = self.reader.read(source, key, lines=lines)
        return self._read[key]


def _uncovered(answers: Answers, server: ServerCertificate | None) -> list[str]:
    """A remark for each host of the Ingress that its certificate is not for."""
    if server is None or answers.ingress is None:
        return []
    hosts = [*([answers.host_name] if answers.host else []), *answers.ingress.additional_hosts]
    return [f"ingress.certificate: is not for {host}" for host in hosts if not server.covers(host)]


def _free(answers: Answers) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What the answers say in the words of charts, each with its key."""
    yield "values", answers.values
    yield "operator_values", answers.operator_values
    for name, chart in answers.charts.items():
        yield f"charts.{name}.values", chart.values


def _secret_values(answers: Answers) -> Iterator[str]:
    """A remark for each value that looks like a secret."""
    for above, values in (("env", answers.env), *_free(answers)):
        for path in suspicious(values):
            way = "secret_env" if above == "env" else "a value that names a Secret"
            yield f"{above}.{path}: looks like a secret, and many may read what is made of it; use {way} instead"


class _Files:
    """Reads the files that the answers name and gathers what is wrong with them."""

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

    def trusted(self, answers: Answers) -> Iterator[Certificates]:
        """The authorities that all parts of the platform shall trust, file by file."""
        for index, file in enumerate(answers.certificates):
            yield self.certificates(file, f"certificates[{index}]")
        if answers.bucket:
            yield self.certificates(answers.bucket.ca, "bucket.ca")

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
        try:
            if file is not None and not self.elsewhere and look_at(self.folder / file) is None:
                self.defects.append(f"{key}: no such file: {file}")
        except AirferryError as exc:
            self.defects.append(f"{key}: {exc.message}")

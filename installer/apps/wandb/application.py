"""The W&B platform as an application: its answers, the values and Secrets that are made of them."""

from collections.abc import Iterator, Mapping
from typing import Any

from installer.apps.application import Application
from installer.apps.profile import Profile, Step
from installer.apps.samples import Sample, sampled
from installer.apps.wandb.site import platform_values
from installer.apps.wandb.site.answers import Answers, own_answers
from installer.apps.wandb.site.connection_values import MYSQL_CLIENT
from installer.apps.wandb.site.misplaced import misplaced
from installer.apps.wandb.site.samples import samples
from installer.apps.wandb.site.service_values import TLS_SECRET, Authorities, needed
from installer.chart.retarget import merged
from installer.errors import BundleError, SiteError
from installer.schema import report
from installer.site.answers import SiteAnswers
from installer.site.certificates import Certificates, ServerCertificate
from installer.site.secret import Secret
from installer.site.site import HINT, Site, SiteFiles, SiteSecret
from installer.value import Value

API_VERSION = "apps.wandb.com/v1"


class PlatformFiles(Value):
    """What the files hold that the answers name: `certificates` are those of all authorities that the platform shall
    trust, `authorities` those of single services, `server` is the certificate of its Ingress, `client` the one that it
    shows to MySQL."""

    certificates: tuple[str, ...]
    authorities: Authorities
    server: ServerCertificate | None
    client: ServerCertificate | None


_ABOUT_FILLING_IN = (
    "Passwords of MySQL and Redis and the keys of an S3\n   bucket are percent-encoded there, and "
    "GORILLA_EMAIL_SINK is smtp://USER:PASSWORD@HOST:PORT."
)


class Platform(Application):
    """The operator, and the platform that it installs from its custom resource."""

    keys: Mapping[str, str] = {
        "ingress-class": "ingress.class",
        "storage-class": "storage_class",
        "priority-class": "priority_class",
        "host": "host",
        "resources": "size, or resources in values",
    }
    heard_from: Mapping[str, str] = {"operator-wandb": "0.41.4"}
    secret_notes = _ABOUT_FILLING_IN

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        self.platform = _only(profile, "resource that installs a chart", lambda step: step.installs is not None)
        controller = self.platform.controller
        self.operator = _only(profile, "chart that is its controller", lambda step: step.label == controller)

    @property
    def answers(self) -> type[SiteAnswers]:
        """All keys."""
        return Answers

    def read_files(self, answers: SiteAnswers, files: SiteFiles) -> tuple[object, tuple[str, ...]]:
        """The certificates, checked."""
        own = own_answers(answers)
        trusted = Certificates.joined(_trusted(own, files))
        mysql, redis = (
            files.certificates(part.ca if part else None, f"{key}.ca")
            for key, part in (("mysql", own.mysql), ("redis", own.redis))
        )
        server = files.server(own.ingress.certificate if own.ingress else None, "ingress.certificate")
        client = files.server(own.mysql.client_certificate if own.mysql else None, "mysql.client_certificate")
        notes = [note for part in (trusted, mysql, redis) for note in part.notes]
        authorities = Authorities(mysql="".join(mysql.pems), redis="".join(redis.pems))
        return PlatformFiles(trusted.pems, authorities, server, client), (*notes, *_uncovered(own, server))

    def check(self, site: Site) -> None:
        """As for every application; and no secret may stand among the values of the platform."""
        super().check(site)
        names = self.names(self.platform)
        defects = [
            f"{above}.{path}: a secret must not stand here, where many may read it; {self._instead(answer)}"
            for above, values in site.answers.free_values()
            if above == "values" or above.removeprefix("charts.").removesuffix(".values") in names
            for path, answer in misplaced(values)
        ]
        if defects:
            raise report("site.yaml", defects, SiteError, hint=HINT)

    def _instead(self, answer: str) -> str:
        why = self.profile.unheard.get(answer)
        return f"its place is {answer}, but {why}" if why else f"use {answer}"

    def samples(self) -> Iterator[Sample]:
        """Of all keys that end in values; `chart_source` does not, and `values` are the charts' own words."""
        for key, before, after in samples():
            yield sampled(Answers, key, before, after)

    def open_questions(self, site: Site) -> list[str]:
        """What the platform cannot do without for long, as far as nobody has answered it."""
        answers = own_answers(site.answers)
        asked = _NEEDED.keys() - self.profile.unheard.keys()
        return [f"{key}: {text}" for key, text in _NEEDED.items() if key in asked and getattr(answers, key) is None]

    def namespace(self, step: Step, site: Site) -> str:
        """The operator may have a namespace of its own."""
        general = own_answers(site.answers).operator_namespace if step is self.operator else None
        return self.own_answers(step, site).namespace or general or super().namespace(step, site)

    def values(self, step: Step, site: Site) -> dict[str, Any]:
        """What this site adds to the values of the two charts, or of another one."""
        answers, files, free = own_answers(site.answers), _files(site), self.own_answers(step, site).values
        if step is self.platform:
            release = step.name or self.names(step)[0]
            answered = platform_values.platform(answers, files.certificates, files.authorities, release)
            return merged(merged(answered, answers.values), free)
        if step is self.operator:
            answered = platform_values.operator(answers, files.certificates)
            return merged(merged(answered, answers.operator_values), free)
        return super().values(step, site)

    def own_words(self, step: Step, site: Site) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Both charts have a key of their own besides."""
        yield from super().own_words(step, site)
        answers = own_answers(site.answers)
        if step is self.platform:
            yield "values", answers.values
        if step is self.operator:
            yield "operator_values", answers.operator_values

    def secrets(self, site: Site, *, blank: bool) -> Iterator[SiteSecret]:
        """The Secrets that the platform's values name, those with a certificate included."""
        yield from super().secrets(site, blank=blank)
        answers, files, namespace = own_answers(site.answers), _files(site), self.namespace(self.platform, site)
        for item in needed(answers, files.authorities):
            data = {key: Secret(text) for key, text in item.public.items()}
            for key, part in item.data.items():
                data[key] = Secret("") if blank else part.written(site.secret(part.source, part.path))
            yield SiteSecret(item.name, namespace, data)
        for name, certificate, source, path in (
            (TLS_SECRET, files.server, answers.ingress and answers.ingress.key, "ingress.key"),
            (MYSQL_CLIENT, files.client, answers.mysql and answers.mysql.client_key, "mysql.client_key"),
        ):
            if certificate and source:
                own = Secret("") if blank else site.secret(source, path, lines=True)
                if not blank:
                    certificate.check_key(own, path)
                pair = {"tls.crt": Secret(certificate.chain), "tls.key": own}
                yield SiteSecret(name, namespace, pair, "kubernetes.io/tls")

    def controller_values(self, step: Step, site: Site | None) -> dict[str, Any]:
        """The operator says what it is and where (github.com/wandb/operator v1, operator defaults)."""
        if step is not self.platform:
            return super().controller_values(step, site)
        namespace = self.namespace(self.operator, site) if site else self.operator.namespace or self.profile.namespace
        return {"global": {"operator": {"apiVersion": API_VERSION, "namespace": namespace}}}

    def place_of_values(self, step: Step) -> str:
        """Both charts have a key of their own."""
        if step is self.platform:
            return "values"
        return "operator_values" if step is self.operator else super().place_of_values(step)


_NEEDED = {
    "host": "the address that users type",
    "license": "without it the platform is limited to a trial",
    "mysql": "the database; the chart's own is off in the profile",
    "bucket": "the object store; files need one",
}

application = Platform
"""What the loader asks a driver's folder for."""


def _files(site: Site) -> PlatformFiles:
    if not isinstance(site.files, PlatformFiles):
        raise TypeError("files of another application")
    return site.files


def _only(profile: Profile, what: str, fits: Any) -> Step:
    found = [step for step in profile.steps if fits(step)]
    if len(found) != 1:
        raise BundleError(f"the profile needs one {what}, and has {len(found)}")
    return found[0]


def _trusted(answers: Answers, files: SiteFiles) -> Iterator[Certificates]:
    """The authorities that all parts of the platform shall trust, file by file."""
    for index, file in enumerate(answers.certificates):
        yield files.certificates(file, f"certificates[{index}]")
    if answers.bucket:
        yield files.certificates(answers.bucket.ca, "bucket.ca")


def _uncovered(answers: Answers, server: ServerCertificate | None) -> list[str]:
    """A remark for each host of the Ingress that its certificate is not for."""
    if server is None or answers.ingress is None:
        return []
    hosts = [*([answers.host_name] if answers.host else []), *answers.ingress.additional_hosts]
    return [f"ingress.certificate: is not for {host}" for host in hosts if not server.covers(host)]

"""W&B with operator v2 as an application: its answers, and the fields, values and Secrets that are made of them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from installer.apps.application import Application
from installer.apps.profile import Profile, Step, placed
from installer.apps.samples import Sample, sampled
from installer.apps.wandb.site.answers import IngressAnswers
from installer.apps.wandb.site.service_answers import LdapAnswers
from installer.apps.wandb_v2 import connections
from installer.apps.wandb_v2.answers import Answers, GatewayAnswers, own_answers
from installer.apps.wandb_v2.connections import Authorities, Confidential
from installer.apps.wandb_v2.samples import samples
from installer.chart.retarget import merged
from installer.errors import BundleError
from installer.site.answers import SiteAnswers
from installer.site.certificates import Certificates, ServerCertificate
from installer.site.secret import Secret, SecretSource
from installer.site.site import Site, SiteFiles, SiteSecret
from installer.value import Value

TLS_SECRET = "airferry-tls"  # noqa: S105 - a name
LICENSED_BY = "airferry/license-secret"
"""Annotation of the resource: Secret and key of the licence, which has no other place in it than in clear."""


class PlatformFiles(Value):
    """What the files hold that the answers name: `certificates` are those of all authorities that the platform shall
    trust, `authorities` those of single services, `server` is the certificate of its Ingress."""

    certificates: tuple[str, ...]
    authorities: Authorities
    server: ServerCertificate | None


_ABOUT_FILLING_IN = "The operator encodes what it puts into URLs; GORILLA_EMAIL_SINK is smtp://USER:PASSWORD@HOST:PORT."


class Platform(Application):
    """The operator, and the platform that it makes of its resource."""

    keys: Mapping[str, str] = {"ingress-class": "ingress.class", "host": "host"}
    secret_notes = _ABOUT_FILLING_IN

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        fetching = {artifact.step for artifact in profile.artifacts}
        found = [step for step in profile.steps if step.label in fetching and step.controller]
        if len(found) != 1:
            raise BundleError("the profile needs one resource with an artifact and a controller")
        self.platform = found[0]
        self.operator = profile.step(self.platform.controller or "")

    @property
    def answers(self) -> type[SiteAnswers]:
        """All keys."""
        return Answers

    def read_files(self, answers: SiteAnswers, files: SiteFiles) -> tuple[object, tuple[str, ...]]:
        """The certificates, checked."""
        own = own_answers(answers)
        named = [files.certificates(file, f"certificates[{index}]") for index, file in enumerate(own.certificates)]
        if own.bucket:
            named.append(files.certificates(own.bucket.ca, "bucket.ca"))
        trusted = Certificates.joined(named)
        mysql = files.certificates(own.mysql.ca if own.mysql else None, "mysql.ca")
        redis = files.certificates(own.redis.ca if own.redis else None, "redis.ca")
        client = files.server(own.mysql.client_certificate if own.mysql else None, "mysql.client_certificate")
        server = files.server(own.ingress.certificate if own.ingress else None, "ingress.certificate")
        authorities = Authorities("".join(mysql.pems), "".join(redis.pems), client.chain if client else "")
        notes = [note for part in (trusted, mysql, redis) for note in part.notes]
        return PlatformFiles(trusted.pems, authorities, server), tuple(notes)

    def samples(self) -> Iterator[Sample]:
        """Of all keys that end in fields of the resource or in values."""
        for key, before, after in samples():
            yield sampled(Answers, key, before, after)

    def open_questions(self, site: Site) -> list[str]:
        """What the platform does with what nobody has answered, as far as that matters."""
        answers = own_answers(site.answers)
        asked = _NEEDED.keys() - self.profile.unheard.keys()
        return [f"{key}: {text}" for key, text in _NEEDED.items() if key in asked and getattr(answers, key) is None]

    def namespace(self, step: Step, site: Site) -> str:
        """The operator may have a namespace of its own."""
        general = own_answers(site.answers).operator_namespace if step is self.operator else None
        return self.own_answers(step, site).namespace or general or super().namespace(step, site)

    def values(self, step: Step, site: Site) -> dict[str, Any]:
        """What this site adds to the values of a chart: the operator trusts the registry's authority."""
        if step is not self.operator:
            return super().values(step, site)
        values: dict[str, Any] = {}
        if site.registry_authorities:
            values = placed("wandb-operator.caCerts.certs", list(site.registry_authorities))
        values = merged(values, own_answers(site.answers).operator_values)
        return merged(values, self.own_answers(step, site).values)

    def own_words(self, step: Step, site: Site) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The operator's chart has a key of its own besides."""
        yield from super().own_words(step, site)
        if step is self.operator:
            yield "operator_values", own_answers(site.answers).operator_values

    def place_of_values(self, step: Step) -> str:
        """The operator's chart has a key of its own."""
        return "operator_values" if step is self.operator else super().place_of_values(step)

    def fields(self, step: Step, site: Site) -> dict[str, Any]:
        """What this site says in the resource. The licence is only referred to."""
        if step is not self.platform:
            return super().fields(step, site)
        answers, files = own_answers(site.answers), _files(site)
        found: dict[str, Any] = {}
        if answers.license:
            found = placed("metadata.annotations", {LICENSED_BY: "/".join(_place(answers.license))})
        for part in (
            _general(answers, files.certificates),
            connections.services(answers, files.authorities),
            _networking(answers),
            _environment(answers),
            _logins(answers),
            answers.spec,
        ):
            found = merged(found, {"spec": part})
        return found

    def secrets(self, site: Site, *, blank: bool) -> Iterator[SiteSecret]:
        """The Secrets that the resource refers to."""
        yield from super().secrets(site, blank=blank)
        answers, files, namespace = own_answers(site.answers), _files(site), self.namespace(self.platform, site)

        def content(part: str | Confidential) -> Secret:
            if isinstance(part, str):
                return Secret(part)
            lines = part.path.endswith("_key") and part.path.startswith("mysql.")
            return Secret("") if blank else part.written(site.secret(part.source, part.path, lines=lines))

        made: dict[str, dict[str, str | Confidential]] = {
            item.name: item.made() for item in connections.connections(answers, files.authorities)
        }
        if answers.smtp:
            made[connections.SINK] = {connections.SINK_KEY: connections.sink(answers.smtp)}
        for name, key, source, path in _single(answers):
            if not source.in_cluster:
                made.setdefault(name, {})[key] = Confidential(source, path)
        for name, parts in made.items():
            if parts:
                data = {key: content(part) for key, part in parts.items()}
                public = frozenset(key for key, part in parts.items() if isinstance(part, str))
                yield SiteSecret(name, namespace, data, public=public)
        if files.server and answers.ingress and answers.ingress.key:
            own = Secret("") if blank else site.secret(answers.ingress.key, "ingress.key", lines=True)
            if not blank:
                files.server.check_key(own, "ingress.key")
            pair = {"tls.crt": Secret(files.server.chain), "tls.key": own}
            yield SiteSecret(TLS_SECRET, namespace, pair, "kubernetes.io/tls")


_NEEDED = {
    "host": "the address that users type",
    "license": "without it the platform is limited to a trial",
    "mysql": "the database; `internal: true` leaves it to the operator",
    "bucket": "the object store; `internal: true` leaves it to the operator",
    "redis": "the cache; `internal: true` leaves it to the operator",
    "clickhouse": "the database of traces; `internal: true` leaves it to the operator",
    "smtp": "without it the platform tries to hand its mail to https://api.wandb.ai",
}

application = Platform
"""What the loader asks a driver's folder for."""


def _files(site: Site) -> PlatformFiles:
    if not isinstance(site.files, PlatformFiles):
        raise TypeError("files of another application")
    return site.files


def _place(source: SecretSource) -> tuple[str, str]:
    """Secret and key that hold the licence."""
    found = (source.secret, source.key) if source.secret and source.key else None
    return found or (connections.LICENSE, connections.LICENSE_KEY)


def _single(answers: Answers) -> Iterator[tuple[str, str, SecretSource, str]]:
    """Secrets that are no part of a connection: Secret, key, source, and the site's key."""
    if answers.license:
        yield connections.LICENSE, connections.LICENSE_KEY, answers.license, "license"
    if answers.ldap and answers.ldap.bind_password:
        yield connections.LDAP, connections.LDAP_KEY, answers.ldap.bind_password, "ldap.bind_password"
    for name, source in answers.secret_env.items():
        yield connections.ENVIRONMENT, name, source, f"secret_env.{name}"


def _general(answers: Answers, certificates: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if answers.host:
        found = merged(found, placed("wandb.hostname", answers.host))
    if answers.size:
        found["size"] = answers.size
    if answers.retention:
        found = merged(found, placed("retentionPolicy.onDelete", answers.retention))
    if answers.tolerations:
        found["tolerations"] = [item.model_dump(exclude_none=True) for item in answers.tolerations]
    if certificates:
        found = merged(found, placed("global.customCACerts", list(certificates)))
    if answers.proxy:
        proxy: dict[str, Any] = {}
        for field, url in (("httpProxy", answers.proxy.http), ("httpsProxy", answers.proxy.https)):
            if url:
                proxy[field] = {"value": url}
        if answers.proxy.no_proxy:
            proxy["noProxy"] = list(answers.proxy.no_proxy)
        found = merged(found, placed("global.proxy", proxy))
    return found


def _networking(answers: Answers) -> dict[str, Any]:
    if answers.expose == "none":
        return placed("networking", {"mode": None, "ingress": None, "gatewayAPI": None})
    if answers.gateway:
        return placed("networking", {"mode": "gateway", "ingress": None, "gatewayAPI": _gateway(answers.gateway)})
    return _ingress(answers.ingress) if answers.ingress else {}


def _gateway(answers: GatewayAnswers) -> dict[str, Any]:
    gateway: dict[str, Any] = {"managed": answers.name is None}
    if answers.gateway_class:
        gateway["gatewayClassName"] = answers.gateway_class
    if answers.name:
        place = {"namespace": answers.namespace} if answers.namespace else {}
        gateway["gatewayRef"] = {"name": answers.name, **place}
    listener = {"listenerName": answers.listener} if answers.listener else {}
    return {"gateway": gateway, **listener}


def _ingress(answers: IngressAnswers) -> dict[str, Any]:
    networking: dict[str, Any] = {"mode": "ingress", "gatewayAPI": None}
    if answers.ingress_class:
        networking["ingress"] = {"ingressClassName": answers.ingress_class}
    if answers.annotations:
        networking["annotations"] = dict(answers.annotations)
    if secret := answers.tls_secret or (TLS_SECRET if answers.certificate else None):
        networking["tls"] = {"secretName": secret}
    found = placed("networking", networking)
    if answers.additional_hosts:
        found = merged(found, placed("wandb.additionalHostnames", list(answers.additional_hosts)))
    return found


def _environment(answers: Answers) -> dict[str, Any]:
    """Variables of all programs. The resource calls the place a legacy, and has no other for them."""
    entries: list[dict[str, Any]] = [{"name": name, "value": text} for name, text in sorted(answers.env.items())]
    if answers.smtp and answers.smtp.sender:
        entries.append({"name": "GORILLA_EMAIL_FROM_ADDRESS", "value": answers.smtp.sender})
    for name, source in sorted(answers.secret_env.items()):
        entries.append(_variable(name, source, connections.ENVIRONMENT, name))
    if answers.ldap:
        entries += [{"name": name, "value": text} for name, text in _ldap(answers.ldap).items()]
        if bind := answers.ldap.bind_password:
            entries.append(_variable("LOCAL_LDAP_BIND_PW", bind, connections.LDAP, connections.LDAP_KEY))
    return placed("wandb.legacyOverrides.global.env", entries) if entries else {}


def _ldap(ldap: LdapAnswers) -> dict[str, str]:
    """docs.wandb.ai, "Configure SSO with LDAP": the operator itself knows nothing of it."""
    texts = {
        "ADDRESS": ldap.address,
        "BASE_DN": ldap.base_dn,
        "BIND_DN": ldap.bind_dn,
        "ATTRIBUTES": ldap.attributes,
        "TLS_ENABLE": json.dumps(ldap.tls),
        "GROUP_ALLOW_LIST": ldap.group_allow_list,
        "LOGIN": json.dumps(ldap.login),
    }
    return {f"LOCAL_LDAP_{name}": text for name, text in texts.items() if text}


def _variable(name: str, source: SecretSource, secret: str, key: str) -> dict[str, Any]:
    if source.secret and source.key:
        secret, key = source.secret, source.key
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _logins(answers: Answers) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if answers.smtp:
        found = placed("wandb.notifications.email.sink", {"name": connections.SINK, "key": connections.SINK_KEY})
    if answers.oidc:
        found = merged(found, placed("wandb.oidc", connections.oidc(answers.oidc).fields()))
    if answers.session_hours:
        found = merged(found, placed("wandb.oidc.sessionLength", f"{answers.session_hours}h"))
    return found

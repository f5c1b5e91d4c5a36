"""Whether what a load sends fits into the quota of the projects that it goes into, asked before anything is sent.

Only registries are asked that are seen to be a Harbor or a Quay, by where they have tokens made. One that does not
answer is taken to have room. Free space is not asked for: Harbor tells that of its own disk alone, to administrators,
also where its content lies in an object store.

Sources: Harbor's API version 2.0 (github.com/goharbor/harbor, api/v2.0/swagger.yaml: `getProjectSummary`), which counts
a blob once for each project; Quay's API (github.com/quay/quay, endpoints/api/organization.py: `getOrganization`;
data/model/namespacequota.py: `check_limits`), which takes OAuth tokens alone, those of the user `$oauthtoken`.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from installer import strict_json
from installer.errors import AirferryError, ContentError, RegistryAccessError
from installer.oci.digest import Digest
from installer.oci.model import Descriptor
from installer.oci.reference import Repository
from installer.parallel import each
from installer.registry.client import Registry
from installer.registry.endpoint import Endpoint
from installer.registry.failures import TransientError
from installer.registry.messages import Request
from installer.registry.transport import Transport
from installer.report import size
from installer.transfer.destinations import projects
from installer.transfer.pusher import Job
from installer.value import Value

_MAX_ANSWER = 1 << 20
_OAUTH = "$oauthtoken"


class Quota(Value):
    """How many bytes a project may hold, and how many it holds."""

    most: int
    used: int


def check_room(
    registry: Registry, host: str, jobs: Iterable[Job], holders: Mapping[Digest, Repository], *, threads: int
) -> None:
    """Raises ContentError if a project of the registry `host` has no room for the blobs of `jobs` that it lacks.

    `holders` are repositories that hold some of them. Blobs are asked for only where not all of them would fit.
    """
    needed: dict[str, list[tuple[Descriptor, list[Repository]]]] = {}
    for job in jobs:
        for project in projects(job.repositories):
            places = [place for place in job.repositories if projects([place]) == [project]]
            needed.setdefault(project, []).append((job.descriptor, places))
    lines = []
    for project, blobs in needed.items():
        quota = _quota(registry.transport, host, project)
        if quota is None or sum(blob.size for blob, _ in blobs) <= quota.most - quota.used:
            continue
        inside = {digest for digest, holder in holders.items() if projects([holder]) == [project]}
        lacking = sum(_lacking(registry, [item for item in blobs if item[0].digest not in inside], threads))
        if lacking > quota.most - quota.used:
            free = max(quota.most - quota.used, 0)
            lines.append(
                f"{host}/{project}: its quota of {size(quota.most)} leaves room for {size(free)}, "
                f"and {size(lacking)} are lacking there"
            )
    if lines:
        raise ContentError(
            "\n".join([*lines, "nothing was sent"]),
            hint="have the quota raised, or delete there what is not needed; where other images hold some of this "
            "already, `load --ignore-quota` tries it.",
        )


def _lacking(registry: Registry, blobs: list[tuple[Descriptor, list[Repository]]], threads: int) -> list[int]:
    """The sizes of the blobs that none of their repositories holds."""
    found: list[int] = []

    def look(item: tuple[Descriptor, list[Repository]]) -> None:
        blob, places = item
        try:
            held = any(registry.has_blob(place, blob) for place in places)
        except (ContentError, RegistryAccessError):
            held = False
        if not held:
            found.append(blob.size)

    each(look, blobs, threads=threads, stop=threading.Event(), waits=lambda _: True)
    return found


def _quota(transport: Transport, host: str, project: str) -> Quota | None:
    """The quota of a project; None where none is known."""
    server = urlsplit(transport.token_server(host)).path
    credentials = transport.credentials(host, project)
    if credentials is None or not credentials.username:
        return None
    if server.endswith("/service/token"):
        return _of_harbor(_ask(transport, host, f"api/v2.0/projects/{quote(project)}/summary", credentials.basic()))
    if server == "/v2/auth" and credentials.username == _OAUTH:
        return _of_quay(
            _ask(transport, host, f"api/v1/organization/{quote(project)}", f"Bearer {credentials.password}")
        )
    return None


def _ask(transport: Transport, host: str, path: str, authorization: str) -> Any:
    """The document at `path` of the registry's own API; None without an answer."""
    registry = transport.endpoint(host)
    # An endpoint of its own: tokens for repositories mean nothing there. Harbor takes a name of digits for a number.
    api = Endpoint(registry.host, registry.origin, path.partition("/")[0])
    headers = {"Accept": "application/json", "Authorization": authorization, "X-Is-Resource-Name": "true"}
    request = Request(api, "GET", f"{api.origin}/{path}", frozenset({200}), headers)
    try:
        with transport.exchange(request) as response:
            return strict_json.parse(response.read(_MAX_ANSWER), request.url, ContentError)
    except (AirferryError, TransientError):
        return None


def _of_harbor(summary: Any) -> Quota | None:
    """By a project's summary; who may not read the quota gets one without it, and -1 means none."""
    return _of(_at(summary, "quota", "hard", "storage"), _at(summary, "quota", "used", "storage"))


def _of_quay(organization: Any) -> Quota | None:
    """By an organization. A quota refuses at the percentage that is said to; the default for all refuses at its end."""
    used = _at(organization, "quota_report", "quota_bytes")
    quotas = _at(organization, "quotas")
    if not isinstance(quotas, list) or not quotas:
        return _of(_at(organization, "quota_report", "configured_quota"), used)
    limits = _at(quotas[0], "limits")
    percents = [
        percent
        for limit in (limits if isinstance(limits, list) else ())
        if str(_at(limit, "type")).lower() == "reject" and isinstance(percent := _at(limit, "limit_percent"), int)
    ]
    most = _at(quotas[0], "limit_bytes")
    return _of(most * min(percents) // 100, used) if percents and isinstance(most, int) else None


def _at(document: Any, *keys: str) -> Any:
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _of(most: Any, used: Any) -> Quota | None:
    known = isinstance(most, int) and isinstance(used, int) and most > 0
    return Quota(most, used) if known else None

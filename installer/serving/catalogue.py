"""A read-only registry and chart repository straight from the volumes: what lies under which path.

- `/v2/HOST/PATH/…` is the registry (OCI distribution specification 1.1, pull and content discovery): every image under
  its upstream name, a port in HOST also joined by two underscores as `load` does, and under the short names that docker
  knows for those of Docker Hub; for containerd's mirrors also `/v2/PATH/…?ns=HOST`. `/v2/charts/NAME/…` are the charts
  as OCI artifacts.
- `/charts/index.yaml` and `/charts/NAME-VERSION.tgz` are a Helm repository with relative URLs.
- `/files/NAME` are files that travel along.

Only known names are answered, and there are no redirects.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlencode

from installer.bundle.reader import Bundle
from installer.chart.relocation import path_of
from installer.errors import AirferryError
from installer.oci import media_types
from installer.oci.reference import parse_repository
from installer.report import Reporter
from installer.serving.answer import Answer, Headers, Refusal, parted
from installer.serving.chart_repository import ChartRepository
from installer.serving.repositories import repositories_of
from installer.transfer.extract import files_of

_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs|tags|referrers)/(?P<ref>[^/]+)")
_NAME = re.compile(r"[a-z0-9._/:-]+", re.ASCII)
# The algorithms that the image specification registers: descriptor.md, "Registered algorithms".
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)


class Catalogue:
    """All paths of the server. Pure: no sockets.

    Reads all manifests of the bundle, so that what is damaged is told before anybody pulls. Raises BundleError.
    """

    def __init__(self, bundle: Bundle, reporter: Reporter) -> None:
        self._bundle = bundle
        self._repositories = repositories_of(bundle, reporter)
        self._charts = ChartRepository(bundle, bundle.manifest.charts)

    def find(self, target: str) -> Answer | Refusal:
        """See `Findable`."""
        written, text = parted(target)
        path, query = unquote(written), dict(parse_qsl(text))
        if path in ("/v2", "/v2/"):
            return Answer.of(b"{}")
        if path == "/v2/_catalog":
            return _page("repositories", sorted(self._repositories), written, query, {})
        if match := _PATH.fullmatch(path):
            return self._in_registry(match["name"], match["kind"], match["ref"], written, query)
        if path.startswith("/charts/"):
            return self._charts.find(target)
        found = self._files.get(path.removeprefix("/files/")) if path.startswith("/files/") else None
        return found or Refusal(HTTPStatus.NOT_FOUND, "NOT_FOUND", path)

    def _in_registry(
        self, name: str, kind: str, reference: str, written: str, query: Mapping[str, str]
    ) -> Answer | Refusal:
        names = _names(name, query.get("ns", ""))
        repository = next((self._repositories[each] for each in names if each in self._repositories), None)
        if repository is None:
            code = "NAME_UNKNOWN" if _NAME.fullmatch(name) else "NAME_INVALID"
            return Refusal(HTTPStatus.NOT_FOUND, code, name)
        if kind == "tags":
            if reference == "list":
                return _page("tags", repository.tags, written, query, {"name": name})
            return Refusal(HTTPStatus.NOT_FOUND, "NOT_FOUND", written)
        if (kind != "manifests" or ":" in reference) and not _DIGEST.fullmatch(reference):
            return Refusal(HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", reference)
        if kind == "referrers":
            # A type holds no space: who sends a plus sign as it is means that.
            return repository.referrers(reference, query.get("artifactType", "").replace(" ", "+"))
        manifests = kind == "manifests"
        found = (repository.manifests if manifests else repository.blobs).get(reference)
        code = "MANIFEST_UNKNOWN" if manifests else "BLOB_UNKNOWN"
        return found or Refusal(HTTPStatus.NOT_FOUND, code, f"{name}: {reference}")

    @cached_property
    def _files(self) -> dict[str, Answer]:
        """The files that travel along, by name; those of an update that it does not carry are not there."""
        blobs = {item.name: self._bundle.blob(item.digest) for item in files_of(self._bundle.manifest)}
        return {
            name: Answer(media_types.OCTETS, blob.size, blob.digest) for name, blob in blobs.items() if blob.carried
        }


def _names(name: str, namespace: str) -> Iterator[str]:
    """What a client may mean by a repository's name, first things first.

    `namespace` is the upstream host that containerd tells its mirrors, also those with a path of their own
    (`override_path`), whose names have the host already. Without it a name without a host is one of docker.io.
    """
    for text in ((f"{namespace}/{name}",) if namespace else ()) + (name,):
        yield text
        with suppress(AirferryError):
            repository = parse_repository(text)
            if text != name or not namespace or str(repository) == name:
                yield path_of(repository)


def _page(
    what: str, names: Sequence[str], path: str, query: Mapping[str, str], document: Mapping[str, str]
) -> Answer | Refusal:
    """A sorted list of names from `last` on, `n` of them, and where it goes on ("Listing Tags")."""
    number, rest = query.get("n"), names[bisect_right(names, query.get("last", "")) :]
    if number is not None and not _NUMBER.fullmatch(number):
        return Refusal(HTTPStatus.BAD_REQUEST, "PAGINATION_NUMBER_INVALID", number)
    shown = rest if number is None else rest[: int(number)]
    headers: Headers = ()
    if shown and len(shown) < len(rest):
        headers = (("Link", f'<{path}?{urlencode({**query, "last": shown[-1]})}>; rel="next"'),)
    return Answer.of(json.dumps({**document, what: list(shown)}).encode(), headers=headers)

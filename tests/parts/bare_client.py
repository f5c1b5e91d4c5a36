"""A client of registries that knows nothing but the OCI distribution specification's five requests, and repeats none.

It brings images of any kind into a registry, byte for byte, and reads back whether all of them is there. It shares no
code with airferry, and has no opinion on what it carries.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urljoin

import urllib3

from tests.parts.images import DOCKER, OCI, compact

if TYPE_CHECKING:
    from tests.parts.odd_maker import Held, OddImage

ACCEPT = f"{OCI.index}, {DOCKER.index}, {OCI.manifest}, {DOCKER.manifest}"
SECONDS = 30.0
_BEARER = re.compile("Bearer (.*)", re.IGNORECASE)
_PARAMETER = re.compile(r'([a-z]+)="([^"]*)"')


class RefusedError(Exception):
    """The registry does not take it; the words are its status and the beginning of its answer."""


class BareClient:
    """A client of the registry at `address` (`HOST:PORT`, without TLS), by password or by the token that it wants."""

    def __init__(self, address: str, user: tuple[str, str] | None = None) -> None:
        self._base = f"http://{address}/v2/"
        self._basic = dict(urllib3.make_headers(basic_auth=":".join(user))) if user else {}
        self._login = self._basic
        self._http = urllib3.PoolManager(retries=urllib3.Retry(None, connect=0, read=0, redirect=3), timeout=SECONDS)

    def push(self, odd: OddImage, repository: str) -> None:
        """Bring all of `odd` into `repository`, each manifest under its tag. Raises RefusedError."""
        for digest, data in odd.blobs.items():
            begun = self._ask("POST", f"{repository}/blobs/uploads/", 202)
            place = urljoin(self._base, begun.headers["Location"])
            place += f"{'&' if '?' in place else '?'}{urlencode({'digest': digest})}"
            self._ask("PUT", place, 201, data, "application/octet-stream")
        for held in odd.manifests:
            path = f"{repository}/manifests/{held.tag or held.digest}"
            answer = self._ask("PUT", path, 201, held.raw, held.media_type)
            if b'"subject":' in held.raw and "OCI-Subject" not in answer.headers:
                self._list(repository, held)

    def _list(self, repository: str, held: Held) -> None:
        """Enter a manifest in the list that clients keep where a registry keeps none (section "Referrers Tag Schema").

        Nothing else refers to the same subject.
        """
        about: str = json.loads(held.raw)["subject"]["digest"]
        entry = {"mediaType": held.media_type, "digest": held.digest, "size": len(held.raw)}
        listed = compact({"schemaVersion": 2, "mediaType": OCI.index, "manifests": [entry]})
        self._ask("PUT", f"{repository}/manifests/{about.replace(':', '-')}", 201, listed, OCI.index)

    def lacks(self, odd: OddImage, repository: str) -> set[str]:
        """The digests of `odd` that are needed and not there, or not with their own content."""
        manifests = {held.digest for held in odd.manifests}
        return {digest for digest in odd.needed if not self._has(repository, digest, digest in manifests)}

    def _has(self, repository: str, digest: str, manifest: bool) -> bool:
        answer = self._send("GET", f"{repository}/{'manifests' if manifest else 'blobs'}/{digest}")
        name, _, value = digest.partition(":")
        return answer.status == 200 and hashlib.new(name, answer.data).hexdigest() == value

    def _ask(
        self, method: str, path: str, wanted: int, data: bytes = b"", media_type: str = ""
    ) -> urllib3.BaseHTTPResponse:
        answer = self._send(method, path, data, media_type)
        if answer.status != wanted:
            raise RefusedError(f"{answer.status}: {answer.data[:200].decode(errors='replace').strip()}")
        return answer

    def _send(self, method: str, path: str, data: bytes = b"", media_type: str = "") -> urllib3.BaseHTTPResponse:
        kind = {"Content-Type": media_type} if media_type else {}
        accept = {"Accept": ACCEPT} if "/manifests/" in path and method == "GET" else {}

        def once() -> urllib3.BaseHTTPResponse:
            headers = {**self._login, **kind, **accept}
            return self._http.request(method, urljoin(self._base, path), body=data, headers=headers)

        answer = once()
        if answer.status == 401 and (challenge := _BEARER.match(answer.headers.get("WWW-Authenticate", ""))):
            asked = dict(_PARAMETER.findall(challenge[1]))
            query = urlencode({key: value for key, value in asked.items() if key != "realm"})
            token = self._http.request("GET", f"{asked['realm']}?{query}", headers=self._basic).json()
            self._login = {"Authorization": f"Bearer {token.get('token') or token['access_token']}"}
            answer = once()
        return answer

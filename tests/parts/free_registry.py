"""A registry that answers as the specifications allow, each time it is made in other ways, drawn by chance.

    with FreeRegistry() as registry:
        registry.begin(random.Random(seed))

What a specification leaves open is drawn as one of its forms: statuses within their class, headers that may be absent,
how a body's end is told, addresses of uploads, how one logs in, redirects; some of it once for a registry
(`Customs`), some for each answer. A few requests for each resource fail in ways that pass. Content is never wrong, and
what is pushed must be right: digests, offsets, that all is there which a manifest names. With a `crime` the registry
does what no specification allows, for ever.

Rules: OCI distribution specification 1.1; RFC 9110; distribution's "Token Authentication Specification".
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import secrets
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import parse_qs, quote, urlsplit

from tests.parts.faulty_registry import OCTETS, Answer, Handler, Seen, Server

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

USER, PASSWORD = "somebody", "knows: it"
INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_API = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs/uploads|blobs|referrers)/(?P<rest>[^/]*)")
T = TypeVar("T")

CRIMES = {
    "other bytes": "^GET .*/(blobs/sha256|store/)",
    "cut for good": "^GET .*/blobs/sha256",
    "other ranges": "^GET .*/blobs/sha256",
    "other manifest": "^GET .*/manifests/sha256:",
    "nobody may": "",
    "endless redirects": "^(GET|HEAD) ",
    "endless errors": " /v2/",
    "endless crowds": " /v2/",
    "blobs are dropped": "^PUT .*/uploads/",
    "manifests are dropped": "^PUT .*/manifests/",
    "other digest": "^PUT ",
    "uploads elsewhere": "^POST .*/uploads/",
}
"""What a registry may not do, and to which requests this one then does it: method and path."""


@dataclass
class Customs:
    """What a registry always does in the same way."""

    auth: str
    """`none`, `basic`, `bearer`, or `hidden`: 404 to strangers, who are challenged at /v2/ only."""
    scope: str
    """Of a challenge: `none`, `own`, or `other`: the registry calls its repositories otherwise."""
    uses: int
    """After so many the first token for the same has expired; more than threads that may get it from each other."""
    head_blob: int
    head_manifest: int
    """Statuses of answers to HEAD; 0 is 200 without a length, 1 is 200 with the length 0."""
    redirect: int
    """The status of the answer that leads to a blob elsewhere; 0: none does."""
    ranges: int
    """The status of the answer to a range."""
    mount: int
    location: str
    least: int
    most: int
    """Bytes of a chunk, and of a request."""
    lists: bool
    """Whether it lists referrers."""
    lag: int
    """How often a manifest is not found yet after it was pushed."""

    @classmethod
    def drawn(cls, rng: random.Random) -> Self:
        limit, scope = rng.choice([0, 0, 2048, 20_000]), rng.choice(["none", "own", "own", "other"])
        return cls(
            auth=rng.choice(["none", "none", "basic", "bearer", "bearer", "hidden"]),
            scope=scope,
            uses=10_000 if scope == "other" else rng.choice([30, 60, 10_000]),
            head_blob=rng.choice([200, 200, 200, 0, 1, 400, 403, 405, 501]),
            head_manifest=rng.choice([200, 200, 200, 0, 1, 400, 403, 404, 405, 501]),
            redirect=rng.choice([0, 0, 301, 302, 303, 307, 308]),
            ranges=rng.choice([206, 206, 200, 416]),
            mount=rng.choice([201, 201, 201, 202, 202, 400, 401, 403, 404, 405, 500, 501]),
            location=rng.choice(["path", "path", "whole", "query", "other port"]),
            least=rng.choice([0, 0, 1500]) if limit != 0 else rng.choice([0, 5000]),
            most=limit,
            lists=rng.random() < 0.5,
            lag=rng.choice([0, 0, 1, 2]),
        )


@dataclass
class _Upload:
    name: str
    data: bytes = b""
    serial: int = 0
    ended: bool = False


@dataclass
class _Repository:
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)


class FreeRegistry:
    """A registry and the store of its blobs, which is another server, within `with`; empty after each `begin`."""

    def __init__(self) -> None:
        handler = type("Bound", (_Handler,), {"free": self})
        self.servers = [Server(("127.0.0.1", 0), handler) for _ in range(2)]
        self.address, self.store = (f"127.0.0.1:{server.server_address[1]}" for server in self.servers)
        self.lock = threading.RLock()

    def __enter__(self) -> Self:
        for server in self.servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def begin(self, rng: random.Random, crime: str = "") -> None:
        """Be another registry, with nothing in it."""
        self.customs, self.crime, self._seed = Customs.drawn(rng), crime, rng.random()
        self.repositories: dict[str, _Repository] = {}
        self.uploads: dict[str, _Upload] = {}
        self.tokens: dict[str, list[Any]] = {}
        self.signatures: dict[str, bytes] = {}
        self.crimes = self.requests = 0
        self._faults, self._asked, self.lags = Counter[str](), Counter[str](), Counter[str]()

    def repository(self, name: str) -> _Repository:
        """The repository `name`, which comes into being when it is named."""
        return self.repositories.setdefault(name, _Repository())

    def chance(self, key: str) -> random.Random:
        """Chance for the next request with this key: the same again from the same seed, whatever comes between."""
        with self.lock:
            self._asked[key] += 1
            return random.Random(f"{self._seed} {key} {self._asked[key]}")

    def may_fail(self, key: str, most: int) -> bool:
        """Whether one more request for the resource `key` may fail, of `most` in all."""
        with self.lock:
            self._faults[key] += 1
            return self._faults[key] <= most


class _Handler(Handler):
    """One connection to either server."""

    free: FreeRegistry
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.seen = Seen(self.command, parts.path, parts.query, headers, body)
        free = self.free
        key = re.sub(r"(/uploads/)[^/]*$", r"\1", parts.path)
        self.chance = free.chance(f"{self.command} {key}")
        free.requests += 1
        if self.chance.random() < 0.02:
            time.sleep(self.chance.uniform(0, 0.003))
        with free.lock:
            crime = self._crime()
        if crime:
            self.close_connection = True
            self.reply(crime)
        elif self.chance.random() < 0.15 and free.may_fail(key, 1 if parts.path == "/token" else 2):
            self._fail()
        else:
            with free.lock:
                answer = self.answer()
            self._dress(answer)

    def _fail(self) -> None:
        """Fail in a way that passes."""
        how = self.chance.choice(["status", "status", "reset", "late", "cut"])
        with self.free.lock:
            answer = self.answer() if how in ("late", "cut") else Answer(0)
        if how == "status":
            status = self.chance.choice([429, 500, 502, 503, 504, 520])
            pause = {"Retry-After": self.chance.choice(["0", "1", "30"])} if self.chance.random() < 0.5 else {}
            self.reply(Answer(status, pause, self.chance.choice([b"", b"<html>it hurts</html>", b'{"errors":[]}'])))
        elif how == "cut" and len(answer.body) > 1 and self.command == "GET":
            self.reply(answer, upto=self.chance.randrange(len(answer.body)))
            self.cut(reset=self.chance.random() < 0.5)
        else:
            self.cut(reset=True)

    def _dress(self, answer: Answer) -> None:
        """Send an answer with what headers it need not have, and its end told in one of the ways there are."""
        if answer.status < 300 and self.chance.random() < 0.4:
            answer.headers.pop("Docker-Content-Digest", None)
        if self.chance.random() < 0.3:
            kept = {"Content-Length"}
            answer.headers = {name if name in kept else name.lower(): text for name, text in answer.headers.items()}
        way = self.chance.choice(["length", "length", "chunks", "close"])
        if self.command == "HEAD" or answer.status == 204 or way == "length":
            self.reply(answer)
            return
        answer.headers |= {"Content-Length": "", **({"Transfer-Encoding": "chunked"} if way == "chunks" else {})}
        answer.headers |= {"Connection": "close"} if way == "close" else {}
        body, answer.body = answer.body, b""
        self.reply(answer)
        if way == "close":
            self.wfile.write(body)
            self.close_connection = True
            return
        while body:
            count = self.chance.randint(1, 20_000)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(body[:count]), body[:count]))
            body = body[count:]
        self.wfile.write(b"0\r\n\r\n")

    def _pick(self, *items: T) -> T:
        return self.chance.choice(items)

    def answer(self) -> Answer:
        """What is answered, and done."""
        seen, free = self.seen, self.free
        if self.server is free.servers[1]:
            return self._stored()
        if seen.path == "/token":
            return self._token()
        found = _API.fullmatch(seen.path)
        if found is None:
            return self._refused("") or Answer(200 if seen.path == "/v2/" else 404)
        name = found["name"]
        if refused := self._refused(name):
            return refused
        match found["kind"]:
            case "manifests":
                return self._manifest_of(name, found["rest"])
            case "blobs":
                return self._blob_of(name, found["rest"])
            case "referrers":
                return self._referrers(name, found["rest"])
            case _:
                return self._upload_of(name, found["rest"])

    # --- who may ---

    def _refused(self, name: str) -> Answer | None:
        customs, given = self.free.customs, self.headers.get("Authorization", "")
        if customs.auth == "none":
            return None
        action = "pull" if self.command in ("GET", "HEAD") else "push"
        if customs.auth in ("basic", "hidden"):
            if given == _basic():
                return None
            if customs.auth == "hidden" and name:
                return Answer(self._pick(403, 404))
            return self._challenge('Basic realm="here"')
        token = self.free.tokens.get(given.removeprefix("Bearer "))
        if token and token[0] > 0 and (not name or (name, action) in token[1]):
            token[0] -= 1
            return None
        scope = ""
        if name and customs.scope != "none":
            scope = f',scope="repository:{self._other(name)}:{"pull" if action == "pull" else "pull,push"}"'
        bearer = f'Bearer realm="http://{self.free.address}/token",service="here"{scope}'
        return self._challenge(self._pick(bearer, bearer, f'{bearer}, Basic realm="no"', f"Negotiate, {bearer}"))

    def _challenge(self, header: str) -> Answer:
        return Answer(401, {"WWW-Authenticate": header}, self._pick(b"", b'{"errors":[{"code":"UNAUTHORIZED"}]}'))

    def _other(self, name: str) -> str:
        return f"inner/{name}" if self.free.customs.scope == "other" else name

    def _token(self) -> Answer:
        if self.headers.get("Authorization") != _basic():
            return Answer(401)
        granted = set()
        for scope in " ".join(parse_qs(self.seen.query).get("scope", [])).split():
            _, name, actions = scope.split(":")
            if self._other("") and not name.startswith(self._other("")):
                continue
            granted |= {(name.removeprefix(self._other("")), action) for action in actions.split(",")}
        token = secrets.token_urlsafe(20)
        # The first one for the same expires soon; another, while somebody holds it, does not.
        first = self.free.may_fail(f"token {sorted(granted)}", 1)
        self.free.tokens[token] = [self.free.customs.uses if first else 1_000_000, granted]
        document: dict[str, Any] = {self._pick("token", "access_token"): token}
        document |= self._pick({}, {"expires_in": 300}, {"expires_in": 1}, {"issued_at": "2026-01-01T00:00:00Z"})
        return Answer(200, {"Content-Type": "application/json; charset=utf-8"}, json.dumps(document).encode())

    # --- manifests ---

    def _manifest_of(self, name: str, selector: str) -> Answer:
        repository = self.free.repository(name)
        if self.command == "PUT":
            return self._put_manifest(name, selector)
        lagging = f"{name} {selector}"
        if self.free.lags[lagging] > 0:
            self.free.lags[lagging] -= 1
            return _unknown("MANIFEST_UNKNOWN")
        if selector not in repository.manifests:
            return _unknown("MANIFEST_UNKNOWN")
        kind, raw = repository.manifests[selector]
        headers = {"Docker-Content-Digest": digest_of(raw), "Content-Type": self._pick(kind, f"{kind}; charset=utf-8")}
        if self.command == "HEAD":
            return _head(self.free.customs.head_manifest, headers, raw)
        return Answer(200, headers, raw)

    def _put_manifest(self, name: str, selector: str) -> Answer:
        raw, repository = self.seen.body, self.free.repository(name)
        document, digest = json.loads(raw), digest_of(raw)
        parts = [*document.get("layers", []), *filter(None, [document.get("config")])]
        held = {*repository.blobs, *repository.manifests}
        if any(part["digest"] not in held for part in [*parts, *document.get("manifests", [])]):
            return Answer(self._pick(400, 404), {}, b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}')
        if selector.startswith("sha256:") and selector != digest:
            return Answer(400, {}, b'{"errors":[{"code":"DIGEST_INVALID"}]}')
        for key in (digest, selector):
            repository.manifests[key] = (self.seen.headers["content-type"], raw)
            self.free.lags[f"{name} {key}"] = self.free.customs.lag
        headers = {"Docker-Content-Digest": digest, "Location": f"/v2/{name}/manifests/{digest}"}
        if document.get("subject") and self.free.customs.lists:
            headers["OCI-Subject"] = document["subject"]["digest"]
        return Answer(self._pick(201, 201, 200, 202), headers)

    def _referrers(self, name: str, digest: str) -> Answer:
        """All that is about a manifest, a page for each."""
        if not self.free.customs.lists:
            return Answer(self._pick(404, 405, 400))
        found = {}
        for kind, raw in self.free.repository(name).manifests.values():
            if (json.loads(raw).get("subject") or {}).get("digest") == digest:
                found[digest_of(raw)] = {"mediaType": kind, "digest": digest_of(raw), "size": len(raw)}
        place = int(parse_qs(self.seen.query).get("from", ["0"])[0])
        items = [found[key] for key in sorted(found)]
        headers = {"Content-Type": INDEXES[0]}
        if place + 1 < len(items):
            target = f"/v2/{name}/referrers/{digest}?from={place + 1}"
            target = self._pick(target, f"http://{self.free.address}{target}", f"?from={place + 1}")
            headers["Link"] = self._pick(f'<{target}>; rel="next"', f"</x.css>; rel=preload, <{target}>; rel=next")
        document = {"schemaVersion": 2, "mediaType": INDEXES[0], "manifests": items[place : place + 1]}
        return Answer(200, headers, json.dumps(document).encode())

    # --- blobs ---

    def _blob_of(self, name: str, digest: str) -> Answer:
        data, customs = self.free.repository(name).blobs.get(digest), self.free.customs
        if data is None:
            return _unknown("BLOB_UNKNOWN")
        if self.command == "HEAD" and customs.head_blob != 200:
            return _head(customs.head_blob, {}, data)
        if customs.redirect:
            # Each byte of it is signed.
            target = f"/store/{digest}%2f/./x?a=b%2Fc&sig={secrets.token_hex(8)}"
            self.free.signatures[target] = data
            return Answer(customs.redirect, {"Location": f"http://{self.free.store}{target}"})
        return self._content(data, {"Docker-Content-Digest": digest})

    def _stored(self) -> Answer:
        data = self.free.signatures.get(self.path)
        if data is None or "Authorization" in self.headers:
            return Answer(403 if data is None else 400)
        return self._content(data, {})

    def _content(self, data: bytes, headers: Mapping[str, str]) -> Answer:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        kind = {"Content-Type": self._pick(OCTETS, "application/x-gzip", ""), **headers}
        if asked is None or self.free.customs.ranges == 200 or self.command == "HEAD":
            return Answer(200, kind, data)
        first, last = int(asked[1]), min(int(asked[2]), len(data) - 1)
        if self.free.customs.ranges == 416 or first > last:
            return Answer(416)
        span = f"bytes {first}-{last}/{self._pick(str(len(data)), '*')}"
        return Answer(206, {**kind, "Content-Range": span}, data[first : last + 1])

    # --- uploads ---

    def _upload_of(self, name: str, session: str) -> Answer:
        free, query = self.free, parse_qs(self.seen.query)
        if self.command == "POST":
            return self._begin(name, query)
        upload = free.uploads.get(session)
        if upload is None or upload.name != name or query.get("state", ["0"])[0] != str(upload.serial):
            return Answer(404, {}, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')
        if self.command == "GET":
            return self._at(session, Answer(self._pick(204, 200)), told=True)
        if self.command == "DELETE":
            return Answer(self._pick(204, 405))
        if free.customs.most and len(self.seen.body) > free.customs.most:
            return Answer(413, {}, b"<html>413 Request Entity Too Large</html>")
        if self.command == "PATCH":
            return self._chunk(session, upload)
        data = upload.data + self.seen.body
        (digest,) = query["digest"]
        if digest != digest_of(data):
            return Answer(400, {}, b'{"errors":[{"code":"DIGEST_INVALID"}]}')
        free.repository(name).blobs[digest] = data
        del free.uploads[session]
        headers = {"Docker-Content-Digest": digest, "Location": f"/v2/{name}/blobs/{digest}"}
        return Answer(self._pick(201, 201, 200, 204), headers)

    def _begin(self, name: str, query: Mapping[str, Sequence[str]]) -> Answer:
        if "mount" in query and (answer := self._mount(name, query)):
            return answer
        session = secrets.token_hex(6)
        self.free.uploads[session] = _Upload(name)
        return self._at(session, Answer(202 if "mount" in query else self._pick(202, 202, 202, 200, 204)))

    def _chunk(self, session: str, upload: _Upload) -> Answer:
        body, start, least = self.seen.body, len(upload.data), self.free.customs.least
        if upload.ended:
            return Answer(400, {}, b'{"errors":[{"code":"BLOB_UPLOAD_INVALID"}]}')
        if self.headers.get("Content-Range") not in (None, f"{start}-{start + len(body) - 1}"):
            return self._at(session, Answer(416), told=True)
        upload.ended = len(body) < least
        kept = len(body)
        if not least and kept > 2 and self.chance.random() < 0.05:
            kept = self.chance.randrange(1, kept)
        upload.data += body[:kept]
        return self._at(session, Answer(self._pick(202, 202, 204, 200, 201)), told=kept < len(body))

    def _mount(self, name: str, query: Mapping[str, Sequence[str]]) -> Answer | None:
        status, (digest,) = self.free.customs.mount, query["mount"]
        if status == 201:
            data = self.free.repository(query["from"][0]).blobs.get(digest)
            if data is None:
                return None
            self.free.repository(name).blobs[digest] = data
            return Answer(201, {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest})
        return None if status == 202 else Answer(status)

    def _at(self, session: str, answer: Answer, *, told: bool = False) -> Answer:
        """The answer with the address at which an upload goes on."""
        upload, customs = self.free.uploads[session], self.free.customs
        if customs.location == "query":
            upload.serial += 1
        path = f"/v2/{upload.name}/blobs/uploads/{session}"
        path += f"?state={upload.serial}&x={quote(secrets.token_urlsafe(6))}%3D" if customs.location == "query" else ""
        origins = {"whole": f"http://{self.free.address}", "other port": "https://127.0.0.1:443"}
        fixed = customs.location != "query" and self.command in ("PATCH", "GET")
        if not (fixed and self.chance.random() < 0.3):
            answer.headers["Location"] = origins.get(customs.location, "") + path
        if told or self.chance.random() < 0.5:
            span = f"0-{max(len(upload.data) - 1, 0)}"
            answer.headers["Range"] = self._pick(span, f"bytes={span}")
        if self.chance.random() < 0.5:
            answer.headers["Docker-Upload-UUID"] = session
        if customs.least:
            answer.headers["OCI-Chunk-Min-Length"] = str(customs.least)
        return answer

    # --- what no specification allows ---

    def _crime(self) -> Answer | None:
        """The answer in which the registry's crime consists, for the requests that it is about."""
        free = self.free
        about = CRIMES.get(free.crime)
        if about is None or not re.search(about, f"{self.command} {self.seen.path}"):
            return None
        match free.crime:
            case "other bytes" | "other manifest":
                answer = self._changed()
            case "cut for good" | "other ranges":
                answer = self._cut()
            case "endless redirects":
                answer = Answer(307, {"Location": f"{self.seen.path}?{free.requests}"})
            case "endless errors":
                answer = Answer(500)
            case "endless crowds":
                answer = Answer(429, {"Retry-After": "1"})
            case "nobody may":
                answer = self._challenge('Basic realm="nobody"')
            case "uploads elsewhere":
                answer = Answer(202, {"Location": "http://127.0.0.2:1/x"})
            case _:
                # Nothing is stored.
                answer = Answer(201, {"Docker-Content-Digest": digest_of(b"")} if free.crime == "other digest" else {})
        free.crimes += answer is not None
        return answer

    def _cut(self) -> Answer | None:
        """The first half of a blob, whatever is asked for; said to be another part of it if the crime is that."""
        self.free.customs.redirect = 0
        answer = self.answer()
        if answer.status >= 300 or not answer.body:
            return None
        whole, answer.body = len(answer.body), answer.body[: len(answer.body) // 2]
        headers = {"Content-Length": str(whole)}
        if self.free.crime == "other ranges" and "Range" in self.headers:
            return Answer(206, {**headers, "Content-Range": f"bytes 1-{whole}/{whole + 1}"}, answer.body)
        return Answer(200, headers, answer.body)

    def _changed(self) -> Answer | None:
        """The right answer with another first byte."""
        answer = self.answer()
        if answer.status >= 300 or not answer.body:
            return None
        answer.body = bytes([answer.body[0] ^ 1]) + answer.body[1:]
        return answer


def digest_of(data: bytes) -> str:
    """The digest of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _basic() -> str:
    return "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def _unknown(code: str) -> Answer:
    return Answer(404, {}, json.dumps({"errors": [{"code": code}]}).encode())


def _head(custom: int, headers: Mapping[str, str], body: bytes) -> Answer:
    if custom > 1:
        return Answer(custom, dict(headers) if custom == 200 else {}, body if custom == 200 else b"")
    # An empty header is left out by `reply`.
    return Answer(200, {**headers, "Content-Length": "0" if custom else ""})

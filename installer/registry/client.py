"""The client of a registry's API: OCI distribution specification 1.1.

Names in comments (`end-4a` and so on) are that specification's endpoints.
"""

import contextlib
import hashlib
from functools import partial
from urllib.parse import quote, urlencode

from installer import strict_json
from installer.errors import REFUSALS, ContentError, NotFoundError, RegistryAccessError, RegistryUnreachableError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import MAX_MANIFEST, Descriptor, Index, Manifest, parse_manifest
from installer.oci.reference import DigestRef, Reference, Repository
from installer.registry import referrers
from installer.registry.capabilities import Capabilities, Heads
from installer.registry.endpoint import Endpoint, place
from installer.registry.failures import TransientError
from installer.registry.messages import READ_SLICE, Request, Response
from installer.registry.remote_blob import RemoteBlob
from installer.registry.transport import Transport
from installer.registry.upload import SMALLEST, SUCCESS, WORTH_ASKING, Begun, Content, Upload, check_stated
from installer.registry.upload_sessions import UploadSessions
from installer.value import Value, replace

_OK = frozenset({200})
# A HEAD is refused without words, and by some registries without a reason: what it says then, a GET decides.
_HEAD = frozenset({200, 400, 403, 404, 405, 406, 410, 501})
_MISSING = frozenset({404, 410})
_INVALID = frozenset({400, 409, 412, 415, 422})
# A mount that fails is no loss: the blob is sent.
_MOUNT = SUCCESS | {500, 501}
# Registries without lists of referrers do not know the address, or take it for a malformed one.
_LISTS = frozenset({200, 400, 404, 405, 406, 501})
_ENOUGH = 4
_UNLIMITED = 1 << 62
# After a request that was too large the next smaller of these is tried.
_STEPS = (64 << 20, 16 << 20, 4 << 20, SMALLEST)


class Registry:
    """Pulls from and pushes to registries. Safe to use from several threads.

    `sessions` keeps the addresses of uploads for later processes. Who `pushes` asks for the right to it from the first
    request on: one token does for a repository then, and Quay, which makes a repository when a token to push into it
    is asked for, would grant nothing on one that does not exist (quay/quay, endpoints/v2/v2auth.py).
    Every method raises AirferryError: RegistryUnreachableError, RegistryAccessError, NotFoundError, ContentError.
    """

    def __init__(self, transport: Transport, sessions: UploadSessions | None = None, *, pushes: bool = False) -> None:
        self._transport, self._pushes = transport, pushes
        self._sessions = sessions or UploadSessions(None)
        # The largest request that something before an endpoint has not refused for its size, where one was.
        self._limits = dict[Endpoint, int]()
        self._mounts = dict[Endpoint, bool]()
        self._refused = dict[Endpoint, int]()
        # Uploads that were begun in the place of a mount.
        self._begun: dict[tuple[Repository, Digest], Begun] = {}
        self._resumes = dict[Endpoint, bool]()
        self._lists = dict[Endpoint, bool]()
        self._heads = Heads()
        # Registries that have claimed to hold what they do not.
        self._wrong = set[Endpoint]()

    @property
    def transport(self) -> Transport:
        """What sends the requests."""
        return self._transport

    def capabilities(self, host: str) -> Capabilities:
        """What responses have shown of the registry `host` so far. Asks nothing."""
        place = self._transport.endpoint(host)
        refusals = self._transport.throttle(place.host).refusals
        mounts, resumes, limit = self._mounts.get(place), self._resumes.get(place), self._limits.get(place)
        return Capabilities(mounts, resumes, limit, refusals, self._lists.get(place))

    def manifest(self, ref: Reference) -> Manifest | Index:
        """The manifest or index that `ref` names, its digest checked (end-3)."""
        raw, media_type = self._raw_manifest(ref)
        try:
            return parse_manifest(raw, media_type)
        except ContentError as exc:
            raise ContentError(f"{ref}: {exc.message}", hint=exc.hint) from exc

    def _raw_manifest(self, ref: Reference) -> tuple[bytes, str]:
        """What `ref` names, its digest checked, and what the registry says that it is."""
        request = self._request(ref.repository, "GET", f"manifests/{ref.selector}", _OK, accept=media_types.ACCEPT)

        def once() -> tuple[bytes, str, str]:
            with self._transport.exchange(request) as response:
                stated = response.header("Docker-Content-Digest")
                return response.read(MAX_MANIFEST), response.header("Content-Type"), stated

        raw, media_type, stated = self._transport.retrying(once)
        if isinstance(ref, DigestRef):
            ref.digest.check(raw, str(ref))
        elif stated:
            _stated_digest(stated, str(ref)).check(raw, str(ref))
        return raw, media_type

    def head_manifest(self, ref: Reference, *, surely: bool = True) -> Digest | None:
        """The digest of the manifest that `ref` names, None if the registry does not have it (end-3).

        Where HEAD answers 404, GET decides, unless `Heads` knows better; see there for `surely`.
        """
        request = self._request(ref.repository, "HEAD", f"manifests/{ref.selector}", _HEAD, accept=media_types.ACCEPT)
        with self._transport.send(request) as response:
            status, stated = response.status, response.header("Docker-Content-Digest")
        if status == 200:
            self._heads.found(request.endpoint)
            wanted = ref.digest if isinstance(ref, DigestRef) else None
            found = _stated_digest(stated, str(ref)) if stated else wanted
            if wanted and found != wanted:
                raise ContentError(f"{ref}: the registry says that its digest is {found}")
            return found or self._get_digest(ref)
        if status in _MISSING and self._heads.believed(request.endpoint, surely=surely):
            return None
        digest = self._get_digest(ref)
        if status in _MISSING:
            self._heads.missed(request.endpoint, there=digest is not None)
        return digest

    def _get_digest(self, ref: Reference) -> Digest | None:
        try:
            return self.manifest(ref).descriptor.digest
        except NotFoundError:
            return None

    def confirm(self, ref: Reference, digest: Digest) -> None:
        """Check that `ref` names `digest`, to which it was just set. Raises ContentError if it does not.

        Asks again for a while: replicas of the registry, and caches before it, see a push a moment later.
        """

        def once() -> None:
            found = self.head_manifest(ref) or self._get_digest(ref)
            if found != digest:
                error = ContentError(
                    f"{ref}: the registry answers {found or 'not found'} right after the push",
                    hint="a proxy or another client may be in between; run the same command again.",
                )
                raise TransientError(error)

        self._transport.retrying(once)

    def open(self, repository: Repository, descriptor: Descriptor, offset: int = 0) -> RemoteBlob:
        """The content of `descriptor` from byte `offset` on (end-2; manifests end-3). Not verified here."""
        manifest = descriptor.is_manifest or descriptor.is_index
        path = f"{'manifests' if manifest else 'blobs'}/{descriptor.digest}"
        accept = descriptor.media_type if manifest else "*/*"

        def request(position: int) -> Response:
            asked = self._request(repository, "GET", path, frozenset({200, 206}) if position else _OK, accept=accept)
            if position:
                # crane's registry understands no range without an end.
                asked = asked.with_header("Range", f"bytes={position}-{descriptor.size - 1}")
            return self._transport.exchange(asked)

        return RemoteBlob(self._transport, request, descriptor, offset)

    def blobs(self, repository: Repository) -> "RepositoryBlobs":
        """`repository` as a BlobSource."""
        return RepositoryBlobs(self, repository)

    def has_blob(self, repository: Repository, descriptor: Descriptor) -> bool:
        """Whether `repository` holds the blob; False also where it does not let us know (end-2).

        A HEAD is believed if it names the right size, unless this registry has been wrong before. Otherwise the blob is
        asked for its last byte, and if that does not come, for all of them. Raises ContentError if they are others.
        """
        request = self._request(repository, "HEAD", f"blobs/{descriptor.digest}", _HEAD)
        with self._transport.send(request) as response:
            status, size = response.status, response.length or 0
        if status in _MISSING:
            return False
        if status == 200 and size == descriptor.size and request.endpoint not in self._wrong:
            return True
        try:
            with self.open(repository, descriptor, max(descriptor.size - 1, 0)) as stream:
                return bool(stream.readinto(memoryview(bytearray(1)))) or not descriptor.size
        except NotFoundError:
            self.doubt(repository)
        except ContentError:
            with contextlib.suppress(NotFoundError, RegistryAccessError, RegistryUnreachableError):
                return self._delivers(repository, descriptor)
        except (RegistryAccessError, RegistryUnreachableError):
            pass
        return False

    def doubt(self, repository: Repository) -> None:
        """Check from now on what the registry of `repository` claims to hold: it was wrong once."""
        self._wrong.add(self._transport.endpoint(repository.host))

    def _delivers(self, repository: Repository, descriptor: Descriptor) -> bool:
        """Whether the whole blob comes. Raises ContentError for other bytes, and the other errors of a request."""
        request = self._request(repository, "GET", f"blobs/{descriptor.digest}", _OK, accept="*/*")

        def once() -> bool:
            whole, count, buffer = hashlib.sha256(), 0, memoryview(bytearray(READ_SLICE))
            with self._transport.exchange(request) as response:
                while count <= descriptor.size and (part := response.readinto(buffer)):
                    whole.update(buffer[:part])
                    count += part
                if response.header("Content-Encoding") or count < min(response.length or 0, descriptor.size):
                    return False
            if whole.hexdigest() == descriptor.digest.hex:
                return True
            raise ContentError(
                f"{repository}@{descriptor.digest}: the registry delivers other bytes under this digest",
                hint="its copy is damaged: have this blob deleted there, then run the same command again.",
            )

        return self._transport.retrying(once)

    def mount(self, repository: Repository, digest: Digest, source: Repository) -> bool:
        """Mount a blob from `source`, a repository of the same registry (end-11).

        False if it does not: then the blob must be uploaded, which goes on with what the registry has begun instead.
        One that has refused `_ENOUGH` mounts and made none is not asked any more.
        """
        if source.host != repository.host:
            return False
        query = urlencode({"mount": digest.text, "from": self._path(source)})
        request = self._request(repository, "POST", f"blobs/uploads/?{query}", _MOUNT)
        mounts, refused = self._mounts.get(request.endpoint, False), self._refused.get(request.endpoint, 0)
        if not mounts and refused >= _ENOUGH:
            return False
        mounted = False
        self._begun.pop((repository, digest), None)
        # Who may not read `source`, or not mount at all, may still upload.
        with contextlib.suppress(*REFUSALS, RegistryUnreachableError):
            pull = f"repository:{self._path(source)}:pull"
            with self._transport.send(request.with_scope(pull)) as response:
                mounted = response.status == 201
                if response.status == 202:
                    self._begun[repository, digest] = Begun.told(response, request)
        self._mounts[request.endpoint] = mounted or mounts
        self._refused[request.endpoint] = refused + (not mounted)
        return mounted

    def try_push(self, repository: Repository) -> None:
        """Raise what a push into `repository` would be refused with. Nothing is stored.

        An empty manifest under a digest that is not its own must be refused as invalid by every registry (end-7); who
        may not push is refused before that. An upload that is begun and cancelled would say the same, but leaves files
        behind in some registries.
        """
        request = self._request(repository, "PUT", f"manifests/{Digest.of(b'other')}", _INVALID)
        raw = b"{}"
        request = request.with_header("Content-Type", media_types.OCI_MANIFEST).with_body(lambda: [raw], len(raw))
        with self._transport.send(request):
            pass

    def upload(self, repository: Repository, descriptor: Descriptor, content: Content, *, slowly: bool = False) -> int:
        """Upload a blob in one piece, or in several where a proxy limits requests; what breaks off is continued.

        `slowly` sends small requests, none of which is open while `content` makes people wait. Returns how many bytes
        of it an earlier process had brought already.
        """
        start = self._request(repository, "POST", "blobs/uploads/", SUCCESS)
        kept = self._sessions if descriptor.size > WORTH_ASKING else UploadSessions(None)
        with kept.claim(start.url, descriptor.digest) as claim:
            begun = self._begun.pop((repository, descriptor.digest), None)
            upload = Upload(self._transport, start, descriptor, content, claim, begun)
            tried = False

            def once() -> None:
                nonlocal tried
                if tried and self.has_blob(repository, descriptor):
                    # The connection broke after the registry had it all.
                    claim.forget()
                    return
                tried = True
                while refused := upload.send(SMALLEST if slowly else self._limits.get(start.endpoint, _UNLIMITED)):
                    smaller = next(step for step in _STEPS if step < refused)
                    self._limits[start.endpoint] = min(smaller, self._limits.get(start.endpoint, _UNLIMITED))

            self._transport.retrying(once, lambda: upload.position)
        if upload.resumable is not None:
            self._resumes[start.endpoint] = upload.resumable
        return upload.earlier

    def referrers(self, repository: Repository, digest: Digest) -> tuple[str, ...]:
        """The manifests that refer to `digest` (end-12a); in a registry that lists none, those that clients list.

        They are digests as the list writes them, of any algorithm.
        """
        request = self._request(repository, "GET", f"referrers/{digest}", _LISTS, accept=media_types.OCI_INDEX)
        found: list[str] = []
        for _ in range(referrers.PAGES):
            page, link = self._transport.retrying(partial(self._page, request))
            if page is None:
                tagged = self._list(repository, digest)
                return referrers.listed(tagged, f"{repository}@{digest}") if tagged else ()
            found += page
            if not (url := referrers.following(request, link)):
                return tuple(found)
            request = replace(request, url=url)
        raise ContentError(f"{repository}@{digest}: its referrers fill more than {referrers.PAGES} pages")

    def tags(self, repository: Repository) -> list[str]:
        """The tags of a repository, in the registry's order (end-8a). Raises NotFoundError."""
        request = self._request(repository, "GET", "tags/list", _OK)
        found: list[str] = []
        for _ in range(referrers.PAGES):
            page, link = self._transport.retrying(partial(self._tags, request))
            found += page
            if not (url := referrers.following(request, link)):
                return found
            request = replace(request, url=url)
        raise ContentError(f"{repository}: its tags fill more than {referrers.PAGES} pages")

    def _tags(self, request: Request) -> tuple[list[str], str]:
        with self._transport.send(request) as response:
            document = strict_json.parse(response.read(MAX_MANIFEST), request.url, ContentError)
            link = response.header("Link")
        tags = document.get("tags") if isinstance(document, dict) else None
        return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else [], link

    def _page(self, request: Request) -> tuple[tuple[str, ...] | None, str]:
        """A page of a list and where it goes on; None from a registry without lists, which may answer anything."""
        with self._transport.exchange(request) as response:
            if response.status != 200:
                return None, ""
            kind = response.header("Content-Type").partition(";")[0].strip()
            try:
                return referrers.listed(response.read(MAX_MANIFEST), place(request.url)), response.header("Link")
            except (ContentError, RegistryAccessError):
                if kind == media_types.OCI_INDEX:
                    raise
                return None, ""

    def _list(self, repository: Repository, digest: Digest) -> bytes:
        """The list of referrers of `digest` that clients keep under a tag; empty if there is none.

        Anybody may give such a tag to anything: `cosign copy` gives it to the image itself.
        """
        try:
            raw, _ = self._raw_manifest(referrers.tag_of(repository, digest))
            referrers.listed(raw, "")
        except (NotFoundError, ContentError):
            return b""
        return b"" if Digest.of(raw) == digest else raw

    def list_referrer(self, repository: Repository, manifest: Manifest | Index) -> None:
        """Enter `manifest` in the list of what refers to its subject, where the registry keeps none itself."""
        if manifest.subject is not None:
            self._lists[self._transport.endpoint(repository.host)] = False
            tag = referrers.tag_of(repository, manifest.subject.digest)
            if raw := referrers.extended(self._list(repository, manifest.subject.digest), manifest):
                self.put_manifest(repository, raw, media_types.OCI_INDEX, tag.tag)
                # Another entry is made to what is read then.
                self.confirm(tag, Digest.of(raw))

    def put_manifest(self, repository: Repository, raw: bytes, media_type: str, selector: str) -> bool:
        """Store a manifest under a tag or its digest (end-7). Whether it is there, `confirm` tells.

        The result tells whether the registry lists it as a referrer of its subject.
        """
        request = self._request(repository, "PUT", f"manifests/{selector}", SUCCESS)
        request = request.with_header("Content-Type", media_type).with_body(lambda: [raw], len(raw))
        with self._transport.send(request) as response:
            check_stated(response, Digest.of(raw), f"{repository}:{selector}")
            listed = bool(response.header("OCI-Subject"))
        if listed:
            self._lists[request.endpoint] = True
        return listed

    def _request(
        self, repository: Repository, method: str, path: str, expect: frozenset[int], *, accept: str = ""
    ) -> Request:
        endpoint = self._transport.endpoint(repository.host)
        name = f"{endpoint.prefix}{repository.path}"
        actions = "pull" if method in ("GET", "HEAD") and not self._pushes else "pull,push"
        headers = {"Accept": accept} if accept else {}
        url = f"{endpoint.origin}/v2/{quote(name)}/{path}"
        return Request(endpoint, method, url, expect, headers, (f"repository:{name}:{actions}",))

    def _path(self, repository: Repository) -> str:
        return f"{self._transport.endpoint(repository.host).prefix}{repository.path}"


class RepositoryBlobs(Value):
    """A repository as a place that holds blobs (a `BlobSource`)."""

    registry: Registry
    repository: Repository

    def open(self, descriptor: Descriptor, offset: int = 0) -> RemoteBlob:
        """The blob from byte `offset` on. Raises NotFoundError."""
        return self.registry.open(self.repository, descriptor, offset)


def _stated_digest(text: str, what: str) -> Digest:
    try:
        return Digest(text)
    except ContentError as exc:
        raise ContentError(f"{what}: the registry states as digest {text[:80]!r}") from exc

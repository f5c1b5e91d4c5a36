"""What the server in the volumes answers: each header, status and list as its clients expect it."""

from __future__ import annotations

import contextlib
import http.client
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from installer.oci import media_types
from installer.oci.digest import Digest
from installer.report import Silent
from installer.serving.answer import Answer, Refusal
from installer.serving.catalogue import Catalogue
from installer.serving.server import Server
from tests.parts.bundles import Cargo, open_bundle, packed_chart, signing_key
from tests.parts.counted import Notes
from tests.parts.images import File, Image, Layer, write_layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PAGE = "docker.io/library/page"
PORT = "registry.example.com:5000/demo/old"
SBOM, NOTE = "application/spdx+json", "text/x-note"
ABSENT = Digest.of(b"absent")


@dataclass(frozen=True)
class Got:
    """A response with all of its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the one error; all errors have the specification's shape."""
        (error,) = self.document["errors"]
        assert error.keys() >= {"code", "message"}
        return str(error["code"])


@dataclass(frozen=True)
class Client:
    """Asks the server; `image` and `layer` are an image's manifest and its large blob, `about` its referrers."""

    address: str
    image: Digest
    layer: Digest
    content: bytes
    about: Mapping[str, Digest]

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Got:
        host, _, port = self.address.rpartition(":")
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=30)) as connection:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return Got(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())

    @property
    def signature(self) -> str:
        """The tag by which cosign finds what it has signed."""
        return f"sha256-{self.image.hex}.sig"

    @property
    def blob(self) -> str:
        return f"/v2/{PAGE}/blobs/{self.layer}"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder, cargo = tmp_path_factory.mktemp("answers"), Cargo()
    layout = write_layout(folder / "page", Image((Layer({"/page": File(b"page")}, "none"),)))
    image, *_ = [cargo.image(f"{PAGE}:{tag}", layout) for tag in ("1", "2", "3")]
    cargo.image(f"{PORT}:1", layout)
    cargo.image("nowhere.invalid/demo/page:1", layout)
    cargo.chart(packed_chart("greeter", "0.1.0+build"))
    cargo.tag_about(f"{PAGE}:1", b"signature", "sig")
    about = {kind: cargo.refer(f"{PAGE}:1", kind.encode(), kind).digest for kind in (SBOM, NOTE)}
    layer, content = next(
        (blob, data) for blob, data in cargo.blobs.items() if blob.media_type == media_types.OCI_LAYER
    )
    with (
        open_bundle(cargo.write(folder, key=signing_key())) as bundle,
        Server(bundle, "127.0.0.1", 0, Silent()) as server,
    ):
        yield Client(server.address, image.digest, layer.digest, content, about)


def test_referrers(client: Client) -> None:
    """As a list, one type of it, the list of what has none, and under the tag for those that know no lists."""
    path = f"/v2/{PAGE}/referrers/{client.image}"
    whole = client.ask(path)
    assert (whole.status, whole.headers["content-type"]) == (200, media_types.OCI_INDEX)
    assert whole.document["schemaVersion"] == 2
    assert {entry["artifactType"]: entry["digest"] for entry in whole.document["manifests"]} == {
        kind: digest.text for kind, digest in client.about.items()
    }
    assert "oci-filters-applied" not in whole.headers
    for plus in ("%2B", "+"):
        some = client.ask(f"{path}?artifactType=application/spdx{plus}json")
        assert [entry["digest"] for entry in some.document["manifests"]] == [client.about[SBOM].text]
        assert some.headers["oci-filters-applied"] == "artifactType"
    for subject in (ABSENT.text, client.about[SBOM].text, f"sha512:{'0' * 128}"):
        none = client.ask(f"/v2/{PAGE}/referrers/{subject}")
        assert (none.status, none.headers["content-type"], none.document["manifests"]) == (
            200,
            media_types.OCI_INDEX,
            [],
        )
    tagged = client.ask(f"/v2/{PAGE}/manifests/sha256-{client.image.hex}")
    assert (tagged.status, tagged.headers["content-type"], tagged.body) == (200, media_types.OCI_INDEX, whole.body)
    digest = tagged.headers["docker-content-digest"]
    assert digest == Digest.of(tagged.body).text
    assert client.ask(f"/v2/{PAGE}/manifests/{digest}").body == tagged.body
    assert client.ask(f"/v2/{PAGE}/manifests/sha256-{ABSENT.hex}").code == "MANIFEST_UNKNOWN"


def test_a_second_name_has_no_host(client: Client) -> None:
    assert client.ask("/v2/demo/page/manifests/1").headers["docker-content-digest"] == client.image.text


def test_what_cosign_tags_lies_beside_the_image(client: Client) -> None:
    found = client.ask(f"/v2/{PAGE}/manifests/{client.signature}")
    (layer,) = found.document["layers"]
    assert client.ask(f"/v2/{PAGE}/blobs/{layer['digest']}").body == b"signature"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (f"{PAGE}/referrers/sha256:totallywrong", 400, "DIGEST_INVALID"),
        (f"{PAGE}/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", 400, "DIGEST_INVALID"),
        (f"{PAGE}/blobs/sha256:ABC", 400, "DIGEST_INVALID"),
        (f"{PAGE}/manifests/sha256:totallywrong", 400, "DIGEST_INVALID"),
        (f"{PAGE}/blobs/{ABSENT}", 404, "BLOB_UNKNOWN"),
        (f"{PAGE}/blobs/sha512:{'0' * 128}", 404, "BLOB_UNKNOWN"),
        (f"{PAGE}/manifests/{ABSENT}", 404, "MANIFEST_UNKNOWN"),
        (f"{PAGE}/manifests/.INVALID", 404, "MANIFEST_UNKNOWN"),
        ("docker.io/library/absent/manifests/1", 404, "NAME_UNKNOWN"),
        ("docker.io/library/absent/tags/list", 404, "NAME_UNKNOWN"),
        (f"docker.io/library/absent/referrers/{ABSENT}", 404, "NAME_UNKNOWN"),
        ("docker.io/Library/page/manifests/1", 404, "NAME_INVALID"),
        ("docker.io/lib rary/page/manifests/1", 404, "NAME_INVALID"),
        (f"{PAGE}/tags/list?n=many", 400, "PAGINATION_NUMBER_INVALID"),
    ],
)
def test_refusals_have_the_codes_of_the_specification(client: Client, path: str, status: int, code: str) -> None:
    found = client.ask(f"/v2/{path.replace(' ', '%20')}")
    assert (found.status, found.code, found.headers["content-type"]) == (status, code, "application/json")
    assert found.headers["docker-distribution-api-version"] == "registry/2.0"
    head = client.ask(f"/v2/{path.replace(' ', '%20')}", "HEAD")
    assert (head.status, head.body) == (status, b"")


@pytest.mark.parametrize(
    ("query", "tags", "link"),
    [
        ("", ["1", "2", "3", "{}"], ""),
        ("?n=4", ["1", "2", "3", "{}"], ""),
        ("?n=2", ["1", "2"], "n=2&last=2"),
        ("?n=2&last=2", ["3", "{}"], ""),
        ("?last=1", ["2", "3", "{}"], ""),
        ("?last=15", ["2", "3", "{}"], ""),
        ("?n=0", [], ""),
        ("?n=1&ns=docker.io", ["1"], "n=1&ns=docker.io&last=1"),
    ],
)
def test_tags_are_listed_in_parts(client: Client, query: str, tags: list[str], link: str) -> None:
    found = client.ask(f"/v2/{PAGE}/tags/list{query}")
    assert found.document == {"name": PAGE, "tags": [tag.format(client.signature) for tag in tags]}
    assert found.headers.get("link", "") == (f'</v2/{PAGE}/tags/list?{link}>; rel="next"' if link else "")


def test_all_repositories_are_listed(client: Client) -> None:
    everything = ["charts/greeter", "demo/page", PAGE, PORT.replace(":", "__")]
    assert client.ask("/v2/_catalog").document == {"repositories": everything}
    some = client.ask("/v2/_catalog?n=1")
    assert some.document == {"repositories": everything[:1]}
    next_page = some.headers["link"].partition(">")[0].removeprefix("<")
    assert client.ask(next_page).document == {"repositories": everything[1:2]}


@pytest.mark.parametrize(
    "name",
    [
        f"{PAGE}/manifests/1",
        "docker.io/page/manifests/1",
        "library/page/manifests/1",
        "page/manifests/1",
        "library/page/manifests/1?ns=docker.io",
        "page/manifests/1?ns=docker.io",
        f"{PAGE}/manifests/1?ns=docker.io",
        f"{PORT}/manifests/1",
        f"{PORT.replace(':', '__')}/manifests/1",
        f"{PORT.replace(':', '%3A')}/manifests/1",
        "demo/old/manifests/1?ns=registry.example.com:5000",
        "demo/old/manifests/1?ns=Registry.Example.com%3A5000",
    ],
)
def test_the_names_of_an_image(client: Client, name: str) -> None:
    assert client.ask(f"/v2/{name}").headers["docker-content-digest"] == client.image.text


@pytest.mark.parametrize(
    "name", ["library/page/manifests/1?ns=quay.io", "page/manifests/1?ns=quay.io", "demo/old/manifests/1"]
)
def test_an_image_of_another_host_is_another(client: Client, name: str) -> None:
    """A mirror must not answer for it."""
    assert client.ask(f"/v2/{name}").code == "NAME_UNKNOWN"


def test_a_chart_has_the_tag_that_helm_asks_for(client: Client) -> None:
    assert client.ask("/v2/charts/greeter/tags/list").document["tags"] == ["0.1.0_build"]


@pytest.mark.parametrize("accept", ["*/*", media_types.ACCEPT, media_types.DOCKER_MANIFEST, "text/html"])
@pytest.mark.parametrize("reference", ["1", "digest"])
def test_a_manifest_has_one_form(client: Client, accept: str, reference: str) -> None:
    """Its digest names these bytes: whatever is accepted, they are sent, and called what they are."""
    path = f"/v2/{PAGE}/manifests/{client.image if reference == 'digest' else reference}"
    found, head = client.ask(path, Accept=accept), client.ask(path, "HEAD", Accept=accept)
    assert Digest.of(found.body) == client.image
    assert found.headers["content-type"] == media_types.OCI_MANIFEST
    wanted = ("content-length", "content-type", "docker-content-digest", "etag")
    assert {name: head.headers[name] for name in wanted} == {name: found.headers[name] for name in wanted}
    assert head.body == b""


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, None),
        ("bytes=-100", -100, None),
        ("bytes=10-999999999", 10, None),
        ("bytes=0-0,5-6", 0, None),
        ("bytes=9-5", 0, None),
        ("bytes=-999999999", 0, None),
        ("lines=1-2", 0, None),
        ("nonsense", 0, None),
    ],
)
def test_ranges(client: Client, wanted: str, start: int, end: int | None) -> None:
    """Of one range that part, of several and of what is none the whole."""
    found = client.ask(client.blob, Range=wanted)
    part = client.content[start:end]
    assert found.body == part
    assert found.headers["content-length"] == str(len(part))
    whole = len(client.content)
    assert found.status == (200 if len(part) == whole else 206)
    first = whole + start if start < 0 else start
    shown = f"bytes {first}-{first + len(part) - 1}/{whole}"
    assert found.headers.get("content-range") == (None if len(part) == whole else shown)


@pytest.mark.parametrize("wanted", ["bytes=99999999-", "bytes=99999999-100000000", "bytes=-0"])
def test_a_range_behind_the_end(client: Client, wanted: str) -> None:
    found = client.ask(client.blob, Range=wanted)
    assert (found.status, found.headers["content-range"]) == (416, f"bytes */{len(client.content)}")


def test_a_range_of_something_else(client: Client) -> None:
    whole, tag = len(client.content), f'"{client.layer}"'
    assert len(client.ask(client.blob, Range="bytes=0-9", If_Range=tag).body) == 10
    assert len(client.ask(client.blob, Range="bytes=0-9", If_Range='"other"').body) == whole
    head = client.ask(client.blob, "HEAD", Range="bytes=0-9")
    assert (head.status, head.headers["content-length"]) == (200, str(whole))


@pytest.mark.parametrize("tags", ['"{}"', 'W/"{}"', '"other", "{}"', "*"])
def test_what_a_client_has_is_not_sent_again(client: Client, tags: str) -> None:
    path = f"/v2/{PAGE}/manifests/1"
    found = client.ask(path, If_None_Match=tags.format(client.image))
    assert (found.status, found.body, found.headers["etag"]) == (304, b"", f'"{client.image}"')
    assert client.ask(path, If_None_Match='"other"').status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("body", [None, b"{}" * 1000])
def test_nothing_is_taken_in(client: Client, method: str, body: bytes | None) -> None:
    for path in (f"/v2/{PAGE}/blobs/uploads/", f"/v2/{PAGE}/manifests/9", "/v2/absent/x/manifests/1", "/files/x"):
        found = client.ask(path, method, body)
        assert (found.status, found.code, found.headers["allow"]) == (405, "UNSUPPORTED", "GET, HEAD")


def test_what_is_no_request(client: Client) -> None:
    assert (client.ask("/v2/", "BREW").status, client.ask("/v2/", "BREW").code) == (501, "UNSUPPORTED")
    assert client.ask("//[").status == 404
    assert client.ask(f"http://{client.address}/v2/").document == {}


def test_a_body_is_not_the_next_request(client: Client) -> None:
    host, _, port = client.address.rpartition(":")
    with contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=30)) as connection:
        for _ in range(3):
            connection.request("GET", "/v2/", b"DELETE /v2/ HTTP/1.1\r\n\r\n")
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, b"{}")


def test_a_damaged_image_keeps_no_other_from_being_served(tmp_path: Path) -> None:
    """It is told at once, and is not there: nobody could pull it."""
    cargo, reporter = Cargo(), Notes()
    for name in ("bad", "good"):
        layer = Layer({f"/{name}": File(name.encode())})
        cargo.image(f"docker.io/demo/{name}:1", write_layout(tmp_path / name, Image((layer,))))
    (path,) = cargo.write(tmp_path, key=signing_key())
    with open_bundle([path]) as bundle:
        place = bundle.volumes.place(bundle.blob(cargo.images[0].digest), 0)
    with path.open("r+b") as file:
        file.seek(place.start)
        file.write(b"x")
    with open_bundle([path]) as bundle:
        found = Catalogue(bundle, reporter)
        assert isinstance(found.find("/v2/docker.io/demo/good/manifests/1"), Answer)
        assert isinstance(found.find("/v2/docker.io/demo/bad/manifests/1"), Refusal)
    (note,) = reporter.notes
    assert note.startswith("docker.io/demo/bad:1 is not served: ")

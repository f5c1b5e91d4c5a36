"""Lists of referrers that go on, lead astray, or are none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from installer.errors import ContentError, RegistryAccessError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Manifest, parse_manifest
from installer.oci.reference import Repository
from installer.registry import referrers
from tests.parts.faulty_registry import FaultyRegistry, changed, raw, status

if TYPE_CHECKING:
    from tests.unit.oci.conftest import Client

SUBJECT = Digest.of(b"subject")
ONE, TWO = (Digest.of(name) for name in (b"one", b"two"))


def page(*digests: Digest) -> bytes:
    entries = [{"mediaType": media_types.OCI_MANIFEST, "digest": digest.text, "size": 3} for digest in digests]
    return json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries}).encode()


def about(subject: Digest, name: str = "") -> Manifest:
    config = {"mediaType": "application/x", "digest": Digest.of(name.encode()).text, "size": len(name)}
    subject_ = {"mediaType": media_types.OCI_MANIFEST, "digest": subject.text, "size": 7}
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": config, "layers": []}
    found = parse_manifest(json.dumps(document | {"subject": subject_}).encode(), media_types.OCI_MANIFEST)
    assert isinstance(found, Manifest)
    return found


def listed(client: Client, server: FaultyRegistry) -> list[Digest]:
    return [Digest(found) for found in client.registry.referrers(Repository(server.address, "app"), SUBJECT)]


def test_a_list_of_several_pages(server: FaultyRegistry, client: Client) -> None:
    more = {"Content-Type": media_types.OCI_INDEX, "Link": f'</v2/app/referrers/{SUBJECT}?n=1&last=x>; rel="next"'}
    server.on("GET", "/referrers/", status(200, more, page(ONE)), times=1)
    server.on("GET", "/referrers/", status(503), times=1)
    server.on("GET", "/referrers/", status(200, {"Content-Type": media_types.OCI_INDEX}, page(TWO)))
    assert listed(client, server) == [ONE, TWO]
    assert [seen.query for seen in server.seen] == ["", "n=1&last=x", "n=1&last=x"]


@pytest.mark.parametrize(
    "link",
    [
        "</style.css>; rel=preload",
        '</style.css>; rel="preload"; as=style, </x>; rel="prev first"',
        '</x>; title="; rel=next"',
        '</x>; title="a, <y>; rel=\\"next\\""',
        '</x>; rel="prev"; rel="next"',
        "</x>",
        "nonsense",
    ],
)
def test_links_that_do_not_lead_on(server: FaultyRegistry, client: Client, link: str) -> None:
    headers = {"Content-Type": media_types.OCI_INDEX, "Link": link}
    server.on("GET", "/referrers/", status(200, headers, page(ONE)))
    assert listed(client, server) == [ONE]


@pytest.mark.parametrize(
    "link",
    [
        "<x?n=1>; rel=next",
        "</v2/app/referrers/x?n=1>;rel=next",
        '</v2/app/referrers/x?n=1>; title="next"; rel="next"',
        '</v2/app/referrers/x?n=1> ; REL = "last Next"',
        '</style.css>; rel=preload; as="style", </v2/app/referrers/x?n=1>; rel="next"',
        "</v2/app/referrers/x?n=1>; rel=next, </style.css>; rel=preload",
    ],
)
def test_links_that_lead_on(server: FaultyRegistry, client: Client, link: str) -> None:
    headers = {"Content-Type": media_types.OCI_INDEX, "Link": link}
    server.on("GET", "/referrers/", status(200, headers, page(ONE)), times=1)
    server.on("GET", "/referrers/", status(200, {"Content-Type": media_types.OCI_INDEX}, page(TWO)))
    assert listed(client, server) == [ONE, TWO]
    assert [seen.query for seen in server.seen] == ["", "n=1"]


def test_a_link_in_a_header_of_its_own(server: FaultyRegistry, client: Client) -> None:
    links = ("</style.css>; rel=preload", "<x?n=1>; rel=next", "</x>; rel=prev")
    head = ["HTTP/1.1 200 OK", f"Content-Type: {media_types.OCI_INDEX}", *(f"Link: {link}" for link in links)]
    first = "\r\n".join([*head, f"Content-Length: {len(page(ONE))}", "Connection: close", "", ""]).encode()
    server.on("GET", "/referrers/", raw(first + page(ONE)), times=1)
    server.on("GET", "/referrers/", status(200, {"Content-Type": media_types.OCI_INDEX}, page(TWO)))
    assert listed(client, server) == [ONE, TWO]


@pytest.mark.parametrize(
    "link", ['<http://127.0.0.2:1/v2/app/referrers/x>; rel="next"', '/v2/app?n=1; rel="next"', '<>; rel="next"']
)
def test_a_list_that_goes_on_elsewhere(server: FaultyRegistry, client: Client, link: str) -> None:
    headers = {"Content-Type": media_types.OCI_INDEX, "Link": link}
    server.on("GET", "/referrers/", status(200, headers, page(ONE)))
    with pytest.raises(RegistryAccessError, match="goes on elsewhere"):
        listed(client, server)


def test_a_list_without_end(server: FaultyRegistry, client: Client) -> None:
    headers = {"Content-Type": media_types.OCI_INDEX, "Link": f'</v2/app/referrers/{SUBJECT}>; rel="next"'}
    server.on("GET", "/referrers/", status(200, headers, page(ONE)))
    with pytest.raises(ContentError, match="more than 100 pages"):
        listed(client, server)


@pytest.mark.parametrize(
    ("code", "kind"), [(404, ""), (400, ""), (405, ""), (406, ""), (501, ""), (200, "text/html"), (200, "")]
)
def test_a_registry_without_lists(server: FaultyRegistry, client: Client, code: int, kind: str) -> None:
    """It does not know the address, or answers with a page of its own; clients then keep a list under a tag."""
    server.on("GET", "/referrers/", status(code, {"Content-Type": kind} if kind else {}, b"<html>"))
    assert listed(client, server) == []
    server.put_manifest(page(TWO), media_types.OCI_INDEX, f"sha256-{SUBJECT.hex}")
    assert listed(client, server) == [TWO]


@pytest.mark.parametrize("kind", ["", "application/json", "application/octet-stream"])
def test_a_list_that_is_called_something_else(server: FaultyRegistry, client: Client, kind: str) -> None:
    server.on("GET", "/referrers/", status(200, {"Content-Type": kind} if kind else {}, page(ONE)))
    assert listed(client, server) == [ONE]


def test_a_tag_that_is_no_list(server: FaultyRegistry, client: Client) -> None:
    server.put_manifest(about(ONE).raw, media_types.OCI_MANIFEST, f"sha256-{SUBJECT.hex}")
    assert listed(client, server) == []


def test_a_tag_of_the_image_itself_is_no_list(server: FaultyRegistry, client: Client) -> None:
    """`cosign copy` gives it to each manifest that it copies, also to an index, whose entries are about nothing."""
    digest = Digest(server.put_manifest(page(ONE, TWO), media_types.OCI_INDEX))
    server.put_manifest(page(ONE, TWO), media_types.OCI_INDEX, f"sha256-{digest.hex}")
    assert client.registry.referrers(Repository(server.address, "app"), digest) == ()


@pytest.mark.parametrize(
    "odd", [{"digest": "sha512:00", "mediaType": "x/y", "size": 1}, {"digest": ONE.text}, {}, None]
)
def test_an_odd_entry_hides_no_other(server: FaultyRegistry, client: Client, odd: Any) -> None:
    entries = [odd, *json.loads(page(TWO))["manifests"]]
    raw_page = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    server.on("GET", "/referrers/", status(200, {"Content-Type": media_types.OCI_INDEX}, raw_page))
    assert client.registry.referrers(Repository(server.address, "app"), SUBJECT)[-1] == TWO.text


def test_an_empty_list_may_be_null(server: FaultyRegistry, client: Client) -> None:
    empty = b'{"schemaVersion":2,"manifests":null}'
    server.on("GET", "/referrers/", status(200, {"Content-Type": media_types.OCI_INDEX}, empty))
    assert listed(client, server) == []


def test_what_is_listed_is_no_list(server: FaultyRegistry, client: Client) -> None:
    server.on("GET", "/referrers/", status(200, {"Content-Type": media_types.OCI_INDEX}, b"{}"))
    with pytest.raises(ContentError, match="no image index"):
        listed(client, server)


def test_others_stay_in_a_list_that_is_extended() -> None:
    before = parse_manifest(page(ONE), media_types.OCI_INDEX)
    signature = about(SUBJECT)
    raw = referrers.extended(before.raw, signature)
    assert raw is not None
    entries = json.loads(raw)["manifests"]
    assert entries[0] == json.loads(before.raw)["manifests"][0]
    assert entries[1] == {
        "mediaType": media_types.OCI_MANIFEST,
        "digest": signature.descriptor.digest.text,
        "size": signature.descriptor.size,
        "artifactType": "application/x",
    }
    assert referrers.extended(raw, signature) is None


@pytest.mark.parametrize("lists", [True, False])
def test_a_registry_says_whether_it_lists_what_it_gets(server: FaultyRegistry, client: Client, *, lists: bool) -> None:
    signature, repository = about(SUBJECT), Repository(server.address, "app")
    digest = signature.descriptor.digest
    if lists:
        server.on("PUT", "/manifests/", changed(headers={"OCI-Subject": SUBJECT.text}))
    assert client.registry.put_manifest(repository, signature.raw, media_types.OCI_MANIFEST, digest.text) == lists
    if not lists:
        client.registry.list_referrer(repository, signature)
        assert listed(client, server) == [digest]
    assert client.registry.capabilities(server.address).lists_referrers is lists


def test_a_list_that_is_seen_a_moment_later(server: FaultyRegistry, client: Client) -> None:
    """What replicas do not know yet is not overwritten."""
    for method, times in (("GET", 3), ("HEAD", 1)):
        server.on(method, "/manifests/sha256-", status(404), times=times)
    repository, made = Repository(server.address, "app"), [about(SUBJECT, "one"), about(SUBJECT, "two")]
    for manifest in made:
        client.registry.list_referrer(repository, manifest)
    server.on("GET", "/referrers/", status(404))
    assert listed(client, server) == [manifest.descriptor.digest for manifest in made]


def test_what_is_about_nothing_is_not_listed(server: FaultyRegistry, client: Client) -> None:
    alone = json.loads(about(SUBJECT).raw)
    del alone["subject"]
    client.registry.list_referrer(
        Repository(server.address, "app"), parse_manifest(json.dumps(alone).encode(), media_types.OCI_MANIFEST)
    )
    assert server.seen == []

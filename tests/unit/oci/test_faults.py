"""The registry client against a registry that breaks off, lies, refuses and sends elsewhere.

Names in parentheses are rows of the fault lists that this program is held to.
"""

from __future__ import annotations

import gzip
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from installer.errors import (
    AirferryError,
    ContentError,
    NotFoundError,
    RegistryAccessError,
    RegistryUnreachableError,
    StorageError,
    UsageError,
)
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Descriptor
from installer.oci.reference import DigestRef, Repository, TagRef
from installer.parallel import each
from installer.registry.client import Registry
from installer.registry.credentials import Credentials
from installer.registry.endpoint import HostSettings
from installer.registry.transport import Transport
from tests.parts.authority import Authority
from tests.parts.faulty_registry import (
    FaultyRegistry,
    Handler,
    challenge,
    changed,
    chunked,
    crowded,
    limited,
    paced,
    raw,
    reset,
    status,
    truncate,
)
from tests.parts.process import wait_until
from tests.parts.proxy import ForwardProxy
from tests.unit.oci.conftest import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.faulty_registry import Fault

DATA = random.Random(7).randbytes(300_000)
SECRET = "canary-3f1c"
SIGNED = ["/x%2fy/./z?response=a%2fb&sig=A/b+c=", "/x/../%7E~;p=[1]?", "/x//y?sig=%2f%2F&&", "/x?a=b?c='\"<>|^`{}\\"]
MANIFEST = b'{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"sha256:%b","size":1},"layers":[]}' % (b"0" * 64)


def repository(server: FaultyRegistry) -> Repository:
    return Repository(server.address, "team/app")


def blob(data: bytes = DATA) -> Descriptor:
    return Descriptor(media_types.OCI_LAYER, Digest.of(data), len(data))


def download(client: Client, server: FaultyRegistry, descriptor: Descriptor, offset: int = 0) -> bytes:
    view, count = memoryview(bytearray(descriptor.size + 1)), 0
    with client.registry.open(repository(server), descriptor, offset) as stream:
        while part := stream.readinto(view[count : count + 70_000]):
            count += part
    return bytes(view[:count])


def upload(client: Client, server: FaultyRegistry, data: bytes = DATA) -> int:
    """Upload `data`; how often its bytes were asked for."""
    started = 0

    def content(position: int) -> Iterator[memoryview | bytes]:
        nonlocal started
        started += 1
        view = memoryview(data)
        return (view[start : start + 100_000] for start in range(position, len(data), 100_000))

    client.registry.upload(repository(server), blob(data), content)
    return started


class TestDownload:
    def test_continues_where_the_connection_broke_off(self, server: FaultyRegistry, client: Client) -> None:
        server.put_blob(DATA)
        server.on("GET", "/blobs/", truncate(65_536), times=4)
        assert download(client, server, blob()) == DATA
        assert [seen.headers.get("range") for seen in server.seen] == [
            None,
            *(f"bytes={65_536 * count}-{len(DATA) - 1}" for count in range(1, 5)),
        ]

    def test_continues_after_resets(self, server: FaultyRegistry, client: Client) -> None:
        server.put_blob(DATA)
        server.on("GET", "/blobs/", reset(65_536))
        assert download(client, server, blob()) == DATA

    def test_continues_after_a_reset_before_any_answer(self, server: FaultyRegistry, client: Client) -> None:
        server.put_blob(DATA)
        server.on("GET", "/blobs/", reset(), times=4)
        assert download(client, server, blob()) == DATA
        assert len(client.pauses) == 4

    def test_gives_up_when_it_gets_no_further(self, server: FaultyRegistry, client: Client) -> None:
        server.put_blob(DATA)
        server.on("GET", "/blobs/", truncate(100))
        with pytest.raises(RegistryUnreachableError, match="ends after 500 of 300000 bytes"):
            download(client, server, blob())
        assert server.count("GET") == 5

    def test_skips_what_a_server_without_ranges_sends_again(self, server: FaultyRegistry, client: Client) -> None:
        server.put_blob(DATA)
        server.on("GET", "/blobs/", truncate(100_000), times=1)
        server.on("GET", "/blobs/", changed(body=DATA, headers={"Content-Range": ""}, code=200))
        assert download(client, server, blob()) == DATA

    def test_starts_in_the_middle(self, server: FaultyRegistry, client: Client) -> None:
        server.put_blob(DATA)
        assert download(client, server, blob(), 123_456) == DATA[123_456:]
        assert download(client, server, blob(), len(DATA)) == b""

    @pytest.mark.parametrize("span", ["bytes 0-299999/300000", "bytes 100-299999/400000", "bytes */300000", "", "junk"])
    def test_has_all_sent_again_where_another_range_comes(
        self, server: FaultyRegistry, client: Client, span: str
    ) -> None:
        server.put_blob(DATA)
        server.on("GET", "/blobs/", changed(headers={"Content-Range": span}), times=1)
        assert download(client, server, blob(), 100) == DATA[100:]
        assert [seen.headers.get("range") for seen in server.seen] == ["bytes=100-299999", None]

    @pytest.mark.parametrize("code", [400, 403, 416, 501])
    def test_starts_over_where_a_part_is_refused(self, server: FaultyRegistry, client: Client, code: int) -> None:
        server.put_blob(DATA)
        server.on("GET", "/blobs/", truncate(100_000), times=1)
        server.on("GET", "/blobs/", status(code), times=1)
        server.on("GET", "/blobs/", truncate(200_000), times=1)
        assert download(client, server, blob()) == DATA
        ranges = [seen.headers.get("range") for seen in server.seen]
        assert ranges == [None, "bytes=100000-299999", None, None], "it is asked for a part once"

    @pytest.mark.parametrize("length", [0, 1, 299_999, 300_001, 10**15])
    def test_refuses_another_length_than_the_descriptor_says(
        self, server: FaultyRegistry, client: Client, length: int
    ) -> None:
        server.put_blob(DATA)
        server.on("GET", "/blobs/", changed(headers={"Content-Length": str(length)}))
        with pytest.raises(ContentError, match=f"{length} bytes are announced"):
            download(client, server, blob())

    @pytest.mark.parametrize("length", ["-1", "1e3", "300000, 300000", "٣", "0x10", ""])
    def test_takes_a_senseless_length_for_none(self, server: FaultyRegistry, client: Client, length: str) -> None:
        server.put_blob(DATA)
        server.on("GET", "/blobs/", changed(headers={"Content-Length": length}))
        try:
            assert download(client, server, blob()) == DATA
        except AirferryError as exc:
            assert isinstance(exc, ContentError | RegistryUnreachableError)  # noqa: PT017 - either end is good

    def test_takes_chunks_without_a_length(self, server: FaultyRegistry, client: Client) -> None:
        server.put_blob(DATA)
        server.on("GET", "/blobs/", chunked())
        assert download(client, server, blob()) == DATA
        assert download(client, server, blob()) == DATA

    def test_refuses_more_than_the_descriptor_says(self, server: FaultyRegistry, client: Client) -> None:
        server.put_blob(DATA)
        server.on("GET", "/blobs/", chunked(b"x"))
        with pytest.raises(ContentError, match="more than the 300000 bytes"):
            download(client, server, blob())

    @pytest.mark.parametrize("told", [changed(headers={"Content-Encoding": "gzip"}), chunked(label="gzip")])
    def test_right_bytes_are_right_under_any_label(self, server: FaultyRegistry, client: Client, told: Fault) -> None:
        server.put_blob(DATA)
        server.on("GET", "/blobs/", told)
        assert download(client, server, blob()) == DATA
        assert server.seen[0].headers["accept-encoding"] == "identity"

    @pytest.mark.parametrize("length", [True, False], ids=["length", "chunks"])
    @pytest.mark.parametrize("kind", [media_types.OCI_LAYER, media_types.OCTETS])
    def test_a_blob_that_is_packed_on_the_way_is_unpacked(
        self, server: FaultyRegistry, client: Client, kind: str, *, length: bool
    ) -> None:
        data = bytes(200_000) + DATA
        server.put_blob(data)
        packed = gzip.compress(data)
        label = {"Content-Encoding": "gzip", "Content-Length": str(len(packed)) if length else ""}
        server.on("GET", "/blobs/", changed(body=packed[:100_000], headers=label), times=1)
        server.on("GET", "/blobs/", changed(body=packed, headers=label))
        found = Descriptor(kind, Digest.of(data), len(data))
        assert download(client, server, found) == data
        assert download(client, server, found, 210_000) == data[210_000:]

    def test_says_what_comes_in_an_encoding_of_its_own(self, server: FaultyRegistry, client: Client) -> None:
        server.put_blob(DATA)
        server.on(
            "GET", "/blobs/", changed(body=DATA[:1000], headers={"Content-Encoding": "br", "Content-Length": "1000"})
        )
        with pytest.raises(ContentError, match="Content-Encoding 'br', though asked for without"):
            download(client, server, blob())

    @pytest.mark.parametrize("length", ["", "18"], ids=["chunks", "length"])
    def test_a_web_page_is_no_blob(self, server: FaultyRegistry, client: Client, length: str) -> None:
        page = {"Content-Type": "text/html; charset=utf-8", "Content-Length": length}
        server.on("GET", "/blobs/", status(200, page, b"<html>log in</html"))
        with pytest.raises(RegistryAccessError, match="a web page comes") as caught:
            download(client, server, blob())
        assert "log-in page" in caught.value.hint

    def test_passes_wrong_content_on_as_it_is(self, server: FaultyRegistry, client: Client) -> None:
        """Who asked for a blob checks its digest, in the buffer that is used."""
        server.put_blob(DATA)
        server.on("GET", "/blobs/", changed(body=bytes(300_000)))
        assert download(client, server, blob()) == bytes(300_000)

    def test_reuses_the_connection(self, server: FaultyRegistry, client: Client) -> None:
        server.put_blob(DATA)
        for _ in range(3):
            download(client, server, blob())
        (manager,) = client.transport._connections._managers.values()
        pool = manager.connection_from_url(server.url)
        assert pool.num_connections == 1

    def test_a_stream_left_early_does_not_disturb_the_next(self, server: FaultyRegistry, client: Client) -> None:
        server.put_blob(DATA)
        with client.registry.open(repository(server), blob()) as stream:
            stream.readinto(memoryview(bytearray(10)))
        assert download(client, server, blob()) == DATA


class TestRetries:
    @pytest.mark.parametrize("code", [408, 425, 429, 499, 500, 502, 503, 504, 507, 511, 520, 522, 524, 530, 599])
    def test_repeats_what_may_pass(self, server: FaultyRegistry, client: Client, code: int) -> None:
        server.put_manifest(MANIFEST, media_types.OCI_MANIFEST, "1")
        server.on("GET", "/manifests/", status(code), times=4)
        assert client.registry.manifest(TagRef(repository(server), "1")).raw == MANIFEST
        assert len(client.pauses) == 4
        assert client.pauses == sorted(client.pauses)
        assert 0.05 <= client.pauses[0] <= 0.1
        assert 3.2 <= client.pauses[3] <= 6.4

    def test_gives_up_after_five_tries(self, server: FaultyRegistry, client: Client) -> None:
        server.on("GET", "/manifests/", status(503, body=b'{"errors":[{"code":"UNAVAILABLE","message":"full"}]}'))
        with pytest.raises(RegistryUnreachableError, match="503: UNAVAILABLE full"):
            client.registry.manifest(TagRef(repository(server), "1"))
        assert server.count("GET") == 5

    @pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 410, 416, 418, 501, 505])
    def test_does_not_repeat_what_will_not_pass(self, server: FaultyRegistry, client: Client, code: int) -> None:
        server.on("GET", "/manifests/", status(code))
        with pytest.raises(AirferryError):
            client.registry.manifest(TagRef(repository(server), "1"))
        assert server.count("GET") == 1
        assert client.pauses == []

    @pytest.mark.parametrize(
        ("headers", "least", "most"),
        [
            ({"Retry-After": "7"}, 7, 7.5),
            ({"Retry-After": "599"}, 599, 600),
            ({"Retry-After": "9" * 40}, 0, 1),
            ({"Retry-After": "-5"}, 0, 1),
            ({"Retry-After": "soon"}, 0, 1),
            ({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT", "Date": "Fri, 31 Dec 1999 23:59:49 GMT"}, 10, 11),
            ({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT", "Date": "Sat, 01 Jan 2000 00:00:00 GMT"}, 0, 1),
            ({"Retry-After": "Sat, 01 Jan 2000 00:05:00 GMT", "Date": "Sat, 01 Jan 2000 00:00:00 GMT"}, 300, 301),
            ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, 0, 1),
        ],
    )
    def test_waits_as_long_as_it_is_told(
        self, server: FaultyRegistry, client: Client, headers: dict[str, str], least: float, most: float
    ) -> None:
        server.put_manifest(MANIFEST, media_types.OCI_MANIFEST, "1")
        server.on("GET", "/manifests/", status(429, headers), times=1)
        client.registry.manifest(TagRef(repository(server), "1"))
        assert least <= sum(client.pauses) <= most

    @pytest.mark.parametrize(
        "headers",
        [
            {"Retry-After": "999999"},
            {"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT", "Date": "Sat, 01 Jan 2000 00:00:00 GMT"},
        ],
    )
    def test_says_at_once_that_a_pause_is_too_long(
        self, server: FaultyRegistry, client: Client, headers: dict[str, str]
    ) -> None:
        server.on("GET", "/manifests/", status(429, headers))
        with pytest.raises(RegistryUnreachableError, match="at most 600 s are waited") as caught:
            client.registry.manifest(TagRef(repository(server), "1"))
        assert "`pause_seconds`" in caught.value.hint
        assert (client.pauses, server.count("GET")) == ([], 1)

    def test_a_pause_is_as_long_as_it_may_be_and_told(self, server: FaultyRegistry) -> None:
        server.put_manifest(MANIFEST, media_types.OCI_MANIFEST, "1")
        server.on("GET", "/manifests/", status(503, {"Retry-After": "3600"}), times=1)
        client = Client({server.address: HostSettings(pause_seconds=3600)})
        assert client.registry.manifest(TagRef(repository(server), "1")).raw == MANIFEST
        assert 3599 < client.now < 3602
        assert client.told[0] == f"{server.address} asks for a pause: going on in 3600 s"
        assert len(client.told) == 120

    def test_an_answer_that_takes_too_long_names_the_limit(self, server: FaultyRegistry) -> None:
        client = Client({server.address: HostSettings(answer_seconds=1)})
        server.on("GET", "/manifests/", lambda _: time.sleep(1.5))
        with pytest.raises(RegistryUnreachableError, match="no answer within 1 s") as caught:
            client.registry.manifest(TagRef(repository(server), "1"))
        assert "`answer_seconds`" in caught.value.hint

    def test_a_server_that_has_room_for_two_is_sent_two_at_a_time(self, server: FaultyRegistry) -> None:
        """nginx: `limit_conn` refuses with 503, without Retry-After, as long as others are still being sent."""
        layers = [bytes([number]) * 10_000 for number in range(24)]
        for layer in layers:
            server.put_blob(layer)
        server.on("GET", "/blobs/", crowded(2, 0.2))
        client = Client(sleep=time.sleep, clock=time.monotonic)
        with ThreadPoolExecutor(24) as pool:
            assert list(pool.map(lambda layer: download(client, server, blob(layer)), layers)) == layers
        assert server.count("GET") < 24 * 3

    def test_a_server_that_counts_requests_is_sent_as_many_as_it_takes(self, server: FaultyRegistry) -> None:
        layers = [b"%d" % number for number in range(60)]
        for layer in layers:
            server.put_blob(layer)
        server.on("GET", "/blobs/", paced(15))
        client = Client(sleep=time.sleep, clock=time.monotonic)
        with ThreadPoolExecutor(24) as pool:
            assert list(pool.map(lambda layer: download(client, server, blob(layer)), layers)) == layers

    def test_what_stays_refused_beside_others_is_an_error_in_the_end(self, server: FaultyRegistry) -> None:
        server.put_blob(DATA)
        server.put_manifest(MANIFEST, media_types.OCI_MANIFEST, "1")
        server.on("GET", "/blobs/", status(503))
        client = Client()
        with ThreadPoolExecutor(1) as pool:
            broken = pool.submit(download, client, server, blob())
            while not broken.done():
                client.registry.manifest(TagRef(repository(server), "1"))
            with pytest.raises(RegistryUnreachableError, match="503"):
                broken.result()
        assert server.count("GET", "/blobs/") <= 70

    def test_who_is_refused_a_connection_comes_back_alone(self) -> None:
        client = Client()
        with ThreadPoolExecutor(8) as pool:
            tries = [pool.submit(client.registry.tags, Repository("127.0.0.1:1", "a")) for _ in range(8)]
        assert {type(each.exception()) for each in tries} == {RegistryUnreachableError}
        throttle = client.transport.throttle("127.0.0.1:1")
        assert (throttle.most, throttle.refusals) == (1, 0)

    def test_nobody_waits_for_a_registry_when_the_work_has_failed_elsewhere(self, server: FaultyRegistry) -> None:
        """The first error is told at once, not when all who were told to wait have waited."""
        server.on("GET", "/manifests/", status(503, {"Retry-After": "100"}))
        client, stop = Registry(Transport()), threading.Event()

        def step(name: str) -> None:
            if name:
                client.manifest(TagRef(repository(server), name))
            assert wait_until(lambda: server.count("GET") > 0, 20)
            time.sleep(0.5)
            raise StorageError("the disk is broken")

        start = time.monotonic()
        with pytest.raises(StorageError, match="broken"):
            each(step, ["1", "2", "3", "4", "5", ""], threads=2, stop=stop, waits=lambda _: True)
        assert time.monotonic() - start < 30

    def test_every_request_of_a_push_may_fail_once(self, server: FaultyRegistry, client: Client) -> None:
        for method, pattern in (("POST", "/uploads/$"), ("PUT", "/uploads/1"), ("PUT", "/manifests/"), ("HEAD", "/")):
            server.on(method, pattern, reset(), times=1)
            server.on(method, pattern, status(503), times=1)
        assert not client.registry.has_blob(repository(server), blob())
        assert upload(client, server) == 3
        client.registry.put_manifest(repository(server), MANIFEST, media_types.OCI_MANIFEST, "1")
        assert server.blobs[blob().digest.text] == DATA
        assert server.manifests["1"] == (media_types.OCI_MANIFEST, MANIFEST)

    @pytest.mark.parametrize("code", [400, 404])
    def test_a_part_of_a_manifest_may_be_unknown_for_a_moment(
        self, server: FaultyRegistry, client: Client, code: int
    ) -> None:
        unknown = b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}'
        server.on("PUT", "/manifests/", status(code, body=unknown), times=2)
        client.registry.put_manifest(repository(server), MANIFEST, media_types.OCI_MANIFEST, "1")
        assert server.manifests["1"] == (media_types.OCI_MANIFEST, MANIFEST)
        assert len(client.pauses) == 2
        server.on("PUT", "/manifests/", status(code, body=unknown))
        with pytest.raises(ContentError, match="MANIFEST_BLOB_UNKNOWN") as caught:
            client.registry.put_manifest(repository(server), MANIFEST, media_types.OCI_MANIFEST, "1")
        assert "is it clearing up" in caught.value.hint

    def test_does_not_send_again_what_arrived_although_the_answer_was_lost(
        self, server: FaultyRegistry, client: Client
    ) -> None:
        server.on("PUT", "/uploads/", reset(done=True), times=1)
        assert upload(client, server) == 1
        assert server.count("PUT") == 1

    def test_begins_a_lost_upload_anew(self, server: FaultyRegistry, client: Client) -> None:
        lost = b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"blob upload unknown to registry"}]}'
        server.on("PUT", "/uploads/", status(404, body=lost), times=1)
        assert upload(client, server) == 2


class TestContent:
    def test_a_manifest_with_another_digest_is_refused(self, server: FaultyRegistry, client: Client) -> None:
        other = MANIFEST.replace(b'"size":1', b'"size":2')
        digest = server.put_manifest(MANIFEST, media_types.OCI_MANIFEST, "1")
        server.on("GET", "/manifests/", changed(body=other))
        for ref in (DigestRef(repository(server), Digest(digest)), TagRef(repository(server), "1")):
            with pytest.raises(ContentError, match="expected sha256:"):
                client.registry.manifest(ref)

    def test_a_manifest_may_come_without_a_stated_digest(self, server: FaultyRegistry, client: Client) -> None:
        server.put_manifest(MANIFEST, media_types.OCI_MANIFEST, "1")
        server.on("GET", "/manifests/", changed(headers={"Docker-Content-Digest": ""}))
        server.on("HEAD", "/manifests/", changed(headers={"Docker-Content-Digest": ""}))
        ref = TagRef(repository(server), "1")
        assert client.registry.head_manifest(ref) == client.registry.manifest(ref).descriptor.digest

    @pytest.mark.parametrize("code", [400, 403, 404, 405, 501])
    def test_head_may_be_unknown_to_a_registry(self, server: FaultyRegistry, client: Client, code: int) -> None:
        server.put_manifest(MANIFEST, media_types.OCI_MANIFEST, "1")
        server.on("HEAD", "/", status(code))
        assert client.registry.head_manifest(TagRef(repository(server), "1")) == Digest.of(MANIFEST)
        client.registry.confirm(TagRef(repository(server), "1"), Digest.of(MANIFEST))
        assert client.registry.head_manifest(TagRef(repository(server), "2")) is None
        assert not client.registry.has_blob(repository(server), blob())
        assert not client.pauses

    def test_a_head_that_has_found_something_is_believed_when_it_finds_nothing(
        self, server: FaultyRegistry, client: Client
    ) -> None:
        server.put_manifest(MANIFEST, media_types.OCI_MANIFEST, "1")
        for tag, requests in (("2", 1), ("1", 1), ("2", 1)):
            client.registry.head_manifest(TagRef(repository(server), tag))
            assert server.count("GET") == requests
        # After a push nobody is believed who has not been asked in both ways.
        server.put_manifest(MANIFEST, media_types.OCI_MANIFEST, "3")
        server.on("HEAD", "/manifests/3", status(404))
        client.registry.confirm(TagRef(repository(server), "3"), Digest.of(MANIFEST))

    def test_a_few_gets_that_agree_with_head_are_enough_before_a_load(
        self, server: FaultyRegistry, client: Client
    ) -> None:
        """Sixty images that are all missing are no sixty GETs; where one is there after all, each is asked for."""
        server.put_manifest(MANIFEST, media_types.OCI_MANIFEST, "there")
        server.on("HEAD", "/", status(404))

        def look(tag: str, *, surely: bool = False) -> Digest | None:
            return client.registry.head_manifest(TagRef(repository(server), tag), surely=surely)

        assert [look(str(number)) for number in range(10)] == [None] * 10
        assert server.count("GET") == 4
        assert look("there", surely=True) == look("there") == Digest.of(MANIFEST)

    def test_head_states_another_digest(self, server: FaultyRegistry, client: Client) -> None:
        digest = server.put_manifest(MANIFEST, media_types.OCI_MANIFEST, "1")
        server.on("HEAD", "/", changed(headers={"Docker-Content-Digest": "sha256:" + "0" * 64}), times=1)
        server.on("HEAD", "/", changed(headers={"Docker-Content-Digest": "sha256:\x1b[31m"}))
        for _ in range(2):
            with pytest.raises(ContentError, match=r"digest is sha256:0|states as digest 'sha256:\\x1b"):
                client.registry.head_manifest(DigestRef(repository(server), Digest(digest)))

    def test_a_manifest_without_end_is_not_read_to_its_end(self, server: FaultyRegistry, client: Client) -> None:
        server.put_manifest(MANIFEST + b" " * (5 << 20), media_types.OCI_MANIFEST, "1")
        with pytest.raises(ContentError, match="larger than 4194304 bytes"):
            client.registry.manifest(TagRef(repository(server), "1"))

    @pytest.mark.parametrize("length", ["", "0", "299999", "junk"])
    def test_a_length_that_does_not_fit_says_nothing_of_a_blob(
        self, server: FaultyRegistry, client: Client, length: str
    ) -> None:
        """Its last byte tells; a registry that has it need not be sent it, and nobody is told to delete it."""
        server.put_blob(DATA)
        server.put_blob(b"")
        server.on("HEAD", "/blobs/", changed(headers={"Content-Length": length}))
        assert client.registry.has_blob(repository(server), blob(b""))
        server.seen.clear()
        assert client.registry.has_blob(repository(server), blob())
        assert [seen.method for seen in server.seen] == ["HEAD", "GET"]
        assert server.seen[-1].headers["range"] == "bytes=299999-299999"
        assert not client.registry.has_blob(repository(server), blob(DATA[1:]))

    @pytest.mark.parametrize("copy", [DATA[:-1], DATA + b"x"])
    def test_a_damaged_blob_is_told_when_its_bytes_have_come(
        self, server: FaultyRegistry, client: Client, copy: bytes
    ) -> None:
        server.blobs[blob().digest.text] = copy
        with pytest.raises(ContentError, match="delivers other bytes") as caught:
            client.registry.has_blob(repository(server), blob())
        assert "deleted" in caught.value.hint
        # Headers alone are no proof.
        server.blobs[blob().digest.text] = DATA
        server.on("HEAD", "/blobs/", changed(headers={"Content-Length": "299999"}))
        for content_range in ("bytes 0-1/2", "junk"):
            server.on("GET", "/blobs/", changed(headers={"Content-Range": content_range}), times=1)
            assert client.registry.has_blob(repository(server), blob())

    @pytest.mark.parametrize("code", [403, 404, 500])
    def test_a_blob_that_is_not_delivered_counts_as_lacking(
        self, server: FaultyRegistry, client: Client, code: int
    ) -> None:
        server.put_blob(DATA)
        server.on("HEAD", "/blobs/", changed(headers={"Content-Length": "0"}))
        server.on("GET", "/blobs/", status(code))
        assert not client.registry.has_blob(repository(server), blob())

    def test_a_registry_that_was_wrong_once_is_not_believed_again(self, server: FaultyRegistry, client: Client) -> None:
        server.put_blob(DATA)
        server.put_blob(DATA[1:])
        assert client.registry.has_blob(repository(server), blob(DATA[1:]))
        assert server.count("GET") == 0
        server.on("HEAD", "/blobs/", changed(headers={"Content-Length": "0"}), times=1)
        server.on("GET", "/blobs/", status(404), times=1)
        assert not client.registry.has_blob(repository(server), blob())
        server.seen.clear()
        assert client.registry.has_blob(repository(server), blob(DATA[1:]))
        assert server.count("GET") == 1

    def test_a_registry_that_stores_something_else_is_an_error(self, server: FaultyRegistry, client: Client) -> None:
        other = {"Docker-Content-Digest": "sha256:" + "1" * 64}
        server.on("PUT", "/", changed(headers=other))
        with pytest.raises(ContentError, match="stored it as 'sha256:1"):
            upload(client, server)
        with pytest.raises(ContentError, match="stored it as 'sha256:1"):
            client.registry.put_manifest(repository(server), MANIFEST, media_types.OCI_MANIFEST, "1")

    def test_a_wrong_upload_is_refused_in_the_words_of_the_registry(
        self, server: FaultyRegistry, client: Client
    ) -> None:
        wrong = Descriptor(media_types.OCI_LAYER, Digest.of(b"other"), len(DATA))
        with pytest.raises(ContentError, match="400: DIGEST_INVALID digest does not match"):
            client.registry.upload(repository(server), wrong, lambda start: iter([DATA[start:]]))

    def test_sends_pieces_where_requests_are_limited(self, server: FaultyRegistry, client: Client) -> None:
        data = DATA * 8
        for method in ("PUT", "PATCH"):
            server.on(method, "/", limited(1 << 20))
        assert upload(client, server, data) == 4
        assert server.blobs[blob(data).digest.text] == data
        sizes = [len(seen.body) for seen in server.seen if seen.method == "PATCH"]
        assert sum(sizes) == len(data)
        assert max(sizes) <= 1 << 20
        # Once is enough to learn it.
        server.seen.clear()
        assert upload(client, server, data[1:]) == 3
        assert server.count("PUT") == 1
        assert server.blobs[blob(data[1:]).digest.text] == data[1:]

    def test_pieces_begin_anew_after_a_break(self, server: FaultyRegistry, client: Client) -> None:
        data = DATA * 8
        server.on("PUT", "/", limited(1 << 20))
        server.on("PATCH", "/", reset(done=True), times=1, after=2)
        server.on("PATCH", "/", status(404), times=1, after=4)
        assert upload(client, server, data) == 10
        assert server.blobs[blob(data).digest.text] == data

    def test_a_limit_below_a_mebibyte_names_the_proxy_setting(self, server: FaultyRegistry, client: Client) -> None:
        for method in ("PUT", "PATCH"):
            server.on(method, "/", limited(1000))
        with pytest.raises(ContentError, match="413: a web page") as caught:
            upload(client, server)
        assert "client_max_body_size" in caught.value.hint

    def test_error_bodies_are_bounded_and_printable(self, server: FaultyRegistry, client: Client) -> None:
        text = "\x1b[2J\u202e" + "x" * (2 << 20)
        body = b'{"errors":[{"code":"DENIED","message":"\\u001b[2J\\u202e' + b"x" * 1000 + b'"}]}'
        server.on("GET", "/manifests/", status(400, body=text.encode()), times=1)
        server.on("GET", "/manifests/", status(403, body=body))
        for expected in (ContentError, RegistryAccessError):
            with pytest.raises(expected) as caught:
                client.registry.manifest(TagRef(repository(server), "1"))
            assert caught.value.message.isprintable()
            assert len(caught.value.message) < 1000

    def test_mount(self, server: FaultyRegistry, client: Client) -> None:
        there, here = Repository(server.address, "a/b"), repository(server)
        server.on("POST", "/uploads/", status(201), times=1)
        assert client.registry.mount(here, blob().digest, there)
        assert server.seen[-1].query == f"mount=sha256%3A{blob().digest.hex}&from=a%2Fb"
        assert not client.registry.mount(here, blob().digest, there)
        # What the registry has begun instead is what goes on.
        before = len(server.seen)
        assert upload(client, server) == 1
        assert [(seen.method, seen.path[-9:]) for seen in server.seen[before:]] == [("PUT", "uploads/1")]
        before = len(server.seen)
        assert not client.registry.mount(here, blob().digest, Repository("registry.other", "a/b"))
        assert len(server.seen) == before

    @pytest.mark.parametrize("code", [200, 204, 302, 400, 401, 403, 404, 405, 409, 422, 500, 501, 503, 507])
    def test_whatever_a_mount_answers_the_blob_is_sent(self, server: FaultyRegistry, client: Client, code: int) -> None:
        server.on("POST", "/uploads/", status(code, {"Location": "/elsewhere"}), times=5 if code == 503 else 1)
        assert not client.registry.mount(repository(server), blob().digest, Repository(server.address, "a/b"))
        assert upload(client, server) == 1
        assert server.blobs[blob().digest.text] == DATA

    def test_a_registry_that_never_mounts_is_asked_a_few_times(self, server: FaultyRegistry, client: Client) -> None:
        there = Repository(server.address, "a/b")
        for number in range(20):
            assert not client.registry.mount(repository(server), Digest.of(b"%d" % number), there)
        assert server.count("POST") == 4

    def test_an_upload_begun_instead_of_a_mount_may_be_gone(self, server: FaultyRegistry, client: Client) -> None:
        assert not client.registry.mount(repository(server), blob().digest, Repository(server.address, "a/b"))
        server.on("PUT", "/uploads/1", status(404), times=1)
        assert upload(client, server) == 2
        assert server.blobs[blob().digest.text] == DATA

    def test_chunks_are_as_large_as_the_registry_wants_them(self, server: FaultyRegistry, client: Client) -> None:
        data = DATA * 8
        server.on("POST", "/uploads/", changed(headers={"OCI-Chunk-Min-Length": "1100000"}))
        client.registry.upload(repository(server), blob(data), lambda start: iter([data[start:]]), slowly=True)
        sizes = [len(seen.body) for seen in server.seen if seen.method == "PATCH"]
        assert sizes == [1_100_000, 1_100_000, 200_000]
        # A minimum that something on the way does not let through is an end, not a loop.
        server.on("PATCH", "/uploads/", limited(1 << 20))
        with pytest.raises(ContentError, match="413"):
            client.registry.upload(repository(server), blob(data), lambda start: iter([data[start:]]), slowly=True)

    @pytest.mark.parametrize("code", [200, 201, 202, 203, 204])
    def test_statuses_count_by_their_class(self, server: FaultyRegistry, client: Client, code: int) -> None:
        for method in ("POST", "PATCH", "PUT"):
            server.on(method, "/", changed(code=code, headers={"Docker-Upload-Uuid": "", "Range": ""}, body=b""))
        data = DATA * 8
        client.registry.upload(repository(server), blob(data), lambda start: iter([data[start:]]), slowly=True)
        assert server.blobs[blob(data).digest.text] == data
        assert upload(client, server) == 1
        client.registry.put_manifest(repository(server), MANIFEST, media_types.OCI_MANIFEST, "1")
        client.registry.confirm(TagRef(repository(server), "1"), Digest.of(MANIFEST))

    @pytest.mark.parametrize(
        "location",
        [
            "",
            "/v2/team/app/blobs/uploads/1",
            "1",
            "?state=a&b=c",
            "/v2/team/app/blobs/uploads/1?_state=a%2Fb%3D%3D",
            "//{host}/v2/team/app/blobs/uploads/1",
            "http://{host}/v2/team/app/blobs/uploads/1?a=b",
            "https://127.0.0.1:1/v2/team/app/blobs/uploads/1",
        ],
    )
    def test_a_chunk_may_move_the_upload_to_any_address_of_the_registry(
        self, server: FaultyRegistry, client: Client, location: str
    ) -> None:
        data, where = DATA * 8, {"Location": location.format(host=server.address)}
        if location:
            server.on("POST", "/", changed(headers=where))
        server.on("PATCH", "/", changed(headers=where))
        client.registry.upload(repository(server), blob(data), lambda start: iter([data[start:]]), slowly=True)
        assert server.blobs[blob(data).digest.text] == data
        query = location.partition("?")[2]
        assert server.seen[-1].query.startswith(f"{query}&digest=" if query else "digest=")

    @pytest.mark.parametrize("words", ["0-0", "junk", "0-99999999", "5-10"])
    def test_a_range_that_is_no_count_of_what_was_kept_does_not_matter(
        self, server: FaultyRegistry, client: Client, words: str
    ) -> None:
        data = DATA * 8
        server.on("PATCH", "/", changed(headers={"Range": words}))
        client.registry.upload(repository(server), blob(data), lambda start: iter([data[start:]]), slowly=True)
        assert server.blobs[blob(data).digest.text] == data

    @pytest.mark.parametrize("count", [500_000, 1])
    def test_a_registry_may_keep_a_part_of_a_chunk(self, server: FaultyRegistry, client: Client, count: int) -> None:
        """Of one byte it says 0-0, as others do of none and of all: what it then refuses is sent again."""

        def keep(handler: Handler) -> None:
            start = len(server.upload)
            span = {"content-range": f"{start}-{start + count - 1}"}
            handler.seen = replace(
                handler.seen, body=handler.seen.body[:count], headers={**handler.seen.headers, **span}
            )
            handler.reply(handler.answer())

        data = DATA * 8
        server.on("PATCH", "/", keep, times=2)
        client.registry.upload(repository(server), blob(data), lambda start: iter([data[start:]]), slowly=True)
        assert server.blobs[blob(data).digest.text] == data


def admitted(*servers: FaultyRegistry) -> Client:
    """A client that has the password of the first server, and an own one of each other."""
    hosts = {
        server.address: HostSettings(credentials=Credentials(f"user{count}", f"{SECRET}-{count}"))
        for count, server in enumerate(servers)
    }
    return Client(hosts)


class TestElsewhere:
    @pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
    def test_credentials_do_not_follow_a_redirect(
        self, server: FaultyRegistry, foreign: FaultyRegistry, code: int
    ) -> None:
        client = admitted(server)
        server.put_blob(DATA)
        foreign.put_blob(DATA)
        path = f"/v2/team/app/blobs/{blob().digest}"
        server.on("GET", "/blobs/", challenge('Basic realm="x"'), times=1)
        server.on("GET", "/blobs/", status(code, {"Location": f"{foreign.url}{path}?signature={SECRET}"}))
        assert download(client, server, blob()) == DATA
        assert "authorization" in server.seen[-1].headers
        assert "authorization" not in foreign.seen[-1].headers
        assert foreign.count("GET") == 1

    @pytest.mark.parametrize("target", SIGNED)
    @pytest.mark.parametrize("base", ["", "{foreign}", "//{address}"], ids=["path", "address", "without scheme"])
    def test_a_target_is_sent_byte_for_byte(
        self, server: FaultyRegistry, foreign: FaultyRegistry, client: Client, base: str, target: str
    ) -> None:
        """A signature may cover all of it (urllib3#1677, #3081)."""
        store = foreign if base else server
        location = base.format(foreign=foreign.url, address=foreign.address) + target
        server.on("GET", "/team/app/blobs/", status(307, {"Location": f"{location}#fragment"}))
        store.on("GET", "^/x", status(200, body=DATA))
        assert download(client, server, blob()) == DATA
        assert store.seen[-1].target == target

    @pytest.mark.parametrize("target", SIGNED)
    def test_and_so_are_the_addresses_of_documents(
        self, server: FaultyRegistry, foreign: FaultyRegistry, client: Client, target: str
    ) -> None:
        foreign.on("GET", "^/x", status(200, body=b"chart"))
        assert client.transport.fetch(f"{foreign.url}{target}", 100) == b"chart"
        with ForwardProxy(foreign.address) as proxy:
            far = {"store.test": HostSettings(plain_http=True)}
            Transport(hosts=far, proxies={"HTTP_PROXY": proxy.address}).fetch(f"http://store.test{target}", 100)
        assert [seen.target for seen in foreign.seen] == [target, target]

    def test_what_no_target_can_hold_is_encoded(self, server: FaultyRegistry, client: Client) -> None:
        server.on("GET", "/team/app/blobs/", status(307, {"Location": "/x/ä b\u20ac".encode().decode("latin-1")}))
        server.on("GET", "^/x", status(200, body=DATA))
        assert download(client, server, blob()) == DATA
        assert server.seen[-1].target == "/x/%C3%A4%20b%E2%82%AC"
        server.on("GET", "^/", status(200, body=b"root"))
        assert client.transport.fetch(f"{server.url}?a", 100) == b"root"
        assert server.seen[-1].target == "/?a"

    def test_another_port_of_the_same_host_is_another_place(self, server: FaultyRegistry) -> None:
        client = admitted(server)
        with FaultyRegistry() as other:
            other.put_blob(DATA)
            server.on("GET", "/blobs/", challenge('Basic realm="x"'), times=1)
            server.on("GET", "/blobs/", status(307, {"Location": f"{other.url}/v2/x/blobs/{blob().digest}"}))
            assert download(client, server, blob()) == DATA
            assert "authorization" not in other.seen[-1].headers

    def test_credentials_stay_on_the_way_within_one_origin(self, server: FaultyRegistry) -> None:
        client = admitted(server)
        server.put_blob(DATA)
        server.on("GET", "/team/app/", challenge('Basic realm="x"'), times=1)
        server.on("GET", "/team/app/", status(307, {"Location": f"/v2/storage/blobs/{blob().digest}"}))
        assert download(client, server, blob()) == DATA
        assert "authorization" in server.seen[-1].headers

    def test_a_foreign_401_is_not_answered(self, server: FaultyRegistry, foreign: FaultyRegistry) -> None:
        client = admitted(server, foreign)
        server.on("GET", "/blobs/", status(307, {"Location": f"{foreign.url}/signed?signature={SECRET}"}))
        foreign.on("GET", "/", challenge('Basic realm="give"'))
        with pytest.raises(RegistryAccessError, match=r"127\.0\.0\.2:[0-9]+/signed: GET answered with 401") as caught:
            download(client, server, blob())
        assert SECRET not in str(caught.value)
        assert foreign.count("GET") == 1
        # A login is not what is missing there.
        assert caught.value.hint.startswith(f"{server.address} sends there")
        assert "docker login" not in caught.value.hint

    @pytest.mark.parametrize(
        "target",
        [
            "",
            "data:text/plain,x",
            "file:///etc/passwd",
            "ftp://h/x",
            "//",
            "http://",
            "http://a@b/",
            "http://[::1/",
            "http:x",
        ],
    )
    def test_refuses_redirects_to_no_web_address(self, server: FaultyRegistry, client: Client, target: str) -> None:
        server.on("GET", "/blobs/", status(307, {"Location": target}))
        with pytest.raises(RegistryAccessError, match=r"no web address|more than 5 redirects"):
            download(client, server, blob())

    def test_cuts_a_loop_of_redirects(self, server: FaultyRegistry, client: Client) -> None:
        server.on("GET", "/blobs/", status(302, {"Location": "?again"}))
        with pytest.raises(RegistryAccessError, match="more than 5 redirects"):
            download(client, server, blob())
        assert server.count("GET") == 6

    @pytest.mark.parametrize("method", ["POST", "PUT"])
    def test_does_not_follow_redirects_of_uploads(
        self, server: FaultyRegistry, foreign: FaultyRegistry, client: Client, method: str
    ) -> None:
        server.on(method, "/", status(307, {"Location": f"{foreign.url}/"}))
        with pytest.raises(RegistryAccessError, match=f"redirects a {method}"):
            upload(client, server)
        assert foreign.seen == []

    def test_never_from_https_to_http(self, tmp_path: Path, foreign: FaultyRegistry) -> None:
        authority = Authority(tmp_path)
        with FaultyRegistry(tls=authority.issue("registry", ["127.0.0.1"])) as secure:
            client = Client({secure.address: HostSettings(ca=authority.certificate.read_bytes())})
            for scheme in ("http", "HTTP"):
                secure.on("GET", "/blobs/", status(307, {"Location": f"{scheme}://{foreign.address}/x"}), times=1)
                with pytest.raises(RegistryAccessError, match="redirects from https to http"):
                    download(client, secure, blob())
        assert foreign.seen == []

    @pytest.mark.parametrize("path", ["/v2/team/app/blobs/uploads/2", "/store/1?signature=x"])
    def test_an_upload_does_not_go_to_another_host(
        self, server: FaultyRegistry, foreign: FaultyRegistry, path: str
    ) -> None:
        """Neither the content nor what authorizes it, also where the registry does not know the address itself."""
        client = admitted(server, foreign)
        server.on("POST", "/", changed(headers={"Location": f"{foreign.url}{path}"}))
        server.on("PUT", "/uploads/2", status(404))
        with pytest.raises(RegistryAccessError, match=r"another host, 127\.0\.0\.2:"):
            upload(client, server)
        assert foreign.seen == []

    def test_a_registry_that_knows_itself_by_another_name_gets_uploads_under_the_name_it_is_asked_by(
        self, server: FaultyRegistry, foreign: FaultyRegistry, client: Client
    ) -> None:
        where = {"Location": f"{foreign.url}/v2/team/app/blobs/uploads/1?state=a"}
        for method in ("POST", "PATCH"):
            server.on(method, "/", changed(headers=where))
        data = DATA * 8
        client.registry.upload(repository(server), blob(data), lambda start: iter([data[start:]]), slowly=True)
        assert server.blobs[blob(data).digest.text] == data
        assert server.seen[-1].query.startswith("state=a&digest=")
        assert foreign.seen == []

    @pytest.mark.parametrize("location", ["", "ftp://h/", "http://u:p@127.0.0.1/x", "data:,", "http://\x01/"])
    def test_an_upload_does_not_go_to_no_web_address(
        self, server: FaultyRegistry, client: Client, location: str
    ) -> None:
        server.on("POST", "/", changed(headers={"Location": location}))
        with pytest.raises(RegistryAccessError, match="no web address"):
            upload(client, server)

    def test_an_upload_stays_with_a_registry_that_does_not_know_its_address(
        self, server: FaultyRegistry, client: Client
    ) -> None:
        server.on("POST", "/", changed(headers={"Location": "https://127.0.0.1:1/v2/team/app/blobs/uploads/1?state=a"}))
        upload(client, server)
        assert server.blobs[blob().digest.text] == DATA
        assert server.seen[-1].query.startswith("state=a&digest=sha256")

    def test_cookies_are_not_kept(self, server: FaultyRegistry, client: Client) -> None:
        server.put_blob(DATA)
        server.on("GET", "/blobs/", changed(headers={"Set-Cookie": "a=b"}))
        for _ in range(2):
            download(client, server, blob())
        assert "cookie" not in server.seen[-1].headers


class TestAuthorization:
    def test_a_401_without_end_ends(self, server: FaultyRegistry) -> None:
        client = admitted(server)
        server.on("GET", "/manifests/", challenge('Basic realm="x"'))
        with pytest.raises(RegistryAccessError, match="401: UNAUTHORIZED authentication required"):
            client.registry.manifest(TagRef(repository(server), "1"))
        assert server.count("GET") == 2

    def test_the_registrys_own_words_are_told(self, server: FaultyRegistry, client: Client) -> None:
        """Also where there is nothing to answer it with."""
        server.on("GET", "/manifests/", challenge('Basic realm="x"'))
        with pytest.raises(RegistryAccessError, match="401: UNAUTHORIZED authentication required") as caught:
            client.registry.manifest(TagRef(repository(server), "1"))
        assert f"docker login {server.address}," in caught.value.hint
        assert server.count("GET") == 1

    def test_a_wrong_password_is_sent_once(self, server: FaultyRegistry) -> None:
        client = admitted(server)
        server.on("GET", "/manifests/", challenge('Basic realm="x"'))
        for _ in range(2):
            with pytest.raises(RegistryAccessError) as caught:
                client.registry.manifest(TagRef(repository(server), "1"))
            assert SECRET not in f"{caught.value!r} {caught.value.hint} {caught.value.__cause__!r}"
        assert [bool(seen.headers.get("authorization")) for seen in server.seen] == [False, True, True]

    def test_a_token_is_fetched_used_and_renewed(self, server: FaultyRegistry) -> None:
        client = admitted(server)
        server.put_manifest(MANIFEST, media_types.OCI_MANIFEST, "1")
        ref = TagRef(repository(server), "1")
        server.on("GET", "/manifests/", challenge(f'Bearer realm="{server.url}/token",service="s"'), times=1)
        server.on("GET", "/token", status(200, body=b'{"token":"one","expires_in":100}'), times=1)
        server.on("GET", "/token", status(200, body=b'{"access_token":"two","token":"three"}'))
        client.registry.manifest(ref)
        client.registry.manifest(ref)
        assert server.count("GET", "/token") == 1
        assert server.seen[-1].headers["authorization"] == "Bearer one"
        asked = next(seen for seen in server.seen if seen.path == "/token")
        assert asked.query == "service=s&scope=repository%3Ateam%2Fapp%3Apull"
        assert asked.headers["authorization"].startswith("Basic ")
        client.now = 91.0
        client.registry.manifest(ref)
        assert server.seen[-1].headers["authorization"] == "Bearer three"

    def test_a_token_that_is_refused_early_is_renewed(self, server: FaultyRegistry, client: Client) -> None:
        server.put_manifest(MANIFEST, media_types.OCI_MANIFEST, "1")
        header = f'Bearer realm="{server.url}/token"'
        server.on("GET", "/manifests/", challenge(header), times=1)
        server.on("GET", "/token", status(200, body=b'{"token":"one"}'), times=1)
        server.on("GET", "/token", status(200, body=b'{"token":"two"}'), times=1)
        client.registry.manifest(TagRef(repository(server), "1"))
        server.on("GET", "/manifests/", challenge(header), times=1)
        client.registry.manifest(TagRef(repository(server), "1"))
        assert server.seen[-1].headers["authorization"] == "Bearer two"

    def test_a_token_lost_at_the_end_of_an_upload_is_renewed(self, server: FaultyRegistry, client: Client) -> None:
        header = f'Bearer realm="{server.url}/token"'
        server.on("GET", "/token", status(200, body=b'{"token":"one"}'), times=1)
        server.on("GET", "/token", status(200, body=b'{"token":"two"}'), times=1)
        server.on("POST", "/uploads/", challenge(header), times=1)
        server.on("PUT", "/uploads/", challenge(header), times=1)
        assert upload(client, server) == 2
        assert server.blobs[blob().digest.text] == DATA

    def test_threads_share_one_token(self, server: FaultyRegistry, client: Client) -> None:
        server.put_manifest(MANIFEST, media_types.OCI_MANIFEST, "1")
        ref = TagRef(repository(server), "1")
        server.on("GET", "/manifests/", challenge(f'Bearer realm="{server.url}/token"', always=False))
        server.on("GET", "/token", status(200, body=b'{"token":"one"}'))
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda _: client.registry.manifest(ref).raw, range(80))) == [MANIFEST] * 80
        assert server.count("GET", "/token") == 1

    def test_an_identity_token_is_posted(self, server: FaultyRegistry) -> None:
        client = Client({server.address: HostSettings(credentials=Credentials(identity_token=SECRET))})
        server.put_manifest(MANIFEST, media_types.OCI_MANIFEST, "1")
        server.on("GET", "/manifests/", challenge(f'Bearer realm="{server.url}/token",service="s"'), times=1)
        server.on("POST", "/token", status(200, body=b'{"access_token":"one"}'))
        client.registry.manifest(TagRef(repository(server), "1"))
        asked = next(seen for seen in server.seen if seen.path == "/token")
        assert f"refresh_token={SECRET}" in asked.body.decode()
        assert "authorization" not in asked.headers

    @pytest.mark.parametrize(
        "realm",
        ["https://127.0.0.2/token", "https://registry.evil/token", "https://169.254.169.254/", "https://localhost/"],
    )
    def test_credentials_do_not_go_to_a_strange_token_server(self, server: FaultyRegistry, realm: str) -> None:
        client = admitted(server)
        server.on("GET", "/manifests/", challenge(f'Bearer realm="{realm}"'))
        with pytest.raises(RegistryAccessError, match="wants its credentials sent to") as caught:
            client.registry.manifest(TagRef(repository(server), "1"))
        assert "token_hosts" in caught.value.hint
        assert client.pauses == []

    @pytest.mark.parametrize("known", [False, True])
    def test_no_token_is_fetched_without_tls_from_another_host(
        self, server: FaultyRegistry, foreign: FaultyRegistry, *, known: bool
    ) -> None:
        client = admitted(server) if known else Client()
        server.on("GET", "/manifests/", challenge(f'Bearer realm="{foreign.url}/token"'))
        with pytest.raises(RegistryAccessError, match="without TLS"):
            client.registry.manifest(TagRef(repository(server), "1"))
        assert foreign.seen == []

    def test_a_named_token_server_gets_them(self, server: FaultyRegistry, tmp_path: Path) -> None:
        authority = Authority(tmp_path)
        with FaultyRegistry("127.0.0.2", tls=authority.issue("token", ["127.0.0.2"])) as tokens:
            mine = HostSettings(credentials=Credentials("user", SECRET), token_hosts=("127.0.0.2",))
            ca = HostSettings(ca=authority.certificate.read_bytes())
            client = Client({server.address: mine, tokens.address: ca})
            server.put_manifest(MANIFEST, media_types.OCI_MANIFEST, "1")
            server.on("GET", "/manifests/", challenge(f'Bearer realm="{tokens.url}/token"'), times=1)
            tokens.on("GET", "/token", status(200, body=b'{"token":"one"}'))
            client.registry.manifest(TagRef(repository(server), "1"))
            assert server.seen[-1].headers["authorization"] == "Bearer one"
            # The token server's own certificate counts, too.
            server.on("GET", "/manifests/", challenge(f'Bearer realm="{tokens.url}/token"'), times=1)
            strict = Client({server.address: mine})
            with pytest.raises(RegistryAccessError, match="not trusted"):
                strict.registry.manifest(TagRef(repository(server), "1"))

    def test_the_registrys_own_authority_counts_for_its_token_server_and_its_store(self, tmp_path: Path) -> None:
        authority = Authority(tmp_path)
        certificate = authority.issue("site", ["127.0.0.1", "127.0.0.2"])
        with (
            FaultyRegistry(tls=certificate) as registry,
            FaultyRegistry(tls=certificate) as tokens,
            FaultyRegistry("127.0.0.2", tls=certificate) as store,
        ):
            registry.on("GET", "/blobs/", challenge(f'Bearer realm="{tokens.url}/jwt/auth"'), times=1)
            registry.on("GET", "/blobs/", status(307, {"Location": f"{store.url}/v2/a/blobs/{blob().digest}"}))
            tokens.on("GET", "/jwt/auth", status(200, body=b'{"token":"one"}'))
            store.put_blob(DATA)
            ca = authority.certificate.read_bytes()
            client = Client({registry.address: HostSettings(ca=ca, credentials=Credentials("user", SECRET))})
            assert download(client, registry, blob()) == DATA
            assert "authorization" not in store.seen[-1].headers
            # Settings of its own come first.
            other = Client({registry.address: HostSettings(ca=ca), store.address: HostSettings()})
            with pytest.raises(RegistryAccessError, match=rf"{store.address}: the certificate is not trusted"):
                download(other, registry, blob())

    @pytest.mark.parametrize("realm", ["", "token", "/token", "ftp://x/", "http://a:b@127.0.0.1/token"])
    def test_a_realm_that_is_no_web_address(self, server: FaultyRegistry, realm: str) -> None:
        server.on("GET", "/manifests/", challenge(f'Bearer realm="{realm}"'))
        with pytest.raises(RegistryAccessError):
            admitted(server).registry.manifest(TagRef(repository(server), "1"))
        assert server.count("GET") == 1

    @pytest.mark.parametrize(
        "body",
        [
            b"<html>log in</html>",
            b"{}",
            b"[]",
            b'{"token":""}',
            b'{"token":5}',
            b'{"token":"a\\r\\nX: y"}',
            b'{"token":"a","token":"b"}',
            b'{"token":"' + b"a" * 70_000 + b'"}',
            b"x" * (2 << 20),
        ],
    )
    def test_a_token_answer_that_is_none(self, server: FaultyRegistry, client: Client, body: bytes) -> None:
        server.on("GET", "/manifests/", challenge(f'Bearer realm="{server.url}/token"'))
        server.on("GET", "/token", status(200, body=body))
        with pytest.raises((RegistryAccessError, ContentError)):
            client.registry.manifest(TagRef(repository(server), "1"))
        assert server.count("GET") == 2

    @pytest.mark.parametrize(
        "life",
        ["-1", "0", "1e400", '"60"', "null", "true", "1" + "0" * 30],
    )
    def test_a_senseless_life_of_a_token(self, server: FaultyRegistry, client: Client, life: str) -> None:
        server.put_manifest(MANIFEST, media_types.OCI_MANIFEST, "1")
        server.on("GET", "/manifests/", challenge(f'Bearer realm="{server.url}/token"'), times=1)
        server.on("GET", "/token", status(200, body=b'{"token":"one","expires_in":%b}' % life.encode()))
        for _ in range(2):
            client.registry.manifest(TagRef(repository(server), "1"))
        assert server.count("GET", "/token") == 1
        client.now = 51.0
        client.registry.manifest(TagRef(repository(server), "1"))
        assert server.count("GET", "/token") == 2

    def test_a_token_server_that_redirects_is_not_followed(
        self, server: FaultyRegistry, foreign: FaultyRegistry
    ) -> None:
        server.on("GET", "/manifests/", challenge(f'Bearer realm="{server.url}/token"'))
        server.on("GET", "/token", status(307, {"Location": f"{foreign.url}/token"}))
        with pytest.raises(AirferryError):
            admitted(server).registry.manifest(TagRef(repository(server), "1"))
        assert foreign.seen == []


class TestFetch:
    """Documents of chart repositories."""

    def test_a_document(self, server: FaultyRegistry, client: Client) -> None:
        server.on("GET", "/index.yaml", status(200, body=b"entries: {}"))
        assert client.transport.fetch(f"{server.url}/index.yaml", 11) == b"entries: {}"
        with pytest.raises(ContentError, match="larger than 10 bytes"):
            client.transport.fetch(f"{server.url}/index.yaml", 10)

    def test_credentials_of_its_host_only(self, server: FaultyRegistry, foreign: FaultyRegistry) -> None:
        client = admitted(server, foreign)
        server.on("GET", "/a.tgz", challenge('Basic realm="charts"'), times=1)
        server.on("GET", "/a.tgz", status(302, {"Location": f"{foreign.url}/b.tgz"}))
        foreign.on("GET", "/b.tgz", status(200, body=b"chart"))
        assert client.transport.fetch(f"{server.url}/a.tgz", 100) == b"chart"
        assert server.seen[-1].headers["authorization"].startswith("Basic ")
        assert "authorization" not in foreign.seen[-1].headers

    def test_breaks_and_pauses(self, server: FaultyRegistry, client: Client) -> None:
        server.on("GET", "/a.tgz", reset(), times=1)
        server.on("GET", "/a.tgz", status(503), times=1)
        server.on("GET", "/a.tgz", status(200, {"Content-Length": "9"}, b"chart"), times=1)
        server.on("GET", "/a.tgz", status(200, body=b"chart"))
        assert client.transport.fetch(f"{server.url}/a.tgz", 100) == b"chart"
        assert len(client.pauses) == 3

    def test_what_is_not_there(self, server: FaultyRegistry, client: Client) -> None:
        with pytest.raises(NotFoundError, match=r"/absent\.yaml: GET answered with 404"):
            client.transport.fetch(f"{server.url}/absent.yaml?token={SECRET}", 100)

    @pytest.mark.parametrize("url", ["", "index.yaml", "file:///etc/passwd", f"https://user:{SECRET}@h/x", "http://[x"])
    def test_no_web_address(self, client: Client, url: str) -> None:
        with pytest.raises(UsageError, match="not a web address") as caught:
            client.transport.fetch(url, 100)
        assert SECRET not in f"{caught.value}{caught.value.hint}"

    @pytest.mark.parametrize("body", [b"<!DOCTYPE html><html>log in</html>", b"\r\n <html>"])
    def test_a_web_page_is_no_document(self, server: FaultyRegistry, client: Client, body: bytes) -> None:
        """A captive portal, a proxy, or another server answers."""
        server.on("GET", "/", status(200, {"Content-Type": "text/html"}, body))
        for action in (
            lambda: client.transport.fetch(f"{server.url}/index.yaml", 1000),
            lambda: client.registry.manifest(TagRef(repository(server), "1")),
            lambda: client.registry.tags(repository(server)),
        ):
            with pytest.raises(RegistryAccessError, match="a web page comes") as caught:
                action()
            assert "look at it in a browser" in caught.value.hint
        assert server.count("GET") == 3

    def test_what_is_packed_for_the_way_is_unpacked(self, server: FaultyRegistry, client: Client) -> None:
        """Stores send a label that came with a file; of archives it mostly says what the file itself is."""
        label = {"Content-Encoding": "gzip"}
        index, chart = b"entries: {}", gzip.compress(b"chart")
        server.on("GET", "/index.yaml", status(200, label, gzip.compress(index)))
        server.on("GET", "/plain.yaml", status(200, label, index))
        server.on("GET", "/chart.tgz", status(200, label, chart))
        server.on("GET", "/packed.tgz", status(200, label, gzip.compress(chart)))
        for name in ("index", "plain"):
            assert client.transport.fetch(f"{server.url}/{name}.yaml", 100) == index
        for name in ("chart", "packed"):
            assert client.transport.fetch(f"{server.url}/{name}.tgz", 100, packed=True) == chart
        server.on("GET", "/bomb", status(200, label, gzip.compress(bytes(10_000))))
        server.on("GET", "/torn", status(200, label, gzip.compress(index)[:-9]))
        for name, said in (("bomb", "larger than 100 bytes"), ("torn", "without its end")):
            with pytest.raises(ContentError, match=said):
                client.transport.fetch(f"{server.url}/{name}", 100)


class TestUnreachable:
    def test_a_refused_connection(self, client: Client) -> None:
        with pytest.raises(RegistryUnreachableError, match=r"localhost:1: connection refused"):
            client.registry.manifest(TagRef(Repository("localhost:1", "a"), "1"))
        assert len(client.pauses) == 4

    def test_a_name_that_does_not_exist(self, client: Client) -> None:
        with pytest.raises(RegistryUnreachableError, match=r"registry\.invalid:443: the name cannot be resolved"):
            client.registry.manifest(TagRef(Repository("registry.invalid", "a"), "1"))

    def test_silence_while_tls_begins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("installer.registry.connections.CONNECT_SECONDS", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            host = f"127.0.0.1:{silent.getsockname()[1]}"
            client = Client({host: HostSettings(plain_http=False)})
            with pytest.raises(RegistryUnreachableError, match="no connection in time"):
                client.registry.manifest(TagRef(Repository(host, "a"), "1"))

    def test_no_tls_where_tls_is_expected(self, server: FaultyRegistry) -> None:
        client = Client({server.address: HostSettings(plain_http=False)})
        with pytest.raises(RegistryAccessError, match="answers without TLS") as caught:
            client.registry.manifest(TagRef(repository(server), "1"))
        assert "plain_http" in caught.value.hint
        assert client.pauses == []

    def test_a_certificate_of_an_unknown_authority(self, tmp_path: Path) -> None:
        authority = Authority(tmp_path, "The Site's Own")
        with FaultyRegistry(tls=authority.issue("registry", ["127.0.0.1"])) as secure:
            client = Client({secure.address: HostSettings(plain_http=False)})
            with pytest.raises(RegistryAccessError, match='issuer "CN=The Site\'s Own", SHA-256') as caught:
                client.registry.manifest(TagRef(repository(secure), "1"))
            assert "`ca:`" in caught.value.hint
            assert client.pauses == []

    def test_a_certificate_for_another_name(self, tmp_path: Path) -> None:
        authority = Authority(tmp_path)
        with FaultyRegistry(tls=authority.issue("registry", ["registry.site"])) as secure:
            client = Client({secure.address: HostSettings(ca=authority.certificate.read_bytes())})
            with pytest.raises(RegistryAccessError, match="IP address mismatch") as caught:
                client.registry.manifest(TagRef(repository(secure), "1"))
            assert "name" in caught.value.hint

    def test_an_authority_counts_for_its_host_only(self, tmp_path: Path) -> None:
        authority = Authority(tmp_path)
        tls = authority.issue("registry", ["127.0.0.1", "127.0.0.2"])
        with FaultyRegistry(tls=tls) as one, FaultyRegistry("127.0.0.2", tls=tls) as two:
            one.put_manifest(MANIFEST, media_types.OCI_MANIFEST, "1")
            client = Client(
                {
                    one.address: HostSettings(ca=authority.certificate.read_bytes()),
                    two.address: HostSettings(plain_http=False),
                }
            )
            client.registry.manifest(TagRef(repository(one), "1"))
            with pytest.raises(RegistryAccessError, match="not trusted"):
                client.registry.manifest(TagRef(repository(two), "1"))


def test_seeded_nonsense_is_refused_without_a_trace(server: FaultyRegistry) -> None:
    """Answers of random status, headers and bodies: an error of ours or content that the caller will check."""
    dice = random.Random(11)
    names = ["Content-Length", "Content-Type", "Location", "Docker-Content-Digest", "Content-Range", "Retry-After"]
    names += ["Transfer-Encoding", "Content-Encoding", "WWW-Authenticate", "Connection", "Date"]
    values = [
        "",
        "0",
        "5",
        "-1",
        "\x7f",
        "gzip",
        "chunked",
        "close",
        "Bearer",
        'Bearer realm="',
        "bytes 0-1/2",
        "text/html",
    ]
    values += ["sha256:" + "a" * 64, "http://[", "/x", "é", "a" * 5000, media_types.OCI_INDEX, "Basic x", "=,=,"]
    bodies = [b"", b"{}", b"[]", b"null", b"\xff\xfe", MANIFEST, b'{"errors":[5]}', b'{"errors":{"a":1}}', DATA[:5000]]
    codes = [200, 200, 200, 201, 202, 204, 206, 301, 307, 400, 401, 404, 413, 416, 429, 500, 599]
    for _ in range(150):
        client = admitted(server)
        headers = {dice.choice(names): dice.choice(values).encode().decode("latin-1") for _ in range(dice.randrange(4))}
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
            server.on(method, "/", status(dice.choice(codes), headers, dice.choice(bodies)), times=1)
        error = outcome(client, server, dice.randrange(6))
        if error is not None:
            assert error.message.isprintable()
            assert SECRET not in error.message + error.hint


def outcome(client: Client, server: FaultyRegistry, action: int) -> AirferryError | None:
    """The error that one of the client's actions ends in, if any."""
    try:
        match action:
            case 0:
                client.registry.manifest(TagRef(repository(server), "1"))
            case 1:
                client.registry.head_manifest(TagRef(repository(server), "1"))
            case 2:
                client.registry.has_blob(repository(server), blob())
            case 3:
                client.registry.mount(repository(server), blob().digest, Repository(server.address, "b"))
            case 4:
                upload(client, server, DATA[:100])
            case _:
                download(client, server, blob(DATA[:100]))
    except AirferryError as exc:
        return exc
    return None


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"<html></html>",
        b"HTTP/0.9 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/1.1 200 " + b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 70_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
    ],
)
def test_what_is_not_http_is_an_error_of_ours(server: FaultyRegistry, client: Client, answer: bytes) -> None:
    for method in ("GET", "HEAD", "POST", "PUT"):
        server.on(method, "/", raw(answer))
    for action in (0, 2, 4, 5):
        error = outcome(client, server, action)
        if error is not None:
            assert error.message.isprintable()
            assert isinstance(error, ContentError | RegistryAccessError | RegistryUnreachableError)


def test_a_client_can_be_made_without_any_settings() -> None:
    assert isinstance(Registry(Transport()), Registry)

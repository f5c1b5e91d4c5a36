"""Uploads that break off go on where the registry says that they ended, in this process and in a later one."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from installer.errors import ContentError, RegistryUnreachableError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Descriptor
from installer.oci.reference import Repository
from installer.registry.client import Registry
from installer.registry.upload_sessions import MOST, UploadSessions
from tests.parts.faulty_registry import FaultyRegistry, changed, partly, status
from tests.unit.oci.conftest import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20
DATA = random.Random(8).randbytes(9 * MIB)
BLOB = Descriptor(media_types.OCI_LAYER, Digest.of(DATA), len(DATA))
START = "http://127.0.0.1:5000/v2/team/app/blobs/uploads/"


def upload(client: Client, server: FaultyRegistry, unfinished: UploadSessions | None = None) -> tuple[int, list[int]]:
    """Upload DATA; the bytes of it that an earlier process had brought, and the positions it was asked for from."""
    asked: list[int] = []

    def content(position: int) -> Iterator[memoryview]:
        asked.append(position)
        view = memoryview(DATA)
        return (view[start : start + 2 * MIB] for start in range(position, len(DATA), 2 * MIB))

    registry = Registry(client.transport, unfinished)
    earlier = registry.upload(Repository(server.address, "team/app"), BLOB, content)
    assert server.blobs[BLOB.digest.text] == DATA
    return earlier, asked


def killed(client: Client, server: FaultyRegistry, folder: Path, count: int = 5 * MIB) -> Path:
    """An upload that ends after `count` bytes, as when its process is killed; the file that it leaves."""
    server.on("PUT", "/uploads/", partly(count), times=1)
    server.on("HEAD", "/blobs/", status(401), times=1)
    with pytest.raises(Exception, match="401"):
        upload(client, server, UploadSessions(folder))
    (file,) = folder.iterdir()
    return file


def test_a_broken_upload_goes_on_where_it_broke_off(server: FaultyRegistry, client: Client) -> None:
    server.on("PUT", "/uploads/", partly(5 * MIB), times=1)
    server.on("PATCH", "/uploads/", partly(3 * MIB + 1), times=1)
    assert upload(client, server) == (0, [0, 5 * MIB, 8 * MIB + 1])
    assert server.count("POST") == 1


def test_tries_are_counted_anew_after_progress(server: FaultyRegistry, client: Client) -> None:
    server.on("PUT", "/uploads/", partly(MIB), times=1)
    server.on("PATCH", "/uploads/", partly(MIB), times=7)
    assert upload(client, server) == (0, [count * MIB for count in range(9)])
    server.on("PUT", "/uploads/", partly(10), times=1)
    server.on("PATCH", "/uploads/", partly(10))
    server.blobs.clear()
    with pytest.raises(RegistryUnreachableError, match="reset"):
        upload(client, server)


def test_an_upload_that_the_registry_forgot_begins_anew(server: FaultyRegistry, client: Client) -> None:
    server.on("PUT", "/uploads/", partly(5 * MIB), times=1)
    server.on("GET", "/uploads/", status(404), times=1)
    assert upload(client, server) == (0, [0, 0])


@pytest.mark.parametrize("words", ["", "0-0", "0-9437184", "5-10", "0-99999999999999999999", "junk"])
def test_an_impossible_position_is_not_believed(server: FaultyRegistry, client: Client, words: str) -> None:
    server.on("PUT", "/uploads/", partly(5 * MIB), times=1)
    server.on("GET", "/uploads/", changed(headers={"Range": words}), times=1)
    assert upload(client, server) == (0, [0, 0])


def test_what_does_not_fit_together_is_sent_anew(server: FaultyRegistry, client: Client) -> None:
    """The registry holds other bytes than it was sent, and fewer than it says."""
    server.on("PUT", "/uploads/", partly(5 * MIB), times=1)
    server.on("GET", "/uploads/", changed(headers={"Range": f"0-{6 * MIB - 1}"}), times=1)
    assert upload(client, server) == (0, [0, 6 * MIB, 0])


def test_a_later_process_goes_on(server: FaultyRegistry, client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "state" / "uploads"
    server.on("POST", "/uploads/", changed(headers={"Location": "/v2/team/app/blobs/uploads/1?_state=secret"}), times=1)
    file = killed(client, server, folder)
    assert file.read_text() == "/v2/team/app/blobs/uploads/1"
    assert (file.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
    assert upload(Client(), server, UploadSessions(folder)) == (5 * MIB, [5 * MIB])
    assert not list(folder.iterdir())


def test_an_upload_that_has_all_is_only_ended(server: FaultyRegistry, client: Client, tmp_path: Path) -> None:
    killed(client, server, tmp_path, len(DATA))
    assert upload(Client(), server, UploadSessions(tmp_path)) == (len(DATA), [])


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"/",
        b"/v2/team/app/blobs/uploads/",
        b"/v2/team/other/blobs/uploads/1",
        b"/v2/team/app/blobs/uploads/../../../other/blobs/uploads/1",
        b"/v2/team/app/blobs/uploads/1?x=y",
        b"/v2/team/app/blobs/uploads/1\r\nX: y",
        b"/v2/team/app/blobs/uploads/" + b"1" * 5000,
        b"http://127.0.0.2:1/v2/team/app/blobs/uploads/1",
        b"//127.0.0.2/v2/team/app/blobs/uploads/1",
        b"\xff\xfe\x00",
    ],
)
def test_what_lies_in_the_folder_is_not_believed(
    server: FaultyRegistry, client: Client, tmp_path: Path, text: bytes
) -> None:
    file = killed(client, server, tmp_path)
    file.write_bytes(text)
    server.seen.clear()
    assert upload(client, server, UploadSessions(tmp_path)) == (0, [0])
    assert server.count("GET") == 0


def test_a_refused_continuation_of_another_process_begins_anew(
    server: FaultyRegistry, client: Client, tmp_path: Path
) -> None:
    killed(client, server, tmp_path)
    server.upload = bytes(5 * MIB)
    assert upload(client, server, UploadSessions(tmp_path)) == (0, [5 * MIB, 0])


def test_one_of_two_processes_goes_on(tmp_path: Path) -> None:
    with UploadSessions(tmp_path).claim(START, BLOB.digest) as first:
        first.keep(f"{START}1")
        with UploadSessions(tmp_path).claim(START, BLOB.digest) as second:
            assert second.address == ""
            second.keep(f"{START}2")
    with UploadSessions(tmp_path).claim(START, BLOB.digest) as later:
        assert later.address == f"{START}1"
        assert UploadSessions(tmp_path).claim(START.replace("5000", "5001"), BLOB.digest).address == ""


def test_nothing_is_kept_where_it_cannot_be(server: FaultyRegistry, client: Client, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert upload(client, server, UploadSessions(tmp_path / "file" / "uploads")) == (0, [0])
    elsewhere = tmp_path / "elsewhere"
    file = killed(client, server, tmp_path / "uploads")
    file.unlink()
    file.symlink_to(elsewhere)
    upload(client, server, UploadSessions(tmp_path / "uploads"))
    assert not elsewhere.exists()


def test_the_folder_does_not_grow_without_end(tmp_path: Path) -> None:
    for number in range(MOST + 5):
        (tmp_path / f"{number}").touch()
    with UploadSessions(tmp_path).claim(START, BLOB.digest) as claim:
        claim.keep(f"{START}1")
    assert len(list(tmp_path.iterdir())) == MOST + 1


def test_nothing_is_made_before_there_is_something_to_keep(tmp_path: Path) -> None:
    UploadSessions(tmp_path / "uploads")
    assert not list(tmp_path.iterdir())


def test_a_wrong_digest_is_an_error_of_a_new_upload(server: FaultyRegistry, client: Client) -> None:
    wrong = Descriptor(media_types.OCI_LAYER, Digest.of(b"other"), len(DATA))
    with pytest.raises(ContentError, match="DIGEST_INVALID"):
        client.registry.upload(Repository(server.address, "a"), wrong, lambda start: [DATA[start:]])

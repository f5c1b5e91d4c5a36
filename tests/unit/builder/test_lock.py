"""The lock file: what it says, and that nothing else is read."""

import json
from typing import Any

import pytest

from builder.assemble.contents import contents
from builder.assemble.plan import image_bytes, plan_document, plan_table
from builder.recipe.findings import Excluded
from builder.recipe.lock import Lock, LockedBlob, LockedManifest, reach
from builder.resolve.listing import changes, image_list, image_table
from installer.errors import BundleError, RecipeError
from installer.oci.digest import Digest
from installer.value import replace
from tests.parts.locks import digest, example


def test_written_and_read_back() -> None:
    lock = example()
    raw = lock.encode()
    assert Lock.decode(raw) == lock
    assert raw.endswith(b"}\n")
    assert raw.isascii()
    assert json.loads(raw)["images"][0]["origin"] == {
        "kind": "registry",
        "location": "docker.io/team/app",
        "name": "1.0",
    }


def edited(change: Any) -> bytes:
    document = json.loads(example().encode())
    change(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda doc: doc.update(format="airferry-lock/1"), "this program reads airferry-lock/6"),
        (lambda doc: doc.update(extra=1), "object contains unknown field extra"),
        (lambda doc: doc.pop("images"), "object missing required field images"),
        (lambda doc: doc.update(sequence="1"), "sequence"),
        (lambda doc: doc.update(created="yesterday"), "not a time"),
        (lambda doc: doc["images"].reverse(), "images are not sorted"),
        (lambda doc: doc["blobs"].pop(), "missing"),
        (lambda doc: doc["manifests"].pop(), "content"),
        (lambda doc: doc["images"].pop(), "nothing uses"),
        (lambda doc: doc["images"][0].update(size=2), "two sizes"),
        (lambda doc: doc["images"][0].update(source="team/app:1.0"), "not the full form"),
        (lambda doc: doc["images"][0]["origin"].update(kind="ftp"), "unknown kind of origin"),
        (lambda doc: doc["images"][0]["origin"].update(location="team/app"), "not a full repository name"),
        (lambda doc: doc["charts"][0].update(archive=doc["documents"][0]["digest"]), "archive"),
        (lambda doc: doc["documents"][0].update(name="../x"), "not a document name"),
        (lambda doc: doc["documents"][1].update(kind="surprise"), "unknown kind"),
        (lambda doc: doc["registries"][0].update(scheme="ftp"), "unknown scheme"),
        (lambda doc: doc["blobs"][0].update(digest="sha256:0"), "not a sha256 digest"),
        (lambda doc: doc["blobs"][0].update(text="not what the digest says"), "not its text"),
        (lambda doc: doc["blobs"][0].update(size=-1), ""),
    ],
)
def test_an_edited_lock_is_refused(change: Any, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Lock.decode(edited(change))
    assert words in caught.value.message
    assert caught.value.message.startswith("airferry.lock: ")
    assert "airferry lock" in caught.value.hint


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{", b'{"a":1,"a":2}', b'{"format": 1.5}', b"\xff", b'{"a": null}', b"[" * 900 + b"]" * 900]
)
def test_what_is_no_lock_is_refused(raw: bytes) -> None:
    with pytest.raises(RecipeError):
        Lock.decode(raw)


def test_every_byte_matters_or_is_refused() -> None:
    """No single changed byte leads to another valid lock that is taken for the same."""
    raw = example().encode()
    for place in range(0, len(raw), 7):
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        try:
            assert Lock.decode(changed) != example() or changed.split() == raw.split()
        except RecipeError:
            continue


@pytest.mark.parametrize("text", ["{}", "# lines\nof text\n", "für alle: ✓\n", "base64:AAAA", '{"a":"\\\\"}'])
def test_texts_that_are_made_are_kept_in_the_lock(text: str) -> None:
    raw = text.encode()
    blob = LockedBlob.made(raw)
    assert (blob.content, blob.digest, blob.size) == (raw, Digest.of(raw), len(raw))
    assert blob.text == text or blob.text.startswith("base64:")
    with pytest.raises(BundleError, match=r"broken Base64"):
        replace(blob, text="base64:?")


def test_names_outside_ascii_are_refused_with_a_hint() -> None:
    lock = replace(example(), excluded=(Excluded("docker.io/library/x:1", "ausgeführt"),))
    with pytest.raises(RecipeError, match="ASCII"):
        lock.encode()


def test_a_tree_that_contains_itself_is_refused() -> None:
    one, two = LockedManifest(digest("1"), (digest("2"),)), LockedManifest(digest("2"), (digest("1"),))
    with pytest.raises(BundleError, match="deep"):
        reach({one.digest: one, two.digest: two}, one.digest)


def test_own_and_shared_bytes() -> None:
    app, job = image_bytes(example())
    assert (app.image.source, app.own, app.shared, app.total) == ("docker.io/team/app:1.0", 3, 100, 103)
    assert (job.own, job.shared) == (2, 100)


def test_the_plan_adds_up() -> None:
    lock = example()
    sizes = contents(lock).volume_sizes
    document = plan_document(lock, contents(lock), free=10**9)
    assert document["file_bytes"] == sum(sizes)
    assert document["blob_bytes"] == sum(blob.size for blob in lock.blobs)
    table = plan_table(document)
    assert f"file: {sum(sizes)} bytes" in table
    assert "docker.io/team/app:1.0" in table


def test_the_list_says_why() -> None:
    document = image_list(example())
    assert [item["image"] for item in document["images"]] == ["docker.io/team/app:1.0", "docker.io/team/job:1.0"]
    assert document["images"][0]["reasons"][0]["container"] == "main"
    table = image_table(document)
    assert "    chart web: Deployment web, container main: spec.containers[0].image" in table
    assert "excluded by the recipe (1):\n  docker.io/library/python:3.12\n      because test pods only" in table
    assert "suspected, left out (1):\n  docker.io/team/agent:1\n      because it may be no image" in table
    assert "  docker.io/team/extra:latest  (mutable tag)\n      a.on=true and b.on=true\n" in table
    assert "failing, not looked into (1):\n  web/charts/x\n      the archive lacks this subchart" in table


def test_changes_name_what_moved() -> None:
    old = example()
    moved = replace(old.images[0], upstream=digest("other"))
    new = replace(old, images=(moved, old.images[1]))
    assert changes(None, new) == changes(old, old) == []
    assert changes(old, new) == [f"image docker.io/team/app:1.0: {digest('app')} -> {digest('other')}"]
    assert changes(old, replace(old, version="1.1")) == ["settings, reasons or descriptions differ"]

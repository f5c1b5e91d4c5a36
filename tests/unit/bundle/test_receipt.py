"""Receipts: files and lines that say what a registry holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from installer.errors import AirferryError, BundleError, UsageError
from installer.transfer.receipt import DIGITS, Receipt
from installer.value import replace

if TYPE_CHECKING:
    from tests.parts.bundles import Cargo

REGISTRY = "registry.example.com:5000/airferry"


@pytest.fixture(scope="module")
def receipt(cargo: Cargo) -> Receipt:
    return Receipt.of(cargo.skeleton(), {image.source for image in cargo.images}, REGISTRY)


def test_what_it_names(cargo: Cargo, receipt: Receipt) -> None:
    manifest = cargo.skeleton()
    for image in manifest.images:
        held = dict(receipt.repositories)[str(image.reference.repository)]
        prefixes = [held[start : start + DIGITS] for start in range(0, len(held), DIGITS)]
        parts = (manifest.blobs[number] for number in image.parts)
        assert prefixes == sorted(blob.digest.hex[:DIGITS] for blob in parts if not blob.is_manifest)
    # What was not loaded is not there.
    assert [name for name, _ in Receipt.of(manifest, {cargo.images[0].source}, REGISTRY).repositories] == [
        str(cargo.images[0].reference.repository)
    ]


def test_bytes_and_back(receipt: Receipt) -> None:
    assert Receipt.decode(receipt.encode()) == receipt
    assert Receipt.decode(f"  {receipt.text} \n".encode()) == replace(receipt, repositories=())
    assert len(receipt.text) < 120


def test_what_was_copied_wrong(receipt: Receipt) -> None:
    for text in (receipt.text[:-1], receipt.text.replace("5000", "5001"), receipt.text.upper(), "airferry-receipt/1"):
        with pytest.raises(UsageError):
            Receipt.decode(text.encode())
    document = json.loads(receipt.encode())
    for change in (
        {"registry": "registry.example.com:5001/airferry"},
        {"registry": "a b"},
        {"content": "0" * 16},
        {"check": ""},
        {"format": "airferry-receipt/2"},
        {"repositories": [["docker.io/library/page", "abc"]]},
        {"repositories": [["page", "a" * DIGITS]]},
    ):
        raw = json.dumps({**document, **change}, sort_keys=True, separators=(",", ":")).encode()
        with pytest.raises(AirferryError):
            Receipt.decode(raw)
    with pytest.raises(BundleError):
        Receipt.decode(b"{}")

"""The parts that other tests are made of: images have the promised bytes, registries behave as configured."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
import urllib.request
from base64 import b64encode
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.error import HTTPError

import pytest

from tests.parts.authority import Authority
from tests.parts.images import DOCKER, OCI, Family, push, write_layout
from tests.parts.registry import Registry
from tests.parts.runnable import httpd, two_platforms

if TYPE_CHECKING:
    from pathlib import Path


def fetch(url: str, media_type: str, *, user: str | None = None, trust: Path | None = None) -> bytes:
    request = urllib.request.Request(url, headers={"Accept": media_type})
    if user is not None:
        request.add_header("Authorization", f"Basic {b64encode(user.encode()).decode()}")
    context = None if trust is None else ssl.create_default_context(cafile=str(trust))
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:
        data: bytes = answer.read()
    return data


def test_the_same_description_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write_layout(tmp_path / "first", two_platforms(httpd()))
    second = write_layout(tmp_path / "second", two_platforms(httpd()))
    assert (first.digest, first.blobs) == (second.digest, second.blobs)
    for digest, size in first.blobs.items():
        data = (first.path / "blobs" / digest.replace(":", "/")).read_bytes()
        assert ("sha256:" + hashlib.sha256(data).hexdigest(), len(data)) == (digest, size)


@pytest.mark.parametrize("family", [OCI, DOCKER], ids=["oci", "docker"])
@pytest.mark.parametrize("several", [False, True], ids=["manifest", "index"])
def test_a_pushed_image_keeps_its_digest_and_media_type(tmp_path: Path, family: Family, *, several: bool) -> None:
    image = httpd()
    layout = write_layout(tmp_path / "layout", two_platforms(image) if several else image, family=family)
    with Registry(tmp_path / "registry") as registry:
        push(layout, f"{registry.address}/team/app:1")
        manifest = fetch(f"{registry.url}/v2/team/app/manifests/1", layout.media_type)
    assert "sha256:" + hashlib.sha256(manifest).hexdigest() == layout.digest
    assert layout.media_type == (family.index if several else family.manifest)


def test_a_registry_with_users_and_tls_admits_who_knows_both(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    layout = write_layout(tmp_path / "layout", httpd())
    tls = authority.issue("registry", ["127.0.0.1"])
    with Registry(tmp_path / "registry", users={"alice": "secret"}, tls=tls) as registry:
        reference = f"{registry.address}/app:1"
        push(layout, reference, credentials=("alice", "secret"), ca=authority.certificate)
        with pytest.raises(RuntimeError, match="certificate signed by unknown authority"):
            push(layout, reference, credentials=("alice", "secret"), ca=Authority(tmp_path / "other").certificate)
        with pytest.raises(RuntimeError, match="unauthorized"):
            push(layout, reference, credentials=("alice", "wrong"), ca=authority.certificate)
        url = f"{registry.url}/v2/app/manifests/1"
        assert fetch(url, layout.media_type, user="alice:secret", trust=authority.certificate)
        with pytest.raises(HTTPError, match="401"):
            fetch(url, layout.media_type, trust=authority.certificate)
        answers = [access.status for access in registry.accesses() if access.path == "/v2/app/manifests/1"]
        assert answers[-2:] == [200, 401]


def test_a_registry_keeps_address_and_content_when_it_is_started_again(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", httpd())
    registry = Registry(tmp_path / "registry")
    with registry:
        address = registry.address
        push(layout, f"{address}/app:1")
        process = registry.process
    assert process is not None
    assert not process.alive()
    with registry:
        assert registry.address == address
        assert fetch(f"{registry.url}/v2/app/manifests/{layout.digest}", layout.media_type)


def test_a_registry_that_cannot_start_says_why(tmp_path: Path) -> None:
    with Registry(tmp_path / "first") as first:
        second = Registry(tmp_path / "second", port=first.port)
        with pytest.raises(RuntimeError, match="address already in use"):
            second.start()


def test_openssl_accepts_a_certificate_while_it_is_valid(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    valid = authority.issue("valid", ["localhost"])
    expired = authority.issue("expired", ["localhost"], lifetime=timedelta(days=-1))
    command: list[str | Path] = ["openssl", "verify", "-x509_strict", "-CAfile", authority.certificate]
    assert subprocess.run([*command, valid.certificate], capture_output=True, check=False).returncode == 0
    refused = subprocess.run([*command, expired.certificate], capture_output=True, text=True, check=False)
    assert "certificate has expired" in refused.stderr

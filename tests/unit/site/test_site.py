"""The part of site.yaml that every application has, and what is read of it where there is no application."""

from __future__ import annotations

import datetime as dt
import shlex
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from installer.cli.registry_place import of_site
from installer.errors import SiteError
from installer.site.answers import PULL_SECRET
from installer.site.certificates import MAX_CERTIFICATES, Certificates
from installer.site.site import RegistryOnly, RegistryPart, Site
from installer.strict_yaml import load_yaml
from tests.parts.authority import Authority

if TYPE_CHECKING:
    from pathlib import Path

    from installer.site.site import ApplicationAnswers

FULL = """
registry:
  host: r.enclave:5000
  project: team
  ca: ca.pem
  credentials: {username: robot, password: {env: PASSWORD}}
  token_hosts: ["login.enclave:443"]
  answer_seconds: 300
  pause_seconds: 3600
  pull_secret: true
"""
# Of an application that nobody here knows.
FOREIGN = "host: https://app.example\nsize: {of: [1, 2]}\nmysql: {password: {file: absent.txt}}\n"


def load(text: str, folder: Path, application: ApplicationAnswers, **more: Any) -> Site:
    given: dict[str, Any] = {"environment": {"PASSWORD": "pw"}.get, "prompt": lambda question: question, **more}
    return Site.load(text.encode(), folder, application=application, now=dt.datetime.now(dt.UTC), **given)


@pytest.fixture
def authority(tmp_path: Path) -> bytes:
    """The certificate in `ca.pem`."""
    data = Authority(tmp_path / "authority").certificate.read_bytes()
    (tmp_path / "ca.pem").write_bytes(data)
    return data


def test_the_registry_part_is_read_and_nothing_else(authority: bytes, tmp_path: Path) -> None:
    site = load(FULL + FOREIGN, tmp_path, RegistryPart(), parse=load_yaml)
    assert (site.registry, site.project, site.on_nodes) == ("r.enclave:5000", "team", False)
    assert site.registry_ca == authority
    assert site.registry_authorities == (authority.decode(),)
    assert site.answers.registry.token_hosts == ["login.enclave:443"]
    settings = of_site(site).settings
    assert (settings.answer_seconds, settings.pause_seconds) == (300, 3600)
    credentials = site.credentials()
    assert credentials
    assert (credentials.username, credentials.password) == ("robot", "pw")
    assert site.files is None
    with pytest.raises(SiteError, match=r"registry\.hots: unknown key; did you mean host\?"):
        load("registry: {host: h, hots: h}", tmp_path, RegistryPart())


def test_without_an_application_its_keys_are_unknown(authority: bytes, tmp_path: Path) -> None:
    assert load(FULL, tmp_path, RegistryOnly()).registry_ca == authority
    with pytest.raises(SiteError) as caught:
        load(FULL + FOREIGN, tmp_path, RegistryOnly())
    places = [line.partition(":")[0].strip() for line in caught.value.message.splitlines()[1:]]
    assert places == ["host", "mysql", "size"]


def test_from_elsewhere_no_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match=r"registry\.ca: "):
        load(FULL, tmp_path, RegistryPart())
    site = load(FULL, tmp_path, RegistryPart(), elsewhere=True)
    assert (site.registry, site.registry_ca) == ("r.enclave:5000", None)


def test_the_pull_secret_is_made_for_each_namespace_once(authority: bytes, tmp_path: Path) -> None:
    assert authority
    site = load(FULL, tmp_path, RegistryOnly())
    made = list(site.pull_secrets(["b", "a", "b"], blank=False))
    assert [(item.name, item.namespace) for item in made] == [(PULL_SECRET, "a"), (PULL_SECRET, "b")]
    assert '"username": "robot"' in made[0].data[".dockerconfigjson"].reveal()
    (blank,) = site.pull_secrets(["a"], blank=True)
    assert blank.data[".dockerconfigjson"].reveal() == ""
    plain = load("registry: {host: h}", tmp_path, RegistryOnly())
    assert list(plain.pull_secrets(["a"], blank=False)) == []


def test_a_pull_secret_that_is_in_the_cluster_is_only_named(tmp_path: Path) -> None:
    site = load("registry: {host: h, pull_secret: regcred}", tmp_path, RegistryOnly())
    assert site.answers.registry.pull_secret_name == "regcred"
    assert list(site.pull_secrets(["a"], blank=False)) == []
    for wrong in ("Not_A_Name", "1", "''"):
        with pytest.raises(
            SiteError, match=r"registry\.pull_secret: neither true, nor false, nor the name of a Secret"
        ):
            load(f"registry: {{host: h, pull_secret: {wrong}}}", tmp_path, RegistryOnly())


@pytest.mark.parametrize(
    ("name", "made", "what"),
    [
        ("ca.cer", "x509 -outform DER", "a certificate in DER"),
        ("ca.p7b", "crl2pkcs7 -nocrl -certfile", "a PKCS #7 file"),
        ("ca.pem", "crl2pkcs7 -nocrl -outform DER -certfile", "a PKCS #7 file in DER"),
        ("my ca.pfx", "pkcs12 -export -nokeys -passout pass:word", "a PKCS #12 store"),
    ],
)
def test_another_form_is_named_with_the_command_that_converts_it(
    authority: bytes, tmp_path: Path, name: str, made: str, what: str
) -> None:
    certificate, password = tmp_path / "authority.crt", ["-passin", "pass:word"] if "pkcs12" in made else []
    certificate.write_bytes(authority)
    way = made.split() if made.endswith("-certfile") else [*made.split(), "-in"]
    subprocess.run(["openssl", *way, str(certificate), "-out", name], cwd=tmp_path, check=True)
    with pytest.raises(SiteError) as caught:
        load(f"registry: {{host: h, ca: {name}}}", tmp_path, RegistryPart())
    told, _, command = str(caught.value).partition("; convert it: ")
    assert told == f"site.yaml: registry.ca: {name}: is {what}, not PEM"
    words = shlex.split(command)
    subprocess.run([*words, *password], cwd=tmp_path, check=True)
    assert load(f"registry: {{host: h, ca: {words[-1]}}}", tmp_path, RegistryPart()).registry_ca == authority


def test_certificates_fit_into_a_config_map() -> None:
    many = [Certificates((f"{number:01000}",)) for number in range(MAX_CERTIFICATES // 1000 + 1)]
    assert len(Certificates.joined(many[:-1]).pems) == len(many) - 1
    with pytest.raises(SiteError, match="ConfigMap"):
        Certificates.joined(many)

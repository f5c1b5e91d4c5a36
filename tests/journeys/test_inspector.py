"""An inspector without our program: types the commands of the run sheet, and compares what they print with the page."""

from __future__ import annotations

import hashlib
import io
import random
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from builder.release.failures import ROWS, SENDERS
from builder.release.freeze import freeze
from builder.release.sign import attach, sums_of
from installer.bundle import canonical
from installer.errors import AirferryError, UntrustedError
from installer.report import Silent
from installer.value import replace
from installer.verify.verification import verify
from installer.verify.verification_report import Verification
from tests.exit_codes import errors
from tests.parts.bundles import KEYS, open_bundle, reference_cargo, signing_key
from tests.parts.commands import commands
from tests.parts.elf import elf
from tests.parts.mounted import iso_image, mounted_iso
from tests.parts.programs import Program, assert_refused, from_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.release.sign import SigningKey
    from tests.journeys.conftest import Carried

KEY, OTHER = KEYS / "test-only.pub", KEYS / "other-test-only.pub"
TRUST = ("--key", "release.pub")
LINES = 94
"""So many lines in the type of the HTML page fit onto A4."""


@dataclass(frozen=True)
class Sent:
    """The five discs of a bundle, the sender's `airferry` in the folder with them and the keys, and the page."""

    discs: tuple[Path, ...]
    airferry: Program
    page: str


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Sent:
    """Leave it unchanged."""
    folder = tmp_path_factory.mktemp("sender")
    discs = five_discs(folder, signing_key())
    shutil.copyfile(KEY, folder / "release.pub")
    airferry = from_source("builder", folder)
    return Sent(discs, airferry, printed(airferry, "sheet", *discs, *TRUST))


def five_discs(folder: Path, key: SigningKey) -> tuple[Path, ...]:
    """A bundle in five volumes; a document of 18 MiB is cut into five. It brings an application."""
    cargo = reference_cargo(folder)
    cargo.document("site.yaml", b"namespace: demo\n", "site")
    cargo.document("large.bin", random.Random(1).randbytes(18 << 20))
    discs = cargo.write(folder, volume_size=4_300_000, key=key)
    assert len(discs) == 5
    return discs


def printed(program: Program, *arguments: str | Path) -> str:
    """What a command prints that succeeds."""
    name, *rest = map(str, arguments)
    done = program.run(name, *rest)
    assert done.returncode == 0, done.stderr
    return done.stdout


def steps(page: str) -> list[tuple[str, list[str]]]:
    """The commands of the section that checks one volume, each with the lines that it must print."""
    (section,) = (part for part in re.split(r"\n-{5,}\n", page) if "     $ V=" in part)
    found: list[tuple[str, list[str]]] = []
    for line in section.splitlines():
        if line.startswith("     $ "):
            found.append((line[7:], []))
        elif found and line.startswith("     "):
            found[-1][1].append(line[5:])
    return found


def inspect(page: str, disc: Path | None, number: int, folder: Path, key: Path = KEY) -> list[str]:
    """Check the disc that should be volume `number`, in a new folder: what printed something else than on the page.

    Without a disc the commands are typed as they are.
    """
    folder.mkdir()
    shutil.copyfile(key, folder / "release.pub")
    _, size, members, _ = re.findall(rf"^({number})  +(\d+)  +(\d+)  +(\S.*)$", page, re.MULTILINE)[0]
    table = {"BYTES in the table": size, "FILES in the table": members}
    typed = [re.sub(r"^V=\S+;", f"V={disc};", command) if disc else command for command, _ in steps(page)]
    script = "".join(f"{command}\nprintf '%s\\036' $?\n" for command in typed)
    done = subprocess.run(["sh"], input=script, cwd=folder, capture_output=True, text=True)
    shown = done.stdout.split("\036")[:-1]
    must = ["".join(f"{table.get(line, line)}\n" for line in prints) + "0" for _, prints in steps(page)]
    return [command.split()[0] for command, is_, be in zip(typed, shown, must, strict=True) if is_ != be]


def test_one_disc_of_five_in_a_drive(sent: Sent, tmp_path: Path) -> None:
    """It is read in place: the inspector's folder gets nothing large."""
    (tmp_path / "burnt").mkdir()
    shutil.copyfile(sent.discs[3], tmp_path / "burnt" / sent.discs[3].name)
    image = iso_image(tmp_path / "disc.iso", tmp_path / "burnt", "DISC_4")
    with mounted_iso(image, tmp_path / "drive") as drive:
        assert inspect(sent.page, drive / sent.discs[3].name, 4, tmp_path / "check") == []
    assert sum(path.stat().st_size for path in (tmp_path / "check").iterdir()) < 100_000


def test_every_disc_alone(sent: Sent, tmp_path: Path) -> None:
    for number, disc in enumerate(sent.discs, 1):
        assert inspect(sent.page, disc, number, tmp_path / f"{number}") == []
    programs = {command.split()[0] for command, _ in steps(sent.page)}
    assert programs >= {"openssl", "minisign", "tar", "sha256sum", "grep"}


def flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def member(data: bytes, name: str) -> tarfile.TarInfo:
    """The member `name`, or the last one of all if it is empty."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getmember(name) if name else archive.getmembers()[-1]


def flipped(name: str) -> Callable[[bytes], bytes]:
    """One bit in the middle of the content of a member is wrong."""

    def change(data: bytes) -> bytes:
        found = member(data, name)
        return flip(data, found.offset_data + found.size // 2)

    return change


def added(data: bytes, *, padded: bool = False) -> bytes:
    """A member of someone else stands at the end; `padded` makes room for it by what was the end of the archive."""
    header = tarfile.TarInfo("blobs/sha256/extra").tobuf(tarfile.USTAR_FORMAT)
    return data[:-1024] + header + (bytes(512) if padded else bytes(1024))


def replaced(data: bytes) -> bytes:
    """The last member has gone, and as many zeros as it was long stand there."""
    place = member(data, "").offset
    return data[:place] + bytes(len(data) - place)


def doubled(data: bytes) -> bytes:
    """The last member has made room for another SHA256SUMS, which tar would unpack over the first."""
    found = member(data, "")
    other = tarfile.TarInfo("SHA256SUMS")
    end = data[found.offset_data :]
    other.size = found.size
    return data[: found.offset] + other.tobuf(tarfile.USTAR_FORMAT) + end


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "payload": (flipped(""), "grep"),
    "bundle.json": (flipped("bundle.json"), "grep"),
    "the list": (flipped("SHA256SUMS"), "openssl"),
    "signature": (flipped("SHA256SUMS.sig"), "openssl"),
    "minisign": (flipped("SHA256SUMS.minisig"), "minisign"),
    "added": (added, "tar"),
    "added, same size": (lambda data: added(data, padded=True), "tar"),
    "removed": (replaced, "tar"),
    "another list": (doubled, "grep"),
    "cut": (lambda data: data[:-512], "stat"),
    "appended": (lambda data: data + bytes(512), "stat"),
    "header": (lambda data: flip(data, member(data, "").offset), "tar"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_disc_that_is_not_as_signed(sent: Sent, tmp_path: Path, name: str) -> None:
    """Stock tools notice it, and so does airferry."""
    change, noticed = DAMAGES[name]
    bad = tmp_path / "bad.tar"
    bad.write_bytes(change(sent.discs[1].read_bytes()))
    assert noticed in inspect(sent.page, bad, 2, tmp_path / "check")
    with pytest.raises(AirferryError), open_bundle([bad]) as bundle:
        verify(bundle, Silent())


def test_a_disc_that_another_has_signed(sent: Sent, tmp_path: Path) -> None:
    """All is whole, but it is not the sender's."""
    discs = five_discs(tmp_path, signing_key("other-test-only"))
    assert inspect(sent.page, discs[1], 2, tmp_path / "check") == ["openssl", "minisign"]
    with pytest.raises(UntrustedError):
        open_bundle([discs[1]])


def test_a_further_signature(sent: Sent, tmp_path: Path) -> None:
    """A second person's stands in another slot; `explain` says how to take it out."""
    disc = Path(shutil.copyfile(sent.discs[0], tmp_path / "disc.tar"))
    other = signing_key("other-test-only")
    signature = other.p256.sign(sums_of(disc), ec.ECDSA(hashes.SHA256()))
    attach([disc], signature, other.public[0])
    (tmp_path / "release.pub").write_text(other.public[0].text)
    page = printed(sent.airferry, "explain", disc, "--key", tmp_path / "release.pub")
    assert inspect(page, disc, 1, tmp_path / "check", OTHER) == []
    assert inspect(page, sent.discs[0], 1, tmp_path / "again", OTHER) == ["openssl"]


@pytest.mark.parametrize("asked", ["minisign", "nothing"])
def test_other_kinds_of_trust(sent: Sent, tmp_path: Path, asked: str) -> None:
    """Only a minisign key, which stands in its command; only the typed checksum of the list."""
    told = ("--sums", hashlib.sha256(sums_of(sent.discs[0])).hexdigest())
    trust = ("--key", KEYS / "test-only.minisign.pub") if asked == "minisign" else told
    page = printed(sent.airferry, "explain", *sent.discs, *trust)
    assert inspect(page, sent.discs[4], 5, tmp_path / "check") == []
    assert {command.split()[0] for command, _ in steps(page)} & {"openssl", "minisign"} == {asked} - {"nothing"}


def test_an_installer_explains_itself(installer: Program, carried: Carried, tmp_path: Path) -> None:
    """The commands are typed as they are, on the frozen file too, which holds the volume."""
    page = printed(installer, "explain", "--language", "ko")
    assert inspect(page, None, 1, tmp_path / "check", carried.key) == []
    assert ("volume-1.tar" in page) == (len(installer.command) == 1)


def test_an_installer_that_goes_along(sent: Sent, tmp_path: Path) -> None:
    """The page states its checksum and commands, all of which exist, and takes volume 1 out of it."""
    frozen = froze(tmp_path / "installer", sent.discs[0])
    (tmp_path / "platform.par2").write_bytes(bytes(77))
    along = ("--installer", frozen, "--also", tmp_path / "platform.par2")
    page = printed(sent.airferry, "sheet", *sent.discs, *TRUST, *along)
    assert re.search("^-  +77  +-  +/media/disc/platform.par2$", page, re.MULTILINE)
    assert " ".join(re.findall("....", hashlib.sha256(frozen.read_bytes()).hexdigest())) in page
    shown = re.findall(r"\$ (?:airferry|\./installer) ([a-z]+)(.*)", page)
    assert [name for name, _ in shown] == ["media", "verify", "template", "preflight", "install", "status"]
    for name, rest in shown:
        known = {option for command in commands(name, rest.strip()) for item in command.params for option in item.opts}
        assert set(re.findall(r" (--?[a-z-]+)", rest)) <= known, name
    (command, _), *_ = steps(page)
    subprocess.run(["sh", "-c", command.replace("/media/disc", f"{tmp_path}")], cwd=tmp_path, check=True)
    assert (tmp_path / "volume-1.tar").read_bytes() == sent.discs[0].read_bytes()


def froze(out: Path, volume: Path | None) -> Path:
    """A frozen file with `volume` in it, or None, around a program that only looks like one."""
    program = out.with_name("program")
    program.write_bytes(elf())
    freeze(program, volume, out, name="demo", keys=(), reporter=Silent())
    return out


def test_the_page_is_refused_with_an_installer_that_is_none_or_of_another_bundle(sent: Sent, tmp_path: Path) -> None:
    (other,) = replace(reference_cargo(tmp_path), name="other").write(tmp_path, key=signing_key())
    for file, words in (
        (KEY, "not a file that `airferry freeze` made"),
        (froze(tmp_path / "other", other), "carries another bundle, demo"),
    ):
        done = sent.airferry.run("sheet", *sent.discs, *TRUST, "--installer", file)
        assert_refused(done, 2, file.name, words)


def test_a_bundle_without_charts_is_only_loaded(sent: Sent, tmp_path: Path) -> None:
    cargo = replace(reference_cargo(tmp_path), charts=[])
    cargo.document("site.yaml", b"{}\n", "site")
    (bundle,) = cargo.write(tmp_path, key=signing_key())
    page = printed(sent.airferry, "sheet", bundle, *TRUST, "--installer", froze(tmp_path / "installer", bundle))
    assert re.findall(r"\$ \./installer ([a-z]+)", page) == ["verify", "load"]


PROOFS: dict[str, tuple[str, int]] = {
    "whole": ("", 0),
    "damaged": ("1", 10),
    "refused": ("", 11),
    "part": ("2", 12),
    "part, as was meant": ("2 --partial", 0),
}


@pytest.mark.parametrize("case", PROOFS)
@pytest.mark.parametrize("side", ["builder", "installer"])
def test_a_proof_of_verification(sent: Sent, tmp_path: Path, case: str, side: str) -> None:
    """Both programs write the same, whatever comes of it; the page says how to check that."""
    what, code = PROOFS[case]
    outcome = case.split(",", maxsplit=1)[0]
    folder = tmp_path / "한 \n disc"
    folder.mkdir()
    files = [Path(shutil.copyfile(disc, folder / disc.name)) for disc in sent.discs]
    if what == "1":
        files[1].write_bytes(flipped("")(files[1].read_bytes()))
    elif what:
        files.pop(1).unlink()
    key = OTHER if outcome == "refused" else KEY
    program = from_source(side, tmp_path)
    bundle = ("--bundle", folder) if side == "installer" else (folder,)
    done = program.run("verify", *bundle, "--key", key, "--proof", "proof.json", *what.split()[1:])
    assert done.returncode == code, done.stderr
    raw, page = (tmp_path / "proof.json").read_bytes(), (tmp_path / "proof.txt").read_text()
    digest = " ".join(re.findall("....", hashlib.sha256(raw).hexdigest()))
    assert digest in page
    assert digest in done.stderr
    proof = canonical.decode(raw.removesuffix(b"\n"), Verification, "proof")
    assert (proof.outcome, proof.exit_code) == (outcome, code)
    assert bool(proof.reason) == bool(code)
    if outcome == "refused":
        (medium,) = proof.media
        assert (proof.subject, medium.outcome, bool(medium.device)) == ((), "refused", True)
        assert medium.file.encode().decode("unicode_escape") == str(folder)
        return
    assert {item.volume: item.outcome for item in proof.media} == {
        1: "whole",
        2: {"damaged": "damaged", "part": "unseen"}.get(outcome, "whole"),
        **dict.fromkeys((3, 4, 5), "whole"),
    }
    assert proof.media[0].file.encode().decode("unicode_escape") == str(files[0])
    assert all(item.device and item.mount for item in proof.media if item.outcome != "unseen")
    assert [item.volume for item in proof.damages] == ([2] if outcome == "damaged" else [])
    assert proof.keys == tuple(key.fingerprint for key in signing_key().public)
    assert f"{proof.subject[0].name} {proof.subject[0].version}" in page.splitlines()[0]
    # The folder's name cannot be typed; the commands are those of any one volume all the same.
    assert steps(page)[1:] == steps(sent.page)[1:]


def test_where_a_proof_cannot_be_written(sent: Sent, tmp_path: Path) -> None:
    """It is said before a byte is read; if it turns out later, the verdict counts."""
    verify = ("verify", sent.discs[0], *TRUST, "--proof")
    for name in ("proof.txt", tmp_path / "none" / "proof.json"):
        assert sent.airferry.run(*verify, name).returncode == 2
    (tmp_path / "proof.txt").mkdir()
    done = sent.airferry.run(*verify, tmp_path / "proof.json")
    assert (done.returncode, "without a proof" in done.stderr) == (12, True)
    assert sent.airferry.run(*verify, tmp_path / "proof.json", "--partial").returncode == 2


@pytest.mark.parametrize(("language", "words"), [("en", "must print"), ("ko", "작업 안내서")])
def test_the_page_in_each_language_and_format(sent: Sent, tmp_path: Path, language: str, words: str) -> None:
    """HTML loads nothing, holds the same commands, takes nothing from a bundle for markup, and fits onto one A4."""
    odd = Path(shutil.copyfile(sent.discs[0], tmp_path / "<script>alert(1)&.tar"))
    arguments = ("sheet", odd, *TRUST, "--installer", froze(tmp_path / "<b>&", None), "--language", language)
    page, html = (printed(sent.airferry, *arguments, *more) for more in ((), ("--html",)))
    read = Commands()
    read.feed(html)
    assert read.found == [line.strip()[2:] for line in page.splitlines() if line.startswith("     $ ")]
    assert not {"script", "link", "img", "iframe"} & read.tags
    assert not re.search("https?://|url\\(|@import", html)
    assert "/media/disc/<script>alert(1)&.tar" in page
    assert "/media/disc/<b>&" in page
    shown = re.findall("<pre>.*?</pre>", html, re.DOTALL)
    assert len(re.findall("<p>|<tr>|<h2>", html)) + sum(block.count("\n") + 1 for block in shown) <= LINES
    assert words in page
    assert words in html


class Commands(HTMLParser):
    """The commands in a page, and the names of all its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.found: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        self._inside = tag == "b"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.found.append(data)
        self._inside = False


def test_the_page_knows_every_kind_of_failure(sent: Sent) -> None:
    assert {kind for kind, _, _ in ROWS} == set(errors()) - set(SENDERS)
    assert all(f"\n{kind.exit_code} " in sent.page for kind, _, _ in ROWS)

"""The report of a verification: bundle, time, keys, media, program, and outcome.

A canonical JSON document for programs, and beside it a page for the security officer's file, which states the
document's SHA-256 and the commands that reach the same verdict with stock tools. Nobody signs it.
"""

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from installer import __version__
from installer.bundle import canonical
from installer.bundle.reader import Bundle
from installer.device import UNKNOWN, Device, device_of
from installer.errors import AirferryError, UsageError
from installer.files import check_output, write_atomic
from installer.oci.digest import Digest
from installer.page import Language, Page, Section, Table, Words, text
from installer.report import Reporter
from installer.value import Value, replace
from installer.verify import manual_verification
from installer.verify.damage import Damage
from installer.verify.findings import Findings

FORMAT = "airferry-verification/1"
WHOLE, PART, DAMAGED, REFUSED, UNSEEN = "whole", "part", "damaged", "refused", "unseen"
_MAX_LINES = 20


class Medium(Value):
    """A volume (from 1) or something else (0) that was read, and its outcome: whole, damaged, unseen, refused.

    All but `volume` and `outcome` is empty where nobody knows it.
    """

    volume: int
    outcome: str
    file: str
    mount: str
    device: str
    file_system: str
    label: str
    serial: str
    model: str


class Place(Value):
    """A damaged place: `length` bytes from `offset` of `file` on, in a volume (from 1; 0: none in particular)."""

    volume: int
    file: str
    offset: int
    length: int
    kind: str
    message: str
    images: tuple[str, ...]


class Subject(Value):
    """The bundle, as its signed metadata says. `left_out` counts blobs that an update leaves to the registry."""

    name: str
    version: str
    sequence: int
    created: str
    expires: str
    sums: str
    volumes: int
    images: int
    left_out: int


class Verification(Value):
    """All of the document.

    `outcome` is `whole`, `part` (what was seen is whole), `damaged` or `refused`. `subject` is empty if the bundle was
    refused before it could be believed. `keys` are fingerprints of the trusted keys that signed; `told` is the SHA-256
    of SHA256SUMS that was typed, or empty. Texts that are not printable ASCII have escapes: `\\xe4`, `\\ud55c`, `\\\\`.
    """

    began: str
    outcome: str = REFUSED
    subject: tuple[Subject, ...] = ()
    keys: tuple[str, ...] = ()
    told: str = ""
    hashes: tuple[str, ...] = ()
    media: tuple[Medium, ...] = ()
    damages: tuple[Place, ...] = ()
    ended: str = ""
    exit_code: int = 0
    reason: str = ""
    airferry: str = __version__
    format: str = FORMAT


class Witness:
    """Records a verification of the files at `places` that began at a time."""

    def __init__(self, began: dt.datetime, places: Sequence[Path]) -> None:
        self._media: dict[tuple[int, str], Device] = {}
        refused = (_medium(0, str(place), REFUSED, _device(place)) for place in places)
        self._seen = Verification(_time(began), media=tuple(refused))
        self._sections: tuple[Section, ...] = ()

    def attend(self, bundle: Bundle) -> None:
        """Record the media that `bundle` reads from now."""
        numbers = {info.path: info.volume for info in bundle.volumes.infos()}
        for path in bundle.volumes.paths:
            self._media[numbers.get(str(path), 0), str(path)] = _device(path)

    def conclude(self, bundle: Bundle, found: Findings, *, sha256: bool) -> None:
        """Record the outcome; `bundle` is still open."""
        # What is wrong in a patch is no fault of the volume for which it stands.
        hurt = {_ascii(item.file) for item in found.damages}
        unseen = ((number + 1, "") for number in sorted(found.unseen))
        self._seen = replace(
            self._seen,
            outcome=DAMAGED if found.damages else PART if found.unseen else WHOLE,
            subject=(_subject(bundle),),
            keys=bundle.verdict.signers,
            told=bundle.trust.sums.hex if bundle.trust.sums else "",
            hashes=("blake3", "sha256") if sha256 else ("blake3",),
            media=(
                *(
                    _medium(*key, DAMAGED if _ascii(key[1]) in hurt else WHOLE, self._media[key])
                    for key in sorted(self._media)
                ),
                *(_medium(*key, UNSEEN, UNKNOWN) for key in unseen),
            ),
            damages=tuple(_place(item) for item in found.damages),
        )
        volumes = manual_verification.volumes_of(bundle)
        check = Section(_STOCK, (manual_verification.table(volumes), *manual_verification.check(bundle, volumes)))
        self._sections = (Section(_BUNDLE, (manual_verification.facts(bundle),)), check)

    def testify(self, ended: dt.datetime, error: AirferryError | None) -> tuple[Verification, Page]:
        """The document, and the page without the document's own checksum; `error` is how the command ends."""
        reason, code = (_ascii(error.message), error.exit_code) if error else ("", 0)
        said = replace(self._seen, ended=_time(ended), reason=reason, exit_code=code)
        title = _TITLE
        for subject in said.subject:
            title = _TITLE_OF(name=subject.name, version=subject.version)
        return said, Page(title, (Section(_VERDICT, (_verdict(said),)), *_found(said), *self._sections))


@contextlib.contextmanager
def kept(
    file: Path, places: Sequence[Path], now: Callable[[], dt.datetime], reporter: Reporter, language: Language
) -> Iterator[Witness]:
    """A witness for a verification of the files at `places`; its record is written to `file`, and as `.txt`.

    It is written if the verification fails, too, unless the command was called wrongly.
    Raises UsageError for a name that does not end in `.json`, StorageError.
    """
    if file.suffix != ".json" or not file.parent.is_dir():
        raise UsageError(f"{file}: not the name of a proof", hint="give NAME.json in a folder that exists.")
    check_output(file)
    witness = Witness(now(), places)
    try:
        yield witness
    except AirferryError as exc:
        if not isinstance(exc, UsageError):
            try:
                _write(file, *witness.testify(now(), exc), reporter, language)
            except AirferryError as lost:
                reporter.note(f"without a proof: {lost.message}")
        raise
    _write(file, *witness.testify(now(), None), reporter, language)


def _write(file: Path, said: Verification, page: Page, reporter: Reporter, language: Language) -> None:
    document = canonical.encode(said) + b"\n"
    digest = manual_verification.groups(Digest.of(document).hex)
    own = Section(_OWN(file=file.name), (Table(((Words("SHA-256", "SHA-256"), digest),)),))
    beside = file.with_suffix(".txt")
    write_atomic(file, document)
    write_atomic(beside, text(replace(page, sections=(*page.sections, own)), language).encode())
    reporter.note(f"written {file} and {beside}; SHA-256 of {file.name}: {digest}")


def _time(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _ascii(value: str) -> str:
    """Any text in the characters of canonical JSON, and back again with Python's `unicode_escape`."""
    return value.encode("unicode_escape").decode("ascii")


def _device(path: Path) -> Device:
    try:
        return device_of(path if path.is_dir() else path.parent)
    except AirferryError:
        return UNKNOWN


def _subject(bundle: Bundle) -> Subject:
    manifest = bundle.manifest
    return Subject(
        manifest.name,
        manifest.version,
        manifest.sequence,
        manifest.created,
        manifest.expires,
        bundle.verdict.sums.text,
        len(manifest.volumes),
        len(manifest.images),
        len(manifest.left_out),
    )


def _medium(volume: int, file: str, outcome: str, device: Device) -> Medium:
    known = (device.mount, device.source, device.file_system, device.label, device.serial, device.model)
    return Medium(volume, outcome, _ascii(file), *map(_ascii, known))


def _place(damage: Damage) -> Place:
    message = _ascii(damage.message)
    return Place(damage.volume, _ascii(damage.file), damage.offset, damage.length, damage.kind, message, damage.images)


def _verdict(said: Verification) -> Table:
    rows: list[tuple[str | Words, ...]] = [
        (_OUTCOME, _OUTCOMES[said.outcome]),
        (_TIME, f"{said.began} - {said.ended}"),
        (_PROGRAM, f"airferry {said.airferry}, {', '.join(said.hashes) or '-'}; {said.exit_code}"),
    ]
    rows += [(_TOLD, manual_verification.groups(said.told))] if said.told else []
    lines = said.reason.split("\\n")[:_MAX_LINES]
    rows += [("" if place else _REASON, line) for place, line in enumerate(lines) if line]
    return Table(tuple(rows))


def _found(said: Verification) -> Iterator[Section]:
    """The sections about media and damage, where there are any."""
    if said.media:
        rows = tuple(
            (str(item.volume), _STATES[item.outcome], item.label or "-", item.serial or "-", item.file or "-")
            for item in said.media
        )
        yield Section(_MEDIA, (Table(rows, _MEDIA_HEAD),))
    if said.damages:
        places = tuple(
            (str(item.volume), str(item.offset), str(item.length), item.kind, ", ".join(item.images) or "-")
            for item in said.damages[:_MAX_LINES]
        )
        yield Section(_DAMAGE(count=len(said.damages)), (Table(places, _DAMAGE_HEAD),))


_TITLE = Words("Proof of verification", "검증 확인서")
_TITLE_OF = Words("Proof of verification: {name} {version}", "검증 확인서: {name} {version}")
_VERDICT = Words("Verdict", "판정")
_OUTCOME, _REASON = Words("outcome", "결과"), Words("reason", "사유")
_TIME = Words("began, ended by this clock", "시작, 종료(이 장비의 시계)")
_PROGRAM = Words("program, hashes; exit code", "프로그램, 해시, 종료 코드")
_TOLD = Words("SHA-256 as it was typed", "직접 입력한 SHA-256")
_OUTCOMES = {
    WHOLE: Words("genuine and whole", "진본이며 온전합니다"),
    PART: Words(
        "genuine; every byte of the volumes that were read is whole, others were not seen",
        "진본이며 읽은 볼륨은 모두 온전합니다. 나머지 볼륨은 확인하지 않았습니다",
    ),
    DAMAGED: Words("genuine, but damaged", "진본이지만 손상되었습니다"),
    REFUSED: Words("refused", "거부되었습니다"),
}
_STATES = {
    WHOLE: Words("whole", "온전함"),
    DAMAGED: Words("damaged", "손상"),
    UNSEEN: Words("not seen", "확인 안 함"),
    REFUSED: Words("refused", "거부"),
}
_BUNDLE = Words("The bundle", "번들")
_MEDIA = Words("Media", "매체")
_MEDIA_HEAD = (
    Words("VOLUME", "볼륨"),
    Words("STATE", "상태"),
    Words("LABEL", "레이블"),
    Words("SERIAL", "일련번호"),
    Words("FILE", "파일"),
)
_DAMAGE = Words("Damaged places: {count}", "손상된 위치: {count}곳")
_DAMAGE_HEAD = (
    Words("VOLUME", "볼륨"),
    Words("OFFSET", "위치"),
    Words("BYTES", "바이트"),
    Words("KIND", "종류"),
    Words("IMAGES", "이미지"),
)
_STOCK = Words(
    "The same verdict with stock tools, for any one volume", "기본 도구로 볼륨별로 같은 판정을 확인하는 방법"
)
_OWN = Words("This page belongs to {file}", "이 문서와 한 쌍인 파일: {file}")

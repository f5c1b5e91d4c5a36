"""Commands that verify a volume with stock tools: openssl, minisign, GNU tar, coreutils, grep. Used by all pages.

The checks are of one volume, alone: every member in it must be named in the signed SHA256SUMS with the checksum that
its content has, none may be missing, doubled or added, and the file ends where it must. Nothing is unpacked but
SHA256SUMS and its signatures. We are stricter in what has no meaning: padding, and times and owners in tar headers.
"""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from installer.bundle import sums
from installer.bundle.limits import SIGNATURE, SIGNATURES, SLOTS, SUMS
from installer.bundle.reader import Bundle
from installer.bundle.signature import Ed25519Key, PublicKey
from installer.page import Block, Page, Section, Step, Table, Words
from installer.value import Value

_GROUPS = "cut -c -64 | fold -w 4 | paste -sd ' '"
_BYTES, _FILES = Words("BYTES in the table", "표의 BYTES 값"), Words("FILES in the table", "표의 FILES 값")


def groups(digest: str) -> str:
    """Hex digits as people compare them, four at a time; what the commands print has the same form."""
    return " ".join(digest[place : place + 4] for place in range(0, len(digest), 4))


def digest_of(file: str) -> str:
    """The command that prints the SHA-256 of a file, whose name is quoted already, in groups."""
    return f"sha256sum {file} | {_GROUPS}"


class Volume(Value):
    """A volume before an inspector: its number from 1, its file there, its bytes, the members in it.

    With `frozen` the file is a frozen one, which ends with the volume.
    """

    number: int
    path: str
    size: int
    members: int
    frozen: bool = False


def volumes_of(bundle: Bundle) -> list[Volume]:
    """All volumes of a bundle by their paths; those that are not at hand by the names that their writer gave."""
    pieces = Counter(volume for blob in bundle.manifest.blobs for volume, _, _ in blob.pieces)
    metadata = 1 + len(SLOTS) + len(sums.FILES)
    return [
        Volume(
            info.volume,
            str(Path(info.path).absolute()) if info.path else info.file,
            info.bytes,
            metadata + pieces[info.volume - 1],
            frozen=bool(info.offset),
        )
        for info in bundle.volumes.infos()
    ]


def facts(bundle: Bundle) -> Table:
    """The facts that a reader compares with other papers."""
    manifest, rows = bundle.manifest, list[tuple[str | Words, ...]]()
    rows.append((_SEQUENCE, f"{manifest.sequence}, {manifest.created}, {manifest.expires}"))
    rows += [(_BASE, str(base)) for base in manifest.bases]
    rows.append((Words("SHA-256 of SHA256SUMS", "SHA256SUMS의 SHA-256"), groups(bundle.verdict.sums.hex)))
    rows += [(_SIGNED(family=key.family), groups(key.fingerprint)) for key in bundle.signing_keys]
    return Table(tuple(rows))


def explanation(bundle: Bundle, key_files: Mapping[str, str] | None = None) -> Page:
    """The page on how to verify this bundle where it lies now. `key_files` as in `check`."""
    manifest, volumes = bundle.manifest, volumes_of(bundle)
    return Page(
        _TITLE(name=manifest.name, version=manifest.version),
        (
            Section(_WHAT, (facts(bundle), table(volumes))),
            Section(_CHECK, check(bundle, volumes, key_files)),
        ),
    )


def table(volumes: Sequence[Volume], further: Sequence[tuple[str, int]] = ()) -> Table:
    """The volumes, with what `check` compares; before them `further` files, each with its bytes."""
    head = (Words("VOLUME", "볼륨"), Words("BYTES", "BYTES"), Words("FILES", "FILES"), Words("FILE", "파일"))
    others = (("-", str(size), "-", path) for path, size in further)
    rows = ((str(item.number), str(item.size), str(item.members), item.path) for item in volumes)
    return Table((*others, *rows), head)


def check(bundle: Bundle, volumes: Sequence[Volume], key_files: Mapping[str, str] | None = None) -> tuple[Block, ...]:
    """The commands that verify any one of `volumes`; for several, `table` stands elsewhere on the page.

    `key_files` are names of P-256 public key files by fingerprint.
    """
    first = volumes[0]
    several = len(volumes) > 1
    blocks: list[Block] = [_where(bundle, key_files or {})]
    for item in volumes:
        if item.frozen:
            out = f"volume-{item.number}.tar"
            command = f"tail -c {item.size} {shlex.quote(item.path)} > {out}"
            blocks.append(Step(command, _TAKE_OUT(number=item.number, file=out), ()))
    path = f"volume-{first.number}.tar" if first.frozen else first.path
    blocks.append(Step(f"V={shlex.quote(path)}; rm -f {SUMS}* found", _CHOOSE_ONE if several else _CHOOSE, ()))
    size = _BYTES if several else str(first.size)
    members = _FILES if several else str(first.members)
    blocks += [Step('stat -c %s "$V"; tail -c 1024 "$V" | tr -d "\\0" | wc -c', _ENDS, (size, "0"))]
    blocks += _authentic(bundle, key_files or {})
    return (*blocks, *_whole(members))


def _authentic(bundle: Bundle, key_files: Mapping[str, str]) -> Iterator[Step]:
    """Check that SHA256SUMS is the text that was signed, or whose digest was told."""
    yield Step(f'tar --occurrence -xf "$V" {" ".join((SUMS, *SLOTS))}', _UNPACK, ())
    yield Step(digest_of(SUMS), _SUMS, (groups(bundle.verdict.sums.hex),))
    for key in bundle.signing_keys:
        if isinstance(key, Ed25519Key):
            command = f"minisign -V -q -P {key.minisign} -m {SUMS} && echo signed"
            yield Step(command, _MINISIGN, ("signed",))
            continue
        file, signature = shlex.quote(_key_file(key, key_files)), SIGNATURE
        told = (groups(key.fingerprint),)
        yield Step(f"openssl pkey -pubin -in {file} -outform DER | sha256sum | {_GROUPS}", _KEY(file=file), told)
        if key.fingerprint in bundle.verdict.further:
            signature = f"{key.fingerprint[:8]}.sig"
            command = f"grep -o '{key.fingerprint}\",\"[0-9a-f]*' {SIGNATURES} | cut -d '\"' -f 3"
            yield Step(f"{command} | tr a-f A-F | basenc -d --base16 > {signature}", _FURTHER, ())
        command = f"openssl dgst -sha256 -verify {file} -signature {signature} {SUMS}"
        yield Step(command, _OPENSSL(file=file), ("Verified OK",))


def _whole(members: str | Words) -> Iterator[Step]:
    """Check that every file in the volume is as SHA256SUMS says, and that nothing was added or left out."""
    each = 'printf "%.64s  %s\\n" "$(sha256sum)" "$TAR_FILENAME"'
    yield Step(f"tar -xf \"$V\" --to-command='{each}' > found", _READ, ())
    yield Step('tar -tf "$V" | wc -l; sort -u found | wc -l', _COUNT, (members, members))
    yield Step(f"grep -vxFf {SUMS} found | cut -c 67- | paste -sd ' '", _NAMED, (" ".join((SUMS, *SLOTS)),))


def _key_file(key: PublicKey, names: Mapping[str, str]) -> str:
    return names.get(key.fingerprint, "release.pub")


def _where(bundle: Bundle, names: Mapping[str, str]) -> Words:
    """The files and tools that the commands need."""
    files = [_key_file(key, names) for key in bundle.signing_keys if not isinstance(key, Ed25519Key)]
    return _WITH_KEY(file=", ".join(files)) if files else _WITHOUT_KEY


_CHECK = Words("Checking one volume with stock tools", "기본 도구로 볼륨 하나를 검사하기")
_TITLE = Words(
    "{name} {version}: the verdict of `verify`, without airferry", "{name} {version}: airferry 없이 검증하는 방법"
)
_WHAT = Words("What it is", "검사 대상")
_SEQUENCE = Words("sequence, created, expires", "순번, 생성, 만료")
_BASE = Words("update, to be loaded after", "업데이트 전에 올려야 할 번들")
_SIGNED = Words("signed by {family}", "서명 키 {family}")
_WITH_KEY = Words(
    "In an empty folder with the sender's public key ({file}), which must have come another way than the bundle. "
    "Needed: openssl, minisign, GNU tar, coreutils, grep. Each command must print what stands below it, "
    "and nothing else.",
    "번들과 다른 경로로 받은 발신자의 공개 키({file})만 있는 빈 폴더에서 실행합니다. openssl, minisign, GNU tar, "
    "coreutils, grep이 필요합니다. 각 명령은 바로 아래에 적힌 내용만 출력해야 하며, 적힌 내용이 없으면 아무것도 "
    "출력하지 않아야 합니다.",
)
_WITHOUT_KEY = Words(
    "In an empty folder. Needed: minisign, GNU tar, coreutils, grep. "
    "Each command must print what stands below it, and nothing else.",
    "빈 폴더에서 실행합니다. minisign, GNU tar, coreutils, grep이 필요합니다. "
    "각 명령은 바로 아래에 적힌 내용만 출력해야 하며, 적힌 내용이 없으면 아무것도 출력하지 않아야 합니다.",
)
_TAKE_OUT = Words(
    "Volume {number} stands at the end of the installer: take it out. It is the file {file} from here on.",
    "볼륨 {number}은(는) 설치 파일의 끝에 들어 있습니다. 꺼내어 이후 {file} 파일로 사용합니다.",
)
_CHOOSE = Words("The file to be checked.", "검사할 파일을 지정합니다.")
_CHOOSE_ONE = Words(
    "The file to be checked, alone: this one or another volume from the table; of all the same list was signed.",
    "검사할 파일을 지정합니다. 이 파일 또는 표에 있는 다른 볼륨을 하나씩 검사하며, 서명된 목록은 모두 같습니다.",
)
_ENDS = Words(
    "It has its size, and ends as it must: nothing was cut off or appended.",
    "크기와 끝부분이 올바른지 확인합니다. 잘리거나 덧붙은 내용이 없어야 합니다.",
)
_UNPACK = Words("The signed list and its signatures.", "서명된 목록과 그 서명을 꺼냅니다.")
_SUMS = Words("It is the list that this page speaks of.", "꺼낸 목록이 이 문서에서 말하는 목록과 같은지 확인합니다.")
_MINISIGN = Words(
    "It was signed with the minisign key that stands in the command.",
    "명령에 적힌 minisign 키로 서명되었는지 확인합니다.",
)
_KEY = Words("{file} is the right key.", "{file}이(가) 올바른 키인지 확인합니다.")
_FURTHER = Words("Its signature, which stands among the further ones.", "추가 서명 가운데 이 키의 서명을 꺼냅니다.")
_OPENSSL = Words("The list was signed with {file}.", "목록이 {file} 키로 서명되었는지 확인합니다.")
_READ = Words(
    "Read the whole file, and note the SHA-256 of everything in it.",
    "파일 전체를 읽어 그 안에 있는 모든 항목의 SHA-256을 기록합니다.",
)
_COUNT = Words(
    "Nothing is missing, nothing stands twice, and everything is an ordinary file.",
    "빠지거나 중복된 항목이 없고 모두 일반 파일인지 확인합니다.",
)
_NAMED = Words(
    "Everything is named in the signed list with just this SHA-256, but for the list and its three signatures. "
    "A further name is a file that was damaged, or that nobody signed.",
    "목록 자체와 서명 세 개를 제외한 모든 항목이 서명된 목록에 같은 SHA-256으로 적혀 있는지 확인합니다. "
    "다른 이름이 더 나오면 손상되었거나 서명되지 않은 파일입니다.",
)

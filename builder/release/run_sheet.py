"""The run sheet: one page for the carrier, the people on site and the security officer, all of it from the bundle."""

import shlex
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from builder.release.failures import failures
from installer.bundle.reader import Bundle
from installer.page import Block, Page, Section, Step, Words
from installer.report import size as human
from installer.value import Value, replace
from installer.verify import manual_verification

MEDIUM = PurePosixPath("/media/disc")
"""Where the page supposes media to be mounted."""


class Program(Value):
    """The installer that goes along: its file name, bytes, SHA-256 (hex), and whether volume 1 is in it."""

    name: str
    size: int
    sha256: str
    carries: bool


class RunSheet(Value):
    """What the page is made from.

    `also` are other files that go along, with their bytes. `rate` is what media and network are taken to bring, in
    bytes per second. `key_files` are the names of public key files by fingerprint.
    """

    bundle: Bundle
    program: Program | None
    also: tuple[tuple[str, int], ...]
    rate: int
    key_files: Mapping[str, str]

    @property
    def page(self) -> Page:
        """The run sheet."""
        manifest, volumes = self.bundle.manifest, self._volumes()
        table = manual_verification.table(volumes, [(str(MEDIUM / name), size) for name, size in self._further()])
        carried = (manual_verification.facts(self.bundle), self._carry(), table, _RATE(rate=human(self.rate)))
        return Page(
            _TITLE(name=manifest.name, version=manifest.version),
            (
                Section(_WHAT, carried),
                Section(_CARRIER, tuple(self._carrier())),
                Section(_OPERATOR, tuple(self._operator())),
                Section(_OFFICER, (*manual_verification.check(self.bundle, volumes, self.key_files), self._reading())),
                Section(_FAILURES, (_EXIT, failures())),
            ),
        )

    def _volumes(self) -> list[manual_verification.Volume]:
        """The volumes where they will lie: on a medium, or in the installer."""
        found = []
        for item, entry in zip(manual_verification.volumes_of(self.bundle), self.bundle.volumes.infos(), strict=True):
            inside = self.program is not None and self.program.carries and item.number == 1
            name = self.program.name if self.program and inside else Path(entry.path or entry.file).name
            found.append(replace(item, path=str(MEDIUM / name), frozen=inside))
        return found

    def _further(self) -> list[tuple[str, int]]:
        """The files to carry besides volumes: name and bytes."""
        return [*([(self.program.name, self.program.size)] if self.program else []), *self.also]

    def _files(self) -> list[tuple[str, int]]:
        """The files to carry: name and bytes."""
        return [*self._further(), *((Path(item.path).name, item.size) for item in self._volumes() if not item.frozen)]

    def _carry(self) -> Words:
        count = len(self._files())
        return _CARRY(media=count) if count > 1 else _CARRY_ONE

    def _takes(self, count: int) -> Words:
        """How long `count` bytes take, at the rate."""
        seconds = max(1, round(count / self.rate))
        if seconds < 90:
            return _SECONDS(count=seconds)
        return _MINUTES(count=-(-seconds // 60)) if seconds < 5400 else _HOURS(count=f"{seconds / 3600:.1f}")

    def _reading(self) -> Words:
        return _READING(takes=self._takes(max(item.size for item in self._volumes())))

    def _carrier(self) -> list[Block]:
        total = sum(size for _, size in self._files())
        files = [shlex.quote(name) for name, _ in self._files()]
        several = len(self.bundle.manifest.volumes) > 1
        sources = " ".join(f"--from {name}" for name in (files[:1] if several else files))
        how = _WRITE(which=_IN_TURN if several else _TOGETHER, takes=self._takes(2 * total))
        sums = manual_verification.groups(self.bundle.verdict.sums.hex[:16])
        title = f"{self.bundle.manifest.name} {self.bundle.manifest.version}"
        label = Words(f"{title}, SHA256SUMS {sums}", f"{title}, SHA256SUMS {sums}")
        return [
            Step(f"airferry media write {MEDIUM} {sources}", how),
            _LABEL(label=label),
            Step(f"cd {MEDIUM} && sha256sum --check --strict *.sha256", _COMPARE(takes=self._takes(total))),
        ]

    def _operator(self) -> list[Block]:
        if self.program is None:
            return [_NO_PROGRAM]
        name, total = shlex.quote(self.program.name), self.bundle.volumes.size
        beside = "" if self.program.carries and len(self.bundle.manifest.volumes) == 1 else f" --bundle {MEDIUM}"
        digest = manual_verification.groups(self.program.sha256)
        blocks: list[Block] = [
            Step(
                f"cp {shlex.quote(str(MEDIUM / self.program.name))} . && {manual_verification.digest_of(name)}",
                _PROGRAM,
                (digest,),
            ),
            Step(f"./{name} verify{beside} --proof proof.json", _VERIFY(takes=self._takes(total))),
        ]
        manifest = self.bundle.manifest
        if not manifest.charts or not any(document.kind == "site" for document in manifest.documents):
            command = f"./{name} load{beside} --registry REGISTRY"
            return [*blocks, Step(command, _LOAD(takes=self._takes(total)))]
        return [
            *blocks,
            Step(f"./{name} template{beside} > site.yaml", _TEMPLATE),
            Step(f"./{name} preflight{beside} --site site.yaml", _PREFLIGHT),
            Step(f"./{name} install{beside} --site site.yaml", _INSTALL(takes=self._takes(2 * total))),
            Step(f"./{name} status", _STATUS),
        ]


_TITLE = Words("{name} {version}: run sheet", "{name} {version} 작업 안내서")
_WHAT = Words("What is carried", "운반 대상")
_CARRY = Words(
    "Carry these files on at most {media} media, and this page apart from them.",
    "아래 파일을 최대 {media}개의 매체에 담아 운반하고, 이 문서는 매체와 따로 전달합니다.",
)
_CARRY_ONE = Words(
    "Carry this file, and this page apart from it.", "아래 파일을 운반하고, 이 문서는 매체와 따로 전달합니다."
)
_CARRIER = Words("For the carrier", "운반 담당자")
_WRITE = Words(
    "Write onto a medium and read back from it; {which}. About {takes}.",
    "매체에 기록하고 다시 읽어 확인합니다. {which} 약 {takes} 걸립니다.",
)
_TOGETHER = Words("all files at once", "모든 파일을 한 번에 기록합니다.")
_IN_TURN = Words("every file of the list, one after the other", "목록의 모든 파일을 차례로 기록합니다.")
_LABEL = Words("Write on each medium: {label}", "매체마다 다음과 같이 적습니다: {label}")
_COMPARE = Words(
    "Check a medium, on any machine on the way: OK for each file. About {takes} for all.",
    "운반 중 어느 장비에서든 매체를 검사합니다. 파일마다 OK가 출력되어야 합니다. 전체 약 {takes} 걸립니다.",
)
_OPERATOR = Words("For the people on site", "현장 설치 담당자")
_NO_PROGRAM = Words(
    "The program that installs comes with another page: its name was not given when this page was made.",
    "설치 프로그램은 이 문서에 포함되지 않았으므로 따로 안내받으시기 바랍니다.",
)
_PROGRAM = Words(
    "Is it the sender's program? Compare before it is run.",
    "실행하기 전에 발신자의 프로그램이 맞는지 비교합니다.",
)
_VERIFY = Words(
    "Its last line is: genuine and whole. Keep proof.json and proof.txt. About {takes}.",
    "마지막 줄은 genuine and whole이어야 합니다. proof.json과 proof.txt를 보관합니다. 약 {takes} 걸립니다.",
)
_LOAD = Words(
    "The images, into the registry here. About {takes}.", "이미지를 레지스트리에 올립니다. 약 {takes} 걸립니다."
)
_TEMPLATE = Words("Questions about this site: fill them in.", "이 현장에 맞게 항목을 작성합니다.")
_PREFLIGHT = Words(
    "What stands in the way? Nothing is changed.", "설치를 막는 문제가 있는지 확인합니다. 아무것도 변경하지 않습니다."
)
_INSTALL = Words(
    "Verify, load, install, and wait until all of it runs. About {takes}, and the start of the application.",
    "검증하고 이미지를 올려 설치한 뒤 모두 실행될 때까지 기다립니다. 약 {takes}에 애플리케이션 시작 시간이 더해집니다.",
)
_STATUS = Words(
    "Does it still run? If not, it says why.", "정상 동작하는지 확인합니다. 문제가 있으면 원인이 출력됩니다."
)
_OFFICER = Words("For the security officer, with stock tools only", "보안 담당자: 기본 도구만으로 검사하기")
_READING = Words("Reading a volume takes about {takes}.", "볼륨 하나를 읽는 데 약 {takes} 걸립니다.")
_FAILURES = Words("When something fails", "문제가 발생했을 때")
_EXIT = Words(
    "Every command ends with an exit code (`echo $?`); 0 is good. Every error also prints what to do (`next:`).",
    "모든 명령은 종료 코드(`echo $?`)를 남기며 0이면 정상입니다. 오류가 나면 조치 방법도 `next:`로 함께 출력됩니다.",
)
_RATE = Words(
    "Times are for {rate}/s, and longer where a medium or network is slower.",
    "소요 시간은 {rate}/s 기준이며, 매체나 네트워크가 느리면 더 걸립니다.",
)
_SECONDS = Words("{count} s", "{count}초")
_MINUTES = Words("{count} min", "{count}분")
_HOURS = Words("{count} h", "{count}시간")

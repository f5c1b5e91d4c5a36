"""The process in which Helm works on charts: one job after the other, under limits, and without a way out.

Charts are programs: one may loop for ever, ask for all memory, or name files and addresses in its schema. So Helm gets
a process that holds nothing of ours, and that the kernel ends or refuses:

- after so many seconds for a job (alarm(2), which needs nobody's attention), at `MEMORY`, and without a core dump;
- when the process that started it is gone, however it ended;
- it opens nothing: with a limit of one descriptor there is neither a file nor a socket for it (setrlimit(2),
  RLIMIT_NOFILE). So times are in UTC, and `dateInZone` knows no zones. Only packing a folder may read and write.

What had to be learned about `helm_python`, a binding of Helm's Go SDK:

- Rendering changes the loaded chart: subcharts that the values disable are gone for good. So every job works on a
  chart freshly loaded from its archive.
- Only rendering resolves conditions, tags and aliases of subcharts; before it, coalesced values hold defaults of
  subcharts that are switched off and lack those of aliased ones.
- Values and manifests are read by the library's own YAML parser, since Helm differs from PyYAML (`y` is true, a date
  is a string, a key may stand twice in what a template makes). Its answers are JSON, and are passed on unread.
"""

import ctypes
import json
import os
import re
import resource
import select
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from installer.chart.archive import packed, unpacked
from installer.chart.refusal import (
    ArchiveRefusal,
    DefinitionRefusal,
    DocumentRefusal,
    LimitRefusal,
    Refusal,
    ValuesRefusal,
)
from installer.chart.schema_references import leaving_references
from installer.errors import ContentError

MEMORY = 2 << 30
"""Bytes of memory (RLIMIT_DATA: what Go merely reserves does not count, unlike with RLIMIT_AS)."""
MAX_ANSWER = 64 << 20
"""Bytes of JSON. The largest charts in public make 5 MB."""
ENVIRONMENT = {"GOGC": "800", "GOMEMLIMIT": "512MiB"}
"""Go's collector of garbage comes late, which saves time and costs memory, but not where memory runs out."""
REQUEST = struct.Struct("!III")
"""Before each job: the seconds that it may take, the bytes of its JSON, and of the archive that follows."""
ANSWER = struct.Struct("!I")
"""Before each answer: the bytes of its JSON."""
_MAX_TEXT = 10_000
_PR_SET_DUMPABLE = 4
# The one is taken; with none, poll(2) would refuse to look at it.
_DESCRIPTORS = 1
_DESCRIPTORS_FOR_PACKING = 1024
# Where Helm cuts a stream of documents (helm.sh/helm/v4, pkg/release/v1/util/manifest.go, SplitManifests), which takes
# the space before it away as well.
_DOCUMENT = re.compile(r"\n---\s*")
_TEMPLATE = re.compile(r"[^/]+/(?:charts/[^/]+/)*templates/")
_KEPT = 32 << 20
# Renderings of one chart differ in few files, and reading YAML takes longer than making it.
_kept: dict[str, str] = {}

Job = Mapping[str, Any]


def serve() -> None:
    """Do the jobs that come in through standard input, which is a socket, until it is closed."""
    channel = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    threading.Thread(target=_end_with_parent, args=(channel,), daemon=True).start()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # a collector of core dumps asks for no limit
    _limit(resource.RLIMIT_DATA, MEMORY)
    import helm_python  # noqa: F401 - loads Go's library, which raises the limit of descriptors again

    _limit(resource.RLIMIT_NOFILE, _DESCRIPTORS)
    with channel.makefile("rb") as requests:
        while head := requests.read(REQUEST.size):
            seconds, length, size = REQUEST.unpack(head)
            signal.alarm(seconds)
            found = answer(json.loads(requests.read(length)), requests.read(size))
            if sum(map(len, _kept.values())) > _KEPT:
                _kept.clear()
            signal.alarm(0)
            channel.sendall(ANSWER.pack(len(found)) + found)


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _end_with_parent(channel: socket.socket) -> None:
    """End this process when nobody is at the other end. A thread for it, since Helm may be at work in the first."""
    closed = select.poll()
    closed.register(channel, select.POLLRDHUP)
    closed.poll()
    os._exit(0)


def answer(job: Job, archive: bytes) -> bytes:
    """The answer to a job: `{"done": ...}`, or `{"refused": [class, text, place]}`."""
    try:
        done = f'{{"done": {_JOBS[job["job"]](job, archive)}}}'.encode()
        if len(done) > MAX_ANSWER:
            raise LimitRefusal(f"makes more than {MAX_ANSWER >> 20} MiB of objects")
    except Refusal as exc:
        refused = [type(exc).__name__, exc.text[:_MAX_TEXT], exc.place]
        return json.dumps({"refused": refused}).encode()
    return done


def _load(_job: Job, archive: bytes) -> str:
    """Metadata, and references that leave the schemas, as `{"metadata": ..., "leaving": [[file, reference], ...]}`."""
    from helm_python import _native

    try:
        found = [[item.file, item.reference] for item in leaving_references(archive, "", ContentError)]
    except ContentError as exc:
        raise ArchiveRefusal(exc.message.removeprefix(": ")) from exc
    with _opened(archive) as handle:
        metadata = _native.call_string("helm_chart_metadata", handle._raw())  # noqa: SLF001
    return f'{{"metadata": {metadata}, "leaving": {json.dumps(found)}}}'


def _values(job: Job, _archive: bytes) -> str:
    return _read(job["text"], DocumentRefusal, "")


def _brief(job: Job, _archive: bytes) -> str:
    """The values as a text of JSON: reading numbers here and writing them again would change how they are spelt."""
    return json.dumps(_read(job["text"], DocumentRefusal, ""))


def _documents(job: Job, _archive: bytes) -> str:
    return _cut(job["text"], DocumentRefusal, "")


def _package(job: Job, _archive: bytes) -> str:
    from helm_python import HelmError, package

    _limit(resource.RLIMIT_NOFILE, _DESCRIPTORS_FOR_PACKING)
    try:
        return json.dumps(package(job["folder"], destination=job["target"]))
    except HelmError as exc:
        raise ArchiveRefusal(str(exc)) from exc
    finally:
        _limit(resource.RLIMIT_NOFILE, _DESCRIPTORS)


def _defaults(job: Job, archive: bytes) -> str:
    with _opened(archive) as handle:
        return _merged(handle, job)


def _coalesced(job: Job, archive: bytes) -> str:
    from helm_python import HelmError, HelmRenderError

    # Only rendering resolves conditions and aliases; of templates, which take nearly all of the time, only those are
    # left that lie in packed subcharts.
    try:
        files = unpacked(archive, "", ContentError)
    except ContentError as exc:
        raise ArchiveRefusal(exc.message.removeprefix(": ")) from exc
    with _opened(packed({name: data for name, data in files.items() if not _TEMPLATE.match(name)}, level=0)) as handle:
        try:
            _rendered(handle, job)
        except HelmRenderError:
            pass  # what a template complains of does not matter here
        except (HelmError, ValueError) as exc:
            raise ValuesRefusal(str(exc)) from exc
        return _merged(handle, job)


def _render(job: Job, archive: bytes) -> str:
    """Definitions and manifests as `[[path, [object, ...]], ...]`, and coalesced values."""
    from helm_python import HelmError

    with _opened(archive) as handle:
        try:
            files = _rendered(handle, job)
        except (HelmError, ValueError) as exc:
            raise ValuesRefusal(str(exc)) from exc
        coalesced = _merged(handle, job)
        definitions = _listed(
            (crd["filename"], _cut(crd["data"], DefinitionRefusal, crd["filename"])) for crd in handle.crds
        )
    manifests = _listed(
        (path, _cut(text, DocumentRefusal, path)) for path, text in sorted(files.items()) if _holds_objects(path)
    )
    return f'{{"definitions": {definitions}, "manifests": {manifests}, "coalesced": {coalesced}}}'


def _opened(archive: bytes) -> Any:
    """A freshly loaded chart, to be used in a `with` statement."""
    from helm_python import Chart, HelmError

    try:
        return Chart.load_archive(archive)
    except HelmError as exc:
        raise ArchiveRefusal(str(exc)) from exc


def _rendered(handle: Any, job: Job) -> dict[str, str]:
    """Rendered text by the path of its template. The binding's own method lacks some options of the library."""
    from helm_python import _native

    return dict(json.loads(_native.call_string("helm_render", handle._raw(), job["values"], job["options"])))  # noqa: SLF001


def _merged(handle: Any, job: Job) -> str:
    from helm_python import HelmError, _native

    try:
        return _native.call_string("helm_chart_merge_values", handle._raw(), job["values"])  # noqa: SLF001
    except (HelmError, ValueError) as exc:
        raise ValuesRefusal(str(exc)) from exc


def _holds_objects(path: str) -> bool:
    # Helm tells notes by the end of the name (pkg/action/action.go, notesFileSuffix).
    return not path.rpartition("/")[2].startswith("_") and not path.endswith("NOTES.txt")


def _cut(text: str, refusal: type[Refusal], place: str) -> str:
    """A list of the documents in a stream, cut and read as Helm does; empty ones are None or empty."""
    if text not in _kept:
        stream = text.lstrip()
        *others, last = _DOCUMENT.split(stream[3:].lstrip() if stream.startswith("---") else stream)
        # Helm ends each document with a line break, which a text at its end keeps.
        parts = [_read(f"{part}\n", refusal, place) for part in (*map(str.rstrip, others), last) if part.strip()]
        _kept[text] = f"[{','.join(parts)}]"
    return _kept[text]


def _read(text: str, refusal: type[Refusal], place: str) -> str:
    from helm_python import HelmError, _native

    try:
        return _native.call_string("helm_values_from_yaml", text)
    except (HelmError, ValueError) as exc:
        raise refusal(str(exc), place) from exc


def _listed(files: Iterable[tuple[str, str]]) -> str:
    return "[" + ",".join(f"[{json.dumps(path)},{documents}]" for path, documents in files) + "]"


_JOBS: dict[str, Callable[[Job, bytes], str]] = {
    "load": _load,
    "values": _values,
    "brief": _brief,
    "documents": _documents,
    "package": _package,
    "defaults": _defaults,
    "coalesced": _coalesced,
    "render": _render,
}

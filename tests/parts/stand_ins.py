"""Images that stand in for those of a chart: they satisfy its commands and probes, and do nothing else.

What each image must withstand is read from the rendered objects. A program of a container that is meant to stay answers
every HTTP request on the ports and paths of its probes; a program of an init container, a Job, a hook, an exec probe or
a lifecycle handler ends at once with exit code 0. Other calls fail, so that nothing passes by accident.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from installer.oci.reference import parse_reference
from tests.parts.images import Entry, File, Image, Layer, Run
from tests.parts.runnable import busybox

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

ENTRYPOINT = "/stand-in"
PAGES = PurePosixPath("/pages")
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
# Found before what the base image has under the same name.
PROGRAMS = PurePosixPath("/usr/local/bin")
_BUSYBOX = "/bin/busybox"
_STAYS = f"""
trap 'exit 0' TERM INT
while :; do {_BUSYBOX} sleep 3600 & wait $!; done"""


@dataclass
class _Demand:
    """What containers ask of one image: per program and first argument the ports it serves, or None if it ends."""

    name: str
    calls: dict[tuple[str, str], set[int] | None] = field(default_factory=dict)
    paths: set[str] = field(default_factory=set)

    def stays(self, words: Sequence[str], ports: Iterable[int]) -> None:
        """A call that must stay and serve `ports`."""
        held = self.calls.setdefault(_call(words), set())
        if held is None:
            raise ValueError(f"{self.name}: {list(words)[:2]} both stays and ends; a stand-in cannot tell which")
        held.update(ports)

    def ends(self, words: Sequence[str]) -> None:
        """A call that must end well."""
        if self.calls.setdefault(_call(words), None) is not None:
            raise ValueError(f"{self.name}: {list(words)[:2]} both stays and ends; a stand-in cannot tell which")

    def image(self) -> Image:
        """The image; its own name lies in it, so that images of different names differ."""
        entries: dict[str, Entry] = {"/name": File(f"{self.name}\n".encode())}
        for path in self.paths:
            entries[str(PAGES / path.strip("/") / "index.html")] = File(b"ok\n")
        for program in {program for program, _ in self.calls}:
            entries[program] = File(self._script(program).encode(), 0o755)
        return Image((busybox(), Layer(entries)), Run(entrypoint=(ENTRYPOINT,)))

    def _script(self, program: str) -> str:
        lines = [f"#!{_BUSYBOX} sh", 'case "$1" in']
        for (called, argument), ports in sorted(self.calls.items()):
            if called == program:
                lines.append(f"{shlex.quote(argument)}) {'exit 0' if ports is None else _serving(ports)} ;;")
        return "\n".join([*lines, "esac", f'echo "{self.name}: nobody was to call $0 $1" >&2', "exit 64", ""])


def stand_ins(objects: Iterable[Mapping[str, Any]]) -> dict[str, Image]:
    """The stand-ins for all images in `objects`, by their full names; what only `helm test` runs is left out.

    Raises ValueError for demands that cannot be met.
    """
    demands: dict[str, _Demand] = {}
    for item in objects:
        for pod, ends in _pods(item):
            for container in [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]:
                name = str(parse_reference(container["image"]))
                demand = demands.setdefault(name, _Demand(name))
                _add(demand, container, ends=ends or container in (pod.get("initContainers") or []))
    return {name: demand.image() for name, demand in sorted(demands.items())}


def _pods(item: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], bool]]:
    """The pods that an object makes, and whether they end."""
    spec = item.get("spec") or {}
    hooks = (item["metadata"].get("annotations") or {}).get("helm.sh/hook", "")
    if hooks.startswith("test"):
        return
    if item["kind"] == "CronJob":
        yield spec["jobTemplate"]["spec"]["template"]["spec"], True
    elif item["kind"] == "Pod":
        yield spec, bool(hooks)
    elif isinstance(spec, dict) and "containers" in (spec.get("template") or {}).get("spec", {}):
        yield spec["template"]["spec"], item["kind"] == "Job"


def _add(demand: _Demand, container: Mapping[str, Any], *, ends: bool) -> None:
    words = [*(container.get("command") or [ENTRYPOINT]), *(container.get("args") or [])]
    handlers = [container[name] for name in PROBES if container.get(name)]
    ports = _ports(container, handlers)
    if ends:
        demand.ends(words)
    else:
        demand.stays(words, ports)
    for handler in (*handlers, *(container.get("lifecycle") or {}).values()):
        if "exec" in handler:
            demand.ends(handler["exec"]["command"])
        elif "httpGet" in handler:
            demand.paths.add(handler["httpGet"].get("path") or "/")
        elif "tcpSocket" not in handler:
            raise ValueError(f"{demand.name}: no stand-in for the probe {handler}")


def _ports(container: Mapping[str, Any], handlers: list[Mapping[str, Any]]) -> set[int]:
    declared = [port for port in container.get("ports") or [] if port.get("protocol", "TCP") == "TCP"]
    numbers = {port.get("name", ""): int(port["containerPort"]) for port in declared}
    asked = [port for handler in handlers for key in ("httpGet", "tcpSocket") if (port := _port(handler.get(key)))]
    return {*(int(port["containerPort"]) for port in declared), *(numbers.get(port, 0) or int(port) for port in asked)}


def _port(action: Mapping[str, Any] | None) -> str:
    return str(action["port"]) if action else ""


def _call(words: Sequence[str]) -> tuple[str, str]:
    program, argument = words[0], words[1] if len(words) > 1 else ""
    return (program if "/" in program else str(PROGRAMS / program)), argument


def _serving(ports: Iterable[int]) -> str:
    servers = [f"{_BUSYBOX} httpd -f -p {port} -h {PAGES} &" for port in sorted(ports)]
    return "\n".join([*servers, _STAYS.strip()])

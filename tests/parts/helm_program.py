"""What the real `helm` program makes of a chart, read by `helm` as well: no line of airferry and no binding takes part.

A rendering is flat here: each scalar and each empty list or mapping by its path, which is the template, the kind,
whether it is a hook, the number among these, the keys, and the line where a text has several. So what helm makes
anew each time, passwords and certificates, is told from all else by rendering again.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.parts.go_programs import go_program

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

Flat = dict[tuple[str, ...], str]
"""Each scalar as JSON."""

_SECONDS = 120
_READER = {
    "Chart.yaml": "apiVersion: v2\nname: reader\nversion: 1.0.0\n",
    "templates/read.yaml": '{{ range $path, $_ := .Files.Glob "texts/*" }}\n'
    "{{ base $path | quote }}: {{ $.Files.Get $path | fromYaml | toJson }}{{ end }}",
}


class RefusedError(Exception):
    """helm does not render the chart; the message is what it says."""


def helm(home: Path, *arguments: str | Path) -> str:
    """Standard output of helm, which has `home` and no environment. Raises RefusedError."""
    environment = {"HOME": str(home), "PATH": os.defpath}
    command = [go_program("helm"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode != 0:
        raise RefusedError(done.stderr)
    return done.stdout


def read(texts: Sequence[str], home: Path) -> list[list[tuple[str, dict[str, Any]]]]:
    """For each output of `helm template` its objects, each with the template that makes it.

    A chart of our own reads them all at once, with the functions that helm has for templates.
    """
    chart = home / "reader"
    pieces = [list(_pieces(text)) for text in texts]
    files = {f"texts/{i:03}-{j:05}": text for i, each in enumerate(pieces) for j, (_, text) in enumerate(each)}
    for name, content in {**_READER, **files}.items():
        (chart / name).parent.mkdir(parents=True, exist_ok=True)
        (chart / name).write_text(content)
    printed = helm(home, "template", "read", chart)
    for name in files:
        (chart / name).unlink()
    found = json.loads("{" + ",".join(line for line in printed.splitlines() if line.startswith('"')) + "}")
    return [
        [(source, item) for j, (source, _) in enumerate(each) for item in _apart(found[f"{i:03}-{j:05}"])]
        for i, each in enumerate(pieces)
    ]


def _apart(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The objects that a document makes: those in a list are applied one by one."""
    kind = str(item.get("kind"))
    if not (kind.endswith("List") and "items" in item):
        yield from [item] if item else []
        return
    told = {} if kind == "List" else {"apiVersion": item["apiVersion"], "kind": kind.removesuffix("List")}
    for part in item["items"]:
        yield from _apart({**told, **part})


def _pieces(printed: str) -> Iterator[tuple[str, str]]:
    """The documents that helm printed, each with its template; those of a file in `crds/` are named once for all."""
    source = ""
    for piece in re.split(r"(?m)^---\s*", printed):
        if named := re.match(r"# Source: (.*)\n", piece):
            source = named[1]
        yield source, piece


def flat(objects: Iterable[tuple[str, Mapping[str, Any]]]) -> Flat:
    """The objects, each with its template, as described above."""
    result: Flat = {}
    numbers: Counter[tuple[str, str, str]] = Counter()
    for source, item in objects:
        annotations = (item.get("metadata") or {}).get("annotations") or {}
        place = (source, str(item.get("kind")), "hook" if "helm.sh/hook" in annotations else "object")
        numbers[place] += 1
        result.update(_leaves(item, (*place, str(numbers[place]))))
    return result


def _leaves(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(node, dict | list) and node:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _leaves(value, (*path, str(key)))
    elif isinstance(node, str) and "\n" in node:
        for number, line in enumerate(node.split("\n"), 1):
            yield (*path, f"line {number}"), json.dumps(line)
    else:
        # JSON has one kind of number; Go's template functions make floating-point ones of all.
        yield path, json.dumps(float(node) if isinstance(node, int) and not isinstance(node, bool) else node)

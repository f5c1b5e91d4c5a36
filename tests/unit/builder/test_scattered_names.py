"""However a chart puts the name of an image together, it moves into the enclave, or `lock` says no and names it.

Names are cut at random, each piece comes from somewhere else, and the whole stands anywhere in an object. Whether it
has moved, a plain search through what is rendered shows, which knows nothing of how images are found.
"""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from installer.errors import AirferryError
from tests.parts.shop import IMAGES, Shop
from tests.parts.willing_registry import WillingRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Piece(NamedTuple):
    """How a template takes a piece of text: its own text, and the values and files that it reads."""

    template: str
    values: Mapping[str, Any] = {}
    files: Mapping[str, str] = {}


# Of the text of a piece, and a name for it.
SOURCES: dict[str, Callable[[str, str], Piece]] = {
    "template": lambda text, _: Piece(text),
    "value": lambda text, key: Piece(f"{{{{ .Values.{key} }}}}", {key: text}),
    "printf": lambda text, key: Piece(f'{{{{ printf "%s" .Values.{key} }}}}', {key: text}),
    "tpl": lambda text, key: Piece(
        f"{{{{ tpl .Values.{key} . }}}}", {key: f"{{{{ .Values.{key}x }}}}", f"{key}x": text}
    ),
    "list": lambda text, key: Piece(f"{{{{ index .Values.{key} 0 }}}}", {key: [text]}),
    "map": lambda text, key: Piece(f'{{{{ index .Values.{key} "a-b" }}}}', {key: {"a-b": text, "other": text}}),
    "default": lambda text, key: Piece(f'{{{{ .Values.{key} | default "{text}" }}}}', {key: None}),
    "global": lambda text, key: Piece(f"{{{{ .Values.global.{key} }}}}", {"global": {key: text}}),
    "encoded": lambda text, key: Piece(
        f"{{{{ .Values.{key} | b64dec }}}}", {key: base64.b64encode(text.encode()).decode()}
    ),
    "file": lambda text, key: Piece(f'{{{{ .Files.Get "files/{key}" }}}}', files={f"files/{key}": text}),
    "lower": lambda text, key: Piece(f"{{{{ .Values.{key} | lower }}}}", {key: text.upper()}),
    "replace": lambda text, key: Piece(f'{{{{ .Values.{key} | replace "_" "" }}}}', {key: f"_{text}"}),
    "helper": lambda text, key: Piece(
        f'{{{{ include "{key}" . }}}}',
        {key: text},
        {f"templates/_{key}.tpl": f'{{{{ define "{key}" }}}}{{{{ .Values.{key} }}}}{{{{ end }}}}'},
    ),
}
CONTAINER = {"name": "a", "image": IMAGES[3]}
# Where the name stands; `~` is for it.
PLACES: dict[str, dict[str, Any]] = {
    "container": {"kind": "Pod", "spec": {"containers": [{"name": "a", "image": "~"}]}},
    "argument": {"kind": "Pod", "spec": {"containers": [{**CONTAINER, "args": ["--sidecar=~", "x"]}]}},
    "variable": {"kind": "Pod", "spec": {"containers": [{**CONTAINER, "env": [{"name": "X", "value": "1=~,2"}]}]}},
    "text": {"kind": "ConfigMap", "data": {"x": "agent:\n  image: ~\n"}},
    "json": {"kind": "ConfigMap", "data": {"x": json.dumps({"a": ["~"]})}},
    "lines": {"kind": "ConfigMap", "data": {"x": f"{IMAGES[0]}\n~\n"}},
    "secret": {"kind": "Secret", "stringData": {"x": "image: ~"}},
    "encoded": {"kind": "Secret", "data": {"x": '{{ include "whole" . | b64enc }}'}},
    "annotation": {"kind": "ServiceAccount", "metadata": {"annotations": {"x": "~"}}},
    "custom": {"apiVersion": "shop.example/v1", "kind": "Thing", "spec": {"image": "~"}},
}
NAMES = st.sampled_from(
    ["up.example/ops/hidden:1.0", "up.example:5000/ops/deep/hidden:v2", "up.example/hidden:1", "up.example/o/h:2-x"]
)
CUTS = st.lists(st.tuples(st.integers(1, 40), st.sampled_from(sorted(SOURCES))), max_size=3)


def chart(name: str, cuts: list[tuple[int, str]], first: str, place: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Files and values of a chart that spells `name` at `place`: `first` is where it begins, and each cut goes on."""
    ends = {at: source for at, source in cuts if at < len(name)}
    starts = [0, *sorted(ends)]
    text, values, files = "", dict[str, Any](), dict[str, str]()
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(name)], strict=True)):
        piece = SOURCES[ends.get(start, first)](name[start:end], f"p{number}")
        text, files = text + piece.template, {**files, **piece.files}
        values = {**values, **piece.values, "global": {**values.get("global", {}), **piece.values.get("global", {})}}
    item = {"apiVersion": "v1", **PLACES[place]}
    item["metadata"] = {"name": "added", **item.get("metadata", {})}
    # JSON with the template in it: quotes inside of an action are its own.
    files["templates/_whole.tpl"] = f'{{{{ define "whole" }}}}{text}{{{{ end }}}}'
    return {
        **files,
        "templates/added.yaml": json.dumps(item).replace("~", text).replace('\\"whole\\"', '"whole"'),
    }, values


@given(NAMES, CUTS, st.sampled_from(sorted(SOURCES)), st.sampled_from(sorted(PLACES)))
@settings(
    deadline=None, derandomize=True, database=None, max_examples=80, phases=[Phase.generate], report_multiple_bugs=False
)
def test_scattered_names_move_or_are_refused(name: str, cuts: list[tuple[int, str]], first: str, place: str) -> None:
    files, values = chart(name, cuts, first, place)
    with (
        tempfile.TemporaryDirectory() as folder,
        WillingRegistry(lambda asked: asked.startswith("up.example")) as registry,
    ):
        shop = Shop(Path(folder), registry, files, values)
        try:
            lock = shop.locked()
        except AirferryError as exc:
            assert name in exc.message  # noqa: PT017 - either way is right
            lock = shop.locked(accept_suspected=[name])
        assert name in {image.source for image in lock.images}
        assert not shop.misplaced(lock)

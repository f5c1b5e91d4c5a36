"""Values from which templates put image names together: a registry, an organisation, a whole name in any key.

Charts build names in many ways (`hub` and `image`, `imageRegistry` and `imageNamespace`, a nested `global`), which no
list of keys covers. So the chart is asked: every text that begins the name of a stray image is replaced by a probe,
each by another one, and a rendering shows at the beginning of which images it comes out, and what follows it there.
Whether an answer that follows from this is right, the next rendering shows.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any

from installer.chart.helm import Object, Rendering
from installer.chart.images import Found, references
from installer.chart.relocation import Relocation
from installer.chart.retarget import Stray, merged, stray, target_of
from installer.chart.spelling.text import versioned
from installer.errors import AirferryError
from installer.moving.operations import Render
from installer.value import Value

_Path = tuple[str | int, ...]
_Place = tuple[str, str, str, str, int]
_PROBE = re.compile(r"p(\d+)\.airferry\.invalid(/x)?")
_EMPTY = re.compile(r"registry|hub|prefix|mirror|repo", re.IGNORECASE)
MAX_PROBES = 2000


class _Candidate(Value):
    """A text in the values, by its path, that may begin image names; empty where a prefix may be set."""

    path: _Path
    text: str

    def probe(self, number: int) -> str:
        """What shows where it comes out, of the same shape."""
        shape = ":0" if versioned(self.text) and "/" in self.text else self.ending
        return f"p{number}.airferry.invalid" + ("/x" if "/" in self.text.rstrip("/") else "") + shape

    @property
    def ending(self) -> str:
        """The slash at its end, which some templates do not add."""
        return "/" if self.text.endswith("/") else ""


class Moved(Value):
    """Values that take more images from the enclave, the rendering that shows it, and the strays that are left.

    `paths` are the dotted paths of the values that were changed.
    """

    values: Mapping[str, Any]
    rendering: Rendering
    strays: tuple[Stray, ...]
    paths: tuple[str, ...] = ()


def moved(
    values: Mapping[str, Any],
    rendering: Rendering,
    relocation: Relocation,
    render: Render,
    hopeless: Collection[str] = (),
) -> Moved:
    """`values`, of which `rendering` is made by `render`, with every prefix of a stray image moved into the enclave.

    What helps is kept, and nothing that makes another image stray or another object of one. Of the texts that are
    `hopeless` nothing is tried. Four more renderings at most, none where nothing is stray.
    """
    found = Moved(values=values, rendering=rendering, strays=tuple(stray(rendering.objects, relocation)))
    for empty in (False, True):
        left = {item.found.text for item in found.strays} - set(hopeless)
        texts = {text for text in left if target_of(text, relocation)}
        candidates = list(_candidates(found.rendering.coalesced, texts, empty=empty)) if texts else []
        found = _tried(found, candidates[:MAX_PROBES], relocation, render)
    return found


def _tried(before: Moved, candidates: Sequence[_Candidate], relocation: Relocation, render: Render) -> Moved:
    answers = _answers(before, candidates, relocation, render) if candidates else {}
    if not answers:
        return before
    coalesced = before.rendering.coalesced
    values = _with(before.values, coalesced, {candidates[number].path: text for number, text in answers.items()})
    try:
        rendering = render(values)
    except AirferryError:
        return before
    strays = tuple(stray(rendering.objects, relocation))
    helps = set(_texts_of(strays)) < set(_texts_of(before.strays))
    if not helps or _names(rendering.objects) != _names(before.rendering.objects):
        return before
    if not _same(before.rendering.objects, rendering.objects, relocation):
        return before
    paths = (*before.paths, *(".".join(map(str, candidates[number].path)) for number in answers))
    return Moved(values=values, rendering=rendering, strays=strays, paths=paths)


def _answers(before: Moved, candidates: Sequence[_Candidate], relocation: Relocation, render: Render) -> dict[int, str]:
    """By the number of a candidate, the text that moves all strays that begin with it to where they shall be."""
    coalesced = before.rendering.coalesced
    probes = {item.path: item.probe(number) for number, item in enumerate(candidates)}
    try:
        probed = render(_with(before.values, coalesced, probes))
    except AirferryError:
        return {}
    strays = set(_texts_of(before.strays))
    wanted = {
        place: item
        for place, item in _placed(references(before.rendering.objects, relocation.rules))
        if _text_of(item) in strays
    }
    answers: dict[int, set[str]] = {}
    for place, item in _placed(references(probed.objects, relocation.rules)):
        match = _PROBE.match(item.text)
        candidate = candidates[int(match[1])] if match else None
        if match and candidate and place in wanted and wanted[place].text.startswith(candidate.text):
            text = wanted[place].text
            target = target_of(text, relocation)
            rest = text.removeprefix(candidate.text) if candidate.text else item.text[match.end() :]
            # A target without its rest is the prefix; one that does not end so cannot be had.
            answers.setdefault(int(match[1]), set()).add(target.removesuffix(rest) if target.endswith(rest) else "")
    return {number: answer for number, (answer, *others) in answers.items() if answer and not others}


def beginnings(coalesced: Mapping[str, Any], text: str) -> list[str]:
    """The dotted paths of values with which the reference `text` begins: it may be put together from them."""
    return sorted(".".join(map(str, item.path)) for item in _candidates(coalesced, (text,), empty=False))


def _candidates(coalesced: Mapping[str, Any], texts: Collection[str], *, empty: bool) -> Iterator[_Candidate]:
    for path, text in _texts(coalesced, ()):
        if empty and not text:
            key = path[-1]
            if isinstance(key, str) and _EMPTY.search(key):
                yield _Candidate(path, "")
        elif not empty and len(text) > 1 and any(other.startswith(text) for other in texts):
            yield _Candidate(path, text)


def _texts(node: Any, path: _Path) -> Iterator[tuple[_Path, str]]:
    """The texts in values, with their paths; null counts as an empty one."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            # Coalescing copies the root's `global` into every subchart; the root's own counts.
            if not (key == "global" and path):
                yield from _texts(value, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _texts(value, (*path, index))
    elif isinstance(node, str) or node is None:
        yield path, node or ""


def _with(values: Mapping[str, Any], coalesced: Mapping[str, Any], texts: Mapping[_Path, str]) -> dict[str, Any]:
    """`values` with `texts` at their paths; a list is taken whole from `coalesced`, since Helm replaces lists whole."""
    over: dict[str, Any] = {}
    for path, text in texts.items():
        node: Any = over
        below: Any = coalesced
        for key, following in pairwise(path):
            below = below[key]
            if isinstance(following, int) and isinstance(key, str):
                node = node.setdefault(key, deepcopy(below))
            else:
                node = node.setdefault(key, {}) if isinstance(node, dict) else node[key]
        node[path[-1]] = text
    return merged(values, over)


def _placed(found: Iterable[Found]) -> Iterator[tuple[_Place, Found]]:
    """Each with what it is in every rendering: the field, and its number there, since a text may hold several."""
    before: Counter[tuple[str, ...]] = Counter()
    for item in found:
        field = item.kind, item.namespace, item.name, item.path
        yield (*field, before[field]), item
        before[field] += 1


def _same(before: Iterable[Object], after: Iterable[Object], relocation: Relocation) -> bool:
    """Whether all places still name the images that they have named, there or in the enclave."""
    one, other = _fields(before, relocation), _fields(after, relocation)
    return one.keys() == other.keys() and all(
        texts <= other[field] | {text for text in texts if target_of(text, relocation) in other[field]}
        and other[field] <= texts | {target_of(text, relocation) for text in texts}
        for field, texts in one.items()
    )


def _fields(objects: Iterable[Object], relocation: Relocation) -> dict[tuple[str, ...], set[str]]:
    """What each field names."""
    found: dict[tuple[str, ...], set[str]] = {}
    for item in references(objects, relocation.rules):
        found.setdefault(_text_of(item)[:-1], set()).add(item.text)
    return found


def _texts_of(strays: Iterable[Stray]) -> Iterator[tuple[str, ...]]:
    return (_text_of(item.found) for item in strays)


def _text_of(found: Found) -> tuple[str, ...]:
    return found.kind, found.namespace, found.name, found.path, found.text


def _names(objects: Iterable[Object]) -> set[tuple[str, str, str]]:
    """What the objects are called: a text that names something else as well as images must not be changed."""
    made = ((item.get("kind"), item.get("metadata") or {}) for item in objects)
    return {(str(kind), str(about.get("namespace")), str(about.get("name"))) for kind, about in made}

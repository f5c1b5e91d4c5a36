"""What becomes of texts that may be images: the recipe and the profile decide, and registries tell what is none."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fnmatch import translate

from builder.charts.discover import merged
from builder.images.parallel import in_parallel
from builder.images.resolve import origin_of, substituted
from builder.images.source import Places
from builder.recipe import lock as locked
from builder.recipe.findings import Excluded, Reason, Suspected, only_tested
from builder.recipe.lock import Lock
from builder.recipe.recipe import Recipe
from installer.apps.profile import Exclusion, Profile
from installer.chart.spelling.text import as_reference
from installer.errors import AirferryError, NotFoundError, RecipeError
from installer.oci.reference import parse_reference
from installer.report import Reporter, count
from installer.value import Value, replace

Asked = Mapping[str, tuple[Reason, ...]]
"""Names or texts, each with the places that ask for it."""


class Decided(Value):
    """What was found, after all decisions; `asked` is all of it by full names, `notes` tell of patterns for nothing."""

    asked: Asked
    images: Asked
    optional: Asked
    suspected: tuple[Suspected, ...]
    excluded: tuple[Excluded, ...]
    notes: tuple[str, ...]


def decided(
    recipe: Recipe, profile: Profile | None, images: Asked, optional: Asked, suspected: Asked, supposed: Asked
) -> Decided:
    """What the recipe, and then the profile, say of what was found.

    `suspected` are texts that the profile brings about, `supposed` those that only further values do. What is accepted
    is an image like others; what is excluded and accepted in the same place is excluded.
    """
    accepts, excludes = _patterns(recipe.accept_suspected), _exclusions(recipe.exclude)
    accepted_there = _patterns(profile.accept_suspected if profile else ())
    excluded_there = _exclusions(profile.exclude if profile else ())
    asked = merged(
        [
            images,
            optional,
            *({name: found[text]} for found in (suspected, supposed) for text in found if (name := _full_name(text))),
        ]
    )
    excluded: dict[str, str] = {}
    for name in asked:
        why = _reason(excludes, name)
        if not why and not _fitting(accepts, name):
            why = _reason(excluded_there, name)
        if why:
            excluded[name] = why
    images = merged([images, _accepted(suspected, [*accepts, *accepted_there])])
    optional = merged([optional, _accepted(supposed, [*accepts, *accepted_there])])
    if recipe.include == "everything":
        images, suspected, supposed = merged([images, optional]), merged([suspected, supposed]), {}
    # What further values surely ask for says nothing of a text that the profile brings about.
    supposed = {text: supposed[text] for text in supposed if text not in suspected and _full_name(text) not in optional}
    left = [
        Suspected(text, reasons, "test" if only_tested(reasons) else verdict)
        for found, verdict in ((suspected, "unknown"), (supposed, "optional"))
        for text, reasons in found.items()
        if _full_name(text) not in {*images, *excluded}
    ]
    return Decided(
        asked=asked,
        images={name: reasons for name, reasons in images.items() if name not in excluded},
        optional={name: reasons for name, reasons in optional.items() if name not in {*images, *excluded}},
        suspected=tuple(sorted(left, key=lambda item: item.text)),
        excluded=tuple(Excluded(name, excluded[name]) for name in sorted(excluded)),
        notes=tuple(_for_nothing(accepts, excludes)),
    )


class _Pattern:
    """A pattern of `fnmatch` over full names of images, or one name; remembers whether it ever fitted."""

    def __init__(self, text: str) -> None:
        self.text = text if "*" in text or "?" in text else locked.full_name(text)
        self._regex = re.compile(translate(self.text))
        self.used = False

    def fits(self, name: str) -> bool:
        found = bool(self._regex.fullmatch(name))
        self.used = self.used or found
        return found


def _patterns(texts: Iterable[str]) -> list[_Pattern]:
    return [_Pattern(text) for text in texts]


def _exclusions(entries: Iterable[Exclusion]) -> list[tuple[_Pattern, str]]:
    return [(_Pattern(item.full), item.reason) for item in entries]


def _fitting(patterns: Sequence[_Pattern], name: str) -> list[_Pattern]:
    """All patterns that fit `name`, so that none that does counts as superfluous."""
    return [pattern for pattern in patterns if pattern.fits(name)]


def _reason(excludes: Sequence[tuple[_Pattern, str]], name: str) -> str:
    """The reason of the first entry that fits `name`; empty if none does."""
    return next(iter([why for pattern, why in excludes if pattern.fits(name)]), "")


def _accepted(texts: Asked, patterns: Sequence[_Pattern]) -> Asked:
    """The texts that a pattern accepts, by their full names; what only `helm test` asks for is not meant."""
    return merged(
        {name: reasons}
        for text, reasons in texts.items()
        if (name := _full_name(text)) and not only_tested(reasons) and _fitting(patterns, name)
    )


def _for_nothing(accepts: Sequence[_Pattern], excludes: Sequence[tuple[_Pattern, str]]) -> Iterable[str]:
    """Remarks about entries of the recipe that fit nothing; those of a profile go with charts of several versions."""
    yield from (f"excluded image {item.text} is not asked for by any chart" for item, _ in excludes if not item.used)
    yield from (f"accept_suspected: {item.text} fits nothing that is suspected" for item in accepts if not item.used)


def _full_name(text: str) -> str:
    """The full name of what `text` refers to; empty if it is no reference."""
    reference = as_reference(text)
    return str(reference) if reference else ""


def weeded(
    recipe: Recipe,
    found: Sequence[Suspected],
    places: Places,
    reporter: Reporter,
    old: Lock | None,
    update: Collection[str] | None,
) -> tuple[Suspected, ...]:
    """`found` with what the registries say of those that are undecided; what `old` knows is asked again on update."""
    known = {item.text: item.verdict for item in old.suspected} if old and update is not None else {}
    known = {text: verdict for text, verdict in known.items() if verdict in ("image", "no image")}
    answered = [replace(item, verdict=known[item.text]) if item.open and item.text in known else item for item in found]
    asking = [item for item in answered if item.verdict == "unknown"]
    if asking:
        reporter.note(f"asking registries about {count(len(asking), 'text')} that may be an image")
    answers = dict(in_parallel(_asker(recipe, places, reporter), asking, "registries cannot be asked"))
    return tuple(replace(item, verdict=answers.get(item.text, item.verdict)) for item in answered)


def _asker(recipe: Recipe, places: Places, reporter: Reporter) -> Callable[[Suspected], tuple[str, str]]:
    def ask(item: Suspected) -> tuple[str, str]:
        try:
            origin = origin_of(substituted(parse_reference(item.text), recipe.substitutions))
            return item.text, "image" if places.has(origin, parse_reference(item.text)) else "no image"
        except NotFoundError:
            return item.text, "no image"
        except AirferryError as exc:
            reporter.note(f"note: {item.text}: {exc.message}")
            return item.text, "unknown"

    return ask


def check_decided(recipe: Recipe, found: Sequence[Suspected]) -> None:
    """Raises RecipeError with both decisions for each text that is undecided, unless `suspected: note`."""
    undecided = [item for item in found if item.open]
    if not undecided or recipe.suspected == "note":
        return
    lines = [f"  {item.text} ({item.reasons[0]}): {item.because.partition(';')[0]}" for item in undecided]
    names = sorted({_full_name(item.text) for item in undecided})
    lines += ["carry them (recipe):", "accept_suspected:", *(f"  - {name}" for name in names)]
    lines += ["or leave them behind:", "exclude:", *(f"  - {{image: {name!r}, reason: TODO}}" for name in names)]
    raise RecipeError(
        "\n".join([f"{count(len(undecided), 'text')} may be an image, and nobody has decided:", *lines]),
        hint="take each into one of the two lists, which know patterns such as quay.io/team/*; with `suspected: note` "
        "they are but noted.",
    )

"""Pages for people: one structure for every language and format, so that none of them says less than another.

A page is made of words in two languages, of values that are the same in both, and of steps: a command, what it prints,
and what that proves. Values may come from anywhere: whoever renders a page makes them harmless for its format.
"""

import unicodedata
from collections.abc import Iterator
from typing import Any, Literal, Union

from installer.report import printable
from installer.value import Value

Language = Literal["en", "ko"]
LANGUAGES: tuple[Language, ...] = ("en", "ko")
_WIDTH = 110
_INDENT = "     "


class Words(Value):
    """The same in English and in Korean; `{name}` is a place for a value."""

    en: str
    ko: str

    def __call__(self, **values: Union[str, int, "Words"]) -> "Words":
        """With values in their places; values that are words are taken in the same language."""
        return Words(self.en.format(**_values(values, "en")), self.ko.format(**_values(values, "ko")))

    def __add__(self, other: "Words") -> "Words":
        return Words(f"{self.en} {other.en}", f"{self.ko} {other.ko}")

    def of(self, language: Language) -> str:
        """In one language."""
        return self.en if language == "en" else self.ko


def _values(values: dict[str, str | int | Words], language: Language) -> dict[str, str | int]:
    return {name: value.of(language) if isinstance(value, Words) else value for name, value in values.items()}


class Step(Value):
    """A command for a POSIX shell, in one line.

    `prints` are exactly its lines on stdout, none if it is empty; None says nothing about that.
    """

    command: str
    proves: Words
    prints: tuple[str | Words, ...] | None = None


class Table(Value):
    """Rows of cells under `head`, which may be empty; the last column may be long."""

    rows: tuple[tuple[str | Words, ...], ...]
    head: tuple[Words, ...] = ()


Block = Words | Step | Table


class Section(Value):
    """What one person needs, or one thing is about."""

    title: Words
    blocks: tuple[Block, ...]


class Page(Value):
    """A page as a whole."""

    title: Words
    sections: tuple[Section, ...]


def plain(page: Page, language: Language) -> dict[str, Any]:
    """The page as plain values, for programs."""
    return {
        "title": page.title.of(language),
        "sections": [
            {
                "title": section.title.of(language),
                "blocks": [_plain_block(block, language) for block in section.blocks],
            }
            for section in page.sections
        ],
    }


def _plain_block(block: Block, language: Language) -> dict[str, Any]:
    if isinstance(block, Words):
        return {"text": block.of(language)}
    if isinstance(block, Table):
        head = [words.of(language) for words in block.head]
        return {"head": head, "rows": [[cell(value, language) for value in row] for row in block.rows]}
    found = {"command": block.command, "proves": block.proves.of(language)}
    return found if block.prints is None else {**found, "prints": [cell(line, language) for line in block.prints]}


def cell(value: str | Words, language: Language) -> str:
    """A value, or words in one language."""
    return value.of(language) if isinstance(value, Words) else value


def text(page: Page, language: Language) -> str:
    """The page as plain text: commands begin with `$`, and what they print stands below. Safe for terminals."""
    title = page.title.of(language)
    lines = [title, "=" * _width(title)]
    for section in page.sections:
        lines += ["", section.title.of(language), "-" * _width(section.title.of(language))]
        number = 0
        for block in section.blocks:
            number += isinstance(block, Step)
            lines += _block(block, number, language)
    return "".join(f"{printable(line)}\n" for line in lines)


def _block(block: Block, number: int, language: Language) -> Iterator[str]:
    if isinstance(block, Words):
        yield from _wrapped(block.of(language), "", "")
    elif isinstance(block, Table):
        yield from _table(block, language)
    else:
        yield from _wrapped(block.proves.of(language), f"{number:2}. ", "    ")
        yield f"{_INDENT}$ {block.command}"
        yield from (f"{_INDENT}{cell(line, language)}" for line in block.prints or ())


def _table(table: Table, language: Language) -> Iterator[str]:
    rows = [[cell(value, language) for value in row] for row in (*((table.head,) if table.head else ()), *table.rows)]
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)][:-1]
    for row in rows:
        first = "".join(f"{value}{' ' * (width - _width(value))}  " for value, width in zip(row, widths, strict=False))
        yield from _wrapped(row[-1], first, " " * _width(first))


def _wrapped(words: str, first: str, later: str) -> Iterator[str]:
    """`words` in lines of at most `_WIDTH` columns, the first begun with `first`, all others with `later`."""
    line = first
    for word in words.split(" "):
        if line not in (first, later) and _width(line) + _width(word) > _WIDTH:
            yield line.rstrip()
            line = later
        line += f"{word} "
    yield line.rstrip()


def _width(value: str) -> int:
    """Columns on a terminal: Hangul takes two each (Unicode Standard Annex 11)."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in value)

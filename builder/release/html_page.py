"""Pages as HTML: one file that needs nothing else, and prints on A4.

Whatever comes from a bundle is text to a browser: it is escaped, there is no script, and the page forbids all loading.
"""

from collections.abc import Iterator
from html import escape

from installer.page import Block, Language, Page, Step, Table, Words, cell
from installer.report import printable

_STYLE = """
@page { size: A4; margin: 6mm 10mm }
body { width: 190mm; margin: auto; font: 7pt/1.12 "Noto Sans", "Noto Sans CJK KR", "Malgun Gothic", sans-serif }
h1 { font-size: 12pt; margin: 0 }
h2 { font-size: 8.5pt; margin: .8mm 0 .2mm; border-bottom: .2mm solid }
p { margin: .2mm 0 0 }
pre { margin: 0 0 0 4mm; white-space: pre-wrap; overflow-wrap: anywhere }
pre, td.value { font: 6.6pt/1.1 "DejaVu Sans Mono", Consolas, monospace }
pre b::before { content: "$ "; font-weight: normal }
table { border-collapse: collapse }
td, th { padding: 0 3mm 0 0; text-align: left; vertical-align: top; white-space: nowrap }
td:last-child { white-space: normal; overflow-wrap: anywhere }
"""
_HEAD = """<!doctype html>
<html lang="{language}"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title><style>{style}</style></head>
<body>
<h1>{title}</h1>
"""


def html(page: Page, language: Language) -> str:
    """The page as an HTML document."""
    parts = [_HEAD.format(language=language, title=_text(page.title, language), style=_STYLE)]
    for section in page.sections:
        parts.append(f"<h2>{_text(section.title, language)}</h2>\n")
        parts += _blocks(section.blocks, language)
    return "".join([*parts, "</body></html>\n"])


def _text(value: str | Words, language: Language) -> str:
    return escape(printable(cell(value, language)))


def _blocks(blocks: tuple[Block, ...], language: Language) -> Iterator[str]:
    number = 0
    for block in blocks:
        if isinstance(block, Step):
            number += 1
            yield _step(block, number, language)
        elif isinstance(block, Table):
            yield _table(block, language)
        else:
            yield f"<p>{_text(block, language)}</p>\n"


def _step(step: Step, number: int, language: Language) -> str:
    prints = (_text(line, language) for line in step.prints or ())
    shown = "\n".join([f"<b>{_text(step.command, language)}</b>", *prints])
    return f"<p>{number}. {_text(step.proves, language)}</p>\n<pre>{shown}</pre>\n"


def _table(table: Table, language: Language) -> str:
    head = "".join(f"<th>{_text(words, language)}</th>" for words in table.head)
    rows = "".join(f"<tr>{''.join(_cell(value, language) for value in row)}</tr>\n" for row in table.rows)
    return f"<table>{f'<tr>{head}</tr>' if head else ''}\n{rows}</table>\n"


def _cell(value: str | Words, language: Language) -> str:
    """Words are set as text, values in a type in which they can be compared."""
    return f"<td{'' if isinstance(value, Words) else ' class=value'}>{_text(value, language)}</td>"

"""The table of exit codes in README.md, taken from the errors themselves: `python -m tests.exit_codes README.md`."""

from __future__ import annotations

import sys
from pathlib import Path

from installer.errors import AirferryError, InterruptedByUserError

BEGIN, END = "<!-- exit-codes -->\n", "<!-- /exit-codes -->\n"


def errors() -> list[type[AirferryError] | type[InterruptedByUserError]]:
    """All classes of errors, by exit code."""
    found: set[type[AirferryError] | type[InterruptedByUserError]] = {InterruptedByUserError}
    rest = [AirferryError]
    while rest:
        cls = rest.pop()
        found.add(cls)
        rest += cls.__subclasses__()
    return sorted((cls for cls in found if cls.__module__ == "installer.errors"), key=lambda cls: cls.exit_code)


def table() -> str:
    """The table in Markdown."""
    rows = [(0, "done"), *((cls.exit_code, cls.meaning) for cls in errors())]
    return "| Code | Meaning |\n|---|---|\n" + "".join(f"| {code} | {meaning} |\n" for code, meaning in rows)


def with_table(text: str) -> str:
    """`text` with the present table between its markers. Raises ValueError if they are missing."""
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    return text[:start] + table() + text[end:]


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(with_table(path.read_text()))

"""The page of figures: tables, and parts that each benchmark writes anew without touching those of the others."""

import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

_TITLE = "# Performance\n\nMade by `make bench`; not edited by hand.\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} processors ({model}), Linux {platform.release()}, Python {platform.python_version()}"


def put(page: Path, part: str, text: str) -> None:
    """Write `text` as the part of that name into `page`: where it stood before, else at the end."""
    whole = page.read_text() if page.exists() else _TITLE
    marked = f"<!-- {part} -->\n{text.strip()}\n<!-- end of {part} -->"
    found = re.compile(rf"<!-- {part} -->\n.*?<!-- end of {part} -->", re.DOTALL)
    changed, count = found.subn(lambda _: marked, whole)
    page.write_text(changed if count else f"{whole.rstrip()}\n\n{marked}\n")

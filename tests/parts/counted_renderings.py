"""`airferry` that counts how often it renders a chart, and writes the number into the file `renderings`.

python -m tests.parts.counted_renderings lock
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from builder.cli.main import PROGRAM, cli
from installer import shell
from installer.chart.helm import Chart


def _count(file: Path) -> None:
    render, made = Chart.render, 0
    file.write_text("0")

    def counted(chart: Chart, *arguments: Any, **options: Any) -> Any:
        nonlocal made
        made += 1
        file.write_text(str(made))
        return render(chart, *arguments, **options)

    Chart.render = counted  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    _count(Path("renderings"))
    shell.main(cli, PROGRAM)

"""W&B operators for tests: a chart, and the program of the controller that it runs.

Where there is a folder of test assets, the chart is that of W&B, otherwise ours (`charts/operator`). The controller is
our stand-in (`stand_in_controller/`), and the real one as well where that folder has it.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.parts.charts import package
from tests.parts.go_programs import stand_in_controller

if TYPE_CHECKING:
    from pathlib import Path

OPERATOR_CHART = "operator-1.4.8.tgz"
REAL_CONTROLLER = "wandb-controller-1.22.0.zst"
STAND_IN, REAL = "stand-in", "real"


@dataclass(frozen=True)
class Operator:
    """An operator's chart as an archive, and the program of its controller."""

    chart: bytes = field(repr=False)
    program: Path


def controllers(assets: Path | None) -> list[str]:
    """Which controllers there are to test with."""
    return [STAND_IN, REAL] if assets and (assets / REAL_CONTROLLER).exists() else [STAND_IN]


def operator(controller: str, assets: Path | None, folder: Path) -> Operator:
    """The operator with one of `controllers`; the real one is unpacked into `folder`.

    Raises RuntimeError if the stand-in cannot be built.
    """
    chart = (assets / OPERATOR_CHART).read_bytes() if assets else package("operator")
    if assets is None or controller == STAND_IN:
        return Operator(chart, stand_in_controller())
    program = folder / "controller"
    subprocess.run(["zstd", "-dq", str(assets / REAL_CONTROLLER), "-o", str(program)], check=True)
    return Operator(chart, program)

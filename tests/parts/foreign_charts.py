"""Charts of others, as far as they are at hand, and what each needs to be rendered."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.conftest import ASSETS, CHARTS

FOLDERS = [Path(os.environ[name]).resolve(strict=True) for name in (CHARTS, ASSETS) if os.environ.get(name)]
FOREIGN = {path.stem: path for folder in FOLDERS for path in sorted(folder.glob("*.tgz"))}
PASSWORD = {"password": "x"}
CLIENT = {**PASSWORD, "clientSecret": "x"}
VALUES: dict[str, dict[str, Any]] = {
    "airflow": {
        "global": {"security": {"allowInsecureImages": True}},
        "postgresql": {"auth": {**PASSWORD, "postgresPassword": "x"}},
        "redis": {"auth": PASSWORD},
    },
    "redis": {"auth": PASSWORD},
    "sentry": {
        "kafka": {
            "existingKraftSecret": "s",
            "sasl": {"client": {"passwords": ["x"]}, "controller": CLIENT, "interbroker": CLIENT},
        },
        "postgresql": {"auth": {**PASSWORD, "postgresPassword": "x"}},
        "rabbitmq": {"auth": {**PASSWORD, "erlangCookie": "x"}},
        "redis": {"auth": PASSWORD},
    },
    "traps": {"token": "x"},
}
"""What a chart needs to be rendered, also for an upgrade, by its name."""

"""Charts of others, as far as they are at hand, and what each of them wants."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.conftest import ASSETS, CHARTS

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDERS = [Path(os.environ[name]).resolve(strict=True) for name in (CHARTS, ASSETS) if os.environ.get(name)]
FOREIGN = {path.stem: path for folder in FOLDERS for path in sorted(folder.glob("*.tgz"))}
"""By the name of the file."""


@dataclass(frozen=True)
class Wants:
    """What a chart cannot be rendered without, or be installed after, and why."""

    why: str
    values: Mapping[str, Any] = field(default_factory=dict)
    after: str = ""


_PASSWORD = {"password": "x"}
_CLIENT = {**_PASSWORD, "clientSecret": "x"}
WANTS: dict[str, Wants] = {
    "airflow": Wants(
        "an upgrade is refused without the passwords; its database is not Bitnami's own image",
        {
            "global": {"security": {"allowInsecureImages": True}},
            "postgresql": {"auth": {**_PASSWORD, "postgresPassword": "x"}},
            "redis": {"auth": _PASSWORD},
        },
    ),
    "cluster": Wants("its resource is of a kind that the operator's chart brings", after="cloudnative-pg"),
    "ray-cluster": Wants("its resource is of a kind that the operator's chart brings", after="kuberay-operator"),
    "redis": Wants("an upgrade is refused without the password", {"auth": _PASSWORD}),
    "sentry": Wants(
        "an upgrade is refused without the passwords",
        {
            "kafka": {
                "existingKraftSecret": "s",
                "sasl": {"client": {"passwords": ["x"]}, "controller": _CLIENT, "interbroker": _CLIENT},
            },
            "postgresql": {"auth": {**_PASSWORD, "postgresPassword": "x"}},
            "rabbitmq": {"auth": {**_PASSWORD, "erlangCookie": "x"}},
            "redis": {"auth": _PASSWORD},
        },
    ),
    "tenant": Wants("its resource is of a kind that the operator's chart brings", after="operator"),
}
"""By the name of the chart."""
VALUES = {**{name: wants.values for name, wants in WANTS.items()}, "traps": {"token": "x"}}
"""What a chart needs to be rendered, also for an upgrade, by its name."""

"""A site of the enclave, and the demonstration platform that it installs."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

from installer.site.site import Site
from tests.parts.application import CHARTS, Application, packed
from tests.parts.bundles import packed_chart
from tests.parts.runnable import job

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

REGISTRY = "registry.enclave:5000"
PASSWORD = "correct-horse-battery"


def site(folder: Path, **answers: Any) -> Site:
    """A site with `answers`; whatever it asks for is answered with the password."""
    text = json.dumps({"registry": {"host": REGISTRY}, **answers})
    now = dt.datetime.now(dt.UTC)
    return Site.load(text.encode(), folder, now=now, environment=lambda name: None, prompt=lambda text: PASSWORD)


def platform(folder: Path, values: Mapping[str, Any] | None = None) -> Application:
    """The demonstration platform, with a chart that stands for the operator's."""
    names = ("httpd", "worker", "cache", "tools", "renew")
    application = Application(folder, "demo", images={f"docker.io/demo/{name}:1.0": job() for name in names})
    template = {
        "apiVersion": "apps.wandb.com/v1",
        "kind": "WeightsAndBiases",
        "metadata": {"labels": {"app.kubernetes.io/name": "weightsandbiases"}},
        "spec": {"chart": {"url": "https://charts.example.com"}, "values": dict(values or {})},
    }
    application.document("wandb.yaml", template, "custom-resource")
    application.chart(packed_chart("operator", "1.0.0"), role="operator", release="operator")
    application.chart(packed(CHARTS / "demo-platform"), role="platform", release="wandb", values="wandb.yaml")
    return application

"""A site of the enclave, and the demonstration platform that it installs."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

from installer.apps.application import application_of
from installer.objects.driver import ChartSourceRequest
from installer.objects.make_desired import desired
from installer.site.site import RegistryOnly, Site
from installer.workflows.driver import driver_of
from installer.workflows.install import driver_name
from tests.parts.application import CHARTS, Application, packed
from tests.parts.bundles import open_bundle, packed_chart
from tests.parts.runnable import job

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from installer.bundle.reader import Bundle
    from installer.objects.desired import Desired
    from installer.site.site import ApplicationAnswers

REGISTRY = "registry.enclave:5000"
PASSWORD = "correct-horse-battery"


def site_of(app: ApplicationAnswers, folder: Path, **answers: Any) -> Site:
    """A site with `answers` to the questions of `app`; whatever it asks for is answered with the password."""
    return Site.load(
        json.dumps({"registry": {"host": REGISTRY}, **answers}).encode(),
        folder,
        application=app,
        now=dt.datetime.now(dt.UTC),
        environment=lambda name: None,
        prompt=lambda text: PASSWORD,
    )


def site(folder: Path, bundle: Bundle, **answers: Any) -> Site:
    """A site with `answers` to the questions of the application in `bundle`."""
    return site_of(application_of(bundle) or RegistryOnly(), folder, **answers)


def wanted(
    made: Application,
    folder: Path,
    *,
    request: ChartSourceRequest | None = None,
    **answers: Any,
) -> Desired:
    """What `made` shall be at a site with `answers`."""
    with open_bundle([made.write()]) as bundle:
        return desired(
            bundle,
            site(folder, bundle, **answers),
            driver_of(driver_name(bundle)),
            request=request or ChartSourceRequest(),
        )


def platform(
    folder: Path,
    values: Mapping[str, Any] | None = None,
    *,
    operator: bytes = b"",
    operator_values: Mapping[str, Any] | None = None,
    changes: Mapping[str, str] | None = None,
) -> Application:
    """The demonstration platform, with `operator`, a chart that stands for the operator's; `changes` are files of the
    platform's chart."""
    names = ("httpd", "worker", "cache", "tools", "renew")
    application = Application(folder, "demo", images={f"docker.io/demo/{name}:1.0": job() for name in names})
    template = {
        "apiVersion": "apps.wandb.com/v1",
        "kind": "WeightsAndBiases",
        "metadata": {"name": "template", "labels": {"app.kubernetes.io/name": "weightsandbiases"}},
        "spec": {"chart": {"url": "https://charts.example.com"}, "values": dict(values or {})},
    }
    application.document("wandb.yaml", template, "resource")
    application.document("operator.yaml", dict(operator_values or {}), "values")
    application.chart(operator or packed_chart("operator", "1.0.0"), release="operator", values="operator.yaml")
    chart = packed(CHARTS / "demo-platform", changes)
    application.resource("wandb.yaml", installs=chart, name="wandb", controller="operator")
    application.profile["driver"] = "wandb"
    return application

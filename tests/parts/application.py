"""Whole applications as bundles: the small chart that is installed directly, and the platform that a W&B operator
installs."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from installer.apps.profile import DOCUMENT
from installer.chart.helm import Chart
from tests.parts import runnable
from tests.parts.bundles import KEYS, Cargo, signing_key
from tests.parts.images import Image, write_layout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.parts.operators import Operator

CHARTS = Path(__file__).with_name("charts")
CONTROLLER_IMAGE = "docker.io/wandb/controller:1.22.0"
KEY = KEYS / "test-only.pub"
OPERATOR_VALUES: dict[str, Any] = {
    "airgapped": True,
    "image": {"repository": "wandb/controller", "tag": "1.22.0", "pullPolicy": "IfNotPresent"},
    # The chart asks for more than a small machine has.
    "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}},
}
# Refused by the chart as soon as the controller renders it: only then is this value there.
REFUSING = '{{ if .Values.global.operator }}{{ fail "this platform is closed on Mondays" }}{{ end }}'


def packed(folder: Path, changes: Mapping[str, str] | None = None) -> bytes:
    """The chart in `folder` as an archive, always the same bytes; `changes` are files by path to add or replace."""
    content = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    content |= {path: text.encode() for path, text in (changes or {}).items()}
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(content):
            header = tarfile.TarInfo(f"{folder.name}/{path}")
            header.size = len(content[path])
            archive.addfile(header, io.BytesIO(content[path]))
    return gzip.compress(plain.getvalue(), 9, mtime=0)


def app_images() -> dict[str, Image]:
    """The images of the chart demo-app."""
    return {"docker.io/demo/httpd:1.0": runnable.httpd(), "docker.io/demo/tools:1.0": runnable.job()}


def platform_images() -> dict[str, Image]:
    """The images of the chart demo-platform."""
    still = {name: runnable.pause() for name in ("docker.io/demo/worker:1.0", "docker.io/demo/cache:1.0")}
    return {**app_images(), **still, "docker.io/demo/renew:1.0": runnable.job()}


@dataclass
class Application:
    """A bundle in the making. `folder` takes the layouts, the bundle and the site's answers.

    `profile` are keys of the profile beside its steps.
    """

    folder: Path
    name: str
    version: str = "1.0"
    sequence: int = 1
    images: dict[str, Image] = field(default_factory=dict)
    charts: list[bytes] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    documents: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    profile: dict[str, Any] = field(default_factory=dict)

    def chart(self, archive: bytes, *, release: str = "", values: str = "", **step: Any) -> None:
        """Add a chart and the step that installs it; `values` names a document."""
        self.charts.append(archive)
        name = Chart.load(archive).name
        self.steps.append({"chart": name, "name": release or name, **({"values": values} if values else {}), **step})

    def resource(self, document: str, *, installs: bytes | None = None, **step: Any) -> None:
        """Add the step that applies the resource in `document`; its controller may install the chart `installs`."""
        made = {}
        if installs is not None:
            self.charts.append(installs)
            made = {"installs": {"chart": Chart.load(installs).name}}
        self.steps.append({"resource": document, **made, **step})

    def manifests(self, name: str, *objects: Any, **step: Any) -> None:
        """Add the step that applies `objects`."""
        self.document(f"{name}.yaml", None, "manifests")
        self.documents[f"{name}.yaml"] = ("\n---\n".join(json.dumps(item) for item in objects).encode(), "manifests")
        self.steps.append({"manifests": [f"{name}.yaml"], "name": name, **step})

    def document(self, name: str, content: Any, kind: str) -> None:
        """Add a document; JSON is YAML."""
        self.documents[name] = (json.dumps(content).encode(), kind)

    def write(self) -> Path:
        """Write and sign the bundle; its file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        cargo = Cargo(name=self.name, version=self.version, sequence=self.sequence)
        for number, (source, image) in enumerate(self.images.items()):
            cargo.image(source, write_layout(self.folder / f"image-{number}", image))
        for name, (content, kind) in self.documents.items():
            cargo.document(name, content, kind)
        for archive in dict.fromkeys(self.charts):
            cargo.chart(archive, dict(Chart.load(archive).metadata))
        if self.steps:
            cargo.document(DOCUMENT, json.dumps({"steps": self.steps, **self.profile}).encode(), "profile")
        (path,) = cargo.write(self.folder, key=signing_key(), name=f"{self.name}-{self.version}")
        return path


def demo_app(folder: Path, name: str, *, values: Mapping[str, Any] | None = None) -> Application:
    """The chart demo-app with its images, as release `name`."""
    application = Application(folder, name, images=app_images())
    application.document("values.yaml", dict(values or {}), "values")
    application.chart(packed(CHARTS / "demo-app"), release=name, values="values.yaml")
    return application


def demo_platform(
    folder: Path,
    name: str,
    operator: Operator,
    *,
    values: Mapping[str, Any] | None = None,
    changes: Mapping[str, str] | None = None,
) -> Application:
    """The chart demo-platform behind `operator`; the custom resource is called `name`."""
    application = Application(folder, name, images=platform_images())
    application.images[CONTROLLER_IMAGE] = runnable.controller(operator.program, elects=False)
    application.document("operator-values.yaml", OPERATOR_VALUES, "values")
    template = {
        "apiVersion": "apps.wandb.com/v1",
        "kind": "WeightsAndBiases",
        "metadata": {"name": "template", "labels": {"app.kubernetes.io/name": "weightsandbiases"}},
        "spec": {"chart": {}, "values": dict(values or {})},
    }
    application.document("wandb.yaml", template, "resource")
    application.chart(operator.chart, release="operator", values="operator-values.yaml")
    platform = packed(CHARTS / "demo-platform", changes)
    application.resource("wandb.yaml", installs=platform, name=name, controller="operator")
    application.profile["driver"] = "wandb"
    return application

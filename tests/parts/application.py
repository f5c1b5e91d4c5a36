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

from installer.bundle.manifest import BundleChart
from installer.chart.helm import Chart
from installer.oci import media_types
from tests.parts import runnable
from tests.parts.bundles import KEYS, Cargo, signing_key
from tests.parts.images import Image, compact, write_layout

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
    """A bundle in the making. `folder` takes the layouts, the bundle and the site's answers."""

    folder: Path
    name: str
    version: str = "1.0"
    sequence: int = 1
    images: dict[str, Image] = field(default_factory=dict)
    charts: list[tuple[bytes, str, str, str]] = field(default_factory=list)
    documents: dict[str, tuple[bytes, str]] = field(default_factory=dict)

    def chart(self, archive: bytes, *, role: str = "release", release: str = "", values: str = "") -> None:
        """Add a chart."""
        self.charts.append((archive, role, release, values))

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
        for archive, role, release, values in self.charts:
            _add(cargo, archive, role, release, values)
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
    application.document("wandb.yaml", template, "custom-resource")
    application.chart(operator.chart, role="operator", release="operator", values="operator-values.yaml")
    platform = packed(CHARTS / "demo-platform", changes)
    application.chart(platform, role="platform", release=name, values="wandb.yaml")
    return application


def _add(cargo: Cargo, archive: bytes, role: str, release: str, values: str) -> None:
    """A chart and its form as an OCI artifact (Helm's HIP 6)."""
    chart = Chart.load(archive)
    config = cargo.put(compact(dict(chart.metadata)), media_types.HELM_CONFIG)
    layer = cargo.put(archive, media_types.HELM_CHART)
    parts = [{"mediaType": item.media_type, "digest": str(item.digest), "size": item.size} for item in (config, layer)]
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": parts[0], "layers": parts[1:]}
    artifact = cargo.put(compact(document), media_types.OCI_MANIFEST)
    cargo.charts.append(
        BundleChart(
            chart.name,
            chart.version,
            role,
            release or chart.name,
            "default",
            layer.digest,
            artifact.digest,
            f"https://charts.example.com/{chart.name}-{chart.version}.tgz",
            values,
        )
    )

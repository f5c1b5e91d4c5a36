"""The server manifest as files that the operator reads, for where it cannot fetch it.

The operator asks registries over HTTPS alone, and a site without a registry has none to ask. It also reads a folder
`VERSION/*.yaml` of its own container (github.com/wandb/operator, pkg/wandb/manifest), which a ConfigMap can be.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from installer.apps.profile import Artifact, at_path
from installer.apps.wandb_v2.application import Platform
from installer.chart.archive import unpacked
from installer.cluster.cluster import Object
from installer.errors import BundleError, SiteError
from installer.objects.desired import MANAGED_BY, ChartRelease
from installer.objects.maker import Maker
from installer.oci import media_types
from installer.oci.model import MAX_MANIFEST, Descriptor, Index, Manifest, parse_manifest

NAME = "airferry-server-manifest"
MOUNT = "/etc/airferry/server-manifest"
MAX_LAYER = 16 << 20
MAX_BYTES = 900_000
"""What a ConfigMap takes with room for its metadata (Kubernetes: 1 MiB for an object)."""
_YAML = re.compile(r".*\.yaml", re.DOTALL)
_PLAIN = (media_types.OCI_LAYER, media_types.DOCKER_LAYER)


@dataclass(frozen=True)
class ManifestFiles:
    """The files of the manifest of `version`, for the operator in `namespace`."""

    version: str
    namespace: str
    files: Mapping[str, str] = field(repr=False)

    place = f"file://{MOUNT}"

    def config_map(self, current: Object | None = None) -> Object:
        """The ConfigMap, with what `current` holds of other versions, to which people may go back, if there is room."""
        own = {self._key(name): text for name, text in self.files.items()}
        others = {key: text for key, text in ((current or {}).get("data") or {}).items() if key not in own}
        if sum(map(len, [*own.values(), *others.values()])) > MAX_BYTES:
            others = {}
        metadata = {"name": NAME, "namespace": self.namespace, "labels": dict(MANAGED_BY)}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {**others, **own}}

    def mounted(self, maker: Maker) -> ChartRelease:
        """The operator's release with the files in its container. Raises SiteError if its chart has no way for that."""
        if not isinstance(maker.application, Platform):
            raise BundleError("the profile needs the application of operator v2")
        items = [{"key": self._key(name), "path": f"{self.version}/{name}"} for name in self.files]
        volume = {"name": NAME, "configMap": {"name": NAME, "items": items}}
        mount = {"name": NAME, "mountPath": MOUNT, "readOnly": True}
        # Charts of W&B put these into the pods of W&B's programs.
        values = {"global": {"volumes": [volume], "volumeMounts": [mount]}}
        made = maker.chart_release(maker.application.operator, values)
        if not any(MOUNT in json.dumps(item) for item in made.objects if item["kind"] == "Deployment"):
            raise SiteError(
                f"chart {made.chart.name} {made.chart.version} has no way to give the operator its manifest as files, "
                "and it fetches it over HTTPS alone",
                hint="give the registry a certificate (registry.ca), and say `plain_http: false`.",
            )
        return made

    def _key(self, name: str) -> str:
        return f"{self.version}.{name}"


def key_prefix(version: str) -> str:
    """How the keys of the ConfigMap begin that belong to `version`."""
    return f"{version}."


def manifest_files(maker: Maker, artifact: Artifact, resource: Object) -> ManifestFiles:
    """The files of the manifest that `resource` asks for, from the bundle. Raises BundleError."""
    version = str(at_path(resource, artifact.version_at) or "")
    source = f"{artifact.repository}:{version}"
    image = next((item for item in maker.bundle.manifest.images if item.source == source), None)
    if image is None:
        raise BundleError(
            f"the bundle has no {source}", hint="the resource asks for a version that it is not made for."
        )
    found: dict[str, bytes] = {}
    for layer in _first(maker, image.root, source).layers:
        data = maker.bundle.read(layer.digest, MAX_LAYER)
        found |= unpacked(data, source, BundleError, _YAML, plain=layer.media_type in _PLAIN)
    # In the order in which the operator reads them: by their names, the folders of which no key can hold.
    files = {f"{number:03}.yaml": found[name].decode("utf-8", "replace") for number, name in enumerate(sorted(found))}
    if not files or sum(map(len, files.values())) > MAX_BYTES:
        raise BundleError(f"{source}: no manifest that fits into a ConfigMap")
    operator = maker.application.profile.step(maker.application.profile.step(artifact.step).controller or "")
    return ManifestFiles(version, maker.application.namespace(operator, maker.site), files)


def _first(maker: Maker, root: Descriptor, source: str) -> Manifest:
    """The manifest that an operator takes: of an index the first."""
    found = parse_manifest(maker.bundle.read(root.digest, MAX_MANIFEST), root.media_type)
    if isinstance(found, Index) and found.manifests:
        child = found.manifests[0]
        found = parse_manifest(maker.bundle.read(child.digest, MAX_MANIFEST), child.media_type)
    if not isinstance(found, Manifest):
        raise BundleError(f"{source}: no manifest to read")
    return found

"""A small application in which `lock` finds nothing to say: a chart with a subchart under an alias, hooks and a
definition, a resource, a manifest, and a question. Its images are all at `up.example`.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

from builder.assemble.contents import contents
from builder.images.connect import connect
from builder.images.engine import Engine
from builder.images.source import LockSource
from builder.recipe.recipe import KubernetesEntry, RegistryEntry
from builder.rehearse.sample_site import sample_site
from builder.resolve.make_lock import locked_registries
from installer.apps.application import application_of
from installer.apps.samples import REGISTRY
from installer.chart.helm import hook_events
from installer.chart.retarget import merged
from installer.chart.templates.lookups import after_installation
from installer.objects.make_desired import desired
from installer.registry.credentials import CredentialStore
from installer.workflows.driver import driver_of
from tests.parts.workshop import Workshop

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from builder.images.source import Places
    from builder.recipe.lock import Lock
    from installer.bundle.manifest import BundleManifest
    from installer.oci.digest import Digest
    from installer.oci.model import Descriptor
    from tests.parts.willing_registry import WillingRegistry

IMAGES = tuple(f"up.example/shop/{name}:1.0" for name in ("agent", "migrate", "store", "web"))
CHART: Mapping[str, str] = {
    "Chart.yaml": """
apiVersion: v2
name: shop
version: 1.0.0
kubeVersion: ">=1.25.0-0"
dependencies: [{name: store, version: 1.0.0, alias: cache, condition: cache.enabled}]
""",
    "templates/web.yaml": """
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}-web}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: "{{ .Values.image.registry }}/{{ .Values.image.repository }}:{{ .Values.image.tag }}"
        envFrom: [{secretRef: {name: shop-database}}]
""",
    "templates/migrate.yaml": """
apiVersion: batch/v1
kind: Job
metadata: {name: migrate, annotations: {helm.sh/hook: "pre-install,pre-upgrade"}}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: migrate, image: "{{ .Values.migrate.image }}"}]}}}
""",
    "templates/tests/ask.yaml": """
apiVersion: v1
kind: Pod
metadata: {name: ask, annotations: {helm.sh/hook: test}}
spec: {containers: [{name: ask, image: "{{ .Values.migrate.image }}"}]}
""",
    "crds/thing.yaml": """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.shop.example}
spec:
  group: shop.example
  scope: Namespaced
  names: {kind: Thing, plural: things}
  versions: [{name: v1, served: true, storage: true}]
""",
    "charts/store/Chart.yaml": "{apiVersion: v2, name: store, version: 1.0.0}",
    "charts/store/values.yaml": "image: {repository: up.example/shop/store, tag: '1.0'}",
    "charts/store/templates/store.yaml": """
apiVersion: v1
kind: Pod
metadata: {name: store}
spec: {containers: [{name: store, image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"}]}
""",
}
VALUES: Mapping[str, Any] = {
    "image": {"registry": "up.example", "repository": "shop/web", "tag": "1.0"},
    "migrate": {"image": "up.example/shop/migrate:1.0"},
    "replicas": 1,
    "cache": {"enabled": True},
}
_NAME = re.compile(r"[\w./:@-]*up\.example[\w./:@-]*", re.IGNORECASE)
RESOURCE = """
apiVersion: shop.example/v1
kind: Thing
metadata: {name: thing, namespace: shop}
spec: {image: "up.example/shop/agent:1.0"}
"""
MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {name: extra}
data: {title: Shop}
"""
PROFILE: Mapping[str, Any] = {
    "namespace": "shop",
    "steps": [{"chart": "shop"}, {"resource": "thing.yaml"}, {"manifests": ["extra.yaml"], "name": "extra"}],
    "questions": {
        "replicas": {
            "type": "integer",
            "help": "How many pods answer.",
            "default": 1,
            "to": [{"step": "shop", "path": "replicas"}],
        },
        "database_password": {
            "type": "secret",
            "help": "The password of the database.",
            "optional": True,
            "secret": {"name": "shop-database", "key": "password", "step": "shop"},
        },
    },
}


class Shop(Workshop):
    """The application in a folder, with all its images in `registry`, digests among them, and changed.

    `files` are more or other files of its chart by their names there (`../` for those beside it); `values` are merged
    over the chart's own.
    """

    def __init__(
        self, folder: Path, registry: WillingRegistry, files: Mapping[str, str], values: Mapping[str, Any]
    ) -> None:
        super().__init__(folder)
        self.mirrors = registry.mirrors(b"up.example/ up.example:5000/")
        self.mirrors["Up.Example"] = self.mirrors["up.example"]
        entries = {host: RegistryEntry.model_validate(entry) for host, entry in self.mirrors.items()}
        self.places = connect(
            locked_registries(entries), folder, Engine(folder), credentials=CredentialStore(), proxies={}
        )
        content = {**CHART, "values.yaml": json.dumps(merged(VALUES, values)), **files}
        self.chart("shop", files={name: text for name, text in content.items() if not name.startswith("../")})
        archive = folder / self.charts[0]["path"]
        archive.write_bytes(registry.pinned(archive.read_bytes()))
        for name, text in {"../thing.yaml": RESOURCE, "../extra.yaml": MANIFEST, **files}.items():
            if name.startswith("../"):
                self.file(name.removeprefix("../"), text)

    def locked(self, profile: Mapping[str, Any] = PROFILE, **recipe: Any) -> Lock:
        """The lock, its images as they are in the registry."""
        return self.lock_of(self.recipe(profile, {"registries": self.mirrors, **recipe}))

    def misplaced(self, lock: Lock, kubernetes: Mapping[str, Any] | None = None) -> set[str]:
        """What the enclave would not have: names at `up.example` that lead elsewhere, and images that nothing names.

        A plain search through all texts of what would be applied on the clusters that a recipe calls `kubernetes`;
        parts of a name count.
        """
        known = KubernetesEntry.model_validate(kubernetes or {})
        names = {
            name.partition("@")[0]
            for minor in known.versions
            for version in (minor if known.stated else [""])
            for item in self._objects(lock, version, tuple(known.api_versions))
            for text in _texts(item, encoded=item["kind"] == "Secret")
            for name in _NAME.findall(text)
        }
        images = {moved(image.source) for image in lock.images}
        outside = {name for name in names if not any(image.startswith(name) for image in images)}
        return outside | {image for image in images if not any(image.startswith(name) for name in names)}

    def _objects(self, lock: Lock, version: str, api_versions: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """What is installed on a cluster of this version, and what an upgrade there makes, `helm test` left out."""
        bundle = _Bundle(lock, self.places)
        app = application_of(bundle)
        assert app
        site = sample_site(app, app.example())
        wanted = desired(bundle, site, driver_of(None), kube_version=version, api_versions=api_versions, blank=True)
        for part in wanted.parts:
            yield from part.applied
        for made in wanted.releases:
            for chart in filter(None, (made.chart, after_installation(made.chart, made.objects))):
                upgraded = chart.render(
                    made.values,
                    release=made.name.name,
                    namespace=made.name.namespace,
                    kube_version=version,
                    api_versions=api_versions,
                    upgrade=True,
                )
                yield from (item for item in upgraded.objects if hook_events(item) != ("test",))


def moved(image: str) -> str:
    """What `image` at `up.example` is called in the enclave."""
    host, _, rest = image.partition("/")
    return f"{REGISTRY['registry']['host']}/airferry/{host.lower().replace(':', '__')}/{rest.partition('@')[0]}"


class _Bundle:
    """The bundle of a lock before it is built, its blobs as `build` fetches them."""

    def __init__(self, lock: Lock, places: Places) -> None:
        self.manifest: BundleManifest = contents(lock).skeleton
        self._source = LockSource(lock, places)
        self._sizes = {blob.digest: blob.descriptor for blob in lock.blobs}

    def read(self, digest: Digest, limit: int = 0) -> bytes:
        descriptor: Descriptor = self._sizes[digest]
        data = memoryview(bytearray(descriptor.size))
        with self._source.open(descriptor) as stream:
            assert stream.readinto(data) == descriptor.size
        return bytes(data)


def _texts(node: Any, *, encoded: bool) -> Iterator[str]:
    """All texts in an object, keys too; those in base64 as what they are if the object is `encoded`."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key
            if encoded and key == "data" and isinstance(value, dict):
                yield from (base64.b64decode(text).decode() for text in value.values())
            else:
                yield from _texts(value, encoded=encoded)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value, encoded=encoded)
    elif isinstance(node, str):
        yield node

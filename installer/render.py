"""Everything that an installation would apply, as files: to be read by a security officer or applied by hand.

Values of Secrets are left out; a placeholder says what belongs there.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from installer import chart_configmap
from installer.desired import ChartRelease, Desired
from installer.errors import StorageError
from installer.files import storage_error, write_atomic
from installer.kube import Object

PLACEHOLDER = "VALUE-FROM-SITE"
# Plain text in the eyes of every YAML reader; Helm's and Kubernetes' ones still take `y` and `on` for booleans.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9._/-]*", re.ASCII)
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
# Kinds of Kubernetes itself that belong to no namespace (`kubectl api-resources --namespaced=false`).
_CLUSTER_WIDE = frozenset(
    (
        "APIService",
        "CSIDriver",
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "FlowSchema",
        "IngressClass",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "MutatingWebhookConfiguration",
        "Namespace",
        "PersistentVolume",
        "PriorityClass",
        "PriorityLevelConfiguration",
        "RuntimeClass",
        "StorageClass",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
        "VolumeAttributesClass",
    )
)


def render(wanted: Desired, folder: Path) -> list[Path]:
    """Write the objects of `wanted` into `folder`, numbered in the order in which they are applied; the files.

    Values are written beside them as Helm takes them. Raises StorageError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise storage_error(exc, folder, "make") from exc
    written = []
    for name, data in files(wanted).items():
        if "/" in name:
            raise StorageError(f"not a file name: {name!r}")
        write_atomic(folder / name, data)
        written.append(folder / name)
    return written


def files(wanted: Desired) -> dict[str, bytes]:
    """The contents by file name, in the order of application."""
    found: dict[str, bytes] = {}
    namespaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in wanted.namespaces]
    found["10-namespaces.yaml"] = documents(namespaces)
    if wanted.secrets:
        found["20-secrets.yaml"] = documents(_blank(secret) for secret in wanted.secrets)
    if wanted.source and wanted.source.file and wanted.operator:
        place = wanted.operator.name.namespace
        found["30-chart-configmap.yaml"] = documents([chart_configmap.config_map(wanted.source.file, place, None)])
    for number, release in enumerate(wanted.installed):
        found |= _release(release, f"4{number}" if number < 10 else f"49-{number}")
    if wanted.resource and wanted.platform:
        found["90-custom-resource.yaml"] = documents([wanted.resource])
        found[f"91-platform-{wanted.platform.name.name}-objects.yaml"] = documents(
            _placed(_blank(item), wanted.platform.name.namespace) for item in wanted.platform.objects
        )
    return found


def documents(objects: Iterable[Mapping[str, Any]]) -> bytes:
    """The objects as a stream of YAML documents that no reader takes for anything else."""
    text = yaml.dump_all(
        list(objects), Dumper=_Dumper, explicit_start=True, sort_keys=False, width=120, allow_unicode=False
    )
    return text.encode("ascii")


def _release(release: ChartRelease, prefix: str) -> dict[str, bytes]:
    name = f"{prefix}-{release.name.name}"
    crds = release.crds
    own = {(item["kind"], item["metadata"]["name"]) for item in crds}
    objects = [item for item in release.objects if (item["kind"], item["metadata"]["name"]) not in own]
    found = {f"{name}-crds.yaml": documents(crds)} if crds else {}
    found[f"{name}-objects.yaml"] = documents(_placed(_blank(item), release.name.namespace) for item in objects)
    found[f"{name}-values.yaml"] = documents([release.values])
    return found


def _placed(obj: Object, namespace: str) -> Object:
    """`obj` with the namespace that Helm would give it, so that `kubectl apply` puts it there.

    Of kinds that are not known here Kubernetes drops the namespace itself where it makes no sense.
    """
    if obj["kind"] in _CLUSTER_WIDE or obj["metadata"].get("namespace"):
        return obj
    return {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}


def _blank(obj: Object) -> Object:
    """`obj`, without its values if it is a Secret."""
    if obj.get("kind") != "Secret":
        return obj
    keys = [*(obj.get("data") or {}), *(obj.get("stringData") or {})]
    rest = {key: value for key, value in obj.items() if key not in ("data", "stringData")}
    return {**rest, "stringData": dict.fromkeys(sorted(keys), PLACEHOLDER)}


class _Dumper(yaml.SafeDumper):
    """Quotes all text that any YAML reader might take for something else; no anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    if "\n" in text.rstrip("\n") and text.isprintable() is False and "\t" not in text:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")
    plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _text)

"""Everything that an installation would apply, as files: for a security officer to read, or for GitOps to apply.

`namespaces`, `secrets` and a folder for each step are kustomizations, applied in this order; `review` holds values and
what controllers make of resources, and `nodes` registry mirrors for the container runtimes. No file holds a secret.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from installer.chart.helm import hook_events
from installer.chart.retarget import merged
from installer.cluster.cluster import Object
from installer.cluster.kinds import NAMESPACE
from installer.errors import StorageError, UsageError
from installer.files import look_at, read_bounded, storage_error, write_atomic
from installer.objects.desired import Desired, DesiredStep
from installer.objects.driver import Preparing
from installer.objects.secret_manifests import SecretForm, secret_manifest
from installer.oci.digest import Digest

_INSTALL = frozenset({"pre-install", "post-install"})
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:-]*(/[A-Za-z0-9_][A-Za-z0-9._:-]*)*")
_GUIDE = """\
# Rendered by airferry

1. Images: `load` of the installer brings them into the registry, or `import` onto each node.
2. Secrets: those in `secrets`, after `namespaces`. Placeholders are in no kustomization: fill in or seal their values,
   and keep filled ones out of the repository. With `--secrets external` they are objects of External Secrets Operator;
   the ClusterSecretStore `airferry` has an entry NAMESPACE/NAME with a property for each key.{notes}
3. Objects: the folders of the steps, in the order of their numbers: later ones need kinds that earlier ones bring.
   - by hand: `kubectl apply --server-side -k FOLDER` for `namespaces` and each step, one after the other
   - Argo CD: one Application for this folder with server-side apply; each step is a wave of its own
   - Flux: a Kustomization for each of these folders, and each depends on the one before
4. `review` is for reading: values, and what controllers are going to make. `nodes` is for the container runtimes, if
   they shall find images under their upstream names.
"""
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


WRITTEN = ".airferry-render.sha256"
"""The list of what was written into a folder, and how it was, as `sha256sum --check` reads it."""
_MAX_LIST = 1024 * 1024
_MAX_FILE = 64 * 1024 * 1024


def write(contents: Mapping[str, bytes], folder: Path, *, force: bool = False) -> list[Path]:
    """Write files, given by their paths in `folder`; what they are called there.

    A file that is there already is replaced if it is still as an earlier call has written it, or with `force`.
    Raises UsageError, before anything is written, that names the others; StorageError.
    """
    if wrong := [name for name in contents if not _PATH.fullmatch(name)]:
        raise StorageError(f"not a file name: {wrong[0]!r}")
    if not force and (foreign := _foreign(contents, folder)):
        raise UsageError(
            "\n  ".join(["not replaced, since somebody else has written it:", *map(str, foreign)]),
            hint="give another folder, or --force to replace it.",
        )
    written = []
    for name, data in contents.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise storage_error(exc, path.parent, "make") from exc
        write_atomic(path, data)
        written.append(path)
    lines = [f"{Digest.of(data).hex}  {name}\n" for name, data in contents.items()]
    write_atomic(folder / WRITTEN, "".join(lines).encode())
    return written


def _foreign(contents: Mapping[str, bytes], folder: Path) -> list[Path]:
    """What is there and was not written by `write`, or was changed since."""
    listed = folder / WRITTEN
    text = read_bounded(listed, _MAX_LIST).decode("utf-8", "replace") if look_at(listed) else ""
    known = {tuple(line.split("  ", 1)) for line in text.splitlines()}
    found = []
    for name, data in contents.items():
        path = folder / name
        if look_at(path):
            there = read_bounded(path, _MAX_FILE)
            if there != data and (Digest.of(there).hex, name) not in known:
                found.append(path)
    return found


def files(wanted: Desired, driver: Preparing, form: SecretForm = "placeholder", notes: str = "") -> dict[str, bytes]:
    """The contents by path, the folders that are applied first and in order; `notes` are about the Secrets."""
    own = {item["metadata"]["name"]: item for step in wanted.steps for item in step.objects if _is_namespace(item)}
    namespaces = [merged(own.get(name, {}), _namespace(name, labels)) for name, labels in wanted.namespaces.items()]
    secrets = {_key(item): item for item in wanted.secrets}
    review: dict[str, bytes] = {}
    steps: dict[str, dict[str, bytes]] = {}
    beforehand = driver.beforehand(wanted)
    if beforehand:
        steps["1-beforehand"] = {"objects.yaml": documents(beforehand)}
    for number, step in enumerate(wanted.steps, len(steps) + 1):
        content = {"crds.yaml": documents(step.crds)} if step.crds else {}
        objects = [
            item
            for item in _objects(step)
            if not (_is_namespace(item) and item["metadata"]["name"] in wanted.namespaces)
        ]
        secrets |= {_key(item): item for item in objects if item["kind"] == "Secret"}
        content["objects.yaml"] = documents(item for item in objects if item["kind"] != "Secret")
        steps[f"{number}-{step.name.name}"] = content
    for release in wanted.releases:
        name = release.name.name
        if release in wanted.steps:
            review[f"{name}-values.yaml"] = documents([release.values])
        else:
            made = (
                secret_manifest(item, "placeholder") if item["kind"] == "Secret" else item for item in _objects(release)
            )
            review[f"{name}-objects.yaml"] = documents(made)
    manifests = {f"{name}.yaml": documents([secret_manifest(item, form)]) for name, item in sorted(secrets.items())}
    folders = {"namespaces": _kustomization({"namespaces.yaml": documents(namespaces)})}
    if form == "external" and manifests:
        folders["secrets"] = _kustomization(manifests)
    folders |= {name: _kustomization(content, _wave(number)) for number, (name, content) in enumerate(steps.items(), 1)}
    found = {f"{folder}/{name}": data for folder, content in folders.items() for name, data in content.items()}
    if form == "placeholder":
        found |= {f"secrets/{name}": data for name, data in manifests.items()}
    found["kustomization.yaml"] = _kustomization(folders)["kustomization.yaml"]
    found["README.md"] = _GUIDE.replace("{notes}", f" {notes}" if notes else "").encode()
    return {**found, **{f"review/{name}": data for name, data in review.items()}}


def _is_namespace(item: Object) -> bool:
    return bool(item["kind"] == NAMESPACE.name)


def _namespace(name: str, labels: Mapping[str, str]) -> Object:
    metadata = {"name": name, **({"labels": dict(labels)} if labels else {})}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def documents(objects: Iterable[Mapping[str, Any]]) -> bytes:
    """The objects as a stream of YAML documents that no reader takes for anything else."""
    text = yaml.dump_all(
        list(objects), Dumper=_Dumper, explicit_start=True, sort_keys=False, width=120, allow_unicode=False
    )
    return text.encode("ascii")


def _wave(number: int) -> dict[str, str]:
    """Argo CD: after the steps before, and not refused because a CustomResourceDefinition is not there yet."""
    return {
        "argocd.argoproj.io/sync-wave": str(number),
        "argocd.argoproj.io/sync-options": "SkipDryRunOnMissingResource=true",
    }


def _kustomization(resources: Mapping[str, Any], annotations: Mapping[str, str] | None = None) -> dict[str, Any]:
    """`resources`, files or folders of a kustomization in their order, and the kustomization itself."""
    document: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "sortOptions": {"order": "fifo"},
        "resources": list(resources),
    }
    if annotations:
        document["commonAnnotations"] = dict(annotations)
    return {**resources, "kustomization.yaml": documents([document])}


def _key(secret: Object) -> str:
    return f"{secret['metadata']['namespace']}-{secret['metadata']['name']}"


def _objects(step: DesiredStep) -> list[Object]:
    """What an installation of `step` brings, CustomResourceDefinitions of its own aside.

    Hooks of an installation are among it, as ordinary objects; those of an upgrade or of `helm test` are not.
    """
    own = {(item["kind"], item["metadata"]["name"]) for item in step.crds}
    return [
        _placed(item, step.name.namespace)
        for item in step.objects
        if (item["kind"], item["metadata"]["name"]) not in own
        and (not (events := hook_events(item)) or _INSTALL.intersection(events))
    ]


def _placed(obj: Object, namespace: str) -> Object:
    """`obj` with the namespace that Helm would give it, so that `kubectl apply` puts it there.

    Of kinds that are not known here Kubernetes drops the namespace itself where it makes no sense.
    """
    if obj["kind"] in _CLUSTER_WIDE or obj["metadata"].get("namespace"):
        return obj
    return {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}


class _Dumper(yaml.CSafeDumper):
    """Quotes all text that any YAML reader might take for something else; no anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    if "\n" in text.rstrip("\n") and text.isprintable() is False and "\t" not in text:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")
    plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _text)

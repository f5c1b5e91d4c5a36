"""Helm charts, loaded and rendered.

Helm works in a process of its own (`installer.chart.rendering_process`), and only the `releases` of a cluster in this
one. Whatever it refuses, or does not do within the limits of that process, becomes the error that the chart carries.
"""

import json
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Self

from installer.chart.archive import packed, unpacked
from installer.chart.refusal import (
    ArchiveRefusal,
    DefinitionRefusal,
    DocumentRefusal,
    LimitRefusal,
    Refusal,
    ValuesRefusal,
)
from installer.errors import AirferryError, ContentError, RecipeError
from installer.files import read_bounded
from installer.oci.digest import Digest
from installer.strict_yaml import load_yaml

MAX_ARCHIVE = 32 << 20
HOOK = "helm.sh/hook"
# Helm leaves out an object that names any other event (pkg/release/v1/util/manifest_sorter.go).
_EVENTS = frozenset(
    f"{time}-{action}" for time in ("pre", "post") for action in ("install", "upgrade", "rollback", "delete")
) | {"test", "test-success"}
_MAX_MESSAGE = 2000
_PLAIN_VERSION = re.compile(r"v?\d+\.\d+\.\d+", re.ASCII)

Values = Mapping[str, Any]
Object = dict[str, Any]


def parse_values(data: bytes, name: str, error: type[AirferryError]) -> dict[str, Any]:
    """A values document as Helm reads it: YAML 1.1 booleans, dates stay strings, an empty document is `{}`.

    Unlike Helm, duplicate keys are refused. Raises `error` naming the document `name` and the place.
    """
    load_yaml(data, name, error)
    try:
        return dict(_helm({"job": "values", "text": data.decode()}, name, error))
    except (DocumentRefusal, UnicodeDecodeError) as exc:
        raise error(f"{name}: not a values document: {brief(exc)}", hint="a values file is one YAML mapping.") from None


@lru_cache(maxsize=256)
def without_comments(values: bytes) -> bytes:
    """A values document with the same content in fewer bytes; itself where Helm cannot read it."""
    try:
        return str(_done({"job": "brief", "text": values.decode()}, b"")).encode()
    except (DocumentRefusal, UnicodeDecodeError):
        return values


def documents(text: str, name: str, error: type[AirferryError]) -> list[Object]:
    """The objects in a stream of YAML documents, cut and read as Helm does. Raises `error` naming `name`."""
    try:
        found = _helm({"job": "documents", "text": text}, name, error)
    except DocumentRefusal as exc:
        raise _not_yaml(exc, name, error) from exc
    return [item for document in found if document for item in _listed(document)]


def _listed(item: Object) -> list[Object]:
    """The objects in the list that `item` is, else itself alone: a client of Kubernetes applies them one by one.

    As in k8s.io/apimachinery, pkg/apis/meta/v1/unstructured/helpers.go, `decodeToList`, what a list of one kind holds
    may leave out what it is.
    """
    kind, items = str(item.get("kind", "")), item.get("items")
    if not kind.endswith("List") or not isinstance(items, list):
        return [item]
    told = {"apiVersion": item.get("apiVersion"), "kind": kind.removesuffix("List")} if kind != "List" else {}
    return [found for part in items if isinstance(part, dict) for found in _listed({**told, **part})]


def hook_events(item: Object) -> tuple[str, ...]:
    """The Helm hook events of an object; empty for an ordinary one."""
    annotations = (item.get("metadata") or {}).get("annotations") or {}
    text = annotations.get(HOOK) if isinstance(annotations, dict) else None
    return tuple(part.strip().lower() for part in str(text).split(",") if part.strip()) if text else ()


def _is_applied(item: Object) -> bool:
    """Whether Helm applies an object that a template makes: an ordinary one, or a hook for events that Helm knows."""
    annotations = (item.get("metadata") or {}).get("annotations") or {}
    if not isinstance(annotations, dict) or HOOK not in annotations:
        return True
    return _EVENTS.issuperset(part.strip().lower() for part in str(annotations[HOOK]).split(","))


@dataclass(frozen=True)
class Rendering:
    """What a chart makes of values: `manifests` are all objects, each with its file, in the order of these.

    First among them are `crds`: those of the `crds/` folders of the chart and of the subcharts that the values enable,
    which Helm applies before all else and never again. `coalesced` as in `Chart.coalesced`.
    """

    manifests: tuple[tuple[str, Object], ...] = field(repr=False)
    crds: tuple[Object, ...] = field(repr=False)
    coalesced: Mapping[str, Any] = field(repr=False)

    @property
    def objects(self) -> list[Object]:
        """The objects without their files."""
        return [item for _, item in self.manifests]


@dataclass(frozen=True)
class Chart:
    """A packed Helm chart.

    `error` is raised when the archive is broken, `values_error` when it cannot be rendered with the given values.
    """

    archive: bytes = field(repr=False)
    source: str
    error: type[AirferryError]
    values_error: type[AirferryError]
    metadata: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def load(
        cls,
        archive: bytes,
        *,
        source: str = "chart",
        error: type[AirferryError] = ContentError,
        values_error: type[AirferryError] = RecipeError,
    ) -> Self:
        """The chart in the `.tgz` bytes `archive`; `source` names it in messages. Raises `error`."""
        if len(archive) > MAX_ARCHIVE:
            raise error(f"{source}: {len(archive)} bytes; a chart has at most {MAX_ARCHIVE}")
        try:
            found = _loaded(archive)
        except LimitRefusal as exc:
            raise _beyond(source, error, exc) from exc
        except ArchiveRefusal as exc:
            raise error(f"{source}: not a Helm chart: {brief(exc)}", hint="fetch the chart again.") from exc
        for file, reference in found["leaving"]:
            raise error(
                f"{source}: {file} refers to {reference}, which is not part of the chart",
                hint="nothing is fetched or read while rendering: have what it refers to put into that file.",
            )
        metadata = found["metadata"]
        for key in ("name", "version"):
            if not isinstance(metadata.get(key), str) or not metadata[key]:
                raise error(f"{source}: Chart.yaml lacks {key}", hint="the archive is no Helm chart.")
        return cls(archive, source, error, values_error, metadata)

    @property
    def name(self) -> str:
        """The name in Chart.yaml."""
        return str(self.metadata["name"])

    @property
    def version(self) -> str:
        """The version in Chart.yaml."""
        return str(self.metadata["version"])

    @property
    def digest(self) -> Digest:
        """The digest of the archive."""
        return Digest.of(self.archive)

    def accepts(self, kube_version: str) -> bool:
        """Whether Helm would install the chart on that version of Kubernetes; the chart may say `kubeVersion`.

        Like Helm (pkg/chart/common, `KubeVersion`), it looks at major, minor and patch alone: what vendors append would
        make a prerelease of the version. A constraint that cannot be read accepts everything: that is told when the
        chart is installed.
        """
        wanted = self.metadata.get("kubeVersion")
        if not isinstance(wanted, str) or not wanted:
            return True
        plain = _PLAIN_VERSION.match(kube_version)
        values = {"wanted": wanted, "version": plain[0] if plain else kube_version}
        try:
            (answer,) = Chart.load(_comparison()).render(values, release="x", namespace="x").objects
        except RecipeError:
            return True
        return answer["answer"] is True

    def coalesced(self, values: Values) -> dict[str, Any]:
        """`values` over the defaults of the chart and of the subcharts that `values` enable.

        Raises `values_error`.
        """
        return dict(self._asked("coalesced", values))

    def render(
        self,
        values: Values,
        *,
        release: str,
        namespace: str,
        kube_version: str = "",
        api_versions: Iterable[str] = (),
        upgrade: bool = False,
    ) -> Rendering:
        """What Helm would apply, hooks included, notes left out.

        `lookup` finds nothing, `kube_version` is Helm's own default where empty, and `upgrade` sets
        `.Release.IsUpgrade`. Raises `values_error`.
        """
        options = {
            "name": release,
            "namespace": namespace,
            "is_install": not upgrade,
            "is_upgrade": upgrade,
            "revision": 2 if upgrade else 1,
            "kube_version": kube_version,
            "api_versions": list(api_versions),
        }
        found = self._asked("render", values, options)
        definitions, made = (
            [(path, item) for path, items in found[kind] for whole in items if whole for item in _listed(whole)]
            for kind in ("definitions", "manifests")
        )
        manifests = (*definitions, *(pair for pair in made if _is_applied(pair[1])))
        return Rendering(manifests, tuple(item for _, item in definitions), found["coalesced"])

    def defaults(self, values: Values) -> dict[str, Any]:
        """`values` over the defaults of the chart and of all its subcharts, enabled or not, by the charts' own names.

        What an alias adds stands under the alias, without the subchart's own defaults. Raises `values_error`.
        """
        return dict(self._asked("defaults", values))

    def _asked(self, job: str, values: Values, options: Mapping[str, Any] | None = None) -> Any:
        """What Helm answers to a job about this chart with these values."""
        try:
            text = json.dumps(dict(values), allow_nan=False)
        except (TypeError, ValueError) as exc:
            raise self._refused(exc) from exc
        told = {"job": job, "values": text, "options": json.dumps(options or {})}
        name = f"{self.source}: {self.name} {self.version}"
        try:
            return _helm(told, name, self.values_error, self.archive)
        except ValuesRefusal as exc:
            raise self._refused(exc) from exc
        except DocumentRefusal as exc:
            raise _not_yaml(exc, f"{self.source}: {exc.place}", self.values_error) from exc
        except DefinitionRefusal as exc:
            raise _not_yaml(exc, f"{self.source}: {exc.place}", self.error) from exc

    def _refused(self, exc: Exception) -> AirferryError:
        """The error for values that the chart cannot be rendered with."""
        return self.values_error(
            f"{self.source}: {self.name} {self.version} cannot be rendered with these values: {brief(exc)}",
            hint="correct the values; the message is the chart's own.",
        )


@cache
def _comparison() -> bytes:
    """A chart that answers what only Helm can tell: whether a version meets a constraint."""
    return packed(
        {
            "comparison/Chart.yaml": b"apiVersion: v2\nname: comparison\nversion: 1.0.0\n",
            "comparison/templates/answer.yaml": b"answer: {{ semverCompare .Values.wanted .Values.version }}",
        },
        level=0,
    )


def packed_folder(folder: Path, error: type[AirferryError]) -> bytes:
    """The archive that `helm package` makes of the chart in `folder`, but the same bytes each time.

    The bytes depend on the compression library of this Python too. Raises `error`.
    """
    with tempfile.TemporaryDirectory(prefix="airferry-chart-") as target:
        told = {"job": "package", "folder": str(folder.absolute()), "target": target}
        try:
            made = Path(_helm(told, str(folder), error))
        except ArchiveRefusal as exc:
            raise error(f"{folder}: no chart that can be packed: {brief(exc)}", hint="try `helm package`.") from exc
        files = unpacked(read_bounded(made, MAX_ARCHIVE, error), str(folder), error)
    return packed(files, level=9)


def brief(exc: Exception) -> str:
    """The message of a foreign error on one line of bounded length."""
    text = " ".join(str(exc).split())
    return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]} ..."


def _helm(job: Mapping[str, Any], name: str, error: type[AirferryError], archive: bytes = b"") -> Any:
    """What Helm answers to a job about `name`. Raises Refusal, and `error` for what goes beyond a limit."""
    try:
        return _done(job, archive)
    except LimitRefusal as exc:
        raise _beyond(name, error, exc) from exc


@lru_cache(maxsize=8)
def _loaded(archive: bytes) -> Any:
    return _done({"job": "load"}, archive)


def _done(job: Mapping[str, Any], archive: bytes) -> Any:
    from installer.chart.rendering_process import done  # what does not render shall not load it

    return done(job, archive)


def _beyond(name: str, error: type[AirferryError], exc: LimitRefusal) -> AirferryError:
    return error(f"{name} {exc.text}", hint="correct the values, or have the chart mended.")


def _not_yaml(exc: Refusal, name: str, error: type[AirferryError]) -> AirferryError:
    return error(f"{name}: not YAML: {brief(exc)}", hint="the chart makes broken YAML of these values.")

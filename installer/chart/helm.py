"""Helm charts, loaded and rendered in this process.

This module and `releases` are the only ones that import `helm_python`, a binding of Helm's Go SDK. What had to be
learned about it:

- Rendering changes the loaded chart: subcharts that the values disable are gone for good. So every call here works on
  a chart freshly loaded from its archive, which also makes `Chart` safe to share between threads.
- Only rendering resolves conditions, tags and aliases of subcharts; before it, coalesced values hold defaults of
  subcharts that are switched off and lack those of aliased ones.
- Values and manifests are read by the library's own YAML parser, since Helm differs from PyYAML (`y` is true, a date
  is a string, a key may stand twice in what a template makes).
"""

import io
import json
import re
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from installer.chart.archive import packed, unpacked
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
# Where Helm cuts a stream of documents (helm.sh/helm/v4, pkg/release/v1/util/manifest.go, SplitManifests), which takes
# the space before it away as well.
_DOCUMENT = re.compile(r"\n---\s*")
_KEPT = 4096

_PLAIN_VERSION = re.compile(r"v?\d+\.\d+\.\d+", re.ASCII)

Values = Mapping[str, Any]
Object = dict[str, Any]


def parse_values(data: bytes, name: str, error: type[AirferryError]) -> dict[str, Any]:
    """A values document as Helm reads it: YAML 1.1 booleans, dates stay strings, an empty document is `{}`.

    Unlike Helm, duplicate keys are refused. Raises `error` naming the document `name` and the place.
    """
    from helm_python import HelmError, values_from_yaml

    load_yaml(data, name, error)
    try:
        return values_from_yaml(data.decode())
    except (HelmError, UnicodeDecodeError) as exc:
        raise error(f"{name}: not a values document: {brief(exc)}", hint="a values file is one YAML mapping.") from None


def documents(text: str, name: str, error: type[AirferryError]) -> list[Object]:
    """The objects in a stream of YAML documents, cut and read as Helm does. Raises `error` naming `name`.

    The same text gives the same objects, so nobody changes them.
    """
    from helm_python import HelmError

    try:
        return list(_objects(text))
    except HelmError as exc:
        raise error(f"{name}: not YAML: {brief(exc)}", hint="the chart makes broken YAML of these values.") from exc


# Renderings of one chart differ in few files, and reading YAML takes longer than making it.
@lru_cache(_KEPT)
def _objects(text: str) -> tuple[Object, ...]:
    """The objects in `text`. Raises HelmError."""
    from helm_python import values_from_yaml

    text = text.lstrip()
    *others, last = _DOCUMENT.split(text[3:].lstrip() if text.startswith("---") else text)
    # Helm ends each document with a line break, which a text at its end keeps.
    read = [values_from_yaml(f"{part}\n") for part in (*map(str.rstrip, others), last) if part.strip()]
    return tuple(document for document in read if document)


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
        with _open(archive, source, error) as handle:
            metadata = handle.metadata
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
        from helm_python import HelmError

        wanted = self.metadata.get("kubeVersion")
        if not isinstance(wanted, str) or not wanted:
            return True
        plain = _PLAIN_VERSION.match(kube_version)
        values = {"wanted": wanted, "version": plain[0] if plain else kube_version}
        with _open(_comparison(), "comparison", ContentError) as handle:
            try:
                files = _render(handle, values, {})
            except HelmError:
                return True
        return "true" in "".join(files.values())

    def coalesced(self, values: Values) -> dict[str, Any]:
        """`values` over the defaults of the chart and of the subcharts that `values` enable.

        Raises `values_error`.
        """
        from helm_python import HelmError

        with _open(self.archive, self.source, self.error) as handle:
            self._resolve(handle, values)
            try:
                return dict(handle.merge_values(dict(values)))
            except HelmError as exc:
                raise self._refused(exc) from exc

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
        from helm_python import HelmError

        options = {
            "name": release,
            "namespace": namespace,
            "is_install": not upgrade,
            "is_upgrade": upgrade,
            "revision": 2 if upgrade else 1,
            "kube_version": kube_version,
            "api_versions": list(api_versions),
        }
        with _open(self.archive, self.source, self.error) as handle:
            try:
                files = _render(handle, values, options)
                coalesced = dict(handle.merge_values(dict(values)))
            except (HelmError, TypeError, ValueError) as exc:
                raise self._refused(exc) from exc
            definitions = [
                (str(crd["filename"]), item)
                for crd in handle.crds
                for item in documents(crd["data"], f"{self.source}: {crd['filename']}", self.error)
            ]
        made = []
        for path, text in sorted(files.items()):
            leaf = path.rpartition("/")[2]
            # Helm tells notes by the end of the name (pkg/action/action.go, notesFileSuffix).
            if not leaf.startswith("_") and not leaf.endswith("NOTES.txt"):
                found = documents(text, f"{self.source}: {path}", self.values_error)
                made += [(path, item) for item in found if _is_applied(item)]
        return Rendering((*definitions, *made), tuple(item for _, item in definitions), coalesced)

    def defaults(self, values: Values) -> dict[str, Any]:
        """`values` over the defaults of the chart and of all its subcharts, enabled or not, by the charts' own names.

        What an alias adds stands under the alias, without the subchart's own defaults. Raises `values_error`.
        """
        from helm_python import HelmError

        with _open(self.archive, self.source, self.error) as handle:
            try:
                return dict(handle.merge_values(dict(values)))
            except (HelmError, TypeError, ValueError) as exc:
                raise self._refused(exc) from exc

    def _resolve(self, handle: Any, values: Values) -> None:
        """Let `handle` drop disabled subcharts and name aliased ones; what a template complains of does not matter."""
        from helm_python import HelmError, HelmRenderError

        try:
            _render(handle, values, {})
        except HelmRenderError:
            return
        except (HelmError, TypeError, ValueError) as exc:
            raise self._refused(exc) from exc

    def _refused(self, exc: Exception) -> AirferryError:
        """The error for values that the chart cannot be rendered with."""
        return self.values_error(
            f"{self.source}: {self.name} {self.version} cannot be rendered with these values: {brief(exc)}",
            hint="correct the values; the message is the chart's own.",
        )


def _comparison() -> bytes:
    """A chart that answers what only Helm can tell: whether a version meets a constraint."""
    content = {
        "Chart.yaml": b"apiVersion: v2\nname: comparison\nversion: 1.0.0\n",
        "templates/answer.txt": b"{{ semverCompare .Values.wanted .Values.version }}",
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(f"comparison/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def packed_folder(folder: Path, error: type[AirferryError]) -> bytes:
    """The archive that `helm package` makes of the chart in `folder`, but the same bytes each time.

    The bytes depend on the compression library of this Python too. Raises `error`.
    """
    from helm_python import HelmError, package

    with tempfile.TemporaryDirectory(prefix="airferry-chart-") as target:
        try:
            made = Path(package(folder, destination=target))
        except HelmError as exc:
            raise error(f"{folder}: no chart that can be packed: {brief(exc)}", hint="try `helm package`.") from exc
        files = unpacked(read_bounded(made, MAX_ARCHIVE, error), str(folder), error)
    return packed(files, level=9)


def brief(exc: Exception) -> str:
    """The message of a foreign error on one line of bounded length."""
    text = " ".join(str(exc).split())
    return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]} ..."


def _open(archive: bytes, source: str, error: type[AirferryError]) -> Any:
    """A freshly loaded chart, to be used in a `with` statement. Raises `error`."""
    from helm_python import Chart as Handle
    from helm_python import HelmError

    try:
        return Handle.load_archive(archive)
    except HelmError as exc:
        raise error(f"{source}: not a Helm chart: {brief(exc)}", hint="fetch the chart again.") from exc


def _render(handle: Any, values: Values, options: Mapping[str, Any]) -> dict[str, str]:
    """Rendered text by the path of its template. The binding's own method lacks some options of the library."""
    from helm_python import _native

    text = _native.call_string(
        "helm_render",
        handle._raw(),  # noqa: SLF001
        json.dumps(dict(values), allow_nan=False),
        json.dumps(dict(options)),
    )
    return dict(json.loads(text))

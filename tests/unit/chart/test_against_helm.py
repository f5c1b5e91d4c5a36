"""The real `helm` program renders each chart at hand as airferry does, which calls Helm through a binding of others.

What helm makes anew each time, such as passwords and certificates, is found by rendering with helm repeatedly, and not
compared. All else has to be equal: objects, hooks, CRDs, each in its template, and that a chart is refused.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from helm_python import _native

from installer.chart.helm import Chart
from installer.chart.retarget import merged
from installer.errors import RecipeError
from tests.parts.charts import package
from tests.parts.foreign_charts import FOREIGN, VALUES
from tests.parts.go_programs import go_program
from tests.parts.helm_program import Flat, RefusedError, flat, helm, read
from tests.parts.kubernetes import find_go

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# The program refuses a chart that lacks a subchart, also one that is switched off.
WHOLE = {"charts/absent/Chart.yaml": "apiVersion: v2\nname: absent\nversion: 0.1.0\n"}
OURS = {
    "demo-app": package("demo-app"),
    "demo-platform": package("demo-platform"),
    "traps": package("traps", files=WHOLE),
}
APIS = (
    *("autoscaling/v2", "cert-manager.io/v1", "demo.example/v1/Proxy", "gateway.networking.k8s.io/v1"),
    *("monitoring.coreos.com/v1", "monitoring.coreos.com/v1/ServiceMonitor", "networking.k8s.io/v1/Ingress"),
    *("policy/v1/PodDisruptionBudget", "route.openshift.io/v1", "security.openshift.io/v1"),
)
CASES: dict[str, dict[str, Any]] = {
    "install": {},
    "upgrade": {"upgrade": True},
    "older cluster": {"kube_version": "1.29.3", "api_versions": APIS},
}
MORE_RUNS = 6
"""Of helm, where there is a difference: what it chooses at random among few may come out the same twice."""

HOOK = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: h, annotations: {helm.sh/hook: %s}}\n"
MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: %s\n"
BUILT_IN = (
    *(".Capabilities.APIVersions", ".Capabilities.KubeVersion", ".Capabilities.HelmVersion.Version", ".Release"),
    *(".Chart", ".Template", ".Values", '.Files.Glob "**"', 'getHostByName "localhost"', 'lookup "v1" "Pod" "" ""'),
    *("toToml .Values", 'tpl "{{ .Values.a }}" (dict "Values" (dict "a" 1))', 'fromYamlArray "[1, y]"'),
    *('semver "1.2.3-a+b"', ".Values.nothing"),
)
ODD: dict[str, dict[str, str]] = {
    "an unknown hook": {"odd.yaml": HOOK % '"pre-install,crd-install"'},
    "an empty hook": {"odd.yaml": HOOK % '""'},
    "a hook and a comma": {"odd.yaml": HOOK % '"pre-install,"'},
    "old and odd spellings of hooks": {"odd.yaml": HOOK % '" Post-Install , test-success"'},
    "notes": {"NOTES.txt": "a: 1", "sub/NOTES.txt": "b: 1", "MYNOTES.txt": "c: 1", "NOTES.md": "d: 1"},
    "partials": {"_part.yaml": "a: 1", "_folder/odd.txt": "b: 1"},
    "streams": {
        "odd.yaml": "\n\n---\na: |\n  x\n---\n# nothing\n--- \nb: |\n  x\n  ---\n  y\n\n---c: |+\n  1\n\nd: 1\n---\n\n"
    },
    "YAML 1.1": {"odd.yaml": MAP % "[y, no, On, ~, 2026-01-02, 010, 0o10, 1_000, 1e3, 0x1F, 1:30, =]"},
    "numbers": {"odd.yaml": MAP % "[9007199254740993, 1234567, 1.0, 0.1, -0, 1e21, {{ 1e6 }}, {{ 3 | float64 }}]"},
    "merges": {"odd.yaml": MAP % "&a {b: 1, b: 2}\nmore: {<<: *a, c: 3}"},
    "no kind": {"odd.yaml": "a: 1\n"},
    "a List": {"odd.yaml": "apiVersion: v1\nkind: List\nitems: [{kind: Pod, metadata: {name: p}}]\n"},
    "annotations that are no texts": {"odd.yaml": "kind: Pod\nmetadata: {annotations: {a: 1}}\n"},
    "annotations that are null": {"odd.yaml": "kind: Pod\nmetadata: {annotations: null}\n"},
    "what is built in": {"odd.yaml": MAP % "".join(f"\n- {{{{ {part} | toJson | quote }}}}" for part in BUILT_IN)},
}
"""Templates, by what is odd about them."""
REFUSED: dict[str, dict[str, str]] = {
    "a list": {"odd.yaml": "- a\n"},
    "a word": {"odd.yaml": "word\n"},
    "infinity": {"odd.yaml": MAP % "[.inf]"},
    "the environment": {"odd.yaml": MAP % '[{{ env "HOME" }}]'},
    "a value below one that is not there": {"odd.yaml": MAP % "[{{ .Values.a.b }}]"},
    "a failure in notes": {"NOTES.txt": '{{ fail "no" }}'},
    "a schema": {"../values.schema.json": '{"required": ["nothing"]}'},
}


def theirs(
    archive: bytes, values: Mapping[str, Any], case: Mapping[str, Any], folder: Path, runs: int
) -> list[Flat] | str:
    """What helm makes of the chart, several times; its message if it refuses."""
    packed, file = folder / "chart.tgz", folder / "values.json"
    packed.write_bytes(in_second_revision(archive) if case.get("upgrade") else archive)
    file.write_text(json.dumps(values))
    options = ["--namespace", "ns", "--include-crds", "--values", str(file)]
    options += [part for api in case.get("api_versions", ()) for part in ("--api-versions", api)]
    options += ["--kube-version", case["kube_version"]] if "kube_version" in case else []
    options += ["--is-upgrade"] if case.get("upgrade") else []
    try:
        texts = [helm(folder, "template", "rel", packed, *options) for _ in range(runs)]
    except RefusedError as exc:
        return str(exc)
    return [flat(objects) for objects in read(texts, folder)]


def in_second_revision(archive: bytes) -> bytes:
    """The chart, which takes its release to be in revision 2: the program counts an upgrade as the first."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(archive)) as old, tarfile.open(fileobj=packed, mode="w") as new:
        for member in old:
            file = old.extractfile(member)
            data = file.read() if file else b""
            if "/templates/" in member.name:
                data = re.sub(rb"[$.\w]*\.Release\.Revision\b", b"2", data)
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    return gzip.compress(packed.getvalue())


def ours(chart: Chart, values: Mapping[str, Any], case: Mapping[str, Any]) -> Flat | str:
    """What airferry makes of the chart; its message if it refuses."""
    version = case.get("kube_version", "")
    if version and not chart.accepts(version):
        return f"not for Kubernetes {version}"
    try:
        return flat(chart.render(values, release="rel", namespace="ns", **case).manifests)
    except RecipeError as exc:
        return exc.message


def differences(runs: list[Flat], found: Flat) -> list[str]:
    """A line for each difference from what all runs of helm agree on."""
    places = sorted({place for each in (*runs, found) for place in each})
    return [
        f"{' / '.join(place)}: helm {runs[0].get(place, 'nothing')}, airferry {found.get(place, 'nothing')}"
        for place in places
        if len({each.get(place) for each in runs}) == 1 and runs[0].get(place) != found.get(place)
    ]


def agreed(archive: bytes, values: Mapping[str, Any], case: Mapping[str, Any], folder: Path) -> bool:
    """Whether both render the chart: all the same, else AssertionError. False if both refuse it."""
    found = ours(Chart.load(archive), values, case)
    runs = theirs(archive, values, case, folder, 2)
    if isinstance(found, str) or isinstance(runs, str):
        assert isinstance(runs, str), f"airferry refuses what helm renders: {found}"
        assert isinstance(found, str), f"helm refuses what airferry renders: {runs}"
        return False
    if differences(runs, found):
        more = theirs(archive, values, case, folder, MORE_RUNS)
        assert not isinstance(more, str)
        runs += more
    places = {place for each in runs for place in each}
    random = [place for place in places if len({each.get(place) for each in runs}) > 1]
    assert 3 * len(random) < len(places), "next to nothing would be compared"
    different = differences(runs, found)
    summary = "\n".join(each[:300] for each in different[:20])
    assert not different, f"{len(different)} differences:\n{summary}"
    return True


def chart_of(name: str) -> tuple[bytes, Mapping[str, Any], bool]:
    """A chart, its values in the table, and whether it has to be rendered with them."""
    archive = OURS.get(name) or FOREIGN[name].read_bytes()
    known = VALUES.get(Chart.load(archive, source=name).name)
    return archive, known or {}, known is not None or name in OURS


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", [*OURS, *FOREIGN])
def test_a_chart_is_rendered_as_helm_does_it(name: str, case: str, tmp_path: Path) -> None:
    archive, values, renders = chart_of(name)
    assert agreed(archive, values, CASES[case], tmp_path) or not renders, "the table's values do not do"


@pytest.mark.parametrize("name", [*OURS, *FOREIGN])
def test_parts_of_a_chart_that_are_switched_off(name: str, tmp_path: Path) -> None:
    """All of them are switched on; should the chart be refused then, as many as it is rendered with."""
    archive, values, _ = chart_of(name)
    chart = Chart.load(archive, source=name)
    on = switches(chart.defaults(values))
    if not agreed(archive, switched(values, on), {}, tmp_path):
        assert agreed(archive, switched(values, compatible(chart, values, on, len(on) // 16)), {}, tmp_path)


def switches(node: Mapping[str, Any], *above: str) -> list[tuple[str, ...]]:
    """Paths of all parts that the values switch off."""
    found = []
    for key, value in node.items():
        if isinstance(value, dict):
            found += switches(value, *above, key)
        elif value is False and key in ("enabled", "install", "create"):
            found.append((*above, key))
    return found


def switched(values: Mapping[str, Any], on: list[tuple[str, ...]]) -> dict[str, Any]:
    """The values with these parts switched on."""
    result = dict(values)
    for path in on:
        overlay: Any = True
        for key in reversed(path):
            overlay = {key: overlay}
        result = merged(result, overlay)
    return result


def compatible(chart: Chart, values: Mapping[str, Any], on: list[tuple[str, ...]], least: int) -> list[tuple[str, ...]]:
    """Those of the parts with which the chart is rendered; `least` or fewer of them are not told apart."""
    try:
        chart.render(switched(values, on), release="rel", namespace="ns")
    except RecipeError:
        if len(on) <= max(1, least):
            return []
    else:
        return on
    half = len(on) // 2
    first = compatible(chart, values, on[:half], least)
    return first + compatible(chart, switched(values, first), on[half:], least)


@pytest.mark.parametrize("oddity", [*ODD, *REFUSED])
def test_odd_templates(oddity: str, tmp_path: Path) -> None:
    files = {f"templates/{name}": text for name, text in {**ODD, **REFUSED}[oddity].items()}
    archive = package("demo-app", files={**files, "more/file.txt": "text"})
    assert agreed(archive, {}, {}, tmp_path) == (oddity in ODD)


@pytest.mark.parametrize(
    ("name", "values", "renders"),
    [
        ("demo-app", {"replicas": 3, "imagePullSecrets": [{"name": "a"}], "greeting": "on"}, True),
        ("demo-platform", {"worker": {"image": {"tag": None}}, "spare": {"install": True}}, True),
        ("demo-platform", {"global": {"customCACerts": ["one", "two"]}, "web": {"install": False}}, True),
        ("demo-platform", {"global": None}, False),
        ("traps", {"token": "x", "decoy": {"image": None}, "optional": None}, True),
        ("traps", {"token": "x", "store": {"image": {"tag": None}}}, False),
        ("traps", {"token": "x", "store": "none"}, False),
        ("traps", {}, False),
    ],
)
def test_values_take_effect_as_in_helm(name: str, values: dict[str, Any], renders: bool, tmp_path: Path) -> None:
    assert agreed(OURS[name], values, {}, tmp_path) == renders


@pytest.mark.parametrize(
    ("version", "read", "accepted"),
    [
        ("1.34", True, False),
        ("1.34.1", True, True),
        ("v1.34.1-eks-abc", True, True),
        ("1.34.1+k3s1", True, True),
        ("no version", False, False),
    ],
)
def test_versions_of_kubernetes_are_read_as_helm_reads_them(
    version: str, read: bool, accepted: bool, tmp_path: Path
) -> None:
    template = {"templates/odd.yaml": MAP % "[{{ .Capabilities.KubeVersion | toJson | quote }}]"}
    wanting = {"Chart.yaml": "apiVersion: v2\nname: demo-app\nversion: 1.0.0\nkubeVersion: '>=1.34.1'\n"}
    for files, renders in (({}, read), (wanting, accepted)):
        archive = package("demo-app", files={**template, **files})
        assert agreed(archive, {}, {"kube_version": version}, tmp_path) == renders


def test_only_what_helm_makes_anew_is_not_compared(tmp_path: Path) -> None:
    template = "[{{ randAlphaNum 9 }}, {{ list 1 2 3 4 5 6 7 8 9 | toStrings | join `` | shuffle }}, %s]"
    archives = [package("demo-app", files={"templates/odd.yaml": MAP % (template % word)}) for word in ("one", "two")]
    assert agreed(archives[0], {}, {}, tmp_path)
    runs, found = theirs(archives[0], {}, {}, tmp_path, MORE_RUNS), ours(Chart.load(archives[1]), {}, {})
    assert not isinstance(runs, str)
    assert not isinstance(found, str)
    place = "demo-app/templates/odd.yaml / ConfigMap / object / 1 / data / 2"
    assert differences(runs, found)[-1:] == [f'{place}: helm "one", airferry "two"']
    with pytest.raises(AssertionError, match="helm refuses what airferry renders"):
        agreed(package("traps"), VALUES["traps"], {}, tmp_path)


def test_the_program_is_of_the_version_inside_the_binding() -> None:
    told = subprocess.run([find_go(), "version", "-m", go_program("helm")], check=True, capture_output=True, text=True)
    assert f"helm.sh/helm/v4\t{_native.helm_sdk_version()}\t" in told.stdout, "correct tests.parts.go_programs"

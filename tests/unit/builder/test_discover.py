"""What a chart asks for, and what it could ask for: found, with the values that switch it on; failures are named."""

from __future__ import annotations

import io
import re
import tarfile
from typing import Any

import pytest

from builder.charts.discover import Discovery, discover
from builder.charts.fetch import FetchedChart
from builder.charts.rendering import Release
from builder.charts.tree import ChartTree
from builder.charts.version_overrides import pinned
from builder.recipe.lock import LockedManifest, Origin
from builder.recipe.recipe import ChartEntry, KubernetesEntry
from installer.chart.helm import Chart
from installer.chart.templates.readers import readers
from installer.errors import RecipeError
from installer.oci import media_types
from installer.oci.model import Descriptor
from installer.value import replace
from tests.parts.charts import CHARTS, package

PROFILE = {"token": "x"}


def release(values: dict[str, Any], further: dict[str, Any] | None = None, **options: Any) -> Release:
    chart = Chart.load(package("traps", **options))
    entry = ChartEntry(name=chart.name, version=chart.version, path="x.tgz")
    published = Descriptor(media_types.HELM_CHART, chart.digest, len(chart.archive))
    fetched = FetchedChart(entry, chart, Origin("file", "x.tgz"), LockedManifest(chart.digest, ()), (), published)
    return Release(fetched, ChartTree.of(chart), "r", "n", values, "", further or {})


def traps(
    values: dict[str, Any] | None = None,
    further: dict[str, Any] | None = None,
    kubernetes: dict[str, str] | None = None,
    **options: Any,
) -> Discovery:
    known = KubernetesEntry.model_validate({"api_versions": ["demo.example/v1/Proxy"], **(kubernetes or {})})
    return discover(release({**PROFILE, **(values or {})}, further, **options), known)


def declaring(absent: str) -> dict[str, str]:
    """The chart's files with another way of declaring the subchart that is absent."""
    text = (CHARTS / "traps/Chart.yaml").read_text()
    return {"Chart.yaml": re.sub(r"(name: absent, version: 0.1.0), .*\}", rf"\1, {absent}}}", text)}


def switches(found: Discovery, image: str) -> set[tuple[str, ...]]:
    return {reason.switches for reason in found.optional[image]}


def test_what_the_profile_needs_is_apart_from_what_switches_would_add() -> None:
    found = traps()
    assert {name.removeprefix("docker.io/demo/") for name in found.images} == {
        *("backup:1.0", "extra:1.0", "in-custom:1.0", "install:1.0", "legacy:1.0", "pinned:1.0", "proxy:1.0"),
        *("sidecar:1.0", "sidecar:2.0", "store:1.0", "untagged:latest", "upgrade:1.0", "migrate:1.0"),
        "docker.io/demo-namespace/tool:1.0",
        "docker.io/library/busybox:1.36",
        "ghcr.io/demo/hard-coded@sha256:" + "a" * 64,
        "quay.io/demo/web:v3.1",
        "registry.example:5000/demo/with-port:1.0",
    }
    assert {name.removeprefix("docker.io/demo/") for name in found.optional} == {
        *("optional:1.0", "beside:1.0", "metrics:1.0", "deep:1.0", "feature:latest")
    }
    assert "docker.io/demo/solver:1.0" in found.suspected
    assert "busybox:1.36.1" in found.suspected


def test_each_optional_image_names_the_values_that_switch_it_on() -> None:
    found = traps()
    assert switches(found, "docker.io/demo/optional:1.0") == {("optional.enabled",)}
    assert switches(found, "docker.io/demo/feature:latest") == {("feature.enabled",)}
    assert switches(found, "docker.io/demo/metrics:1.0") == {("demanding.enabled", "demanding.metrics.enabled")}
    both = ("demanding.enabled", "demanding.metrics.deep.enabled", "demanding.metrics.enabled")
    assert switches(found, "docker.io/demo/deep:1.0") == {both}
    (reason,) = found.optional["docker.io/demo/optional:1.0"]
    assert (reason.template, reason.values) == ("traps/charts/optional/templates/pod.yaml", ("optional.image",))


def test_every_value_named_as_a_switch_brings_the_image_about() -> None:
    found = traps(further={"demanding": {"bucket": "b"}})
    for image, reasons in found.optional.items():
        for reason in reasons:
            values: dict[str, Any] = {**PROFILE, "demanding": {"bucket": "b"}}
            for switch in reason.switches:
                node = values
                *above, last = switch.split(".")
                for key in above:
                    node = node.setdefault(key, {})
                node[last] = True
            assert image in traps(values).images


def test_a_template_that_fails_is_named_and_the_rest_of_its_chart_is_seen() -> None:
    found = traps()
    failing = {failure.template: failure for failure in found.failures}
    store = failing["traps/charts/demanding/templates/store.yaml"]
    assert "a bucket is required" in store.error
    assert store.switches == ("demanding.enabled",)
    assert "demanding.image" in store.values
    assert "docker.io/demo/beside:1.0" in found.optional
    with_bucket = traps(further={"demanding": {"bucket": "b"}})
    assert "docker.io/demo/demanding:1.0" in with_bucket.optional
    assert store.template not in {failure.template for failure in with_bucket.failures}


def test_what_lookup_finds_is_looked_into_and_a_refusal_of_it_is_named() -> None:
    found = traps()
    (migrate,) = found.images["docker.io/demo/migrate:1.0"]
    assert migrate.template == "traps/templates/lookup.yaml"
    failing = {failure.template: failure.error for failure in found.failures}
    assert "an older found is in the way" in failing["traps/templates/refusing.yaml"]
    tried = {(item.name, item.upgrade, item.found_by_lookup) for item in found.renderings}
    assert {("profile", upgrade, present) for upgrade in (False, True) for present in (False, True)} <= tried


def test_a_helper_that_cannot_bear_an_answer_keeps_only_its_own_chart_in_the_dark() -> None:
    files = {
        "charts/optional/templates/_ask.tpl": '{{ define "ask" }}{{ with lookup "v1" "Secret" "n" "s" }}{{ fail "no" }}'
        "{{ end }}{{ end }}",
        "charts/optional/templates/asking.yaml": '{{ include "ask" . }}',
    }
    found = traps({"optional": {"enabled": True}}, files=files)
    assert "docker.io/demo/migrate:1.0" in found.images
    assert "docker.io/demo/optional:1.0" in found.images
    assert "traps/charts/optional/templates/asking.yaml" in {failure.template for failure in found.failures}


MAKES_PASSWORDS = {
    "templates/password.yaml": """
{{- $held := (lookup "v1" "Secret" .Release.Namespace "pw").data }}
{{- if and .Release.IsUpgrade (not (hasKey ($held | default dict) "password")) }}
  {{- fail "PASSWORDS ERROR: provide your current passwords" }}
{{- end }}
apiVersion: v1
kind: Secret
metadata: {name: pw}
data: {password: {{ ($held | default dict).password | default (randAlphaNum 8 | b64enc) }}}
---
{{ include "traps.pod" (dict "name" "database" "image" "docker.io/demo/database:1.0") }}
"""
}


def test_an_upgrade_needs_only_what_the_installation_has_made() -> None:
    found = traps(files=MAKES_PASSWORDS)
    assert "docker.io/demo/database:1.0" in found.images
    assert "traps/templates/password.yaml" not in {failure.template for failure in found.failures}
    assert switches(found, "docker.io/demo/optional:1.0") == {("optional.enabled",)}


def test_an_upgrade_that_fails_in_every_cluster_is_refused() -> None:
    refusing = (
        '{{ if and .Release.IsUpgrade (not (lookup "v1" "Secret" "n" "s").spec.never) }}{{ fail "never" }}{{ end }}'
    )
    with pytest.raises(RecipeError, match="never"):
        traps(files={"templates/password.yaml": refusing})


KUBECTL = '{{ include "traps.pod" (dict "name" "kubectl" "image" (printf "docker.io/demo/kubectl:%s" (VERSION))) }}'
WHOLE = "trimPrefix `v` .Capabilities.KubeVersion.Version"
MINOR = "printf `%s.%s` .Capabilities.KubeVersion.Major .Capabilities.KubeVersion.Minor"
SINCE = "ternary `new` `old` (semverCompare `>=1.33.0-0` .Capabilities.KubeVersion.Version)"


def kubectl(version: str, **kubernetes: str) -> Discovery:
    text = KUBECTL.replace("VERSION", version.replace("`", '"'))
    return traps(files={"templates/kubectl.yaml": text}, kubernetes=kubernetes)


def tags(found: Discovery) -> set[str]:
    return {name.rpartition(":")[2] for name in found.images if "demo/kubectl" in name}


@pytest.mark.parametrize(
    ("version", "kubernetes", "needed"),
    [
        (WHOLE, {"to": "1.34.2"}, {"1.34.2"}),
        (WHOLE, {"from": "v1.34.2"}, {"1.34.2"}),
        (MINOR, {"from": "1.34"}, {"1.34"}),
        (MINOR, {"from": "1.31", "to": "1.34"}, {"1.31", "1.32", "1.33", "1.34"}),
        (MINOR, {"from": "1.33.1", "to": "1.34.2"}, {"1.33", "1.34"}),
        (SINCE, {"from": "1.31", "to": "1.34"}, {"old", "new"}),
        (SINCE, {"from": "1.33", "to": "1.36"}, {"new"}),
        (SINCE, {}, {"new"}),
    ],
)
def test_an_image_that_moves_with_the_minor_version_is_needed_in_all_its_forms(
    version: str, kubernetes: dict[str, str], needed: set[str]
) -> None:
    found = kubectl(version, **kubernetes)
    assert tags(found) == needed
    told = "; ".join(found.notes)
    assert ("traps/templates/kubectl.yaml" in told) == (len(needed) > 1)
    assert all(tag in told for tag in needed if len(needed) > 1)


@pytest.mark.parametrize(
    ("version", "kubernetes"),
    [(WHOLE, {"to": "1.34"}), (WHOLE, {"from": "1.34.1", "to": "1.34.3"}), (WHOLE, {}), (MINOR, {})],
)
def test_an_image_that_moves_within_what_the_recipe_says_is_refused(version: str, kubernetes: dict[str, str]) -> None:
    with pytest.raises(
        RecipeError, match=r"(?s)chart traps.*traps/templates/kubectl\.yaml.*demo/kubectl:1\."
    ) as caught:
        kubectl(version, **kubernetes)
    assert "kubernetes: {to: 1.34.2}" in caught.value.hint


def test_what_only_optional_parts_move_is_noted_and_no_made_up_version_is_asked_for() -> None:
    text = KUBECTL.replace("VERSION", WHOLE.replace("`", '"'))
    files = {"templates/kubectl.yaml": f"{{{{ if .Values.feature.enabled }}}}{text}{{{{ end }}}}"}
    found = traps(files=files, kubernetes={"to": "1.34"})
    assert [name for name in found.optional if "kubectl" in name] == ["docker.io/demo/kubectl:1.34.0"]
    assert "traps/templates/kubectl.yaml" in "; ".join(found.notes)


def test_a_chart_that_does_not_look_at_the_version_is_rendered_for_one() -> None:
    found = traps(kubernetes={"from": "1.20", "to": "1.34"}, files={"templates/custom.yaml": ""})
    assert {item.kubernetes for item in found.renderings} == {"1.34.0"}
    looking = traps(kubernetes={"from": "1.20", "to": "1.34"})
    minors = {f"1.{number}.0" for number in range(20, 35)}
    assert {item.kubernetes for item in looking.renderings} == {*minors, "1.34.999"}


def test_a_chart_that_one_of_the_versions_breaks_is_refused_with_the_version() -> None:
    old = '{{ if semverCompare "<1.32.0-0" .Capabilities.KubeVersion.Version }}{{ fail "too old" }}{{ end }}'
    with pytest.raises(RecipeError, match=r"for Kubernetes 1\.31\.0: .*too old"):
        traps(kubernetes={"from": "1.31", "to": "1.34"}, files={"templates/old.yaml": old})


def test_optional_values_that_break_the_profile_are_named() -> None:
    with pytest.raises(RecipeError, match=r"with `optional_values`: .*token is required"):
        traps(further={"token": ""})


def test_a_subchart_that_is_declared_but_absent_is_named() -> None:
    assert "traps/charts/absent" in {failure.template for failure in traps().failures}


@pytest.mark.parametrize(
    ("values", "declared"),
    [
        ({"absent": {"enabled": True}}, "condition: absent.enabled"),
        ({"tags": {"more": True}}, "tags: [more]"),
        ({}, "tags: [more]"),
        ({}, "alias: absent"),
        ({"absent": {"enabled": False}, "also": {"on": True}}, "condition: 'also.on,absent.enabled'"),
    ],
)
def test_a_subchart_that_is_switched_on_and_absent_is_refused_as_helm_refuses_it(
    values: dict[str, Any], declared: str
) -> None:
    with pytest.raises(RecipeError, match=r"lacks the subcharts absent, which are switched on") as caught:
        traps(values, files=declaring(declared))
    assert "helm dependency update" in caught.value.hint


@pytest.mark.parametrize("declared", ["tags: [more]", "tags: [more, most]", "condition: 'no.thing,absent.enabled'"])
def test_an_absent_subchart_that_tags_or_a_condition_switch_off_is_only_named(declared: str) -> None:
    found = traps({"tags": {"more": False}}, files=declaring(declared))
    assert "traps/charts/absent" in {failure.template for failure in found.failures}


def test_only_a_boolean_is_a_switch() -> None:
    agent = {"image": {"repository": "demo/agent", "tag": "1.0"}}
    mapped = {"feature": {"install": agent, "enabled": "yes"}, "web": {"enabled": {"image": "demo/web:1"}}}
    found = traps(values={**mapped, "more": {"enabled": [], "image": "docker.io/demo/more:1.0"}})
    assert not {switch for reasons in found.optional.values() for reason in reasons for switch in reason.switches} & {
        *("feature.install", "feature.enabled", "web.enabled", "more.enabled")
    }


def test_images_that_values_name_and_nothing_asks_for_are_kept_apart() -> None:
    assert traps().unused == ("decoy.image: docker.io/demo/decoy", "demanding.image: docker.io/demo/demanding")


def test_packed_subcharts_are_part_of_the_tree() -> None:
    plain = Chart.load(package("traps"))
    names = [name for name in ChartTree.of(plain).files if name.startswith("traps/charts/optional/")]
    with tarfile.open(fileobj=io.BytesIO(plain.archive)) as unpacked:
        members = {item.name: unpacked.extractfile(item) for item in unpacked if item.name not in names}
        content = {name: stored.read() for name, stored in members.items() if stored}
    content["traps/charts/optional-0.1.0.tgz"] = package("traps/charts/optional")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    tree = ChartTree.of(Chart.load(buffer.getvalue()))
    assert tree.parts == ChartTree.of(plain).parts
    assert set(names) <= set(tree.files)


def test_a_profile_that_cannot_be_rendered_is_refused() -> None:
    with pytest.raises(RecipeError, match="token is required"):
        discover(release({}), KubernetesEntry())


def test_a_switch_that_breaks_the_whole_chart_costs_no_image() -> None:
    fails = '{{ if and .Values.optional.enabled .Values.feature.enabled }}{{ fail "not both" }}{{ end }}'
    found = traps(files={"templates/both.yaml": fails})
    assert switches(found, "docker.io/demo/optional:1.0") == {("optional.enabled",)}
    assert switches(found, "docker.io/demo/feature:latest") == {("feature.enabled",)}


def test_versions_are_set_wherever_values_name_such_an_image() -> None:
    named = {
        "web": {"image": {"repository": "wandb/local"}},
        "sidecars": [],
        "pinned": {"image": {"repository": "us-docker.pkg.dev/x/public/wandb/console", "tag": "latest"}},
    }
    tree = ChartTree.of(Chart.load(package("traps", values=named)))
    tags = {"wandb/local": "0.82.2", "wandb/console": "2.18.16"}
    assert pinned(tree, {}, tags) == {
        "web": {"image": {"tag": "0.82.2"}},
        "pinned": {"image": {"tag": "2.18.16"}},
    }
    given = {"web": {"image": {"tag": "mine"}}}
    assert pinned(tree, given, tags)["web"]["image"]["tag"] == "mine"
    assert pinned(tree, {}, {}) == {}


def test_the_same_chart_gives_the_same_discovery() -> None:
    first, second = traps(), traps()
    assert replace(second, release=first.release) == first


def reading(files: dict[str, str], values: str = "{}") -> set[str]:
    texts = {f"c/{name}": text.encode() for name, text in files.items()}
    return {name.removeprefix("c/templates/") for name in readers(texts, "lookup", values)}


def test_templates_that_come_upon_a_word_are_known_through_all_that_they_include() -> None:
    files = {
        "templates/_a.tpl": '{{ define "a" }}{{ include "b" . }}{{ end }}{{ define "c" }}x{{ end }}',
        "charts/s/templates/_b.tpl": '{{- define "b" -}}{{ lookup "v1" "Pod" "" "" }}{{ end }}',
        "templates/through.yaml": '{{ template "a" . }}',
        "templates/not.yaml": '# lookup\n{{/* lookup */}}{{ include "c" . }}',
        "templates/made-up.yaml": '{{ include (printf "%s" .Values.name) . }}',
        "templates/sum.yaml": '{{ include (print $.Template.BasePath "/other.yaml") . | sha256sum }}',
        "templates/with.yaml": '{{ include (print .Template.BasePath "/other.yaml") . }}{{ include "a" . }}',
        "templates/other.yaml": "x",
        "templates/text.yaml": "{{ tpl .Values.text . }}",
        "README.md": "lookup",
    }
    partials = {"_a.tpl", "c/charts/s/templates/_b.tpl"}
    assert reading(files) == {*partials, "through.yaml", "made-up.yaml", "with.yaml", "other.yaml"}
    assert "text.yaml" in reading(files, '{"text": "{{ lookup }}"}')
    assert "text.yaml" in reading({**files, "files/x": "{{ lookup }}"})


def test_what_a_chart_says_of_its_images_is_suspected_unless_it_is_known_under_another_version() -> None:
    text = (CHARTS / "traps/Chart.yaml").read_text()
    images = "- {name: operand, image: 'demo/operand:1.0'}\n- {name: web, image: 'docker.io/other/web:2.0'}\n"
    hinted = text + "annotations:\n  artifacthub.io/images: |\n    " + images.replace("\n", "\n    ") + "\n"
    found, known = traps(files={"Chart.yaml": hinted}).suspected, traps().suspected
    assert found.keys() - known.keys() == {"demo/operand:1.0"}
    (reason,) = found["demo/operand:1.0"]
    assert str(reason) == "chart traps: Chart traps: metadata.annotations.artifacthub.io/images"


def test_texts_that_only_further_values_bring_about_are_apart() -> None:
    template = (
        "{{ if .Values.optional.enabled }}{apiVersion: v1, kind: ConfigMap, metadata: {name: more}, "
        'data: {text: "quay.io/demo/operand:1"}}{{ end }}'
    )
    text, files = "quay.io/demo/operand:1", {"templates/more.yaml": template}
    found = traps(files=files)
    assert text in found.supposed
    assert text not in found.suspected
    assert text in traps({"optional": {"enabled": True}}, files=files).suspected

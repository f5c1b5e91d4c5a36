"""Tags become digests where the chart listens to them, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from installer.chart.helm import Chart, Rendering
from installer.chart.relocation import Relocation
from installer.chart.retarget import merged, overrides, stray
from installer.moving.pinning import pins
from installer.oci.digest import Digest
from tests.parts.charts import PLATFORM_IMAGES, package

if TYPE_CHECKING:
    from collections.abc import Mapping

REGISTRY = "r.enclave:5000"
DIGESTS = {image: Digest.of(image.encode()) for image in PLATFORM_IMAGES}
WORKER = DIGESTS["docker.io/demo/worker:1.0"].text
BUNDLE = Relocation.of(DIGESTS.items(), REGISTRY, "airferry")
SCHEMA = """{"type": "object", "properties": {"renew": {"type": "object", "properties": {"image": {
  "type": "object", "properties": {"repository": {}, "tag": {}}, "additionalProperties": false}}}}}"""


def pinned(values: Mapping[str, Any], *, files: Mapping[str, str] | None = None) -> tuple[dict[str, Any], list[str]]:
    """The digests for demo-platform with `values`, and the references that leave the enclave then."""
    chart = Chart.load(package("demo-platform", files=files))

    def render(values: Mapping[str, Any]) -> Rendering:
        return chart.render(values, release="r", namespace="n", upgrade=True)

    moved = merged(values, overrides(chart, values, BUNDLE))
    found = pins(render(moved), moved, BUNDLE, render)
    final = merged(moved, found)
    assert pins(render(final), final, BUNDLE, render) == {}
    assert overrides(chart, final, BUNDLE) == {}
    return found, [item.found.text for item in stray(render(final).objects, BUNDLE)]


def test_a_digest_is_given_to_maps_whose_template_listens() -> None:
    found, strays = pinned({})
    # `cache`, `renew` and `backup` have no digest in their templates; `spare` is switched off.
    assert found == {
        "web": {"image": {"digest": DIGESTS["docker.io/demo/httpd:1.0"].text}},
        "worker": {"image": {"digest": WORKER}},
    }
    assert strays == []


def test_a_template_may_listen_to_a_digest_that_no_default_mentions() -> None:
    template = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: more}\nspec: {containers: [{name: x, image: "
        '"{{ .Values.renew.image.repository }}{{ with .Values.renew.image.digest }}@{{ . }}'
        '{{ else }}:{{ .Values.renew.image.tag }}{{ end }}"}]}\n'
    )
    found, strays = pinned({}, files={"templates/more.yaml": template})
    assert found["renew"] == {"image": {"digest": DIGESTS["docker.io/demo/renew:1.0"].text}}
    assert strays == []


def test_another_tag_is_not_replaced_in_silence() -> None:
    found, strays = pinned({"worker": {"image": {"tag": "2.0"}}})
    assert "worker" not in found
    assert strays == [f"{REGISTRY}/airferry/docker.io/demo/worker:2.0"]


def test_a_tag_that_stands_elsewhere_is_not_replaced_in_silence() -> None:
    """The map names 1.0, but the template takes its tag from another value: a digest for 1.0 would change that."""
    template = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: more}\nspec: {containers: [{name: x, image: "
        '"{{ .Values.renew.image.repository }}{{ with .Values.renew.image.digest }}@{{ . }}'
        '{{ else }}:{{ .Values.version }}{{ end }}"}]}\n'
    )
    found, strays = pinned({"version": "3.0"}, files={"templates/more.yaml": template})
    assert "renew" not in found
    assert strays == [f"{REGISTRY}/airferry/docker.io/demo/renew:3.0"]


def test_a_digest_that_stands_there_already_stays() -> None:
    other = Digest.of(b"other").text
    found, strays = pinned({"worker": {"image": {"digest": other}}})
    assert "worker" not in found
    assert strays == [f"{REGISTRY}/airferry/docker.io/demo/worker@{other}"]


def test_a_chart_whose_schema_knows_no_digest_keeps_its_tags() -> None:
    found, strays = pinned({}, files={"values.schema.json": SCHEMA})
    assert found == {}
    assert strays == []

"""A draft makes what its chart makes, but for keys; an upgrade is the installation but for what tells them apart."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from installer.chart.archive import packed
from installer.chart.helm import Chart
from installer.chart.images import references
from installer.chart.parts import files_of
from installer.chart.templates.drafts import draft
from installer.chart.templates.readers import OPERATION, readers
from installer.moving.operations import Operations
from tests.parts.charts import package
from tests.parts.foreign_charts import FOREIGN, VALUES

if TYPE_CHECKING:
    from collections.abc import Mapping

OURS = {name: package(name) for name in ("demo-app", "demo-platform", "traps")}
NAMES = sorted({*OURS, *FOREIGN})


def chart(template: str, values: str = "", **files: str) -> Chart:
    content = {"Chart.yaml": "apiVersion: v2\nname: it\nversion: 1.0.0\n", "values.yaml": values, **files}
    content["templates/it.yaml"] = template
    return Chart.load(packed({f"it/{name}": text.encode() for name, text in content.items()}, level=0))


def at_hand(name: str) -> tuple[Chart, Mapping[str, Any]]:
    """A chart and values with which it renders."""
    made = Chart.load(OURS[name] if name in OURS else FOREIGN[name].read_bytes())
    return made, VALUES.get(made.name, {})


def only(made: Chart) -> dict[str, Any]:
    (item,) = made.render({}, release="r", namespace="n").objects
    return item


KEYS = {
    "an authority": '{{ $ca := genCA "demo" 365 }}{cert: {{ $ca.Cert | b64enc }}, key: {{ $ca.Key | b64enc }}}',
    "a certificate that it signs": '{{ $ca := genCA "demo" 365 -}}\n'
    '{{- $made := genSignedCert "demo" (list "10.0.0.1") (list "a.b" "c.d") 365 $ca -}}\n'
    "{cert: {{ $made.Cert | b64enc }}, authority: {{ $ca.Cert | b64enc }}}",
    "in parentheses": '{cert: {{ (genSelfSignedCert "demo" nil nil 365).Cert | b64enc }}}',
    "at the end of a pipe": '{cert: {{ (365 | genCA "demo").Cert | b64enc }}}',
    "with a key": '{{ $key := genPrivateKey "rsa" }}{cert: {{ (genCAWithKey "demo" 365 $key).Cert | b64enc }}}',
    "of what was found": '{{ $one := genCA "demo" 365 }}{{ $ca := buildCustomCert ($one.Cert | b64enc) '
    '($one.Key | b64enc) }}{cert: {{ (genSignedCert "demo" nil nil 365 $ca).Cert | b64enc }}}',
    "a hash of a password": '{user: {{ htpasswd "me" "secret" | quote }}, hash: {{ bcrypt "secret" | quote }}}',
}


@pytest.mark.parametrize("text", KEYS.values(), ids=KEYS.keys())
def test_keys_are_made_up(text: str) -> None:
    made = chart(f"kind: Secret\nmetadata: {{name: it}}\ndata: {text}\n")
    one, other = only(draft(made)), only(draft(made))
    real = only(made)
    assert one == other  # what is made up is the same each time
    assert one["data"].keys() == real["data"].keys()
    assert all(one["data"][key] and one["data"][key] != real["data"][key] for key in real["data"])


def test_words_in_texts_stay() -> None:
    """`genCA` in a text is no function, and a field of that name is none either."""
    text = 'kind: A\nmetadata: {name: it}\nsaid: {{ "use genCA now" | quote }}\nof: {{ .Values.genCA | quote }}\n'
    made = chart(text, "genCA: mine\n")
    assert only(draft(made)) == only(made) == {**only(made), "said": "use genCA now", "of": "mine"}


COMMENTS = {
    "plain": "a: 1{{/* {{ }} */}}\nb: 2\n",
    "trimming before": "a: 1\n{{- /* a comment\nof two lines */}}\nb: 2\n",
    "trimming behind": "a: 1\n{{/* it */ -}}\nb: 2\n",
    "trimming both": 'text: "x {{- /* it */ -}} y"\n',
    "two": "a: 1 {{/* one */}}{{ /* no comment */ }}\nb: 2\n",
}


@pytest.mark.parametrize("text", COMMENTS.values(), ids=COMMENTS.keys())
def test_comments_leave_the_space_that_they_left(text: str) -> None:
    made = chart(f"kind: A\nmetadata: {{name: it}}\n{text}")
    try:
        real = only(made)
    except Exception as exc:  # noqa: BLE001 - whatever it is, the draft says the same
        with pytest.raises(type(exc)):
            only(draft(made))
    else:
        assert only(draft(made)) == real


def test_values_are_what_they_were() -> None:
    """Also where YAML means something else than its text says."""
    values = (
        "# a comment\nyes: on\nnumber: 1e6\nlarge: 12345678901234567890\noctal: 0777\ndate: 2026-01-02\nlong: 1234567\n"
        "text: |\n  # no comment\n  x\nnothing: ~\nfloat: 1.10\nlist: [1, 2.50, 'y']\n"
    )
    made = chart("kind: A\nmetadata: {name: it}\nvalues: {{ .Values | toJson | quote }}\n", values)
    assert only(draft(made)) == only(made)
    assert json.loads(only(draft(made))["values"])["text"] == "# no comment\nx\n"


def test_values_that_are_no_yaml_are_refused_as_before() -> None:
    good = chart("kind: A\nmetadata: {name: it}\n")
    bad = packed({**files_of(good), "it/values.yaml": b"a: ["}, level=0)
    with pytest.raises(good.error):
        Chart.load(bad)


@pytest.mark.parametrize("name", NAMES)
def test_drafts_name_the_same_images(name: str) -> None:
    made, values = at_hand(name)
    one, other = (item.render(values, release="r", namespace="n") for item in (made, draft(made)))
    assert [path for path, _ in one.manifests] == [path for path, _ in other.manifests]
    assert references(one.objects) == references(other.objects)


@pytest.mark.parametrize("name", NAMES)
def test_an_upgrade_is_the_installation_but_for_some_templates(name: str) -> None:
    """What is put together of the two is what Helm makes of all templates."""
    made, values = at_hand(name)
    operations = Operations(draft(made), "r", "n")
    upgrade = operations.upgrade(values)
    whole = draft(made).render(values, release="r", namespace="n", upgrade=True)
    assert [path for path, _ in upgrade.manifests] == [path for path, _ in whole.manifests]
    assert references(upgrade.objects) == references(whole.objects)
    assert [_told(item) for item in upgrade.objects] == [_told(item) for item in whole.objects]


def _told(item: dict[str, Any]) -> tuple[str, str]:
    # Jobs of some charts bear a name made of what they find, or of a number that is drawn.
    name = re.sub(r"[0-9a-z]{5,}$|\d+", "", str(item["metadata"]["name"]))
    return str(item["kind"]), name


FILES = {
    "it/templates/inner.yaml": b"{{ .Release.IsUpgrade }}",
    "it/templates/whole.yaml": b'{{ include (print $.Template.BasePath "/inner.yaml") . }}',
    "it/templates/outer.yaml": b'{{ include (print .Template.BasePath "/whole.yaml") . | indent 2 }}',
    "it/templates/hash.yaml": b'sum: {{ include (print $.Template.BasePath "/inner.yaml") . | sha256sum }}',
    "it/templates/helper.yaml": b'{{ include "it.helper" . }}',
    "it/templates/_helpers.tpl": b'{{ define "it.helper" }}{{ .Release | toYaml }}{{ end }}',
    "it/templates/name.yaml": b"{{ .Release.Name }} {{ .Release.Namespace }}",
}


def test_what_tells_an_upgrade_from_an_installation() -> None:
    found = {name.rpartition("/")[2] for name in readers(FILES, OPERATION, "{}")}
    assert found == {"inner.yaml", "whole.yaml", "outer.yaml", "helper.yaml", "_helpers.tpl"}

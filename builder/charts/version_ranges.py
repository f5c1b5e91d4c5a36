"""Version ranges as Helm reads them, such as `^6.0.0`, `~1.2` or `>=1, <2`.

Helm's own library answers (github.com/Masterminds/semver, by way of the template functions `semver` and
`semverCompare`), so nobody here has to know what a range means.
"""

import re
from collections.abc import Sequence
from functools import cache

from installer.chart.archive import packed
from installer.chart.helm import Chart
from installer.errors import RecipeError

MAX_VERSIONS = 20_000
# What Masterminds/semver reads as a version; one text that it does not would end the whole comparison.
_VERSION = re.compile(
    r"v?(0|[1-9]\d{0,17})(\.(0|[1-9]\d{0,17})){0,2}(-(?!0\d)[0-9A-Za-z-]+(\.(?!0\d+(\.|\+|$))[0-9A-Za-z-]+)*)?"
    r"(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?",
    re.ASCII,
)
_TEMPLATE = b"""\
{{- $best := "" }}
{{- range .Values.versions }}
{{- if semverCompare $.Values.wanted . }}
{{- if or (not $best) (gt ((semver .).Compare (semver $best)) 0) }}{{ $best = . }}{{ end }}
{{- end }}
{{- end }}
newest: {{ $best | quote }}
"""


def newest(wanted: str, versions: Sequence[str]) -> str:
    """The version that the range `wanted` means: the very text if it is among `versions`, else the newest that fits.

    Empty if none does. As in Helm, a prerelease fits only a range that names one. Raises RecipeError for a range that
    Helm cannot read.
    """
    if wanted in versions:
        return wanted
    known = [text for text in versions[:MAX_VERSIONS] if _VERSION.fullmatch(text)]
    try:
        made = _comparison().render({"wanted": wanted, "versions": known or ["0.0.0-0"]}, release="x", namespace="x")
    except RecipeError as exc:
        raise RecipeError(
            f"{wanted!r}: neither a version nor a range of versions", hint="write 1.2.3, ^1.2.0, ~1.2 or >=1.2, <2."
        ) from exc
    found = made.objects[0]["newest"]
    return found if found in known else ""


@cache
def _comparison() -> Chart:
    files = {"x/Chart.yaml": b"apiVersion: v2\nname: x\nversion: 1.0.0\n", "x/templates/x.yaml": _TEMPLATE}
    return Chart.load(packed(files, level=0))

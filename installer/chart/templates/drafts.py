"""Charts rendered to be looked at, not to be installed: what makes them slow, and no image depends on, is left out.

That are comments, which are most of what Helm reads of many charts, and the making of keys and certificates: a pair of
RSA keys takes as long as two hundred templates. Source of the foreign rules: masterminds.github.io/sprig,
"Cryptographic and Security Functions"; pkg.go.dev/text/template, "Actions".
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from installer.chart.helm import Chart, without_comments
from installer.chart.parts import files_of, with_files

_TEMPLATES = "/templates/"
_VALUES = re.compile(r"[^/]+/(?:charts/[^/]+/)*values\.yaml")
_FOR_PEOPLE = re.compile(r"[^/]+/(?:charts/[^/]+/)*(?:README|CHANGELOG)\.md")
_COMMENT = re.compile(rb"\{\{(- )?/\*.*?\*/( -)?\}\}", re.DOTALL)
_ACTION = re.compile(rb"\{\{.*?\}\}", re.DOTALL)
# `dict` takes keys and values in turn, so the arguments of the functions become further entries.
_PAIR = (
    b'dict "Cert" "-----BEGIN CERTIFICATE-----\\n-----END CERTIFICATE-----\\n" '
    b'"Key" "-----BEGIN PRIVATE KEY-----\\n-----END PRIVATE KEY-----\\n"'
)
_PAIRS = (b"genCA", b"genSelfSignedCert", b"genSignedCert")
_MADE_UP: dict[bytes, bytes] = {
    **dict.fromkeys((*_PAIRS, *(b"%bWithKey" % name for name in _PAIRS), b"buildCustomCert"), _PAIR),
    **dict.fromkeys((b"genPrivateKey", b"derivePassword", b"bcrypt"), b"print"),
    b"htpasswd": b'printf "%s:%s"',
}
_LONGEST_FIRST = sorted(_MADE_UP, key=len, reverse=True)
_NAMES = b"|".join(_LONGEST_FIRST)
_NAME = re.compile(_NAMES)
# Literals first, so that none is taken to pieces.
_WORD = re.compile(rb"\"(?:\\.|[^\"\\])*\"|`[^`]*`|(?<=[\s({|=])(?:%b)(?=\s)" % _NAMES)


@lru_cache(maxsize=16)
def draft(chart: Chart) -> Chart:
    """`chart` as a draft. Raises ContentError for an archive that is too large."""
    return with_files(chart, drafted(files_of(chart)))


def drafted(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The `files` of a chart as a draft."""
    return {name: _drafted(name, data) for name, data in files.items() if not _FOR_PEOPLE.fullmatch(name)}


def _drafted(name: str, data: bytes) -> bytes:
    if _VALUES.fullmatch(name):
        return without_comments(data)
    if _TEMPLATES not in name:
        return data
    data = _COMMENT.sub(_trimming, data)
    return _ACTION.sub(_quick, data) if _NAME.search(data) else data


def _trimming(comment: re.Match[bytes]) -> bytes:
    """What trims the space around it as `comment` does."""
    before, after = comment.groups(b"")
    return b'{{%b""%b}}' % (before, after) if before or after else b""


def _quick(action: re.Match[bytes]) -> bytes:
    return _WORD.sub(lambda found: _MADE_UP.get(found[0], found[0]), action[0])

"""Image references in running text: configuration, scripts, arguments, whatever an object carries.

Every pattern here is linear in the length of the text: a run of characters is entered at its start only, and never
given back (`++`). ConfigMaps hold megabytes.
"""

import re
from collections.abc import Iterator

from installer.chart.spelling.keys import meaning, speaks_of_images
from installer.errors import AirferryError
from installer.oci.reference import Reference, parse_reference

_MAX_REFERENCE = 600
_URL = re.compile(r"""(?<![\w+.-])([A-Za-z][\w+.-]*+)://([^\s"'`<>,;|\\(){}\[\]]*+)""", re.ASCII)
_IMAGE_SCHEMES = ("docker", "oci")
_ESCAPE = re.compile(r"""(?<!\\)\\++(?:([nrt])|(["'/]))""")
# Whatever has a slash in it, from its first character on: what follows a slash or a colon is no beginning.
_WORD = re.compile(r"(?<![\w./:@-])[\w.:@-]++/[\w./:@-]++", re.ASCII)
# Nothing else looks like this, with or without a slash.
_DIGESTED = re.compile(r"(?<![\w./:@-])[\w./:-]++@sha256:[0-9a-f]{64}", re.ASCII)
# `--image REF`, `image: REF`, `"image": "REF"`, `IMAGE=REF`; not where a template goes on behind it.
_PAIR = re.compile(
    r"""(?<![\w.-])(?:(--?[\w.-]++)[ \t]++|([\w.-]++)["']?[ \t]*+[:=][ \t]*+)["']?([\w./:@-]++)(?![{$%<])""", re.ASCII
)
_DOMAIN = re.compile(r"(?:[\w-]+\.)+(?:[A-Za-z][A-Za-z0-9-]*[A-Za-z0-9])", re.ASCII)
_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}", re.ASCII)
_HOST_AND_PORT = re.compile(r"([\w.-]*[\w-]):(\d{1,5})", re.ASCII)
# Taints of nodes, `KEY:EFFECT` (Kubernetes documentation, "Taints and Tolerations"), and keys that Kubernetes reserves.
_EFFECTS = frozenset({"NoSchedule", "PreferNoSchedule", "NoExecute"})
_SOURCE_LINE = re.compile(r".*\.\w+:\d+(?::\d+)?", re.ASCII)
_SOURCE_HOSTS = frozenset({"github.com", "golang.org", "gopkg.in", "k8s.io", "sigs.k8s.io"})


def as_reference(text: str) -> Reference | None:
    """The reference that `text` is; None if it is none."""
    if not text or len(text) > _MAX_REFERENCE:
        return None
    try:
        return parse_reference(text)
    except AirferryError:
        return None


def parted(text: str) -> tuple[str, str]:
    """A reference as it is written, in two: the repository, and the tag or digest or both, with their signs."""
    leaf = text.rpartition("/")[2]
    start = min((leaf.index(mark) for mark in "@:" if mark in leaf), default=len(leaf))
    end = len(text) - len(leaf) + start
    return text[:end], text[end:]


def versioned(text: str) -> bool:
    """Whether a reference says which tag or digest."""
    return "@" in text or ":" in text.rpartition("/")[2]


def versioned_or_nested(text: str) -> bool:
    """Whether `text` is a reference that is more than one bare word: `latest` and `85` are not meant."""
    return ("/" in text or versioned(text)) and as_reference(text) is not None


def has_host(text: str) -> bool:
    """Whether a reference or repository names its registry in a way that little else looks like."""
    host, slash, path = text.partition("/")
    if not slash or not path:
        return False
    if host == "localhost" or _DOMAIN.fullmatch(host):
        return True
    if _ADDRESS.fullmatch(host):
        return not path.partition(":")[0].isdigit()  # `10.0.0.0/8` is a network
    return _HOST_AND_PORT.fullmatch(host) is not None


def in_text(text: str) -> Iterator[str]:
    """The references in `text`, in order, some perhaps twice: each with its host and a tag or digest, and shorter ones
    with a digest, or where a key or a flag before them speaks of images. What is part of a URL is none."""
    if "\\" in text:
        text = _ESCAPE.sub(lambda match: "\n" if match[1] else match[2], text)
    if "://" in text:
        text = _URL.sub(lambda match: f" {match[2] if match[1] in _IMAGE_SCHEMES else ''} ", text)
    for word in _WORD.findall(text):
        if found := _explicit(word):
            yield found
    if "@sha256:" in text:
        yield from (word for word in _DIGESTED.findall(text) if as_reference(word))
    if "image" not in text.lower():
        return
    for match in _PAIR.finditer(text):
        key, value = match[1] or match[2], match[3].rstrip(".:/-@")
        if not speaks_of_images(key) or (meaning(key).role == "repository" and key[0] != "-"):
            continue  # a part of a name, the rest of which stands elsewhere
        if versioned_or_nested(value) and plausible(value):
            yield value


def _explicit(word: str) -> str:
    """The reference with host and version at the end of `word`, say `key:quay.io/team/app:1`; empty for none."""
    word = word.rstrip(".:/-@")
    start, _, rest = word.partition("/")
    if ":" not in rest or len(word) > _MAX_REFERENCE:
        return ""
    before, colon, last = start.rpartition(":")
    if colon and last.isdigit():
        last = f"{before.rpartition(':')[2]}:{last}"
    text = f"{last.lstrip('-.')}/{rest}"
    return text if has_host(text) and versioned(text) and plausible(text) and as_reference(text) else ""


def plausible(text: str) -> bool:
    """Whether `text`, a reference by its form, is not one of the other things of that form: taints, places in source
    code, packages of Go."""
    host, _, path = text.partition("/")
    if text.rpartition(":")[2] in _EFFECTS or host == "kubernetes.io" or host.endswith(".kubernetes.io"):
        return False
    return host not in _SOURCE_HOSTS and not (path.partition(":")[0].endswith(".go") and _SOURCE_LINE.fullmatch(text))

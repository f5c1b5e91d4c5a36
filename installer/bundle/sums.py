"""`SHA256SUMS`: the one text that is signed, checkable with `sha256sum -c --strict`.

Each line is 64 lower-case hex digits, two spaces, a name. Lines are sorted by name; no comments, no blank lines.
"""

import re

from installer.bundle.limits import BUNDLE_JSON, INDEX_JSON, MANIFEST_JSON, OCI_LAYOUT
from installer.errors import BundleError, ContentError
from installer.oci.digest import Digest

_LINE = re.compile(r"([0-9a-f]{64})  ([a-zA-Z0-9][a-zA-Z0-9._/-]{0,98})\n", re.ASCII)
FILES = (BUNDLE_JSON, OCI_LAYOUT, INDEX_JSON, MANIFEST_JSON)


def encode(digests: dict[str, Digest]) -> bytes:
    """The text that names each file with its digest."""
    return "".join(f"{digests[name].hex}  {name}\n" for name in sorted(digests)).encode("ascii")


def decode(raw: bytes) -> dict[str, Digest]:
    """The digests by name. Raises BundleError unless `raw` is exactly what `encode` makes of them."""
    if b"\r" in raw:
        raise BundleError(
            "SHA256SUMS: its line ends were converted in transit", hint="copy the bundle in binary mode, as it is."
        )
    text = raw.decode("ascii", "replace")
    lines = _LINE.findall(text)
    if len(lines) != text.count("\n") or sum(64 + 2 + len(name) + 1 for _, name in lines) != len(raw):
        number = next((n for n, line in enumerate(text.splitlines(keepends=True), 1) if not _LINE.fullmatch(line)), 1)
        raise BundleError(f"SHA256SUMS: line {number} is not a checksum line")
    names = [name for _, name in lines]
    if names != sorted(set(names)):
        raise BundleError("SHA256SUMS: not sorted, or a name stands twice")
    found = {name: Digest.from_hex(digits) for digits, name in lines}
    missing = [name for name in FILES if name not in found]
    if missing:
        raise BundleError(f"SHA256SUMS: does not name {', '.join(missing)}", hint="this is not an airferry bundle.")
    return found


def digest_of(raw: bytes, name: str) -> Digest:
    """The digest of one file; the other lines are left unread. Raises BundleError if it is not named."""
    # Seldom a blob is asked for, and what else there is stands behind all blobs.
    end = raw.rfind(f"  {name}\n".encode("ascii"))
    if end < 0:
        decode(raw)
        raise BundleError(f"SHA256SUMS: does not name {name}")
    try:
        return Digest.from_hex(raw[max(end - 64, 0) : end].decode("ascii", "replace"))
    except ContentError as exc:
        raise BundleError(f"SHA256SUMS: no checksum of {name}") from exc

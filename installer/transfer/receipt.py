"""Receipts: what a registry holds after a load, small enough to be carried out; see FORMAT.md, section "Receipt".

Nobody has to believe a receipt: an update that was built on a wrong one is refused where it is loaded, and a request
brings what is missing. So it carries check digits against mistakes, and no signature.
"""

import hashlib
import re
from collections.abc import Collection

from installer.bundle import canonical
from installer.bundle.manifest import BundleBase, BundleManifest
from installer.errors import BundleError, UsageError
from installer.value import Value, replace

RECEIPT = "airferry-receipt/1"
MAX_RECEIPT = 64 * 1024 * 1024
DIGITS = 12
"""Hex digits by which a blob is named: of a hundred thousand blobs no two are taken for each other."""
_REGISTRY = re.compile(r"[A-Za-z0-9._:\[\]/-]{1,300}", re.ASCII)
_PREFIXES = re.compile(rf"([0-9a-f]{{{DIGITS}}})+", re.ASCII)
_CHECK = 8


class Receipt(Value):
    """What `registry` (its host, and the path before all images) holds of the bundle `name`, `version`, `content`.

    `repositories` are pairs of an upstream repository's name and the digests it holds there, each as its first DIGITS
    hex digits, one after the other; without any, it holds all of the bundle in the repositories of its images.
    """

    registry: str
    name: str
    version: str
    content: str
    repositories: tuple[tuple[str, str], ...] = ()
    check: str = ""
    format: str = RECEIPT

    def __post_init__(self) -> None:
        if self.format != RECEIPT or not _REGISTRY.fullmatch(self.registry):
            raise BundleError("not a receipt of airferry", hint="`load --receipt FILE` writes one.")
        names = tuple(name for name, _ in self.repositories)
        BundleBase(self.name, self.version, self.content, names)
        if not all(_PREFIXES.fullmatch(held) for _, held in self.repositories):
            raise BundleError("a receipt with malformed digests", hint="have it written again.")

    @classmethod
    def of(cls, manifest: BundleManifest, images: Collection[str], registry: str) -> "Receipt":
        """The receipt for a bundle of which `images` (their sources) were loaded into `registry`."""
        held: dict[str, set[str]] = {}
        for image in manifest.images:
            if image.source in images:
                blobs = (manifest.blobs[number] for number in image.parts)
                prefixes = {blob.digest.hex[:DIGITS] for blob in blobs if not blob.is_manifest}
                held.setdefault(str(image.reference.repository), set()).update(prefixes)
        pairs = tuple((name, "".join(sorted(held[name]))) for name in sorted(held) if held[name])
        return cls(registry, manifest.name, manifest.version, manifest.content, pairs)

    def encode(self) -> bytes:
        """The file."""
        plain = canonical.encode(replace(self, check=""))
        return canonical.encode(replace(self, check=_digits(plain))) + b"\n"

    @property
    def text(self) -> str:
        """One line that says: this registry holds all of that bundle. Only for one that does."""
        plain = f"{RECEIPT} {self.registry} {self.name} {self.version} {self.content}"
        return f"{plain} {_digits(plain.encode())}"

    @classmethod
    def decode(cls, raw: bytes) -> "Receipt":
        """The receipt in a file, or in a line of text. Raises BundleError, UsageError if it was not copied right."""
        if raw.lstrip().startswith(b"{"):
            receipt = canonical.decode(raw.removesuffix(b"\n"), cls, "receipt")
            right = receipt.encode() == raw.removesuffix(b"\n") + b"\n"
            receipt = replace(receipt, check="")
        else:
            words = raw.decode("ascii", "replace").split()
            if len(words) != 6 or words[0] != RECEIPT:
                raise UsageError("not a receipt of airferry", hint=f"give the whole line, from {RECEIPT} on.")
            _, registry, name, version, content, _ = words
            receipt = cls(registry, name, version, content)
            right = receipt.text == " ".join(words)
        if not right:
            raise UsageError("the receipt was not copied right: its check digits differ", hint="compare it once more.")
        return receipt


def _digits(plain: bytes) -> str:
    return hashlib.sha256(plain).hexdigest()[:_CHECK]

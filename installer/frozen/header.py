"""The front of a frozen file: the block between the program and the volume.

A frozen file is `[program][zeros up to 4096][front][volume]`; FORMAT.md describes it for other readers. The program
is the same for all bundles of a version; the front holds the bundle's name, the keys that the program trusts, and the
size of the volume:

    AIRFERRY-PROGRAM-1 LF
    length of the JSON, ten decimal digits, LF
    canonical JSON: {"format":1,"keys":[{"fingerprint":...,"lines":[...]}],"name":...,"volume_size":...}
    zeros up to a multiple of 4096

Nothing signs the front: it is as trustworthy as the program before it, and both are checked together, from outside.
"""

from typing import Self

from installer.bundle import canonical
from installer.errors import BundleError
from installer.value import Value

MAGIC = b"AIRFERRY-PROGRAM-1\n"
ALIGNMENT = 4096
"""Front and volume begin at multiples of this, so that file systems can share the volume's blocks between files."""
MAX_FRONT = 256 * ALIGNMENT
MAX_KEYS = 64
FORMAT = 1
_DIGITS = 10
_HEADER = len(MAGIC) + _DIGITS + 1
_VOLUME_STEP = 512


class PinnedKey(Value):
    """A public key that the program trusts: the lines of its PEM or minisign text, and its fingerprint."""

    fingerprint: str
    lines: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.fingerprint or not self.lines:
            raise BundleError("a pinned key needs its text and its fingerprint")

    @classmethod
    def of(cls, text: str, fingerprint: str) -> Self:
        """The key whose file holds `text`."""
        return cls(fingerprint, tuple(text.strip().splitlines()))

    @property
    def text(self) -> str:
        """The key as its file has it, lines ended by LF."""
        return "".join(f"{line}\n" for line in self.lines)


class Front(Value):
    """Name of the bundle, pinned keys, and bytes of the volume behind the front (0: volumes lie in other files)."""

    name: str
    keys: tuple[PinnedKey, ...]
    volume_size: int
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise BundleError(f"the frozen file has format {self.format}, this program reads format {FORMAT}")
        if not 0 < len(self.name) <= 255:
            raise BundleError("the name in a frozen file has 1 to 255 characters")
        if len(self.keys) > MAX_KEYS:
            raise BundleError(f"a frozen file pins at most {MAX_KEYS} keys")
        if self.volume_size < 0 or self.volume_size % _VOLUME_STEP:
            raise BundleError(f"a volume of {self.volume_size} bytes is no tar archive")

    def encode(self) -> bytes:
        """The block, a multiple of `ALIGNMENT` long. Raises BundleError if it would be too long."""
        document = canonical.encode(self)
        block = MAGIC + b"%0*d\n" % (_DIGITS, len(document)) + document
        block += bytes(-len(block) % ALIGNMENT)
        if len(block) > MAX_FRONT:
            raise BundleError(f"the front of a frozen file has at most {MAX_FRONT} bytes, not {len(block)}")
        return block


def front_size(head: bytes) -> int:
    """The bytes of the front that begins with `head` (at least 64 bytes). Raises BundleError."""
    digits = head[len(MAGIC) : _HEADER - 1]
    if not head.startswith(MAGIC) or not digits.isdigit() or head[_HEADER - 1 : _HEADER] != b"\n":
        raise BundleError("no front of a frozen file where one must be")
    size = _HEADER + int(digits)
    size += -size % ALIGNMENT
    if size > MAX_FRONT:
        raise BundleError(f"the front of the frozen file claims {size} bytes")
    return size


def decode(block: bytes) -> Front:
    """The front whose bytes are `block`, exactly. Raises BundleError."""
    if len(block) != front_size(block):
        raise BundleError("the front of the frozen file is cut off")
    end = _HEADER + int(block[len(MAGIC) : _HEADER - 1])
    front = canonical.decode(block[_HEADER:end], Front, "front of the frozen file")
    if front.encode() != block:
        raise BundleError("the front of the frozen file is followed by something else than zeros")
    return front

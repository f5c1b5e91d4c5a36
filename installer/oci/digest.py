"""Digests: the names of content."""

import hashlib
import re
from typing import Self

from installer.errors import ContentError
from installer.value import Value

_SHA256 = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


class Digest(Value, order=True):
    """A SHA-256 digest in the one spelling that is accepted: `sha256:` and 64 lower-case hex digits.

    Source: OCI image specification, descriptor.md, "Digests". Other algorithms are refused.
    Raises ContentError for anything else.
    """

    text: str

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.text):
            raise ContentError(
                f"not a sha256 digest: {self.text[:80]!r}",
                hint="only those can be carried: ask for an image with them.",
            )

    @classmethod
    def of(cls, data: bytes | memoryview) -> Self:
        """The digest of `data`."""
        return cls(f"sha256:{hashlib.sha256(data).hexdigest()}")

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """The digest whose 64 hex digits are `text`."""
        return cls(f"sha256:{text}")

    @property
    def hex(self) -> str:
        """The 64 hex digits."""
        return self.text[7:]

    def __str__(self) -> str:
        return self.text

    def check(self, data: bytes | memoryview, what: str) -> None:
        """Raises ContentError unless `data` has this digest; `what` names the data in the message."""
        found = Digest.of(data)
        if found != self:
            raise ContentError(f"{what}: expected {self}, found {found}", hint="the source changed or is damaged.")

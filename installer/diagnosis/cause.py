"""What is wrong, as a value: which cause, with which object, in which words, and what to do next."""

from typing import Any

from installer.report import printable
from installer.value import Value

MAX_TEXT = 400

FINAL_AFTER: dict[str, float] = {
    # The registry answers, and its answer is no: nobody but people will change it.
    "image-missing": 20,
    "image-differs": 20,
    "image-name-invalid": 0,
    "pull-secret-missing": 20,
    "pull-refused": 20,
    "registry-plain-http": 20,
    "registry-certificate": 20,
    # Made by people or by the same chart; the latter would be there within moments.
    "secret-missing": 30,
    "config-map-missing": 30,
    "key-missing": 30,
    "config-invalid": 30,
    "volume-claim-missing": 30,
    "storage-class-missing": 20,
    "no-default-storage-class": 20,
    # Pods that end make room.
    "node-too-small": 10,
    "no-room": 35,
    "no-matching-node": 35,
    "quota": 35,
    "limit-range": 20,
    "pod-security": 20,
    "service-account-missing": 30,
    "admission": 35,
    # A program may be waiting for another one; see `installer.diagnosis.stall_detector`.
    "crash": 25,
    "out-of-memory": 25,
    "cannot-start": 20,
    "deadline-exceeded": 0,
    "job-failed": 0,
}
"""Seconds that a cause must last until waiting longer cannot help; a cause that is not listed may heal at any time."""


class Cause(Value):
    """What is wrong with which object, and what to do next; `detail` is one line.

    `cause` is a stable name, for programs. `runs` counts the failed runs of a program that ends again and again.
    `mending`: something is under way that may mend it. `image` is the reference that a node cannot pull.
    """

    cause: str
    object: str
    detail: str
    next: str
    runs: int = 0
    mending: bool = False
    image: str = ""

    def __str__(self) -> str:
        return f"{self.object}: {self.detail}; next: {self.next}"

    def document(self) -> dict[str, str]:
        """The cause as plain values."""
        return {"cause": self.cause, "object": self.object, "detail": self.detail, "next": self.next}


def brief(text: Any, limit: int = MAX_TEXT) -> str:
    """`text` as one printable line of bounded length."""
    line = printable(" ".join(str(text or "").split()))
    return line if len(line) <= limit else f"{line[:limit]}…"

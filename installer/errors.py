"""Every error that airferry raises on purpose, with its exit code.

A message says what happened and where; the hint says what to do next. The command line is the only place that
prints them and the only place that turns them into an exit code. Anything else that escapes is a bug (exit code 1).
"""

from collections.abc import Sequence
from typing import ClassVar


class AirferryError(Exception):
    """Base of all expected failures.

    `message` names what happened and where. `hint` is one sentence that names the next step, or empty.
    """

    exit_code: ClassVar[int] = 1
    meaning: ClassVar[str] = "a bug in airferry: please report it with the printed trace"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(AirferryError):
    """Arguments that cannot be meant."""

    exit_code = 2
    meaning = "the command was called wrongly, or a file that it names is not there"


class BundleError(AirferryError):
    """The bundle's bytes are not what its signed metadata says, or its metadata breaks the format."""

    exit_code = 10
    meaning = "the bundle is damaged or malformed"


class UntrustedError(AirferryError):
    """No trusted signature covers the bundle."""

    exit_code = 11
    meaning = "the bundle is unsigned, or not signed by a trusted key"


class IncompleteError(AirferryError):
    """Volumes of the bundle are missing."""

    exit_code = 12
    meaning = "a volume of the bundle is missing"


class PolicyError(AirferryError):
    """The bundle is genuine but must not be used here and now: expired, too new, not yet valid, too old."""

    exit_code = 13
    meaning = "the bundle is genuine but refused: expired, made in the future, for a newer program, or a step back"


class LackingError(AirferryError):
    """The registry does not hold what an update leaves out: the blobs with the given `digests`, as text."""

    def __init__(self, message: str, *, hint: str = "", digests: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.digests = digests

    exit_code = 14
    meaning = "an update leaves out what the registry should hold, and does not"


class RegistryUnreachableError(AirferryError):
    """A registry or chart repository cannot be reached."""

    exit_code = 20
    meaning = "a registry or chart repository cannot be reached"


class RegistryAccessError(AirferryError):
    """A registry refused our credentials, or we refuse its certificate."""

    exit_code = 21
    meaning = "a registry refuses the credentials, or its certificate is not trusted"


class NotFoundError(AirferryError):
    """An image or chart that was asked for does not exist."""

    exit_code = 22
    meaning = "an image or chart does not exist at its source"


class ContentError(AirferryError):
    """A registry or source delivers, or refuses, content against the digests."""

    exit_code = 23
    meaning = "content differs from its digest, or a registry refuses it"


REFUSALS = (ContentError, NotFoundError, RegistryAccessError)
"""What a registry refuses one request with; the next one, for another image, may be answered."""


class ClusterUnreachableError(AirferryError):
    """The Kubernetes API server cannot be reached."""

    exit_code = 30
    meaning = "the Kubernetes API server cannot be reached"


class ClusterForbiddenError(AirferryError):
    """The Kubernetes API server refuses the credentials or the action."""

    exit_code = 31
    meaning = "the Kubernetes API server refuses the credentials or a permission is missing"


class NotReadyError(AirferryError):
    """The workloads do not become ready."""

    exit_code = 32
    meaning = "workloads are not ready; the reason is printed"


class ClusterError(AirferryError):
    """A chart or an object cannot be installed or removed."""

    exit_code = 33
    meaning = "the cluster refuses an object, or a chart cannot be installed or removed"


class SiteError(AirferryError):
    """The site's answers are missing or wrong."""

    exit_code = 40
    meaning = "an answer in site.yaml is missing or wrong"


class RecipeError(AirferryError):
    """The recipe or its lock is wrong, or the two do not match."""

    exit_code = 41
    meaning = "the recipe or its lock is wrong, or the two do not match"


class NothingHereError(AirferryError):
    """There is nothing for the command to work on: no installation, no such revision of it, no template."""

    exit_code = 42
    meaning = "there is nothing to work on: no installation in this cluster, no such revision, no template"


class StorageError(AirferryError):
    """A local disk is full, read-only, or fails."""

    exit_code = 50
    meaning = "a local disk is full, read-only, or fails"


class InterruptedByUserError(BaseException):
    """Ctrl-C or SIGTERM; running the same command again continues.

    Neither an AirferryError nor an Exception: it can come at any line, and whoever turns one error into another, or
    goes on without what failed, must not take it for the failure of that line.
    """

    exit_code: ClassVar[int] = 130
    meaning: ClassVar[str] = "interrupted; the same command continues where it stopped"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def several(errors: Sequence[AirferryError], what: str) -> AirferryError:
    """One error for all of `errors`, at least one, each with its next step where these differ.

    Among different exit codes the highest counts, whatever their order.
    """
    if len(errors) == 1:
        return errors[0]
    hints = {error.hint for error in errors}
    common = hints.pop() if len(hints) == 1 else ""
    lines = [f"{len(errors)} {what}:"]
    for error in errors:
        lines.append(f"  {error.message}")
        if error.hint and not common:
            lines.append(f"    next: {error.hint}")
    kind = type(max(errors, key=lambda error: error.exit_code))
    return kind("\n".join(lines), hint=common or "what is said for each of them; then run the same command again.")

"""What looking into charts and manifests has found, as the lock keeps it: who asks for what, and what stays behind."""

from collections.abc import Sequence

from installer.errors import BundleError
from installer.value import Value

ARTIFACT = "artifact"
"""The kind of what stands in an artifact that a controller fetches; objects of Kubernetes have kinds in capitals."""


class Reason(Value, order=True):
    """Why an image is there: a field of an object that a chart renders, or that stands in a document of the bundle
    (`chart` is empty then), or the recipe (`kind` is empty, too); or a key of an artifact (`kind` is ARTIFACT).

    `hooks` are the events of a Helm hook, separated by commas, empty for an ordinary object. `template` is the file
    that makes the object, `switches` are the values that all have to be true for it to be made (or what
    `KEY=VALUE` says: null for a field of a resource that must not be there), `values` the places in
    the chart's values that may spell the image.
    """

    chart: str
    kind: str
    namespace: str
    name: str
    container: str
    field: str
    hooks: str
    template: str = ""
    switches: tuple[str, ...] = ()
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.kind:
            return f"recipe {self.field}"
        if self.kind == ARTIFACT:
            return f"artifact {self.name}: {self.field}"
        container = f", container {self.container}" if self.container else ""
        hooks = f" (hook {self.hooks})" if self.hooks else ""
        where = f"chart {self.chart}" if self.chart else self.template
        return f"{where}: {self.kind} {self.name}{container}: {self.field}{hooks}"


_WHY = {
    "image": "it is an image, but perhaps none that the cluster asks for; accept or exclude it",
    "no image": "its registry has no such image",
    "unknown": "it may be no image, and its registry has not told; accept or exclude it",
    "test": "only `helm test` asks for it",
    "optional": "it may be no image, and only further values bring it about",
}


def only_tested(reasons: Sequence[Reason]) -> bool:
    """Whether only `helm test` asks for what has these `reasons`."""
    return all(reason.hooks and {"test", "test-success"}.issuperset(reason.hooks.split(",")) for reason in reasons)


class Excluded(Value):
    """An image that is asked for and left out, with the reason the recipe gives."""

    image: str
    reason: str


class Suspected(Value):
    """An image that is not carried, because only `helm test` asks for it, or because it may not be an image at all.

    Its `verdict` is what its registry answered, `image`, `no image`, or `unknown` if it was not asked or did not tell;
    or why nobody has to know: `test` (see above), or `optional` if only further values bring it about.
    """

    text: str
    reasons: tuple[Reason, ...]
    verdict: str

    def __post_init__(self) -> None:
        if self.verdict not in _WHY:
            raise BundleError(f"{self.text[:100]!r}: unknown verdict {self.verdict[:40]!r}")

    @property
    def open(self) -> bool:
        """Whether somebody has to decide about it."""
        return self.verdict in ("image", "unknown")

    @property
    def because(self) -> str:
        """Why it is not carried, for people."""
        return _WHY[self.verdict]


class OptionalImage(Value):
    """An image that the profile does not need, but that the chart asks for with further values (see its reasons)."""

    image: str
    reasons: tuple[Reason, ...]


class Failure(Value, order=True):
    """What could not be looked into: a template that fails with `switches` on, or a subchart that is not there.

    `values` are the places in the chart's values that spell images of the part in question.
    """

    chart: str
    template: str
    error: str
    switches: tuple[str, ...]
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"chart {self.chart}: {self.template}{told(self.switches)}: {self.error}"


def told(switches: Sequence[str]) -> str:
    """` with a=true, b=true`; empty for none."""
    return f" with {', '.join(map(spelt_out, switches))}" if switches else ""


def spelt_out(switch: str) -> str:
    """`a` → `a=true`; one that says its value stays."""
    return switch if "=" in switch else f"{switch}=true"

"""Reasons for images to be in a release or not, and templates that could not be searched; parts of the lock."""

from collections.abc import Sequence

from installer.value import Value


class Reason(Value, order=True):
    """The reason for an image: a field of an object that a chart renders, or the recipe (`chart` is empty then).

    `hooks` are the events of a Helm hook, separated by commas, empty for an ordinary object. `template` is the file
    that makes the object, `switches` are the values that all have to be true for it to be made, `values` the places in
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
        if not self.chart:
            return f"recipe {self.field}"
        container = f", container {self.container}" if self.container else ""
        hooks = f" (hook {self.hooks})" if self.hooks else ""
        return f"chart {self.chart}: {self.kind} {self.name}{container}: {self.field}{hooks}"


def why_left(reasons: Sequence[Reason]) -> str:
    """For people: why an image with these `reasons` is not carried."""
    if all(reason.hooks and {"test", "test-success"}.issuperset(reason.hooks.split(",")) for reason in reasons):
        return "only `helm test` asks for it"
    return "it may be no image; name it in images or exclude"


class Excluded(Value):
    """An image that is asked for and left out, with the reason the recipe gives."""

    image: str
    reason: str


class Suspected(Value):
    """An image that is not carried, because only `helm test` asks for it, or because it may not be an image at all."""

    text: str
    reasons: tuple[Reason, ...]


class OptionalImage(Value):
    """An image that the profile does not need, but that the chart asks for with further values (see its reasons)."""

    image: str
    reasons: tuple[Reason, ...]


class Failure(Value, order=True):
    """A template that fails with `switches` on, or a subchart that is not there: its images are not known.

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
    return f" with {', '.join(f'{switch}=true' for switch in switches)}" if switches else ""

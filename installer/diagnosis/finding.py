"""What stands in the way of an installation, as a value."""

from installer.errors import AirferryError
from installer.value import Value


class Finding(Value):
    """What is wrong with which object, and what to do; without `error` an installation is possible all the same."""

    what: str
    step: str
    error: type[AirferryError] | None

    @classmethod
    def of(cls, exc: AirferryError) -> "Finding":
        """What `exc` says, and that it stands in the way."""
        return cls(exc.message, exc.hint or "see the message.", type(exc))

    def __str__(self) -> str:
        return f"{self.what}; next: {self.step}"


def warning(what: str, step: str) -> Finding:
    """A finding that does not stand in the way."""
    return Finding(what, step, None)

"""What Helm refuses, in its own words. Who asked for the job makes an error of it that says what to do next."""


class Refusal(Exception):  # noqa: N818 - no error yet
    """`text` is what Helm says, `place` the file in the chart that it is about, or empty."""

    def __init__(self, text: str, place: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.place = place


class ArchiveRefusal(Refusal):
    """The archive, or the folder, is no chart."""


class ValuesRefusal(Refusal):
    """The chart cannot be rendered with the values."""


class DocumentRefusal(Refusal):
    """What a template makes of the values, or what a user has written, is not YAML."""


class DefinitionRefusal(Refusal):
    """A file in a `crds/` folder is not YAML."""


class LimitRefusal(Refusal):
    """The job goes beyond a limit of time, memory or size; `text` is the end of a sentence about the chart."""

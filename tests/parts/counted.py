"""Reporters that remember."""

from __future__ import annotations

from dataclasses import dataclass, field

from installer.report import Silent


class Counted(Silent):
    """Refuses a task that ends with another count than the one it announced."""

    def __init__(self) -> None:
        self.total = self.done = 0

    def begin(self, title: str, total: int) -> None:
        self.total, self.done = total, 0

    def advance(self, count: int) -> None:
        self.done += count

    def end(self) -> None:
        assert self.done == self.total


@dataclass
class Notes(Silent):
    """Keeps what it is told."""

    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append(text)

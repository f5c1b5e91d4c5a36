"""A reporter that counts."""

from __future__ import annotations

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

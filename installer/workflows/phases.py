"""A workflow as a readable list of phases.

Phases converge: one that is done already finds nothing to do, so a command that is run again after an interruption goes
through the same list. None is undone on failure; going back is a workflow of its own.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from installer.report import Reporter

_Work = TypeVar("_Work")


@dataclass(frozen=True)
class Phase(Generic[_Work]):
    """One phase: what people read, and what it does with the work at hand.

    `tells` are the objects that it is about, which a dry run lists. A phase that is not `needed` is left out.
    """

    title: str
    run: Callable[[_Work], None] = field(repr=False)
    tells: tuple[str, ...] = ()
    needed: bool = True


def carried_out(phases: Iterable[Phase[_Work]], work: _Work, reporter: Reporter) -> None:
    """Go through all phases that are needed, in order."""
    needed = [phase for phase in phases if phase.needed]
    for number, phase in enumerate(needed, 1):
        reporter.note(f"[{number}/{len(needed)}] {phase.title}")
        phase.run(work)


def described(phases: Iterable[Phase[Any]]) -> str:
    """The phases for people, as a dry run shows them."""
    lines = []
    for number, phase in enumerate((each for each in phases if each.needed), 1):
        lines += [f"{number}. {phase.title}", *(f"     {text}" for text in phase.tells)]
    return "\n".join(lines)


def documents(phases: Sequence[Phase[Any]]) -> list[dict[str, Any]]:
    """The same as plain values."""
    return [{"phase": phase.title, "objects": list(phase.tells)} for phase in phases if phase.needed]

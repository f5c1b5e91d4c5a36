"""What a later state does without: steps and objects that an upgrade or a rollback leaves behind, removed."""

from collections.abc import Collection, Iterable, Sequence

from installer.cluster.kinds import CUSTOM_RESOURCE_DEFINITION, NAMESPACE
from installer.value import replace
from installer.workflows.actions import Actions
from installer.workflows.driver import Driver
from installer.workflows.record import InstalledObject, InstalledStep, Record

KEPT_KINDS = (CUSTOM_RESOURCE_DEFINITION.name, NAMESPACE.name)
"""Kinds of manifests that are never removed unasked: all objects in them would go, those of others too."""


def steps_left(former: Record, note: Record) -> list[InstalledStep]:
    """The steps of `former` that are no part of `note`, without the objects that are part of other steps there."""
    stays, keys = _identities(note), {step.key for step in note.steps}
    gone = [step for step in former.steps if step.key not in keys]
    return [replace(step, objects=tuple(_without(step.objects, stays))) for step in gone]


def objects_left(former: Record, note: Record) -> list[InstalledObject]:
    """The objects that steps of `note` had in `former`, and no step of `note` has."""
    stays, keys = _identities(note), {step.key for step in note.steps}
    return [item for step in former.steps if step.key in keys for item in _without(step.objects, stays)]


def remove_dropped(
    actions: Actions, driver: Driver, steps: Sequence[InstalledStep], objects: Iterable[InstalledObject]
) -> None:
    """Remove `steps`, the last one first, and `objects` of the steps that stay."""
    for step in reversed(steps):
        for what in removed(step, actions, driver):
            actions.note(f"{what} (removed)")
    for what in actions.delete(item for item in objects if item.kind not in KEPT_KINDS):
        actions.note(f"{what} (removed)")


def removed(step: InstalledStep, actions: Actions, driver: Driver, *, data: bool = False) -> list[str]:
    """Remove `step`, with `data` also what its resource would keep; what was there."""
    if step.kind == "chart":
        return [f"release {step.name}"] if actions.uninstall(step) else []
    if step.kind == "manifests":
        return actions.delete(item for item in step.objects if item.kind not in KEPT_KINDS)
    return driver.remove(step, actions, data=data)


def _identities(note: Record) -> set[tuple[str, str, str, str]]:
    return {item.identity for step in note.steps for item in step.objects}


def _without(
    objects: Iterable[InstalledObject], identities: Collection[tuple[str, str, str, str]]
) -> list[InstalledObject]:
    return [item for item in objects if item.identity not in identities]

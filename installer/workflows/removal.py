"""What a later state does without: steps and objects that an upgrade or a rollback leaves behind, removed."""

from collections.abc import Iterable, Sequence

from installer.cluster.kinds import CUSTOM_RESOURCE_DEFINITION, NAMESPACE
from installer.workflows.actions import Actions
from installer.workflows.driver import Driver
from installer.workflows.record import InstalledObject, InstalledStep

KEPT_KINDS = (CUSTOM_RESOURCE_DEFINITION.name, NAMESPACE.name)
"""Kinds of manifests that are never removed unasked: all objects in them would go, those of others too."""


def remove_dropped(
    actions: Actions, driver: Driver, steps: Sequence[InstalledStep], objects: Iterable[InstalledObject]
) -> None:
    """Remove `steps`, the last one first, and `objects` of the steps that stay."""
    for step in reversed(steps):
        for what in removed(step, actions, driver):
            actions.note(f"{what} (removed)")
    for what in actions.delete(item for item in objects if item.kind not in KEPT_KINDS):
        actions.note(f"{what} (removed)")


def removed(step: InstalledStep, actions: Actions, driver: Driver) -> list[str]:
    """Remove `step`; what was there."""
    if step.kind == "chart":
        return [f"release {step.name}"] if actions.uninstall(step) else []
    if step.kind == "manifests":
        return actions.delete(item for item in step.objects if item.kind not in KEPT_KINDS)
    return driver.remove(step, actions)

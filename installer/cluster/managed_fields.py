"""When an object was last changed, and by whom: its managed fields, by the clock of the API server.

Times are texts like `2026-01-31T00:00:00Z`, which compare as times do; empty if never.
"""

from collections.abc import Callable, Mapping
from typing import Any


def status_time(obj: Mapping[str, Any]) -> str:
    """When the status of `obj` was last changed."""
    return _last(obj, lambda entry: entry.get("subresource") == "status")


def apply_time(obj: Mapping[str, Any], manager: str) -> str:
    """When field manager `manager` last changed what it applies to `obj`."""
    return _last(obj, lambda entry: entry.get("manager") == manager and entry.get("operation") == "Apply")


def change_time(obj: Mapping[str, Any]) -> str:
    """When anything but the status of `obj` was last changed."""
    return _last(obj, lambda entry: entry.get("subresource") != "status")


def _last(obj: Mapping[str, Any], wanted: Callable[[Mapping[str, Any]], bool]) -> str:
    entries = obj["metadata"].get("managedFields") or []
    return max((str(entry.get("time") or "") for entry in entries if wanted(entry)), default="")

"""Releases in a process of its own, so that it can run inside the enclave's network, be interrupted and be killed.

    python -m tests.parts.releases_program KUBECONFIG NAMESPACE < CALL

CALL is a JSON document: the method's name, and for `ensure` the chart's file and values. The result goes to stdout as
JSON; an expected error becomes `{"error": CLASS, "message": TEXT}`, and Ctrl-C `{"error": "KeyboardInterrupt"}`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from installer.chart.helm import Chart
from installer.chart.releases import Release, Releases
from installer.errors import AirferryError


def main(arguments: list[str]) -> None:
    """Run the one call."""
    releases, call = Releases(Path(arguments[0]), namespace=arguments[1]), json.load(sys.stdin)
    try:
        result = run(releases, call)
    except AirferryError as exc:
        result = {"error": type(exc).__name__, "message": exc.message}
    except KeyboardInterrupt:
        result = {"error": "KeyboardInterrupt"}
    print(json.dumps(result))


def run(releases: Releases, call: dict[str, Any]) -> Any:
    """What the call returns, in a form that JSON holds."""
    if call["method"] == "ensure":
        chart = Chart.load(Path(call["chart"]).read_bytes())
        how = {"timeout": call.get("timeout", 60), "take_over": call.get("take_over", False)}
        return releases.ensure(chart, "rel", call.get("values", {}), **how)
    if call["method"] == "uninstall":
        return releases.uninstall("rel", timeout=60)
    if call["method"] == "history":
        return [[item.revision, item.status, item.version] for item in releases.history("rel")]
    status = releases.status("rel")
    return None if status is None else shown(status)


def shown(release: Release) -> dict[str, Any]:
    """The facts about a release that tests look at."""
    kinds = sorted(item["kind"] for item in release.objects)
    return {"revision": release.revision, "status": release.status, "version": release.version, "kinds": kinds}


if __name__ == "__main__":
    main(sys.argv[1:])

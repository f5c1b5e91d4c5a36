"""The values of charts as they are on site."""

from collections.abc import Mapping
from typing import Any

from installer.apps.application import Application
from installer.apps.profile import Step
from installer.chart.retarget import merged
from installer.site.site import Site


def on_site(app: Application, step: Step, values: Mapping[str, Any], site: Site | None) -> dict[str, Any]:
    """`values` of the chart of `step`, below them what its controller adds, above them the answers of `site`.

    A controller adds below what its resource says, answers included. A placeholder stands for each secret.
    """
    given = dict(values)
    if site:
        answered = merged(app.values(step, site), app.secret_values(step, site, blank=True))
        given = merged(given, answered)
    return merged(app.controller_values(step, site), given)

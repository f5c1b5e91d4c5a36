"""Sites that answer what the W&B platform asks, and its application: operator, platform, and a chart beside them."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

from installer.apps.application import Application, application
from installer.apps.profile import parse_profile
from installer.errors import BundleError
from installer.site.site import Site

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from installer.apps.profile import Step
    from installer.site.site import SiteSecret

PROFILE: dict[str, Any] = {
    "driver": "wandb",
    "namespace": "wandb",
    "steps": [
        {"chart": "operator", "namespace": "wandb-system"},
        {
            "resource": "wandb.yaml",
            "name": "wandb",
            "controller": "operator",
            "installs": {"chart": "operator-wandb"},
        },
        {"chart": "demo-app", "name": "demo"},
    ],
}


def wandb() -> Application:
    """The application of `PROFILE`."""
    return application(parse_profile(json.dumps(PROFILE).encode(), "profile.json", BundleError))


WANDB = wandb()
OPERATOR, PLATFORM, RELEASE = WANDB.profile.steps


def load_site(
    text: str, folder: Path, *, environment: Mapping[str, str] | None = None, answer: str = "answered", **more: Any
) -> Site:
    """The site that `text` describes, for `WANDB`; its files lie in `folder`, and questions are answered by `answer`
    and themselves."""
    given: dict[str, Any] = {
        "now": dt.datetime.now(dt.UTC),
        "environment": (environment or {}).get,
        "prompt": lambda question: f"{answer} {question}",
        **more,
    }
    return Site.load(text.encode(), folder, application=WANDB, **given)


def values_of(step: Step, site: Site) -> dict[str, Any]:
    """What `site` adds to the values of the chart of `step`."""
    return WANDB.values(step, site)


def secrets_of(site: Site, *, blank: bool = False) -> tuple[SiteSecret, ...]:
    """The Secrets that `site` makes, those for the registry in the namespaces of all steps."""
    places = {WANDB.namespace(step, site) for step in WANDB.profile.steps}
    return (*site.pull_secrets(places, blank=blank), *WANDB.secrets(site, blank=blank))

"""Policy: whether a genuine bundle may be used now, and by this program (FORMAT.md, "Reading", step 6)."""

import datetime as dt

from installer.bundle.manifest import NEVER, BundleManifest, parse_release, parse_time
from installer.errors import PolicyError

_CLOCK_SLACK = dt.timedelta(days=1)


def check_time(manifest: BundleManifest, now: dt.datetime) -> None:
    """Raises PolicyError if the bundle has expired at `now`, or was made more than a day after `now`."""
    created = parse_time(manifest.created)
    if now < created - _CLOCK_SLACK:
        raise PolicyError(
            f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, but the bundle was made on {created:%Y-%m-%d}",
            hint="set the clock of this machine; the bundle itself is genuine.",
        )
    if manifest.expires != NEVER and now >= parse_time(manifest.expires):
        raise PolicyError(
            f"the bundle expired on {manifest.expires}, and this machine's clock says {now:%Y-%m-%d}",
            hint="ask for a current bundle; if the clock is wrong, set it.",
        )


def check_program(manifest: BundleManifest, version: str) -> None:
    """Raises PolicyError if the bundle needs a newer program than `version`."""
    if parse_release(version) < parse_release(manifest.minimum_installer):
        raise PolicyError(
            f"the bundle needs airferry {manifest.minimum_installer} or later, this is {version}",
            hint="use the program that came with the bundle, or ask its sender for it.",
        )

"""Whether the clock of this host agrees with that of the API server."""

import datetime as dt
from collections.abc import Callable, Iterator

from installer.cluster.cluster import Cluster
from installer.diagnosis.finding import Finding, warning

# The API server tells whole seconds, and an answer takes its time.
TOLERANCE = dt.timedelta(seconds=60)


def clock(cluster: Cluster, now: Callable[[], dt.datetime]) -> Iterator[Finding]:
    """Clocks that differ: certificates and tokens then count as expired, or as not valid yet. `now` is ours (UTC)."""
    before = now()
    cluster.version()
    there, after = cluster.time, now()
    if there is None:
        return
    for ahead, way in ((before - there, "ahead of"), (there - after, "behind")):
        if ahead > TOLERANCE:
            yield warning(
                f"the clock of this host is {dt.timedelta(seconds=int(ahead.total_seconds()))} {way} that of "
                f"{cluster.server}",
                "set the wrong one of the two: certificates and tokens are good for a time, and so is a bundle.",
            )

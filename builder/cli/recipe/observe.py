"""The command `observe`."""

import re
from pathlib import Path
from typing import Any

import click

from builder.cli.options import lock_argument
from builder.observe.comparison import compared, namespaces_of
from builder.observe.observation import observe as look
from builder.recipe.lock import Lock
from installer.cli.target import ClusterChoice, cluster_options
from installer.commands import Command
from installer.errors import ClusterForbiddenError, NothingHereError, RecipeError, UsageError
from installer.report import count
from installer.shell import Session

MAX_WATCH = 24 * 3600
_DURATION = re.compile(r"([0-9]{1,6})([smh]?)", re.ASCII)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


class _Duration(click.ParamType[int]):
    """Seconds: `90`, `90s`, `10m`, `2h`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        seconds = int(match[1]) * _UNITS[match[2]] if match else 0
        if not 0 < seconds <= MAX_WATCH:
            self.fail(f"{value!r} is no duration like 90s, 10m or 2h, 24h at most.", param, ctx)
        return seconds


@click.command(cls=Command)
@lock_argument
@cluster_options
@click.option(
    "-n", "--namespace", "named", multiple=True, help="Look here; may be repeated. [default: where the steps go]"
)
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Look into all namespaces.")
@click.option(
    "--watch", type=_Duration(), metavar="DURATION", help="Look at pods again and again (10m): short Jobs are seen."
)
def observe(
    session: Session,
    *,
    lock: Path,
    cluster: ClusterChoice,
    named: tuple[str, ...],
    everywhere: bool,
    watch: int | None,
) -> None:
    """Compare a cluster where the application runs with LOCK, and print what the recipe lacks.

    What only the code of an operator names cannot be found by rendering. Install the application on a connected staging
    cluster, use it, and look: each image that its pods ask for and the lock does not carry is printed as a line for
    `images` of the recipe, with the places. Nothing is changed there; what may not be listed is told.

    \b
      airferry observe --kubeconfig staging.yaml
      airferry observe -n shop -n shop-db --watch 10m
      airferry observe --output json | jq -r '.missing[].image'

    Exit code 0: all is carried; 41: something is not; 31: the pods of a namespace may not be listed.
    """
    if named and everywhere:
        raise UsageError("--all-namespaces covers every --namespace", hint="give one of them.")
    held = Lock.load(lock)
    namespaces = [""] if everywhere else list(dict.fromkeys(named)) or namespaces_of(held)
    if not namespaces:
        raise UsageError(f"{lock} has no steps, which would say the namespaces", hint="name them with --namespace.")
    seen = look(cluster.target(session).cluster, namespaces, watch or 0, session.reporter)
    if seen.unseen:
        session.reporter.note(f"note: may not be listed, so not looked at: {', '.join(seen.unseen)}")
    if not seen.sightings and not seen.blind:
        raise NothingHereError(
            f"nothing runs in {', '.join(namespaces) if any(namespaces) else 'this cluster'}",
            hint="check --context, and name the namespaces of the application with --namespace.",
        )
    found = compared(seen, held)
    session.emit(found.document(), found.text())
    if missing := found.of("missing"):
        raise RecipeError(
            f"{lock} does not carry {count(len(missing), 'image')} that this cluster asks for",
            hint="add the lines above to the recipe, run `airferry lock`, and commit both.",
        )
    if seen.blind:
        where = ", ".join(seen.blind) if any(seen.blind) else "all namespaces"
        raise ClusterForbiddenError(
            f"the pods of {where} may not be listed", hint="ask for this permission, or name other namespaces."
        )

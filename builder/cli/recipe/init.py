"""The command `init`: a commented recipe and its companions to begin with."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

import templates
from builder.charts.fetch import ChartFetcher, local
from builder.cli.places import places_of
from builder.recipe.recipe import RECIPE_NAME, ChartEntry, Recipe
from builder.resolve.chart_draft import draft
from installer.apps.application import application
from installer.apps.profile import Profile, parse_profile
from installer.bundle.limits import MAX_SMALL_BLOB
from installer.chart.helm import Chart
from installer.commands import FOLDER, Command
from installer.errors import RecipeError, UsageError
from installer.files import look_at, read_bounded, storage_error, write_atomic
from installer.schema import json_schema, validate
from installer.shell import Session
from installer.site.answers import SiteAnswers

OURS = Path(templates.__file__).parent
PROFILE_NAME = "profile.yaml"
MAX_FILES = 2000
_LEFT = (".lock", ".tar", ".part")


def _known() -> list[str]:
    """The profiles that airferry brings; the one without content comes last."""
    found = (path.parent.name for path in OURS.glob(f"*/{RECIPE_NAME}"))
    return sorted(found, key=lambda name: (name == "empty", name))


@click.command(cls=Command)
@click.option(
    "--profile",
    metavar="NAME",
    help=f"Begin with this application: {', '.join(_known())}, or a folder with a {RECIPE_NAME} of your own.",
)
@click.option(
    "--chart",
    metavar="CHART",
    help="Begin with this chart: a folder, an archive, or its name behind its repository (oci://HOST/FOLDER/NAME, "
    "https://HOST/FOLDER/NAME).",
)
@click.option("--chart-version", metavar="RANGE", default="*", help="Its version, or the newest in a range.")
@click.argument("folder", type=FOLDER, default=Path())
def init(session: Session, *, folder: Path, profile: str | None, chart: str | None, chart_version: str) -> None:
    """Write a commented recipe and its companions to FOLDER; files that exist are left alone.

    \b
      airferry init --profile empty app            an application of your own
      airferry init --profile ../profiles/app app  one that you have prepared
      airferry init --chart ./charts/web web       one chart
      airferry init --chart oci://registry.example/charts/web web

    Then correct recipe.yaml and run `airferry lock`.
    """
    if chart and profile:
        raise UsageError("--chart and --profile: two beginnings", hint="give one of them.")
    if profile is not None:
        files = dict(_template(profile))
    elif chart is None:
        choices = ", ".join(f"--profile {name}" for name in _known())
        raise UsageError("begin with what?", hint=f"say {choices}, --profile FOLDER, or --chart CHART.")
    else:
        files = draft(*_chart(session, chart, chart_version, folder))
    written, kept = [], []
    for name, content in sorted({**files, **_schemas(files.get(PROFILE_NAME))}.items()):
        path = folder / name
        if os.path.lexists(path):
            kept.append(str(path))
        else:
            _make(path.parent)
            write_atomic(path, content)
            written.append(str(path))
    lines = [*(f"written {path}" for path in written), *(f"kept    {path} (it exists)" for path in kept)]
    session.emit({"written": written, "kept": kept}, "\n".join(lines))
    session.reporter.note(f"next: edit {folder / RECIPE_NAME}, then `airferry lock {folder / RECIPE_NAME}`.")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise storage_error(exc, folder, "create") from exc


def _template(name: str) -> Iterator[tuple[str, bytes]]:
    """The files of a profile that airferry brings, or of one in a folder of the user's."""
    known = _known()
    folder = OURS / name if name in known else Path(name)
    if not (folder / RECIPE_NAME).is_file():
        raise UsageError(
            f"no profile {name}: neither one of {', '.join(known)}, nor a folder with {RECIPE_NAME}",
            hint="give one of these, or the path of such a folder.",
        )
    for number, path in enumerate(sorted(item for item in folder.rglob("*") if item.is_file())):
        relative = path.relative_to(folder)
        if number == MAX_FILES:
            raise UsageError(f"{folder}: more than {MAX_FILES} files", hint="name a folder with a profile only.")
        # What was made of a recipe is no part of it.
        if not path.name.endswith(_LEFT) and not any(part.startswith(".") for part in relative.parts):
            yield relative.as_posix(), read_bounded(path, MAX_SMALL_BLOB)


def _chart(session: Session, name: str, version: str, folder: Path) -> tuple[Chart, ChartEntry]:
    """The chart that the command line calls `name`, and the entry for it in the recipe in `folder`."""
    if name.startswith(("oci://", "https://", "http://")):
        repository, _, leaf = name.rstrip("/").rpartition("/")
        entry = validate(ChartEntry, {"name": leaf, "repository": repository, "version": version}, name, UsageError)
        with places_of(session, (), Path(), Path()) as places:
            return ChartFetcher(places).fetch(entry).chart, entry
    if look_at(Path(name)) is None:
        hint = "a chart in a repository begins with oci:// or https://."
        raise UsageError(f"{name}: no such folder or archive", hint=hint)
    chart = Chart.load(local(Path(name), name)[1], source=name)
    path = Path(os.path.relpath(name, folder)).as_posix()
    return chart, validate(ChartEntry, {"name": chart.name, "path": path}, name, UsageError)


def _schemas(profile: bytes | None) -> Mapping[str, bytes]:
    """The JSON Schemas of the files, for editors."""
    answers = application(parse_profile(profile, PROFILE_NAME, RecipeError)).answers if profile else SiteAnswers
    documents = {
        "recipe": Recipe.json_schema(),
        "profile": Profile.json_schema(),
        "site": json_schema(answers, "site.yaml of airferry"),
    }
    return {f"{name}.schema.json": _json(document) for name, document in documents.items()}


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()

"""What commands share that start from a recipe: its argument, its lock, and the answers of one site."""

from pathlib import Path

import click

from builder.cli.options import file_argument
from builder.recipe.lock import LOCK_NAME
from builder.recipe.recipe import RECIPE_NAME
from builder.resolve.requirements import LoadSite
from installer.commands import FILE
from installer.files import read_bounded
from installer.oci.digest import Digest
from installer.shell import Session
from installer.site.site import MAX_SITE, ApplicationAnswers, Site

recipe_argument = file_argument("recipe", RECIPE_NAME)
site_option = click.option(
    "--site", type=FILE, metavar="FILE", help="Only what the site with these answers (site.yaml) uses."
)


def lock_of(recipe: Path) -> Path:
    """The lock of a recipe: it lies beside it, since paths in both are relative to their folder."""
    return recipe.with_name(LOCK_NAME if recipe.name == RECIPE_NAME else f"{recipe.stem}.lock")


def answers_in(session: Session, path: Path | None) -> tuple[LoadSite | None, str]:
    """The answers in the file `path`, and its name with digest; files and secrets that they name need not be here.

    Raises UsageError if there is no such file, SiteError, StorageError.
    """
    if path is None:
        return None, ""
    raw = read_bounded(path, MAX_SITE)

    def load(application: ApplicationAnswers) -> Site:
        return Site.load(
            raw,
            path.parent,
            application=application,
            name=path.name,
            now=session.now(),
            environment=session.environment.get,
            prompt=lambda _: "",
            elsewhere=True,
        )

    return load, f"{path.name} {Digest.of(raw)}"

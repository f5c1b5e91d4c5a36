"""The command `list`."""

from pathlib import Path

import click

from builder.cli.places import places_of
from builder.cli.recipe.recipe_files import answers_in, lock_of, recipe_argument, site_option
from builder.recipe.lock import Lock
from builder.recipe.recipe import MAX_RECIPE, Recipe
from builder.resolve.listing import image_list, image_table
from builder.resolve.make_lock import locked_registries
from builder.resolve.requirements import needs
from installer.commands import Command
from installer.errors import RecipeError
from installer.files import read_bounded
from installer.oci.digest import Digest
from installer.shell import Session


@click.command("list", cls=Command)
@recipe_argument
@click.option("--recipe", "unlocked", is_flag=True, help="Ask the recipe, even where there is a lock.")
@site_option
def list_images(session: Session, *, recipe: Path, unlocked: bool, site: Path | None) -> None:
    """List the images that a release needs, each with the places that ask for it.

    Taken from the lock beside RECIPE if there is one; else charts are fetched and rendered, and names stay names.
    Needed are those of the recipe's values; optional are those that further values would switch on (`include:
    everything` in the recipe carries them too). What could not be looked into is named at the end.

    \b
      airferry list
      airferry list --recipe                            before there is a lock
      airferry list --site site.yaml                    what this one site needs
      airferry list --output json | jq -r '.images[].image'
    """
    path = lock_of(recipe)
    if path.exists() and not unlocked and not site:
        locked = Lock.load(path)
        found = image_list(locked)
        session.reporter.note(f"from {path}{f', for the answers in {locked.site}' if locked.site else ''}")
        if not _is_current(locked, recipe):
            session.reporter.note(f"note: {recipe} has changed since it was locked: `airferry lock`")
    else:
        read = Recipe.load(recipe)
        with places_of(session, locked_registries(read.registries), recipe.parent, recipe.parent) as places:
            wanted = needs(read, recipe.name, places, session.reporter, answers_in(session, site)[0])
        found = image_list(wanted)
        session.reporter.note(f"from {recipe}: names only, `airferry lock` finds digests and sizes")
    session.emit(found, image_table(found))


def _is_current(lock: Lock, recipe: Path) -> bool:
    """Whether `recipe` is what was locked. Raises RecipeError, StorageError."""
    held = [document.digest for document in lock.documents if document.kind == "recipe"]
    return held == [Digest.of(read_bounded(recipe, MAX_RECIPE, RecipeError))]

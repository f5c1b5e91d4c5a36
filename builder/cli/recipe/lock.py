"""The command `lock`."""

from pathlib import Path

import click

from builder.cli.places import places_of
from builder.cli.recipe.recipe_files import answers_in, lock_of, recipe_argument, site_option
from builder.recipe.lock import Lock
from builder.recipe.recipe import Recipe, stamp
from builder.resolve.listing import changes
from builder.resolve.make_lock import locked_registries, make_lock
from installer.commands import Command
from installer.errors import RecipeError, UsageError
from installer.report import count, size
from installer.shell import Session


@click.command(cls=Command)
@recipe_argument
@click.option("--check", is_flag=True, help="Write nothing; fail (exit code 41) if the lock would change.")
@click.option("--update", is_flag=True, help="Resolve every name anew instead of keeping the digests of the lock.")
@click.option(
    "--update-image", "names", multiple=True, metavar="NAME", help="Resolve this image anew; may be repeated."
)
@site_option
def lock(
    session: Session, *, recipe: Path, check: bool, update: bool, names: tuple[str, ...], site: Path | None
) -> None:
    """Resolve RECIPE to airferry.lock beside it: every tag to a digest, every chart to an archive.

    Charts are rendered as they are going to be installed, and every image in them is found. Names that the lock
    already knows keep their digests. Commit the lock: the same lock gives the same bundle, byte for byte.

    \b
      airferry lock                      recipe.yaml in this folder
      airferry lock --update             what do the tags stand for today?
      airferry lock --update-image docker.io/library/redis:7
      airferry lock --check              in a pipeline: is it up to date?
      airferry lock --check --update     has anything moved upstream?
    """
    path = lock_of(recipe)
    old = Lock.load(path) if path.exists() else None
    if names and update:
        raise UsageError("--update already covers all images", hint="give either --update or --update-image.")
    read = Recipe.load(recipe)
    folder = recipe.parent
    answers, site_file = answers_in(session, site)
    if old and old.site and not answers:
        session.reporter.note(f"note: {path} was for the answers in {old.site}; without --site it is for every site")
    with places_of(session, locked_registries(read.registries), folder, folder) as places:
        new = make_lock(
            read,
            recipe.name,
            places,
            session.reporter,
            now=stamp(session.now()),
            old=old,
            update=None if update else names,
            site=answers,
            site_file=site_file,
        )
    changed = changes(old, new)
    if check and new != old:
        lines = "".join(f"\n  {line}" for line in changed or ["there is none"])
        raise RecipeError(f"{path} is not up to date with {recipe}:{lines}", hint="run `airferry lock` and commit it.")
    if new != old:
        new.save(path)
    total = sum(blob.size for blob in new.blobs)
    parts = {"image": new.images, "chart": new.charts, "blob": new.blobs}
    counts = ", ".join([*(count(len(held), noun) for noun, held in parts.items()), size(total)])
    state = "written" if new != old else "unchanged"
    document = {"lock": str(path), "state": state, "images": len(new.images), "charts": len(new.charts), "bytes": total}
    session.emit({**document, "changes": changed}, "\n".join([*changed, f"{path} {state}: {counts}"]))

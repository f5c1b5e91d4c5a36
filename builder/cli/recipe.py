"""The commands of a recipe: lock, list."""

from pathlib import Path

import click

from builder.cli.options import FILE, file_argument
from builder.cli.places import places_of
from builder.recipe.lock import LOCK_NAME, Lock
from builder.recipe.recipe import MAX_RECIPE, RECIPE_NAME, Recipe, stamp
from builder.resolve.listing import changes, image_list, image_table
from builder.resolve.make_lock import locked_registries, make_lock
from builder.resolve.requirements import LoadSite, count, needs
from installer.errors import RecipeError, SiteError, UsageError
from installer.files import read_bounded
from installer.oci.digest import Digest
from installer.report import size
from installer.shell import Session, common
from installer.site.site import MAX_SITE, ApplicationAnswers, Site

_recipe_argument = file_argument("recipe", RECIPE_NAME)
_site_option = click.option(
    "--site", type=FILE, metavar="FILE", help="Only what the site with these answers (site.yaml) uses."
)


def lock_of(recipe: Path) -> Path:
    """The lock of a recipe: it lies beside it, since paths in both are relative to their folder."""
    return recipe.with_name(LOCK_NAME if recipe.name == RECIPE_NAME else f"{recipe.stem}.lock")


def is_current(lock: Lock, recipe: Path) -> bool:
    """Whether `recipe` is what was locked. Raises RecipeError, StorageError."""
    held = [document.digest for document in lock.documents if document.kind == "recipe"]
    return held == [Digest.of(read_bounded(recipe, MAX_RECIPE, RecipeError))]


@click.command()
@_recipe_argument
@click.option("--check", is_flag=True, help="Write nothing; fail (exit code 41) if the lock would change.")
@click.option("--update", is_flag=True, help="Resolve every name anew instead of keeping the digests of the lock.")
@click.option(
    "--update-image", "names", multiple=True, metavar="NAME", help="Resolve this image anew; may be repeated."
)
@_site_option
@common
def lock(
    session: Session, *, recipe: Path, check: bool, update: bool, names: tuple[str, ...], site: Path | None
) -> None:
    """Resolve RECIPE to airferry.lock beside it: every tag to a digest, every chart to an archive.

    Charts are rendered as they are going to be installed, and every image in them is found. Names that the lock
    already knows keep their digests. Commit the lock: the same lock gives the same bundle, byte for byte.

    \b
      airferry lock                                     recipe.yaml in this folder
      airferry lock --update                            what do the tags stand for today?
      airferry lock --update-image docker.io/wandb/local:0.70.0
      airferry lock --check                             in a pipeline: is the lock up to date?
      airferry lock --check --update                    has anything moved upstream?
    """
    path = lock_of(recipe)
    old = Lock.load(path) if path.exists() else None
    if names and update:
        raise UsageError("--update already covers all images", hint="give either --update or --update-image.")
    read = Recipe.load(recipe)
    folder = recipe.parent
    answers, site_file = _site(session, site)
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
    counts = ", ".join([count(new.images, "image"), count(new.charts, "chart"), count(new.blobs, "blob"), size(total)])
    state = "written" if new != old else "unchanged"
    document = {"lock": str(path), "state": state, "images": len(new.images), "charts": len(new.charts), "bytes": total}
    session.emit({**document, "changes": changed}, "\n".join([*changed, f"{path} {state}: {counts}"]))


def _site(session: Session, path: Path | None) -> tuple[LoadSite | None, str]:
    """The answers in the file `path`, and its name with digest; files and secrets that they name need not be here."""
    if path is None:
        return None, ""
    raw = read_bounded(path, MAX_SITE, SiteError)

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


@click.command("list")
@_recipe_argument
@click.option("--recipe", "unlocked", is_flag=True, help="Ask the recipe, even where there is a lock.")
@_site_option
@common
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
        if not is_current(locked, recipe):
            session.reporter.note(f"note: {recipe} has changed since it was locked: `airferry lock`")
    else:
        read = Recipe.load(recipe)
        with places_of(session, locked_registries(read.registries), recipe.parent, recipe.parent) as places:
            wanted = needs(read, recipe.name, places, session.reporter, _site(session, site)[0])
        found = image_list(wanted)
        session.reporter.note(f"from {recipe}: names only, `airferry lock` finds digests and sizes")
    session.emit(found, image_table(found))


COMMANDS: tuple[click.Command, ...] = (lock, list_images)

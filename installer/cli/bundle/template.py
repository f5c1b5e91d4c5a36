"""The command `template`."""

import click

from installer.cli.opening import BundleChoice, bundle_options
from installer.commands import Command
from installer.errors import NothingHereError
from installer.shell import Session

_MAX_TEMPLATE = 1 << 20


@click.command(cls=Command)
@bundle_options
def template(session: Session, *, choice: BundleChoice) -> None:
    """Print the template of site.yaml that the bundle carries, with comments on every key.

    \b
    Example:
      PROGRAM template > site.yaml
    """
    with choice.open(session) as bundle:
        found = [document for document in bundle.manifest.documents if document.kind == "site"]
        if not found:
            hint = "ask the release engineer: `airferry init` has it."
            raise NothingHereError("the bundle carries no template", hint=hint)
        text = bundle.read(found[0].digest, _MAX_TEMPLATE).decode("utf-8", "replace")
    session.emit({"name": found[0].name, "text": text}, text)

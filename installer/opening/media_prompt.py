"""Asking a person to change media, and finding the volumes on the new ones."""

from collections.abc import Callable

from installer.bundle.reader import Bundle
from installer.opening.volume_search import VolumeSearch
from installer.value import Value


class AskPerson(Value):
    """A `MediaPrompt` that asks a person and then looks at the places of `search` again.

    `ask` shows a text and returns when the person has changed the media, False if there are no others.
    """

    search: VolumeSearch
    ask: Callable[[str], bool]

    def __call__(self, bundle: Bundle, volumes: frozenset[int], why: str) -> None:
        """Return when one of `volumes` is at hand; files are closed meanwhile, so that a drive can be opened.

        Raises IncompleteError if the person has none of them.
        """
        count, files = len(bundle.manifest.volumes), bundle.volumes
        first, *others = sorted(volumes)
        text = f"volume {first + 1} of {count} is needed next ({files.file_name(first)}): {why}"
        if others:
            text += f"; then {', '.join(str(number + 1) for number in others)}, in any order"
        while not files.at_hand & volumes:
            files.release(except_file=self.search.program)
            changed = self.ask(text)
            self.search.look_again(bundle)
            if not changed:
                raise files.incomplete(volumes)

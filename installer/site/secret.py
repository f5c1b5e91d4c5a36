"""Secrets: texts that show themselves only when asked by name, and the places a site may keep them."""

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, Self

from pydantic import ConfigDict, model_validator

from installer.errors import AirferryError, SiteError, UsageError
from installer.files import read_bounded
from installer.schema import Strict
from installer.value import Value

MAX_SECRET = 256 << 10
_PLACES = ("file", "env", "prompt", "secret")

Environment = Callable[[str], str | None]
Prompt = Callable[[str], str]


class Secret:
    """A text that no representation, comparison or pickle reveals."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself: for the one place that needs it, never for a message."""
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


class SecretSource(Strict):
    """Where a secret is: a file, an environment variable, a question to the user, or a Secret in the cluster."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [name]} for name in _PLACES]})

    file: str | None = None
    env: str | None = None
    prompt: str | None = None
    secret: str | None = None
    key: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _not_literal(cls, value: Any) -> Any:
        if isinstance(value, str | int | float):
            raise ValueError(  # noqa: TRY004 - pydantic collects only this class
                "a secret never stands in this file: write it to a file and give {file: NAME}, or use "
                "{env: NAME}, {prompt: QUESTION}, {secret: NAME, key: KEY}"
            )
        return value

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        given = [name for name in _PLACES if getattr(self, name) is not None]
        if len(given) != 1 or not getattr(self, given[0]):
            raise ValueError(f"needs one of {', '.join(_PLACES)}")
        if (self.secret is None) != (self.key is None):
            raise ValueError("`secret` (the name of a Secret in the cluster) and `key` belong together")
        return self

    @property
    def in_cluster(self) -> bool:
        """Whether the secret stands in a Secret of the cluster, which is only named, never read."""
        return self.secret is not None


class SecretReader(Value):
    """Reads secrets: files relative to `folder`, variables through `environment`, answers through `prompt`."""

    folder: Path
    environment: Environment
    prompt: Prompt

    def read(self, source: SecretSource, key: str, *, lines: bool = False) -> Secret:
        """The secret of the site's `key`, one line break at its end removed; with `lines` it may hold others.

        Raises SiteError if it is missing, empty, no UTF-8 text, or holds control characters, which would not survive
        the way through environment variables and connection URLs unharmed.
        """
        text = self._text(source, key)
        text = text.removesuffix("\n").removesuffix("\r")
        if not text:
            raise SiteError(f"{key}: the secret is empty", hint="write it to the place that site.yaml names.")
        allowed = "\r\n\t" if lines else ""
        if any((ord(char) < 0x20 or ord(char) == 0x7F) and char not in allowed for char in text):
            raise SiteError(f"{key}: the secret holds a line break or another control character", hint="remove it.")
        return Secret(text)

    def note(self, source: SecretSource, key: str) -> str:
        """A remark if everybody on this machine may read the secret's file, else empty."""
        if source.file is None:
            return ""
        try:
            mode = (self.folder / source.file).stat().st_mode
        except OSError:
            return ""
        return f"{key}: everybody may read {source.file}; chmod 600 it" if mode & stat.S_IROTH else ""

    def _text(self, source: SecretSource, key: str) -> str:
        if source.file is not None:
            try:
                return read_bounded(self.folder / source.file, MAX_SECRET).decode()
            except AirferryError as exc:
                raise SiteError(f"{key}: {exc.message}", hint=exc.hint) from exc
            except UnicodeDecodeError:
                raise SiteError(f"{key}: {source.file} is no text in UTF-8", hint="check the file.") from None
        if source.env is not None:
            text = self.environment(source.env)
            if text is None:
                raise SiteError(f"{key}: environment variable {source.env} is not set", hint="set it, or use a file.")
            return text
        if source.prompt is not None:
            try:
                return self.prompt(source.prompt)
            except UsageError as exc:
                raise SiteError(f"{key}: {exc.message}", hint="give it by file or env.") from exc
        raise SiteError(f"{key}: stands in the cluster, but is needed here", hint="give it by file, env or prompt.")

"""Key files by what stands on them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from installer.opening.trust import read_keys


def key_names(keys: Sequence[Path]) -> Mapping[str, str]:
    """The names of the key files, by fingerprint; of a key in several files the first."""
    return {key.fingerprint: path.name for path in reversed(keys) for key in read_keys([path])}

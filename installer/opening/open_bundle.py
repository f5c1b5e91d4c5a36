"""Opening the bundle that a command works on: authenticated, current, and from wherever its volumes lie."""

import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path

from installer import __version__
from installer.bundle.reader import Bundle
from installer.bundle.signature import Trust, keys_of
from installer.bundle.volume import VolumeFile
from installer.frozen import program
from installer.opening.media_prompt import AskPerson
from installer.opening.policy import check_program, check_time
from installer.opening.trust import trust_in
from installer.opening.volume_search import VolumeSearch
from installer.report import Reporter


def open_current(volumes: Sequence[VolumeFile], trust: Trust, now: dt.datetime) -> Bundle:
    """The bundle in `volumes`, authenticated, made for this program, neither expired nor from the future.

    Raises UntrustedError, BundleError, IncompleteError, PolicyError, StorageError.
    """
    return _current(Bundle.open(volumes, trust), now)


def open_bundle(
    executable: Path | None,
    places: Sequence[Path],
    keys: Sequence[Path],
    sums: str,
    now: dt.datetime,
    reporter: Reporter,
    ask: Callable[[str], bool] | None = None,
) -> Bundle:
    """The bundle in `places` (files and folders), or that of the frozen file `executable`, authenticated and current.

    Trust comes from `keys` (public key files) and `sums` (the typed SHA-256 of SHA256SUMS); without either, from the
    keys pinned in the frozen file. `ask` shows a text and returns when a person has changed the media, False if there
    are no others; without it, a volume that is needed and missing is an error.

    Raises UntrustedError, BundleError, PolicyError, UsageError, StorageError.
    """
    embedded = program.locate(executable) if executable else None
    trust = trust_in(keys, sums)
    if trust == Trust() and embedded:
        trust = Trust(keys_of(key.text for key in embedded.keys))
    search = VolumeSearch.of(places, executable, embedded, reporter.note)
    return _current(search.open(trust, AskPerson(search, ask) if ask else None), now)


def _current(bundle: Bundle, now: dt.datetime) -> Bundle:
    try:
        check_program(bundle.manifest, __version__)
        check_time(bundle.manifest, now)
    except BaseException:
        bundle.close()
        raise
    return bundle

"""Searching for the volumes of a bundle: in files and folders that a person names, and in the program itself."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from installer.bundle.failures import OtherBundleError
from installer.bundle.reader import Bundle, MediaPrompt
from installer.bundle.signature import Trust
from installer.bundle.volume import VolumeFile
from installer.errors import AirferryError, UntrustedError, UsageError
from installer.files import is_folder
from installer.frozen.program import Embedded
from installer.opening.volume_discovery import volumes_in
from installer.value import Value


class VolumeSearch(Value):
    """The places: `files` and `folders` as named, and the frozen file `program` with what it carries, if any.

    A named file must be a volume of the bundle. A file in a folder is taken if it is one; if not, `remark` is told why.
    """

    files: tuple[Path, ...]
    folders: tuple[Path, ...]
    program: Path | None
    embedded: Embedded | None
    remark: Callable[[str], None]

    @classmethod
    def of(
        cls, places: Sequence[Path], program: Path | None, embedded: Embedded | None, remark: Callable[[str], None]
    ) -> "VolumeSearch":
        """The search in `places`; without any, among the volumes that the frozen file carries, and those beside it.

        Raises StorageError for a place that may not be looked at.
        """
        folders = tuple(filter(is_folder, places))
        return cls(tuple(place for place in places if place not in folders), folders, program, embedded, remark)

    def open(self, trust: Trust, on_missing_volume: MediaPrompt | None = None) -> Bundle:
        """The bundle in these places. Raises the errors of `Bundle.open`, and UsageError if there is none, or two."""
        strict = [VolumeFile(path) for path in self.files]
        own = self._own()
        if not self.files and not self.folders and own:
            strict.append(own)
            own = None
        loose = [*([own] if own else ()), *self._found()]
        if strict:
            bundle = Bundle.open(strict, trust, on_missing_volume=on_missing_volume)
        else:
            bundle, loose = self._first(loose, trust, on_missing_volume)
        # What was named may be all of it: then it does not matter what lies around.
        if bundle.volumes.missing or not strict:
            self._take(bundle, loose, certain=bool(strict))
        return bundle

    def look_again(self, bundle: Bundle) -> None:
        """Add what lies in these places now, also beside the named files: other media may be there."""
        beside = {path.parent for path in self.files}
        loose = [
            *self._found(),
            *(VolumeFile(path) for folder in sorted(beside) for path in volumes_in(folder, 0, self.remark)),
        ]
        self._take(bundle, loose, certain=True)

    def _own(self) -> VolumeFile | None:
        if self.program is None or self.embedded is None or not self.embedded.volume_size:
            return None
        return VolumeFile(self.program, self.embedded.volume_offset, self.embedded.volume_size)

    def _found(self) -> Iterator[VolumeFile]:
        paths = [
            path for folder in self.folders if is_folder(folder) for path in volumes_in(folder, remark=self.remark)
        ]
        if not self.files and not self.folders and self.program is not None:
            paths = volumes_in(self.program.parent, 0, self.remark)
        for path in dict.fromkeys(paths):
            try:
                yield VolumeFile(path)
            except AirferryError as exc:
                self.remark(exc.message)

    def _first(
        self, loose: Sequence[VolumeFile], trust: Trust, on_missing_volume: MediaPrompt | None
    ) -> tuple[Bundle, list[VolumeFile]]:
        """The bundle of the first file that can be opened, and the files after it."""
        reasons: list[AirferryError] = []
        rest = list(loose)
        while rest:
            file = rest.pop(0)
            try:
                return Bundle.open([file], trust, on_missing_volume=on_missing_volume), rest
            except AirferryError as exc:
                self.remark(f"left alone: {exc.message}")
                reasons.append(exc)
        if reasons:
            raise reasons[0]
        where = ", ".join(map(str, self.folders))
        raise UsageError(
            f"{where}: no volume of a bundle there" if where else "no bundle", hint="name its file: --bundle FILE."
        )

    def _take(self, bundle: Bundle, loose: Sequence[VolumeFile], *, certain: bool) -> None:
        """Add the files that belong to `bundle`. Unless it is `certain` which one is meant, there must be no other."""
        for file in loose:
            try:
                bundle.add(file)
            except UntrustedError as exc:
                self.remark(f"left alone: {file.path}: {exc.message}")
            except AirferryError as exc:
                if not certain and isinstance(exc, OtherBundleError):
                    bundle.close()
                    raise UsageError(
                        f"{file.path} and {bundle.volumes.paths[0]} are of different bundles",
                        hint="name the files of one of them: --bundle FILE, or a folder of its own.",
                    ) from exc
                self.remark(f"left alone: {exc.message}")

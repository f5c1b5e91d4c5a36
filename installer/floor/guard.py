"""Who watches that a bundle does not take a place back: asks for the floor before, and raises it after."""

from collections.abc import Callable
from pathlib import Path

from installer.bundle.manifest import BundleManifest
from installer.errors import AirferryError, RegistryAccessError, StorageError
from installer.floor.floor import Floor, floor_after
from installer.floor.floor_file import FloorFile
from installer.floor.registry_floor import RegistryFloor
from installer.registry.failures import OF_ONE_REQUEST


class Guard:
    """Watches over `place`, a text that tells it from all others, for one bundle.

    `state` is the folder for what one run leaves for the next, None if there is none, and `registry` the registry that
    keeps floors too. What keeps none is named to `note`, once: no bundle is refused for that.
    """

    def __init__(
        self,
        manifest: BundleManifest,
        place: str,
        back_to: int | None,
        state: Path | None,
        note: Callable[[str], None],
        registry: RegistryFloor | None = None,
    ) -> None:
        self._manifest, self._place, self._back_to, self._note = manifest, place, back_to, note
        self._file = FloorFile(state / "floors", manifest.name, place) if state else None
        self._registry = registry
        self._in_registry: Floor | None = None
        self._after: Floor | None = None
        self._lost: Floor | None = None

    def check(self) -> None:
        """Raises what `floor_after` does, and RegistryUnreachableError. Writes nothing."""
        here = self._remembered()
        self._ask_registry()
        self._lost = here if here and (self._in_registry is None or self._in_registry < here) else None
        before = max((floor for floor in (here, self._in_registry) if floor), default=None)
        place = f"{self._place}, as this machine remembers" if self._lost else self._place
        self._after = floor_after(self._manifest, before, place, self._back_to)

    def keep(self) -> None:
        """Raise the floor to the bundle that `check` has let pass. Raises RegistryUnreachableError."""
        if self._after is None:
            raise ValueError("nobody has checked")
        if self._registry and self._in_registry != self._after:
            try:
                self._registry.write(self._after)
                if self._lost:
                    self._note(
                        f"note: {self._registry.repository} did not tell of number {self._lost.sequence} of "
                        f"{self._manifest.name}, which this machine has brought there: did somebody remove it?"
                    )
            except OF_ONE_REQUEST as exc:
                self._forgo_registry(exc)
        try:
            if self._file:
                self._file.raise_to(self._after)
        except StorageError as exc:
            self._forgo_file(exc)
        if self._file is None and self._registry is None:
            self._note("note: without XDG_STATE_HOME or HOME nobody remembers this bundle, or notices an older one")

    def _remembered(self) -> Floor | None:
        try:
            return self._file.read() if self._file else None
        except StorageError as exc:
            self._forgo_file(exc)
            return None

    def _forgo_file(self, exc: StorageError) -> None:
        self._note(f"note: {exc.message}; so this machine does not notice an older bundle by itself; {exc.hint}")
        self._file = None

    def _ask_registry(self) -> None:
        try:
            self._in_registry = self._registry.read() if self._registry else None
        except RegistryAccessError:
            # Many refuse what is not there yet: whether it may be, the write tells.
            pass
        except OF_ONE_REQUEST as exc:
            self._forgo_registry(exc)

    def _forgo_registry(self, exc: AirferryError) -> None:
        if self._registry:
            self._note(
                f"note: {self._registry.repository}, which keeps other machines from loading an older bundle, is "
                f"refused: {exc.message}"
            )
        self._registry = None

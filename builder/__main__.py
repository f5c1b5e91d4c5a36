"""`airferry`, and `python -m builder`."""

import importlib.util
import sys
from pathlib import Path


def main() -> None:
    """Run the command line, unless another distribution has taken the place of our package `installer`."""
    if foreign := foreign_installer(Path(__file__).resolve().parents[1]):
        sys.stderr.write(
            f"error: {foreign}: the Python library `installer` and airferry's own package of that name collide\n"
            "next: remove it (pip uninstall installer), then install airferry anew; or install airferry in an "
            "environment of its own, such as pipx makes.\n"
        )
        sys.exit(2)
    from builder.cli.main import main as run

    run()


def foreign_installer(ours: Path) -> Path | None:
    """The trace of a distribution `installer` beside our packages in the folder `ours`, or what is imported instead.

    Distributions of one environment overwrite, and when they are removed delete, each other's files.
    """
    beside = next((path for path in ours.glob("installer-*-info")), None)
    found = importlib.util.find_spec("installer")
    origin = Path(found.origin) if found and found.origin else ours / "installer"
    if origin.resolve() == ours / "installer" / "__init__.py":
        return beside
    return beside or origin


if __name__ == "__main__":
    main()

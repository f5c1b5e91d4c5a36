"""The enclave's program: `python -m installer`, or the frozen file."""

import os
import sys
import time

from installer.frozen import program

_RENDERING = "installer.chart.rendering_child"
"""The argument of the frozen program where `installer.chart.rendering_process` starts it."""


def main() -> None:
    """Put the process into order, then run the command line. Nothing heavier may be imported before that."""
    if sys.argv[1:] == [_RENDERING]:
        program.find_libraries()
        from installer.chart.rendering_child import serve

        serve()
        return
    from installer.errors import AirferryError

    try:
        executable = program.begin(os.environ, time.time())
    except AirferryError as exc:
        sys.stderr.write(f"error: {exc.message}\nnext: {exc.hint}\n")
        sys.exit(exc.exit_code)
    from installer.cli.main import start

    start(executable)


if __name__ == "__main__":
    main()

"""How large the enclave's program is, and how fast it starts: `python -m tests.bench.start [RUNS]`.

Prints one line of JSON: megabytes of the program part, and the median seconds of `--version` (start alone), `inspect`
(start, cryptography, signature) and `render` (start and Helm) of a frozen bundle of a few kilobytes.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.parts.application import Application
from tests.parts.bundles import packed_chart
from tests.parts.frozen import enclave_program, freeze_volume

SITE = '{"registry": {"host": "registry.example:5000"}}'


def seconds(command: list[str], runs: int) -> float:
    """The median time of `runs` runs, after one that warms the caches. Raises CalledProcessError."""
    took = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run(command, env={}, check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - start)
    return round(statistics.median(took[1:]), 3)


def main(runs: int) -> None:
    """Measure and print."""
    size = enclave_program().stat().st_size
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        installer, site = folder / "installer", folder / "site.yaml"
        application = Application(folder, "start")
        application.chart(packed_chart("start", "1.0.0"))
        freeze_volume(application.write(), installer, "start-1.0")
        site.write_text(SITE)
        commands = {
            "version": ["--version"],
            "inspect": ["inspect"],
            "render": ["render", "--site", str(site), "--output-dir", str(folder / "out")],
        }
        took = {name: seconds([str(installer), *arguments], runs) for name, arguments in commands.items()}
    print(json.dumps({"program_mb": round(size / 1e6, 1), "runs": runs, "seconds": took}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)

"""What a client of containerd that ends in the middle makes of an import; the real one is met in the live tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from installer.errors import BundleError
from installer.report import Silent
from installer.transfer.containerd import ImageStore
from installer.transfer.image_archive import ImageArchive
from tests.parts.bundles import Cargo, open_bundle, signing_key
from tests.parts.images import Image, write_layout
from tests.parts.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

CTR = """\
#!/bin/sh
case "$*" in *--help*) exit 0 ;; esac
echo $$ >{mark}.part; mv {mark}.part {mark}
exec sleep 60
"""


class Damaged(ImageArchive):
    """Its second part is damaged; by then the client is gone."""

    mark: ClassVar[Path]

    def parts(self) -> Iterator[bytes | memoryview]:
        assert wait_until(self.mark.exists, 20)
        yield bytes(100)
        client = int(self.mark.read_text())
        os.kill(client, signal.SIGKILL)
        assert wait_until(lambda: ") Z " in Path(f"/proc/{client}/stat").read_text(), 20)
        raise BundleError("damaged between byte 1 and 2")


def test_the_error_of_the_bundle_is_the_one_that_is_told(tmp_path: Path) -> None:
    cargo, ctr = Cargo(), tmp_path / "ctr"
    cargo.image("docker.io/demo/one:1", write_layout(tmp_path / "one", Image(())))
    Damaged.mark = tmp_path / "mark"
    ctr.write_text(CTR.format(mark=Damaged.mark))
    ctr.chmod(0o755)
    store = ImageStore(tmp_path / "socket", "k8s.io", str(ctr), {"PATH": os.environ["PATH"]})
    with (
        open_bundle(cargo.write(tmp_path, key=signing_key())) as bundle,
        pytest.raises(BundleError, match="damaged between"),
    ):
        store.take(Damaged(bundle, {}), Silent())

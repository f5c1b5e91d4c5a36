"""What a load says at its end, for people."""

from __future__ import annotations

import io

from installer.oci.digest import Digest
from installer.oci.reference import parse_reference
from installer.report import Lines
from installer.transfer.load_result import LoadedImage, LoadResult, summary


def loaded(*, present: bool, sent: int) -> LoadResult:
    """One image that was there before, and one that was `present` as well, or was sent."""
    target = parse_reference("registry.example:5000/demo/app:1")
    images = [LoadedImage("demo/app:1", target, Digest.of(b"1"), was) for was in (True, present)]
    return LoadResult(tuple(images), (), sent, 0, 0)


def test_what_is_there_as_a_whole_has_no_bytes() -> None:
    assert summary(loaded(present=True, sent=0)) == "2 images: all there already"
    assert summary(loaded(present=False, sent=7)).startswith("2 images, 1 of them new: 7 B sent")


def test_nothing_takes_no_time() -> None:
    said = io.StringIO()
    reporter = Lines(said, clock=iter([0.0, 0.0, 2.0, 2.0]).__next__)
    reporter.begin("load", 100)
    reporter.end()
    assert said.getvalue() == ""
    reporter.begin("load", 100)
    reporter.advance(100)
    reporter.end()
    assert said.getvalue().startswith("load: 100 B in ")

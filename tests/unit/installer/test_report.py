"""What people read of sizes."""

import pytest

from installer.report import count, size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.7, "1 kB"),
        (1000, "1 kB"),
        (12_345, "12.3 kB"),
        (999_499, "999 kB"),
        (999_600, "1 MB"),
        (999_500_000, "1 GB"),
        (-999_600, "-1 MB"),
        (4.7e12, "4.7 TB"),
    ],
)
def test_sizes_have_three_figures(count: float, text: str) -> None:
    assert size(count) == text


def test_one_is_no_plural() -> None:
    assert [count(number, "image") for number in range(3)] == ["0 images", "1 image", "2 images"]

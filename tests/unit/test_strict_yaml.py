"""YAML that people and charts bring: what is refused, and how it is said."""

from __future__ import annotations

import pytest

from installer.errors import RecipeError
from installer.strict_yaml import MAX_DEPTH, load_yaml


def refusal(data: bytes) -> str:
    with pytest.raises(RecipeError) as caught:
        load_yaml(data, "f.yaml", RecipeError)
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize(("begin", "end"), [(b"[", b"]"), (b"{a: ", b"}"), (b"- ", b""), (b"? ", b"")])
def test_deep_documents_are_refused_and_do_not_end_the_process(begin: bytes, end: bytes) -> None:
    assert "nested more than 100 levels deep" in refusal(begin * 50_000 + b"x" + end * 50_000)


def test_what_is_as_deep_as_allowed_is_read() -> None:
    found = load_yaml(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, "f.yaml", RecipeError)
    for _ in range(MAX_DEPTH - 1):
        (found,) = found
    assert found == []


def test_what_is_no_text_is_named_with_its_place() -> None:
    assert refusal(b"a: b\xff") == "f.yaml: not UTF-8 at byte 4"
    assert refusal(b"a: \0") == "f.yaml: control characters are not allowed at byte 3"


def test_the_text_of_a_line_is_never_shown() -> None:
    assert "hunter2" not in refusal(b"password: 'hunter2")

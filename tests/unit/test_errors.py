"""Several errors told as one."""

from __future__ import annotations

from itertools import permutations

from installer.errors import NotFoundError, RegistryAccessError, RegistryUnreachableError, several


def test_several_errors_become_one_that_names_all() -> None:
    first = NotFoundError("a is missing", hint="look.")
    assert several([first], "images fail") is first
    both = several([first, NotFoundError("b is missing", hint="look.")], "images fail")
    assert isinstance(both, NotFoundError)
    assert (both.message, both.hint) == ("2 images fail:\n  a is missing\n  b is missing", "look.")


def test_each_of_several_errors_keeps_its_next_step_and_their_order_does_not_count() -> None:
    errors = (
        RegistryUnreachableError("a is away", hint="wait."),
        NotFoundError("b is missing", hint="look."),
        RegistryAccessError("c is shut"),
    )
    for order in permutations(errors):
        found = several(order, "images fail")
        assert isinstance(found, NotFoundError)
        assert "  a is away\n    next: wait." in found.message
        assert "  b is missing\n    next: look." in found.message
        assert "  c is shut" in found.message
        assert found.hint

"""Texts that may be images: who decides, in which order, and what is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from builder.recipe.findings import Reason, Suspected
from builder.recipe.recipe import parse_recipe
from builder.resolve.suspicions import Decided, check_decided, decided
from installer.apps.profile import Profile
from installer.errors import BundleError, RecipeError

REASON = (Reason("shop", "Deployment", "", "web", "web", "args[0]", ""),)
TEST = (Reason("shop", "Pod", "", "test", "test", "spec.containers[0].image", "test"),)


def recipe(**more: Any) -> Any:
    return parse_recipe(
        json.dumps({"name": "shop", "version": "1", "images": ["x/y:1"], **more}).encode(), "recipe.yaml"
    )


def profile(**more: Any) -> Profile:
    return Profile.model_validate({"steps": [{"chart": "shop"}], **more})


def decide(suspected: list[str], of_profile: Profile | None = None, **more: Any) -> Decided:
    images, optional = {"docker.io/demo/web:1": REASON}, {"docker.io/demo/more:1": REASON}
    return decided(
        recipe(**more), of_profile, images, optional, dict.fromkeys(suspected, REASON), {"a/supposed:1": REASON}
    )


def test_what_nobody_decides_is_left_open_and_what_is_carried_anyway_is_not_suspected() -> None:
    found = decide(["demo/web:1", "quay.io/demo/agent:1"])
    assert [(item.text, item.verdict, item.open) for item in found.suspected] == [
        ("a/supposed:1", "optional", False),
        ("quay.io/demo/agent:1", "unknown", True),
    ]
    assert set(found.images) == {"docker.io/demo/web:1"}


def test_what_further_values_ask_for_is_suspected_all_the_same_where_the_profile_names_it() -> None:
    """Say an argument of an operator: what stays behind as optional is not carried."""
    found = decide(["demo/more:1"])
    assert [item.text for item in found.suspected if item.open] == ["demo/more:1"]
    accepted = decide(["demo/more:1"], accept_suspected=["docker.io/demo/more:1"])
    assert (set(accepted.images), accepted.optional) == ({"docker.io/demo/web:1", "docker.io/demo/more:1"}, {})


@pytest.mark.parametrize(
    ("of_profile", "more", "carried", "excluded"),
    [
        (None, {"accept_suspected": ["quay.io/*/agent:?"]}, True, False),
        (None, {"exclude": [{"image": "quay.io/*", "reason": "r"}]}, False, True),
        (None, {"exclude": [{"image": "quay.io/*", "reason": "r"}], "accept_suspected": ["quay.io/*"]}, False, True),
        ({"accept_suspected": ["quay.io/*"]}, {}, True, False),
        ({"accept_suspected": ["quay.io/*"]}, {"exclude": [{"image": "quay.io/*", "reason": "r"}]}, False, True),
        ({"exclude": [{"image": "quay.io/*", "reason": "r"}]}, {}, False, True),
        ({"exclude": [{"image": "quay.io/*", "reason": "r"}]}, {"accept_suspected": ["quay.io/*"]}, True, False),
    ],
)
def test_the_recipe_goes_before_the_profile(
    of_profile: dict[str, Any] | None, more: dict[str, Any], carried: bool, excluded: bool
) -> None:
    found = decide(["quay.io/demo/agent:1"], profile(**of_profile) if of_profile else None, **more)
    assert ("quay.io/demo/agent:1" in found.images) == carried
    assert ([item.image for item in found.excluded] == ["quay.io/demo/agent:1"]) == excluded
    assert [item.text for item in found.suspected] == ["a/supposed:1"]
    assert found.notes == ()


def test_a_pattern_for_further_values_makes_an_optional_image() -> None:
    assert "docker.io/a/supposed:1" in decide([], accept_suspected=["docker.io/a/*"]).optional
    assert "docker.io/a/supposed:1" in decide([], accept_suspected=["docker.io/a/*"], include="everything").images
    assert [item.verdict for item in decide([], include="everything").suspected] == ["unknown"]


def test_images_of_tests_are_no_question_and_are_not_accepted() -> None:
    found = decided(recipe(accept_suspected=["*"]), None, {}, {}, {"busybox:1": TEST}, {})
    assert [(item.text, item.verdict) for item in found.suspected] == [("busybox:1", "test")]


def test_an_exclusion_by_pattern_leaves_out_images_that_are_certain() -> None:
    found = decide([], exclude=[{"image": "docker.io/demo/*", "reason": "r"}])
    assert found.images == {}
    assert [item.image for item in found.excluded] == ["docker.io/demo/more:1", "docker.io/demo/web:1"]
    assert found.asked["docker.io/demo/web:1"] == REASON


def test_what_fits_nothing_is_told() -> None:
    found = decide([], accept_suspected=["no/*"], exclude=[{"image": "gone", "reason": "r"}])
    assert found.notes == (
        "excluded image docker.io/library/gone:latest is not asked for by any chart",
        "accept_suspected: no/* fits nothing that is suspected",
    )


def test_open_texts_are_refused_with_both_decisions_unless_they_are_but_noted() -> None:
    suspected = decide(["busybox:1"]).suspected
    with pytest.raises(RecipeError) as refused:
        check_decided(recipe(), suspected)
    assert "busybox:1 (chart shop: Deployment web, container web: args[0])" in refused.value.message
    assert "\n  - docker.io/library/busybox:1\n" in refused.value.message
    check_decided(recipe(suspected="note"), suspected)
    check_decided(recipe(), decide([]).suspected)


def test_a_verdict_is_one_of_those_that_are_known() -> None:
    with pytest.raises(BundleError, match="unknown verdict"):
        Suspected("a/b:1", REASON, "guilty")


@pytest.mark.parametrize("text", ["A/B", "a b", "ä*", ""])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(RecipeError):
        recipe(accept_suspected=[text])

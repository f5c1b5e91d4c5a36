"""Environment variables that a site gives to all components: no secret among them, and none without effect."""

from typing import Annotated, TypeVar

from pydantic import AfterValidator

from installer.site.answer_types import EnvName, PlainText
from installer.site.free_values import secret_variables
from installer.site.secret import SecretSource

_Variables = TypeVar("_Variables", bound=dict[str, str] | dict[str, SecretSource])

# Variables that the chart sets with a component of its own, which goes before what all components get.
_WITHOUT_EFFECT = {"BUCKET_QUEUE": "the chart itself sets it to internal:// for `app`, the only part that reads it"}


def _has_effect(variables: _Variables) -> _Variables:
    if found := [f"{name} has no effect: {why}" for name, why in _WITHOUT_EFFECT.items() if name in variables]:
        raise ValueError("; ".join(found))
    return variables


def _is_no_secret(variables: dict[str, str]) -> dict[str, str]:
    if found := list(secret_variables(variables)):
        raise ValueError(
            f"looks like a secret, and many may read what is made of it; use secret_env instead: {', '.join(found)}"
        )
    return variables


Variables = Annotated[dict[EnvName, PlainText], AfterValidator(_has_effect), AfterValidator(_is_no_secret)]
SecretVariables = Annotated[dict[EnvName, SecretSource], AfterValidator(_has_effect)]

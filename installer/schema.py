"""Reading a document a person wrote into a pydantic model: every defect at once, each with its place and a way out."""

import difflib
import typing
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from installer.errors import AirferryError

_Model = TypeVar("_Model", bound=BaseModel)


class Strict(BaseModel):
    """Unknown keys are refused and nothing is converted: `version: 1.0` is a number, not the text `1.0`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def validate(model: type[_Model], document: Any, name: str, error: type[AirferryError], *, hint: str = "") -> _Model:
    """`document` as a `model`. Raises `error` naming the file `name` and all its defects, and no value of it."""
    if not isinstance(document, dict):
        raise error(f"{name}: not a mapping of keys", hint=hint)
    try:
        return model.model_validate(document)
    except ValidationError as exc:
        found = exc.errors(include_url=False, include_context=False)
        defects = [_defect(model, item["loc"], item["type"], item["msg"], item["input"]) for item in found]
    raise report(name, defects, error, hint=hint)


def json_schema(model: type[BaseModel], title: str) -> dict[str, Any]:
    """The JSON Schema of `model`, for editors. It knows keys and types; what excludes what, only `model` knows."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}
    return {**model.model_json_schema(), **head}


def report(name: str, defects: list[str], error: type[AirferryError], *, hint: str = "") -> AirferryError:
    """The error that lists `defects` (lines that start with the path of a key) of the file `name`."""
    lines = list(dict.fromkeys(defects))
    if len(lines) == 1:
        return error(f"{name}: {lines[0]}", hint=hint)
    return error("\n  ".join([f"{name}: {len(lines)} defects:", *lines]), hint=hint)


def _defect(model: type[BaseModel], place: tuple[int | str, ...], kind: str, message: str, value: Any) -> str:
    """One line about one defect; values are not shown, only their kind: they may be secrets put in by mistake."""
    path = _path(place)
    if kind == "extra_forbidden":
        known = _keys(model, place[:-1])
        near = difflib.get_close_matches(str(place[-1]), known, n=1)
        return f"{path}: unknown key; " + (f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}")
    if kind == "missing":
        return f"{path}: missing"
    if kind == "string_type" and isinstance(value, bool | int | float):
        return f"{path}: YAML reads this as a {'truth value' if isinstance(value, bool) else 'number'}; quote it"
    if kind in ("model_type", "dict_type"):
        return f"{path}: must be a mapping of keys"
    return f"{path}: {message.removeprefix('Value error, ')}"


def _path(place: tuple[int | str, ...]) -> str:
    # "[key]" is pydantic's way of saying that a key of a mapping is wrong, not its value.
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place if part != "[key]")
    return text.removeprefix(".") or "the document"


def _keys(model: Any, place: tuple[Any, ...]) -> list[str]:
    """The keys that are known at `place`, sorted."""
    for part in place:
        fields = getattr(model, "model_fields", {})
        if part in fields:
            model = fields[part].annotation
        else:
            arguments = [item for item in typing.get_args(model) if item is not type(None)]
            model = arguments[-1] if arguments else None
        if typing.get_origin(model) is not None and type(None) in typing.get_args(model):
            model = next(item for item in typing.get_args(model) if item is not type(None))
    return sorted(field.alias or name for name, field in getattr(model, "model_fields", {}).items())

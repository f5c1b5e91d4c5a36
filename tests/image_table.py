"""The page of all images that W&B's charts can ask for: `AIRFERRY_TEST_ASSETS=... python -m tests.image_table FILE`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.conftest import ASSETS
from tests.parts.programs import from_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHARTS = ("operator-1.4.8", "operator-wandb-0.43.8")
_HEAD = """\
# Images of the Weights & Biases charts

What charts `operator` 1.4.8 and `operator-wandb` 0.43.8 ask for with the recipe of `airferry init --profile wandb`,
found by rendering them (`airferry list`). Needed are the images of its values; the others are asked for once all values
in the last column are true. A tag `latest` is whatever was pushed last: `airferry lock` pins it to a digest.

| Image | Asked for by | Spelt in the values at | Switched on by |
|---|---|---|---|
"""


def listed(folder: Path, assets: Path) -> Any:
    """What `airferry list` says of the recipe of `airferry init`, with the charts in the folder `assets`."""
    airferry = from_source("builder", folder)
    airferry.result("init", "--profile", "wandb")
    recipe = folder / "recipe.yaml"
    text = recipe.read_text()
    for chart in CHARTS:
        version = f"    version: {chart.rpartition('-')[2]}\n"
        assert version in text
        text = text.replace(version, f"{version}    path: {assets / f'{chart}.tgz'}\n")
    recipe.write_text(text)
    return airferry.result("list")


def page(found: Mapping[str, Any]) -> str:
    """The page, in Markdown."""
    rows = [_row(image, "needed") for image in found["images"]]
    rows += [_row(image, "") for image in found["optional"]]
    tests = ", ".join(f"`{item['text']}`" for item in found["suspected"])
    unseen = [f"\nNot looked into: `{item['template']}` ({item['error']}).\n" for item in found["failures"]]
    return "".join([_HEAD, *rows, f"\nLeft out, since only `helm test` asks for them: {tests}.\n", *unseen])


def _row(image: Mapping[str, Any], switched: str) -> str:
    reasons = image["reasons"]
    places = _few([f"{reason['kind']} {reason['name']}{_hook(reason)}" for reason in reasons])
    values = _few([f"`{value}`" for reason in reasons for value in reason.get("values", ())])
    switches = switched or _few([" and ".join(f"`{name}`" for name in names) for names in image["switches"]])
    return f"| `{image['image']}` | {places} | {values} | {switches} |\n"


def _hook(reason: Mapping[str, Any]) -> str:
    return f" (hook {reason['hooks']})" if "hooks" in reason else ""


def _few(texts: Sequence[str], shown: int = 4) -> str:
    texts = list(dict.fromkeys(texts))
    more = [f"{len(texts) - shown} more"] if len(texts) > shown else []
    return "<br>".join(texts[:shown] + more)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        Path(sys.argv[1]).write_text(page(listed(Path(name), Path(os.environ[ASSETS]).resolve())))

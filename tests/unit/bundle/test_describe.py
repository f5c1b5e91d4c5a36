"""What a bundle says of itself: the steps of its profile."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from installer.errors import BundleError
from installer.verify.describe import description, summary
from tests.parts.bundles import Cargo, open_bundle, packed_chart, signing_key

if TYPE_CHECKING:
    from pathlib import Path

    from installer.bundle.reader import Bundle

STEPS: list[dict[str, Any]] = [
    {"chart": "greeter", "version": "0.1.0", "name": "hello", "namespace": "halls"},
    {"resource": "platform.yaml", "name": "platform", "installs": {"chart": "greeter", "version": "0.1.0"}},
    {"manifests": ["policy.yaml"], "name": "policies"},
    {"resource": "cache.yaml"},
    {"chart": "greeter"},
]


def bundle(folder: Path, profile: Any) -> Bundle:
    cargo = Cargo()
    cargo.chart(packed_chart("greeter", "0.1.0"))
    cargo.document("profile.json", json.dumps(profile).encode(), "profile")
    return open_bundle(cargo.write(folder, key=signing_key()))


def test_steps_are_told(tmp_path: Path) -> None:
    with bundle(tmp_path, {"steps": STEPS}) as opened:
        assert description(opened)["steps"] == [
            {"kind": "chart", "name": "hello", "namespace": "halls", "chart": "greeter 0.1.0"},
            {"kind": "resource", "name": "platform", "namespace": "", "chart": "greeter 0.1.0"},
            {"kind": "manifests", "name": "policies", "namespace": "", "chart": ""},
            {"kind": "resource", "name": "cache.yaml", "namespace": "", "chart": ""},
            {"kind": "chart", "name": "greeter", "namespace": "", "chart": "greeter"},
        ]
        lines = summary(opened).splitlines()
    assert lines[-6:] == [
        "chart greeter 0.1.0",
        "step 1, chart hello in halls: chart greeter 0.1.0",
        "step 2, resource platform: chart greeter 0.1.0",
        "step 3, manifests policies",
        "step 4, resource cache.yaml",
        "step 5, chart greeter: chart greeter",
    ]


@pytest.mark.parametrize("profile", [{}, [], {"steps": [{}]}, {"steps": [1]}, {"steps": ["a chart"]}, {"steps": 1}])
def test_a_profile_that_is_none_is_refused(tmp_path: Path, profile: Any) -> None:
    with bundle(tmp_path, profile) as opened, pytest.raises(BundleError, match=r"profile\.json: no profile"):
        description(opened)


def test_verify_goes_on_where_the_profile_is_damaged(tmp_path: Path) -> None:
    content = json.dumps({"steps": STEPS}).encode()
    cargo = Cargo()
    cargo.document("profile.json", content, "profile")
    (path,) = paths = cargo.write(tmp_path, key=signing_key())
    path.write_bytes(path.read_bytes().replace(content, b"x" * len(content)))
    with open_bundle(paths) as opened:
        with pytest.raises(BundleError):
            description(opened)
        assert description(opened, strict=False)["steps"] == []
        assert "step 1" not in summary(opened, strict=False)

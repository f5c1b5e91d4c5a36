"""What an upgrade shows before it happens: all that differs, and nothing that could be a secret."""

from __future__ import annotations

from typing import Any

import pytest

from installer.objects.comparison import HIDDEN, compared_values
from installer.workflows.changes import Changes, compared_images

OLD: dict[str, Any] = {
    "global": {"host": "http://a", "licence": "LIC-old", "env": [{"name": "DB_PASSWORD", "value": "pw-old"}]},
    "gone": {"size": 1},
    "same": {"list": [1, 2]},
    "url": "https://user:pw-url@host/x",
    "pem": "-----BEGIN\nold",
}
NEW: dict[str, Any] = {
    "global": {"host": "http://b", "licence": "LIC-new", "env": [{"name": "DB_PASSWORD", "value": "pw-new"}]},
    "same": {"list": [1, 2]},
    "url": "https://user:pw-other@host/x",
    "pem": "-----BEGIN\nnew!",
    "fresh": {"auth": {"apiKey": "key-new"}, "on": True},
}


def test_values_that_are_said_to_be_secrets_stay_hidden() -> None:
    found = compared_values("web", {"a": {"word": "old"}}, {"a": {"word": "new"}, "b": 1}, {"a.word"})
    assert [(item.what, item.old, item.new) for item in found] == [
        ("web: a.word", HIDDEN, HIDDEN),
        ("web: b", "", "1"),
    ]


def test_values_that_differ_are_named_and_secrets_stay_hidden() -> None:
    found = {change.what: (change.old, change.new) for change in compared_values("app", OLD, NEW)}
    assert found == {
        "app: global.host": ('"http://a"', '"http://b"'),
        "app: global.licence": (HIDDEN, HIDDEN),
        "app: global.env": ("1 entries", "1 entries"),
        "app: gone.size": ("1", ""),
        "app: url": ('"https://***@host/x"', '"https://***@host/x"'),
        "app: pem": ("text of 14 characters", "text of 15 characters"),
        "app: fresh.auth.apiKey": ("", HIDDEN),
        "app: fresh.on": ("", "true"),
    }
    shown = " ".join(map(str, compared_values("app", OLD, NEW)))
    assert not [word for word in ("LIC-", "pw-", "key-new") if word in shown]


@pytest.mark.parametrize(("old", "new"), [({}, {}), (OLD, OLD), ({"a": {}}, {"a": {}})])
def test_equal_values_are_no_change(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert compared_values("app", old, new) == ()


def test_images_are_compared_by_repository_and_content() -> None:
    one, two = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
    found = compared_images(
        {"r:5000/app:1": one, "r:5000/old:1": one, f"r:5000/pin@{one}": one},
        {"r:5000/app:2": two, "r:5000/new:1": two, f"r:5000/pin@{two}": two},
    )
    assert [str(change) for change in found] == [
        "~ r:5000/app: 1 sha256:111111111111 -> 2 sha256:222222222222",
        "+ r:5000/new: 1 sha256:222222222222",
        "- r:5000/old: 1 sha256:111111111111",
        "~ r:5000/pin: sha256:111111111111 -> sha256:222222222222",
    ]


def test_volumes_whose_claims_go_are_a_change_of_their_own() -> None:
    found = Changes((), (), (), (), volumes=("PersistentVolume a (data of claim b/c)",))
    assert not found.empty
    assert found.document()["volumes"] == ["PersistentVolume a (data of claim b/c)"]
    assert found.text().splitlines() == [
        "volumes that are kept, whose claims will be deleted:",
        "  PersistentVolume a (data of claim b/c)",
    ]

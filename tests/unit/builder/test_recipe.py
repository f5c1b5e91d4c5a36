"""The recipe's reader: what it accepts, and how it refuses."""

import pytest

from builder.recipe.lock import LockedRegistry
from builder.recipe.recipe import Recipe, parse_recipe
from builder.resolve.make_lock import locked_registries
from installer.errors import RecipeError

SMALL = "name: demo\nversion: '1.0'\nimages: [busybox:1.36]\n"


def read(text: str) -> Recipe:
    return parse_recipe(text.encode(), "recipe.yaml")


def refusal(text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        read(text)
    return caught.value.message


def test_defaults() -> None:
    recipe = read(SMALL)
    assert (recipe.sequence, recipe.platforms, recipe.created, recipe.expires) == (1, ["linux/amd64"], None, None)
    assert recipe.images[0].ref == "busybox:1.36"


def test_every_kind_of_entry() -> None:
    recipe = read(
        """
name: demo
version: "1"
expires: 2030-01-01
created: 2026-01-01T10:00:00+01:00
platforms: [linux/amd64, linux/arm/v7]
charts:
- {name: operator, version: 1.4.8, repository: https://charts.example.com/, values: values.yaml, namespace: ops}
- {name: platform, version: ">=0.43, <0.44", repository: oci://ghcr.io/charts, values: [a.yaml, {b: 1}]}
- {name: other, path: ./other, values: {a: {b: 1}}}
- {name: operator, version: 1.4.8, path: ./operator-1.4.8.tgz, release: second}
manifests: [policies, extra.yaml]
files: [weights.bin]
images:
- docker.io/library/busybox:1.36
- {layout: ./layout, name: "example.com/app:1"}
- {archive: ./app.tar, name: "example.com/app:2"}
- {engine: "app:3"}
exclude:
- {image: "python:3.12", reason: only in a test pod}
documents: [README.txt]
site: site.yaml
registries:
  docker.io: {mirror: "http://127.0.0.1:5000"}
  localhost:5001: {plain_http: true, ca: ca.pem}
  registry.example: {token_hosts: [login.example.org], answer_seconds: 300}
substitutions: {docker.io/bitnami/: docker.io/bitnamilegacy/}
"""
    )
    assert (recipe.expires, recipe.created) == ("2030-01-01T00:00:00Z", "2026-01-01T09:00:00Z")
    assert recipe.charts[0].repository == "https://charts.example.com"
    assert recipe.charts[2].values == {"a": {"b": 1}}
    assert locked_registries(recipe.registries)[2] == LockedRegistry(
        "registry.example", "", "", "", ("login.example.org",), answer_seconds=300
    )


def test_all_defects_at_once_with_their_paths() -> None:
    message = refusal(
        """
name: Demo
version: 1.0
platfroms: [linux/amd64]
charts:
- {name: a, version: 1.0.0, repository: https://example.com, relase: a}
- {name: b, version: 1.0.0}
images: ["UPPER:1", {layout: x}]
registries: {localhost:5000: {plain_htttp: true}}
"""
    )
    for line in (
        "name: String should match pattern",
        "version: YAML reads this as a number; quote it",
        "platfroms: unknown key; did you mean platforms?",
        "charts[0].relase: unknown key; did you mean release?",
        "charts[1]: needs either `repository` or `path`",
        "images[0].ref: not an image reference",
        "images[1]: `layout` and `archive` need `name`",
        "registries.localhost:5000.plain_htttp: unknown key; did you mean plain_http?",
    ):
        assert line in message
    assert "8 defects" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2]", "not a mapping"),
        ("name: a\nname: b\n", "stands twice"),
        ("name: [", "column"),
        ("name: demo\nversion: '1'\n", "names nothing to carry"),
        (SMALL + "expires: tomorrow\n", "expires: not a time"),
        (SMALL + "expires: 2026-02-31T00:00:00Z\n", "recipe.yaml"),
        (SMALL + "created: 2027-01-01\nexpires: 2026-01-01\n", "expires before it is created"),
        (SMALL + "exclude: [{image: a, reason: entfällt}]\n", "exclude[0].reason: only printable ASCII"),
        (SMALL + "documents: [größe.txt]\n", "documents[0]: only printable ASCII"),
        (SMALL + "platforms: []\n", "platforms"),
        (SMALL + "platforms: [linux]\n", "platforms[0]: not a platform"),
        (SMALL + "sequence: 0\n", "sequence"),
        (
            SMALL + "kubernetes: {version: '1.34'}\n",
            "kubernetes.version: unknown key",
        ),
        (SMALL + "kubernetes: {from: 1.30}\n", "kubernetes.from: YAML reads this as a number; quote it"),
        (SMALL + "kubernetes: {from: '1.34', to: '1.33'}\n", "`from` 1.34 is newer than `to` 1.33"),
        (SMALL + "kubernetes: {from: '1.34.3', to: 'v1.34.2'}\n", "`from` 1.34.3 is newer than `to` v1.34.2"),
        (SMALL + "kubernetes: {from: '1.1', to: '1.31'}\n", "more than 30 minor versions"),
        (SMALL + "kubernetes: {to: '2.0'}\n", "kubernetes.to"),
        (SMALL + "registries: {docker.io: {mirror: ftp://x}}\n", "registries.docker.io.mirror: not an http(s) URL"),
        (SMALL + "registries: {docker.io: {mirror: 'http://user:word@x'}}\n", "not an http(s) URL without user name"),
        (SMALL + "registries: {'no/host': {}}\n", "not a registry host"),
        (SMALL + "registries: {h.example: {mirror: 'https://m', plain_http: true}}\n", "remove `plain_http`"),
        (SMALL + "registries: {h.example: {mirror: 'https://m', answer_seconds: 9}}\n", "its own host has"),
        (SMALL + "registries: {h.example: {answer_seconds: 0}}\n", "registries.h.example.answer_seconds"),
        ("name: a\nversion: '1'\nimages: [busybox, docker.io/library/busybox:latest]\n", "image stands twice"),
        ("name: a\nversion: '1'\nimages: [{layout: x, archive: y, name: z}]\n", "needs one of"),
        ("name: a\nversion: '1'\nimages: [{ref: x, name: z}]\n", "use `substitutions`"),
        ("name: a\nversion: '1'\nimages: [{engine: x, name: 'z@sha256:" + "0" * 64 + "'}]\n", "a tag, not a digest"),
        (SMALL + "versions: {server: '1'}\n", "`versions` needs a profile"),
        (SMALL + "profile: p.yaml\nmanifests: [x]\n", "`manifests` belong into a step of the profile"),
        (
            SMALL + "profile: p.yaml\ncharts: [{name: c, path: c.tgz, release: x}]\n",
            "charts[0]: `release` belongs into the chart's step in the profile (`name`)",
        ),
        (
            SMALL + "profile: p.yaml\ncharts: [{name: b, path: b}, {name: c, path: c.tgz, values: {}}]\n",
            "charts[1]: `values` belongs into the chart's step in the profile (`values`)",
        ),
        (SMALL + "charts: [{name: c, path: c}, {name: d, path: d, release: c}]\n", "release stands twice: c"),
        (SMALL + "charts: [{name: c, path: c, values: [1]}]\n", "charts[0].values: neither the name of a values file"),
        (SMALL + "charts: [{name: c, repository: 'https://x'}]\n", "charts[0]: needs `version`"),
        ("name: a\nprofile: p.yaml\n", "needs `version`, or `versions` to take it from"),
        (
            "name: a\nversion: '1'\ncharts: [{name: c, version: '1', repository: oci://ghcr.io/UP}]\n",
            "oci://ghcr.io/folder",
        ),
    ],
)
def test_refusals(text: str, words: str) -> None:
    assert words in refusal(text)


@pytest.mark.parametrize(
    ("text", "versions"),
    [
        ("{}", (("", "1.999.999"),)),
        ("{to: '1.34'}", (("1.34.0", "1.34.999"),)),
        ("{from: v1.34.2}", (("1.34.2",),)),
        ("{from: '1.33', to: '1.34'}", (("1.33.0", "1.33.999"), ("1.34.0", "1.34.999"))),
        ("{from: '1.33.7', to: '1.34.0'}", (("1.33.7", "1.33.999"), ("1.34.0",))),
        ("{from: '1.34.1', to: '1.34.3'}", (("1.34.1", "1.34.3"),)),
    ],
)
def test_a_minor_version_of_kubernetes_stands_for_all_its_patches(text: str, versions: object) -> None:
    assert read(SMALL + f"kubernetes: {text}\n").kubernetes.versions == versions


def test_a_value_put_under_the_wrong_key_is_not_shown() -> None:
    assert "hunter2" not in refusal(SMALL + "password: hunter2\nsequence: hunter2\n")


def test_what_stands_once_is_meant_wherever_nothing_else_is_said() -> None:
    recipe = read(
        """
name: demo
version: "1"
chart_repository: oci://registry.example/charts
charts:
- {name: a, version: 1.0.0}
- {name: b, version: 1.0.0, repository: https://charts.example.com}
- {name: c, version: 1.0.0, path: c.tgz}
"""
    )
    assert recipe.include == "profile"
    repositories = [chart.repository for chart in recipe.charts]
    assert repositories == ["oci://registry.example/charts", "https://charts.example.com", None]
    assert "needs `version`" in refusal("name: demo\nimages: [busybox:1.36]\n")
    named = "name: demo\nprofile: profile.yaml\nversions: {server: 0.82}\n"
    assert "versions.server: YAML reads this as a number; quote it" in refusal(named)

"""What a site is asked by a profile, and what its steps make of the answers."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest

from installer.apps.application import Application, application, application_of
from installer.apps.profile import parse_profile
from installer.apps.wandb.application import Platform
from installer.errors import BundleError, SiteError
from installer.site.site import Site
from installer.workflows.driver import PlainDriver, driver_of
from tests.parts.bundles import Cargo, open_bundle, signing_key

if TYPE_CHECKING:
    from pathlib import Path

REGISTRY = {"host": "r.enclave:5000"}
LOGIN = {"username": "robot", "password": {"env": "PASSWORD"}}


def to(step: str, path: str, **more: str) -> list[dict[str, str]]:
    return [{"step": step, "path": path, **more}]


PROFILE: dict[str, Any] = {
    "namespace": "home",
    "steps": [
        {"chart": "web", "name": "front"},
        {
            "resource": "thing.yaml",
            "name": "thing",
            "namespace": "things",
            "installs": {"chart": "engine", "values": "spec.chart.values"},
        },
        {"manifests": ["more.yaml"], "name": "more"},
    ],
    "questions": {
        "host": {
            "type": "text",
            "help": "Under which name?",
            "pattern": "^[a-z.]+$",
            "required": True,
            "to": [*to("front", "web.url", text="https://{}/{}"), *to("thing", "spec.chart.values.host")],
        },
        "copies": {
            "type": "integer",
            "help": "How many?",
            "minimum": 1,
            "maximum": 9,
            "default": 2,
            "to": [*to("front", "replicas"), *to("thing", "spec.copies")],
        },
        "tls": {
            "type": "boolean",
            "help": "Encrypted?",
            "to": [*to("front", "tls.on"), *to("front", "arguments", text="--tls={}")],
        },
        "issuer": {
            "type": "text",
            "help": "By whom?",
            "when": {"question": "tls", "is": True},
            "to": to("front", "tls.issuer"),
        },
        "size": {"type": "choice", "help": "How large?", "choices": ["small", "large"], "to": to("front", "size")},
        "hosts": {"type": "list", "help": "Which others?", "to": to("front", "hosts")},
        "labels": {"type": "map", "help": "Which labels?", "to": to("thing", "metadata.labels")},
        "password": {
            "type": "secret",
            "help": "Which password?",
            "secret": {"name": "database", "key": "PASSWORD", "step": "thing"},
            "to": [
                *to("front", "db.secretName", put="secret-name"),
                *to("front", "db.secretKey", put="secret-key"),
                *to("thing", "spec.secretRef.name", put="secret-name"),
            ],
        },
        "user": {
            "type": "secret",
            "help": "Which user?",
            "secret": {"name": "database", "key": "USER", "step": "thing"},
        },
        "token": {"type": "secret", "help": "Which token?", "secret": {"name": "api", "key": "t", "step": "front"}},
    },
    "pull_secret": {"values": {"front": ["global.imagePullSecrets", "pullSecrets[]"]}},
    "unheard": {"size": "chart web 2 knows it"},
}
ALL: dict[str, Any] = {
    "host": "app.example",
    "copies": 3,
    "tls": True,
    "issuer": "ca",
    "hosts": ["a", "b"],
    "labels": {"a": "b"},
}


@pytest.fixture
def app() -> Application:
    return application(parse_profile(json.dumps(PROFILE).encode(), "profile.json", BundleError))


def answered(app: Application, folder: Path, *, environment: dict[str, str] | None = None, **answers: Any) -> Site:
    text = json.dumps({"registry": REGISTRY, "host": "app.example", **answers})
    return Site.load(
        text.encode(),
        folder,
        application=app,
        now=dt.datetime.now(dt.UTC),
        environment=(environment or {}).get,
        prompt=lambda question: f"answer to {question}",
    )


def test_answers_go_where_the_profile_says(app: Application, tmp_path: Path) -> None:
    front, thing, more = app.profile.steps
    site = answered(app, tmp_path, **ALL)
    app.check(site)
    assert app.values(front, site) == {
        "web": {"url": "https://app.example/app.example"},
        "replicas": 3,
        "tls": {"on": True, "issuer": "ca"},
        "arguments": "--tls=true",
        "hosts": ["a", "b"],
    }
    assert app.values(thing, site) == {"host": "app.example"}, "below the path of the chart's values"
    assert app.fields(thing, site) == {"spec": {"copies": 3}, "metadata": {"labels": {"a": "b"}}}
    assert app.fields(front, site) == {}
    assert (app.values(more, site), app.fields(more, site)) == ({}, {})
    assert list(app.secrets(site, blank=False)) == []


def test_without_an_answer_the_default_holds_or_nothing_is_said(app: Application, tmp_path: Path) -> None:
    site = answered(app, tmp_path)
    assert app.values(app.profile.steps[0], site) == {"web": {"url": "https://app.example/app.example"}, "replicas": 2}
    assert app.fields(app.profile.steps[1], site) == {"spec": {"copies": 2}}
    # `issuer` does not count, and nothing reads `size`.
    assert [line.partition(":")[0] for line in app.open_questions(site)] == [
        *("tls", "hosts", "labels", "password", "user", "token"),
    ]
    assert "issuer: By whom?" in app.open_questions(answered(app, tmp_path, tls=True))


def test_a_negative_answer_is_one(app: Application, tmp_path: Path) -> None:
    values = app.values(app.profile.steps[0], answered(app, tmp_path, tls=False, hosts=[]))
    assert (values["tls"], values["hosts"]) == ({"on": False}, [])


def test_what_the_site_says_of_a_chart_wins_over_answers(app: Application, tmp_path: Path) -> None:
    front, thing, _ = app.profile.steps
    charts = {"web": {"values": {"replicas": 9}}, "engine": {"namespace": "else", "values": {"host": "b"}}}
    site = answered(app, tmp_path, charts=charts)
    app.check(site)
    assert app.values(front, site)["replicas"] == 9
    assert app.values(thing, site) == {"host": "b"}
    assert [app.namespace(step, site) for step in app.profile.steps] == ["home", "else", "home"]
    assert app.place_of_values(front) == "charts.front.values"
    # By the name of the release as well as by that of the chart.
    assert app.values(front, answered(app, tmp_path, charts={"front": {"values": {"replicas": 8}}}))["replicas"] == 8
    assert [app.names(step) for step in app.profile.steps] == [["front", "web"], ["engine", "thing"], []]


def test_namespaces_are_those_of_the_site_unless_a_step_has_its_own(app: Application, tmp_path: Path) -> None:
    site = answered(app, tmp_path, namespace="there")
    assert [app.namespace(step, site) for step in app.profile.steps] == ["there", "things", "there"]


def test_secrets_are_made_and_only_named_in_values(app: Application, tmp_path: Path) -> None:
    front, thing, _ = app.profile.steps
    asked = {"password": {"env": "W"}, "user": {"prompt": "user"}, "token": {"prompt": "token"}}
    site = answered(app, tmp_path, environment={"W": "geheim"}, **asked)
    assert app.values(front, site)["db"] == {"secretName": "database", "secretKey": "PASSWORD"}
    assert app.fields(thing, site)["spec"]["secretRef"] == {"name": "database"}
    made = {(item.namespace, item.name): item.data for item in app.secrets(site, blank=False)}
    assert {place: {key: text.reveal() for key, text in data.items()} for place, data in made.items()} == {
        ("things", "database"): {"PASSWORD": "geheim", "USER": "answer to user"},
        ("home", "api"): {"t": "answer to token"},
    }
    blank = answered(app, tmp_path, password={"env": "NOT_SET"})
    (secret,) = app.secrets(blank, blank=True)
    assert [text.reveal() for text in secret.data.values()] == [""]
    with pytest.raises(SiteError, match="password: environment variable NOT_SET is not set"):
        list(app.secrets(blank, blank=False))


def test_a_secret_that_its_chart_takes_as_a_value_only(tmp_path: Path) -> None:
    """It is kept apart from the other values, and a placeholder stands for it in what is rendered for people."""
    question = {
        "type": "secret",
        "help": "Its password.",
        "secret": {"name": "web", "key": "password", "step": "web"},
        "to": [{"step": "web", "path": "auth.password", "put": "secret-value"}],
    }
    document = {"steps": [{"chart": "web"}], "questions": {"password": question}}
    asked = application(parse_profile(json.dumps(document).encode(), "profile.json", BundleError))
    site = Site.load(
        json.dumps({"registry": REGISTRY, "password": {"env": "W"}}).encode(),
        tmp_path,
        application=asked,
        now=dt.datetime.now(dt.UTC),
        environment={"W": "geheim"}.get,
        prompt=str,
    )
    (step,) = asked.profile.steps
    assert asked.values(step, site) == {}
    assert asked.secret_values(step, site, blank=True) == {"auth": {"password": "VALUE-FROM-SITE"}}
    assert asked.secret_values(step, site, blank=False) == {"auth": {"password": "geheim"}}
    assert list(asked.secret_paths(step)) == ["auth.password"]


def test_a_secret_that_is_in_the_cluster_is_only_named(app: Application, tmp_path: Path) -> None:
    site = answered(app, tmp_path, password={"secret": "mine", "key": "pw"})
    assert app.values(app.profile.steps[0], site)["db"] == {"secretName": "mine", "secretKey": "pw"}
    assert app.fields(app.profile.steps[1], site)["spec"]["secretRef"] == {"name": "mine"}
    assert list(app.secrets(site, blank=False)) == []


def test_the_pull_secret_is_named_where_the_chart_wants_it(app: Application, tmp_path: Path) -> None:
    site = answered(app, tmp_path, registry={**REGISTRY, "credentials": LOGIN, "pull_secret": True})
    values = app.values(app.profile.steps[0], site)
    assert values["global"] == {"imagePullSecrets": [{"name": "airferry-registry"}]}
    assert values["pullSecrets"] == ["airferry-registry"]
    given = app.values(app.profile.steps[0], answered(app, tmp_path, registry={**REGISTRY, "pull_secret": "regcred"}))
    assert (given["global"], given["pullSecrets"]) == ({"imagePullSecrets": [{"name": "regcred"}]}, ["regcred"])


# Answers → what is said of them.
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a text of another form": ({"host": "A b"}, "host: String should match pattern"),
    "an empty text": ({"issuer": ""}, "issuer: String should have at least 1 character"),
    "a number that YAML reads": ({"issuer": 1}, "issuer: YAML reads this as a number; quote it"),
    "a missing answer": ({"host": None}, "host: "),
    "too many": ({"copies": 10}, "copies: Input should be less than or equal to 9"),
    "a text for a number": ({"copies": "3"}, "copies: Input should be a valid integer"),
    "a text for a truth": ({"tls": "yes"}, "tls: Input should be a valid boolean"),
    "no choice": ({"size": "huge"}, "size: Input should be 'small' or 'large'"),
    "a text for a list": ({"hosts": "a"}, "hosts: Input should be a valid list"),
    "a list of numbers": ({"hosts": [1]}, "hosts[0]: YAML reads this as a number; quote it"),
    "a map of numbers": ({"labels": {"a": 1}}, "labels.a: YAML reads this as a number; quote it"),
    "a plain secret": ({"password": "word"}, "password: a secret never stands in this file"),
    "an unknown key": ({"copes": 1}, "copes: unknown key; did you mean copies?"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_answer_is_refused_with_its_place(app: Application, tmp_path: Path, case: str) -> None:
    answers, words = WRONG[case]
    with pytest.raises(SiteError) as caught:
        answered(app, tmp_path, **answers)
    assert f"site.yaml: {words}" in caught.value.message


def test_an_answer_without_effect_is_refused(app: Application, tmp_path: Path) -> None:
    site = answered(app, tmp_path, tls=False, issuer="ca", size="small", charts={"fornt": {}})
    with pytest.raises(SiteError) as caught:
        app.check(site)
    assert caught.value.message.splitlines()[1:] == [
        "  charts.fornt: the bundle has no such chart; did you mean front?",
        "  size: has no effect here: chart web 2 knows it",
        "  issuer: counts only with `tls: true`",
    ]


def test_files_of_secrets_must_be_there(app: Application, tmp_path: Path) -> None:
    with pytest.raises(SiteError, match=r"password: no such file: absent\.txt"):
        answered(app, tmp_path, password={"file": "absent.txt"})


@pytest.mark.parametrize("driver", [None, "wandb"])
def test_a_driver_is_loaded_by_its_name(driver: str | None) -> None:
    steps = [{"chart": "operator"}, {"resource": "w", "installs": {"chart": "p"}, "controller": "operator"}]
    document = {"steps": steps, **({"driver": driver} if driver else {})}
    found = application(parse_profile(json.dumps(document).encode(), "profile.json", BundleError))
    assert isinstance(found, Platform) == bool(driver)
    assert isinstance(driver_of(driver), PlainDriver) != bool(driver)


def test_a_driver_that_this_program_lacks_is_told() -> None:
    document = json.dumps({"steps": [{"chart": "a"}], "driver": "newer"}).encode()
    with pytest.raises(BundleError, match="'newer', which this program does not have") as caught:
        application(parse_profile(document, "profile.json", BundleError))
    assert "the installer that came with the bundle" in caught.value.hint
    with pytest.raises(BundleError, match="'newer', which this program does not have"):
        driver_of("newer")


def test_a_bundle_without_a_profile_is_no_application(tmp_path: Path) -> None:
    cargo = Cargo()
    cargo.document("other.txt", b"", "other")
    with open_bundle(cargo.write(tmp_path, key=signing_key())) as bundle:
        assert application_of(bundle) is None
    damaged = Cargo("damaged")
    damaged.document("profile.json", b"{}", "profile")
    with (
        open_bundle(damaged.write(tmp_path, key=signing_key(), name="damaged")) as bundle,
        pytest.raises(BundleError, match=r"profile\.json: steps: missing"),
    ):
        application_of(bundle)

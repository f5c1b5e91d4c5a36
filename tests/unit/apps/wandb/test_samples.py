"""Every key of site.yaml has a sample, and what the charts of several versions do with it."""

from __future__ import annotations

import datetime as dt
import json
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

import templates
from builder.recipe.recipe import KubernetesEntry
from builder.resolve.effects import heard
from installer.apps.application import application
from installer.apps.wandb.site.answers import Answers
from installer.apps.wandb.site.samples import samples
from installer.chart.retarget import merged
from installer.errors import SiteError
from installer.site.answers import SiteAnswers
from installer.site.secret import SecretSource
from installer.site.site import Site
from tests.parts.wandb_site import WANDB
from tests.parts.workshop import Workshop

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.charts.rendering import Release
    from installer.apps.application import Application

TEMPLATE = Path(templates.__file__).parent / "wandb"
# Where the operator reads its chart is no value, a Route is no object of a chart, `values` are the charts' own words.
NOT_JUDGED = {"chart_source", "route.annotations", "values", "operator_values"}
VERSIONS = {"server": "0.59.2", "console": "2.12.2", "controller": "1.22.0"}
DEAF = "chart operator-wandb 0.18.0 does not read it; 0.41.4 does"
# What W&B's own guide answers in the custom resource for this version, in the words of site.yaml.
GUIDE: dict[str, Any] = {
    "host": "https://wandb.yourdomain.com",
    "license": {"secret": "guide", "key": "license"},
    "bucket": {
        "provider": "s3",
        "name": "bucket_name",
        "endpoint": "s3.yourdomain.com:9000",
        "region": "us-east-1",
        "access_key": {"secret": "guide", "key": "access"},
        "secret_key": {"secret": "guide", "key": "secret"},
    },
    "mysql": {
        "host": "mysql.home.lab",
        "port": 3306,
        "database": "wandb",
        "user": "wandb",
        "password": {"secret": "guide", "key": "password"},
    },
    "env": {"ENABLE_REGISTRY_UI": "true"},
    "ingress": {"class": "nginx", "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "64m"}},
}


def keys(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """The keys of a model, dotted; of an answer with keys of its own only these."""
    for name, field in model.model_fields.items():
        path = f"{above}{field.alias or name}"
        union = typing.get_args(field.annotation) if type(None) in typing.get_args(field.annotation) else ()
        inner = [kind for kind in (field.annotation, *union) if _is_model(kind)]
        yield from keys(inner[0], f"{path}.") if inner else (path,)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel) and kind is not SecretSource


def test_every_key_has_a_sample() -> None:
    assert {key for key, *_ in samples()} == set(keys(Answers)) - set(keys(SiteAnswers)) - {
        "namespace",
        "charts",
    } - NOT_JUDGED


def test_samples_are_answers_that_differ_in_their_key() -> None:
    for sample in WANDB.samples():
        before, after = (item.model_dump(by_alias=True, exclude_unset=True) for item in (sample.before, sample.after))
        top = sample.key.partition(".")[0]
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        assert changed == {top}, sample.key
        assert sample.key in set(sample.after.given()), sample.key


def prepared(folder: Path, assets: Path, platform: str, operator: str) -> tuple[Application, Release]:
    """W&B's application with these charts, as `lock` proves it, and the release of the platform."""
    workshop = Workshop(folder)
    for name in ("profile.yaml", "wandb.yaml", "operator-values.yaml"):
        workshop.file(name, (TEMPLATE / name).read_text())
    for name, version in (("operator", operator), ("operator-wandb", platform)):
        workshop.charts.append({"name": name, "path": str(assets / f"{name}-{version}.tgz")})
    found = workshop.needs(profile_at="profile.yaml", versions=VERSIONS, version=None)
    assert found.application
    assert found.steps
    profile = heard(found.application, found.steps, KubernetesEntry()).profile
    return application(profile), next(item for item in found.steps.releases if item.name == "wandb")


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory, assets: Path) -> tuple[Application, Release]:
    return prepared(tmp_path_factory.mktemp("guide"), assets, "0.18.0", "1.3.3")


@pytest.mark.charts
@pytest.mark.parametrize("platform", ["0.41.4", "0.43.8"])
def test_newer_charts_read_every_answer(tmp_path: Path, assets: Path, platform: str) -> None:
    assert prepared(tmp_path, assets, platform, "1.4.8")[0].profile.unheard == {}


@pytest.mark.charts
def test_what_the_chart_of_the_guide_does_not_read(guide: tuple[Application, Release]) -> None:
    assert guide[0].profile.unheard == dict.fromkeys(
        [
            *("service.node_port", "license", "mysql.password", "mysql.ca", "bucket.access_key", "bucket.secret_key"),
            *(
                "mysql.tls",
                "mysql.client_certificate",
                "mysql.client_key",
                "redis.user",
                "redis.password",
                "redis.params",
            ),
            *("clickhouse.password", "clickhouse.replicated", "oidc.secret", "env", "secret_env", "size"),
            *("redis.params", "replicas"),
            *(key for key, *_ in samples() if key.startswith(("smtp.", "ldap.", "proxy."))),
        ],
        DEAF,
    )


def site_of(app: Application, folder: Path, answers: Mapping[str, Any]) -> Site:
    return Site.load(
        json.dumps({"registry": {"host": "registry.example:5000"}, **answers}).encode(),
        folder,
        application=app,
        now=dt.datetime.now(dt.UTC),
        environment=lambda _: None,
        prompt=lambda _: "",
    )


@pytest.mark.charts
def test_what_the_guide_answers_is_shown_or_refused_by_name(guide: tuple[Application, Release], tmp_path: Path) -> None:
    app, release = guide
    with pytest.raises(SiteError) as caught:
        app.check(site_of(app, tmp_path, GUIDE))
    deaf = ("bucket.access_key", "bucket.secret_key", "env", "license", "mysql.password")
    assert caught.value.message.splitlines()[1:] == [f"  {key}: has no effect here: {DEAF}" for key in deaf]
    # The same as the guide itself spells it.
    spelt = {"license": "xxx", "mysql": {"password": "xxx"}, "bucket": {"accessKey": "xxx", "secretKey": "xxx"}}
    with pytest.raises(SiteError) as caught:
        app.check(site_of(app, tmp_path, {"values": {"global": spelt}}))
    places = (
        ("license", "license"),
        ("mysql.password", "mysql.password"),
        ("bucket.accessKey", "bucket.access_key"),
        ("bucket.secretKey", "bucket.secret_key"),
    )
    assert caught.value.message.splitlines()[1:] == [
        f"  values.global.{path}: a secret must not stand here, where many may read it; its place is {key}, but {DEAF}"
        for path, key in sorted(places)
    ]
    # All the rest is there.
    bucket = {key: value for key, value in GUIDE["bucket"].items() if not key.endswith("_key")}
    mysql = {key: value for key, value in GUIDE["mysql"].items() if key != "password"}
    answers = {
        "host": GUIDE["host"],
        "ingress": GUIDE["ingress"],
        "bucket": bucket,
        "values": {"global": {"mysql": mysql, "extraEnv": GUIDE["env"]}},
    }
    site = site_of(app, tmp_path, answers)
    app.check(site)
    values = merged(release.values, app.values(app.profile.step("wandb"), site))
    objects = {
        (item["kind"], item["metadata"]["name"]): item
        for item in release.fetched.chart.render(values, release="wandb", namespace="wandb").objects
    }
    ingress = objects["Ingress", "wandb"]
    assert ingress["metadata"]["annotations"].items() >= GUIDE["ingress"]["annotations"].items()
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"]["rules"][0]["host"] == "wandb.yourdomain.com"
    containers = objects["Deployment", "wandb-app"]["spec"]["template"]["spec"]["containers"]
    shown = {item["name"]: item.get("value") for item in containers[0]["env"]}
    assert shown["HOST"] == GUIDE["host"]
    assert shown["ENABLE_REGISTRY_UI"] == "true"
    text = json.dumps(shown)
    for word in ("mysql.home.lab", "3306", "s3.yourdomain.com:9000/bucket_name", "us-east-1", "wandb"):
        assert word in text, word

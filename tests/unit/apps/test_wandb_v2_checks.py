"""What stands in the way of W&B with operator v2, and what is removed from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from installer.apps.wandb_v2 import migrations, v2_checks
from installer.apps.wandb_v2.resource import RESOURCE
from installer.cluster.kinds import JOB
from installer.cluster.readiness import Readiness
from installer.cluster.workload import ReleaseName
from installer.errors import NotReadyError
from installer.workflows.actions import Actions
from tests.parts.demo_site import wanted
from tests.parts.fake_cluster import FakeCluster
from tests.parts.steps_world import World
from tests.parts.wandb_cluster import DEFINITION
from tests.parts.wandb_v2 import Release

if TYPE_CHECKING:
    from pathlib import Path

    from installer.cluster.cluster import Object
    from installer.diagnosis.finding import Finding

NAME = ReleaseName("wandb", "wandb")


def definition(name: str = "", release: str = "") -> Object:
    """That of the platform as the operator has it, or one called `name`, which `release` has made."""
    versions = [{**DEFINITION["spec"]["versions"][0], "name": version} for version in ("v1", "v2")]
    if not name:
        return {
            **DEFINITION,
            "spec": {**DEFINITION["spec"], "versions": versions, "conversion": {"strategy": "Webhook"}},
        }
    plural, _, group = name.partition(".")
    spec = {**DEFINITION["spec"], "group": group, "names": {"kind": plural.title(), "plural": plural}}
    annotations = {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": "wandb-operators"}
    metadata = {"name": name, "annotations": annotations}
    return {**DEFINITION, "metadata": metadata, "spec": spec}


def platform(name: str = "wandb", version: str = "0.84.0", reached: str = "") -> Object:
    status = {"wandb": {"migration": {"lastSuccessVersion": reached}}} if reached else {}
    metadata = {"name": name, "namespace": "wandb", "uid": f"uid-{name}"}
    head = {"apiVersion": RESOURCE.api_version, "kind": RESOURCE.name, "metadata": metadata}
    return {**head, "spec": {"wandb": {"version": version}}, "status": status}


def found(folder: Path, *objects: Object, **answers: Any) -> list[Finding]:
    cluster = FakeCluster(namespaces=["wandb", "wandb-operators"])
    for item in (definition(), *objects):
        cluster.given(item)
    made = wanted(Release(folder).application(), folder, **answers)
    return [item for check in v2_checks.checks(cluster, made) for item in check()]


def test_a_second_platform_in_the_namespace_is_refused(tmp_path: Path) -> None:
    [finding] = [item for item in found(tmp_path, platform("other")) if item.error]
    assert "WeightsAndBiases wandb/other is a platform in the same namespace" in finding.what


@pytest.mark.parametrize(
    ("reached", "refused"),
    [
        ("0.83.9", False),
        ("0.84.0", False),
        ("0.84.0-rc1", False),
        ("0.84.1-rc1", True),
        ("0.84.1", True),
        ("1.0", True),
    ],
)
def test_a_version_that_the_database_has_been_migrated_past_is_refused(
    tmp_path: Path, reached: str, *, refused: bool
) -> None:
    findings = [item.what for item in found(tmp_path, platform(reached=reached)) if item.error]
    assert findings == (
        [f"going back is not possible: the database is that of {reached}, which 0.84.0 does not know"]
        if refused
        else []
    )


def test_an_operator_of_a_service_that_is_there_already_is_left_to_the_cluster(tmp_path: Path) -> None:
    ours = definition("mysqlclusters.moco.cybozu.com", "wandb-operator")
    assert [item for item in found(tmp_path, ours) if item.error] == []
    theirs = definition("mysqlclusters.moco.cybozu.com", "moco")
    [finding] = [item for item in found(tmp_path, theirs) if item.error]
    assert finding.step.endswith("`operator_values: {moco: {enabled: false}}` in site.yaml.")
    off = {"moco": {"enabled": False}}
    assert [item for item in found(tmp_path, theirs, operator_values=off) if item.error] == []


def test_a_service_needs_the_operator_that_runs_it(tmp_path: Path) -> None:
    off = {"moco": {"enabled": False}}
    [finding] = [item for item in found(tmp_path, operator_values=off) if item.error]
    assert "nobody brings mysqlclusters.moco.cybozu.com" in finding.what
    mysql = {"host": "mysql.example", "password": {"prompt": "?"}}
    assert [item for item in found(tmp_path, operator_values=off, mysql=mysql) if item.error] == []


def test_a_second_operator_is_refused(tmp_path: Path) -> None:
    metadata = {"name": "theirs", "namespace": "elsewhere"}
    pod = {"containers": [{"image": "registry/wandb/operator:2.0.0"}]}
    rival = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"template": {"spec": pod}}}
    cluster = [item for item in found(tmp_path, rival) if item.error]
    assert [item.what for item in cluster] == [
        "Deployment elsewhere/theirs is an operator of W&B as well, and looks at all namespaces"
    ]


def job(name: str, made: str, **status: Any) -> Object:
    labels = {"app.kubernetes.io/instance": "wandb", "app.kubernetes.io/component": "migration"}
    metadata = {"name": name, "namespace": "wandb", "labels": labels, "creationTimestamp": made, "uid": name}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": {}}, "status": status}


def test_migrations_that_have_failed_or_are_of_an_earlier_change_are_made_anew(tmp_path: Path) -> None:
    world = World(tmp_path)
    failed = {"conditions": [{"type": "Failed", "status": "True"}]}
    for item in (
        job("older", "2026-01-01T00:00:00Z"),
        job("failed", "2026-01-03T00:00:00Z", **failed),
        job("present", "2026-01-03T00:00:00Z"),
    ):
        world.cluster.given(item)
    migrations.clear(Actions(world.means()), NAME, "2026-01-02T00:00:00Z")
    assert [item["metadata"]["name"] for item in world.cluster.find(JOB, "wandb")] == ["present"]


def test_a_migration_that_is_at_work_is_waited_for(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.cluster.given(job("waits-for-its-image", "2026-01-01T00:00:00Z", active=1, ready=0))
    migrations.until_none_runs(world.cluster, NAME, world.means().patience)
    world.cluster.given(job("works", "2026-01-01T00:00:00Z", active=1, ready=1))
    with pytest.raises(NotReadyError, match="Job wandb/works: migrates the database"):
        migrations.until_none_runs(world.cluster, NAME, world.means().patience)


@pytest.mark.parametrize(
    ("seen", "ready", "said"),
    [
        (None, False, "status.version is not there yet"),
        ("1", False, "status.version is 1"),
        ("2", True, "Ready"),
    ],
)
def test_what_a_status_has_to_match(seen: str | None, said: str, *, ready: bool) -> None:
    rule = Readiness(condition="Ready", matches={"status.version": "spec.version"})
    conditions = [{"type": "Ready", "status": "True", "observedGeneration": 2}]
    status = {"conditions": conditions, **({"version": seen} if seen else {})}
    assert rule.state({"metadata": {"generation": 2}, "spec": {"version": "2"}, "status": status}) == (ready, said)
    # The condition is of the generation before, whatever else the status says.
    assert not rule.state({"metadata": {"generation": 3}, "spec": {"version": "2"}, "status": status})[0]

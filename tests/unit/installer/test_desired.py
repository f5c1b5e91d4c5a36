"""What shall stand in the cluster, from bundle and site alone: values, references, chart source, files."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from installer.apps.wandb.custom_resource import custom_resource
from installer.apps.wandb.driver import DRIVER
from installer.chart.helm import Chart, documents
from installer.chart.images import references
from installer.cluster.workload import pod_specs
from installer.errors import BundleError, ClusterError, SiteError, UsageError
from installer.objects.make_desired import desired
from installer.objects.node_mirrors import node_mirrors
from installer.objects.render import files, write
from installer.workflows.driver import PlainDriver
from tests.parts.application import CHARTS, Application, demo_app, packed
from tests.parts.bundles import open_bundle, packed_chart
from tests.parts.demo_site import PASSWORD, REGISTRY, platform, site, wanted
from tests.parts.runnable import job, pause
from tests.parts.wandb_cluster import resource

if TYPE_CHECKING:
    from pathlib import Path

# What one reader or another takes for something else than this text.
TRICKY_TEXTS = [
    *("y", "n", "on", "null", "~", "", " a", "a: b", "#a", "=", ".5", "+1", "!a", "*a", "&a", "\u00e9\n", "a\u2028b"),
    *("1", "1.0", "0x10", "1e3", "1_000", "2026-01-01", "12:30:45"),
    *("line\nline\n", "tab\tline\nx", "trail \nx\n", "\nfirst", "\x07"),
]


def test_the_resource_names_the_chart_by_path_and_images_in_the_enclave(tmp_path: Path) -> None:
    found = wanted(platform(tmp_path / "b", {"web": {"replicas": 2}}), tmp_path, host="http://wandb.enclave")
    (step,) = found.resources
    assert step.document["metadata"]["name"] == "wandb"
    assert step.document["metadata"]["labels"] == {
        "app.kubernetes.io/name": "weightsandbiases",
        "app.kubernetes.io/instance": "wandb",
    }
    values = step.document["spec"]["values"]
    assert values["web"]["replicas"] == 2
    image = values["web"]["image"]
    assert image["repository"] == f"{REGISTRY}/airferry/docker.io/demo/httpd"
    assert re.fullmatch("sha256:[0-9a-f]{64}", image["digest"])
    assert values["migrate"] == {"image": f"{REGISTRY}/airferry/docker.io/demo/tools:1.0"}
    assert values["global"]["host"] == "http://wandb.enclave"
    assert step.document["spec"].keys() == {"chart", "values"}
    assert step.document["spec"]["chart"].keys() == {"path"}
    path = step.document["spec"]["chart"]["path"]
    assert re.fullmatch(r"/charts/demo-platform-1\.0\.0-[0-9a-f]{12}\.tgz", path)
    assert step.installs
    assert step.installs.values == values


def test_the_claims_that_a_chart_makes_itself_are_known(tmp_path: Path) -> None:
    claim = (
        "kind: PersistentVolumeClaim\napiVersion: v1\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOnce]}\n"
    )
    application = platform(tmp_path, changes={"templates/data.yaml": claim})
    assert wanted(application, tmp_path, namespace="there").claims == {"there/data"}


def test_the_same_input_gives_the_same_objects(tmp_path: Path) -> None:
    application = platform(tmp_path / "b")
    assert wanted(application, tmp_path) == wanted(application, tmp_path)


def test_an_upgrade_finds_the_passwords_that_the_installation_has_made(tmp_path: Path) -> None:
    manage = """
{{- $held := (lookup "v1" "Secret" .Release.Namespace "pw").data | default dict }}
{{- if and .Release.IsUpgrade (not (hasKey $held "password")) }}{{ fail "PASSWORDS ERROR" }}{{ end }}
apiVersion: v1
kind: Secret
metadata: {name: pw}
data: {password: {{ $held.password | default (randAlphaNum 8 | b64enc) }}}
"""
    found = wanted(platform(tmp_path, changes={"templates/pw.yaml": manage}), tmp_path)
    assert "docker.io/demo/renew:1.0" in {name.removeprefix(f"{REGISTRY}/airferry/") for name in found.images}
    with pytest.raises(SiteError, match="PASSWORDS ERROR"):
        wanted(
            platform(
                tmp_path / "b", changes={"templates/pw.yaml": manage.replace('$held "password"', '$held "other"')}
            ),
            tmp_path,
        )


def test_an_image_that_only_a_later_change_asks_for_is_missed_now(tmp_path: Path) -> None:
    application = platform(tmp_path / "b")
    del application.images["docker.io/demo/renew:1.0"]
    with pytest.raises(SiteError, match=r"demo/renew:1\.0.*post-upgrade"):
        wanted(application, tmp_path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"worker": {"image": {"repository": "quay.io/other/worker"}}}, "quay.io/other/worker:1.0: points outside"),
        ({"worker": {"image": {"repository": "quay.io/other/worker"}}}, "named by values.worker.image"),
        ({"migrate": {"image": "quay.io/other/tools:2"}}, "named by values.migrate.image"),
        ({"worker": {"image": {"repository": f"{REGISTRY}/other"}}}, "other:1.0: is not among the images"),
        ({"worker": {"image": {"tag": "2.0"}}}, "worker:2.0: is not among the images"),
        ({"worker": {"image": {"tag": ""}}}, "worker:latest: is not among the images"),
        ({"web": {"image": {"digest": f"sha256:{'0' * 64}"}}}, "is not among the images"),
    ],
)
def test_a_reference_that_the_enclave_cannot_serve_is_refused(
    tmp_path: Path, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(SiteError) as caught:
        wanted(platform(tmp_path / "b"), tmp_path, values=values)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("{{ .Values.hub }}/demo/x:1", "perhaps put together from charts.greeter.values.hub"),
        ("quay.io/demo/x:{{ .Values.hub }}", "named by no value: a template of the chart has it fixed"),
    ],
)
def test_a_refused_reference_comes_with_the_value_that_it_begins_with(tmp_path: Path, image: str, words: str) -> None:
    pod = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: it}}\nspec: {{containers: [{{name: a, image: '{image}'}}]}}\n"
    application = Application(tmp_path / "b", "greeter")
    application.chart(packed_chart("greeter", "1.0.0", {"templates/pod.yaml": pod}), release="greeter")
    with pytest.raises(SiteError) as caught:
        wanted(application, tmp_path, charts={"greeter": {"values": {"hub": "ghcr.io"}}})
    assert words in caught.value.message


@pytest.fixture(scope="module")
def profile(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Application:
    """A bundle with W&B's own platform chart, and with stand-ins for the images that it needs without any answers."""
    archive = (assets / "operator-wandb-0.43.8.tgz").read_bytes()
    objects = [
        item
        for upgrade in (False, True)
        for item in Chart.load(archive).render({}, release="wandb", namespace="wandb", upgrade=upgrade).objects
    ]
    names = {str(found.reference()) for found in references(objects) if found.certain and not found.test_only}
    application = Application(tmp_path_factory.mktemp("profile"), "wandb", images=dict.fromkeys(sorted(names), job()))
    template = {"apiVersion": "apps.wandb.com/v1", "kind": "WeightsAndBiases", "metadata": {"name": "wandb"}}
    application.document("wandb.yaml", {**template, "spec": {"values": {}}}, "resource")
    application.chart(packed_chart("operator", "1.0.0"), release="operator")
    application.resource("wandb.yaml", installs=archive, name="wandb", controller="operator")
    application.profile["driver"] = "wandb"
    return application


# An answer of the template → the image that the chart asks for then, and where.
SWITCHED_ON: dict[str, tuple[dict[str, Any], str, str]] = {
    "own database": ({"mysql": {"internal": True}}, "mysql", "StatefulSet wandb-mysql"),
    "NodePort": ({"expose": "NodePort"}, "nginx", "Deployment wandb-nginx"),
}


@pytest.mark.charts
@pytest.mark.parametrize("case", SWITCHED_ON)
def test_an_image_that_an_answer_of_the_site_switches_on_must_be_carried(
    profile: Application, tmp_path: Path, case: str
) -> None:
    answers, image, place = SWITCHED_ON[case]
    assert wanted(profile, tmp_path).resources, "all is there for a site without answers"
    with pytest.raises(SiteError) as caught:
        wanted(profile, tmp_path, **answers)
    (line,) = caught.value.message.splitlines()[1:]
    assert image in line
    assert "points outside" in line
    assert place in line
    assert "named by values." in line
    assert "switch the part off, or add the image to the recipe" in caught.value.hint


def test_what_only_looks_like_a_reference_is_told_unless_that_was_settled_at_home(tmp_path: Path) -> None:
    application = demo_app(tmp_path / "b", "app")
    template = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: "
        '"{{ .Values.toolsImage }}", args: [--agent-image=quay.io/other/agent:1]}]}\n'
    )
    application.charts[:] = [packed(CHARTS / "demo-app", {"templates/agent.yaml": template})]
    [suspect] = wanted(application, tmp_path).suspects
    assert suspect.startswith("quay.io/other/agent:1: points outside")
    assert "Pod p, spec.containers[0].args[0]" in suspect
    settled = demo_app(tmp_path / "c", "app")
    settled.charts[:] = application.charts
    settled.profile["settled"] = ["quay.io/other/agent:1"]
    assert wanted(settled, tmp_path / "c").suspects == ()


def test_misspelt_values_of_the_site_are_told(tmp_path: Path) -> None:
    found = wanted(demo_app(tmp_path / "a", "app"), tmp_path, charts={"demo-app": {"values": {"greting": "x"}}})
    assert found.misspelt == (
        "charts.demo-app.values.greting: chart demo-app 1.0.0 has no such value; did you mean greeting?",
    )
    values: dict[str, Any] = {"global": {"licenceSecret": {}}}
    found = wanted(platform(tmp_path / "b"), tmp_path, values=values)
    assert [line.partition(" ")[0] for line in found.misspelt] == ["values.global.licenceSecret:"]


def test_a_null_that_the_operator_would_choke_on_is_refused() -> None:
    made = resource("w", "w")
    with pytest.raises(SiteError, match=r"web\.list\[1\]\.a is null"):
        custom_resource(made, values={"web": {"list": [1, {"a": None}]}}, chart={"path": "/charts/x"})


def test_a_resource_of_another_kind_is_none_of_the_operator_s() -> None:
    with pytest.raises(BundleError, match=r"ConfigMap w/w: not a WeightsAndBiases of apps\.wandb\.com/v1"):
        custom_resource({**resource("w", "w"), "apiVersion": "v1", "kind": "ConfigMap"}, values={}, chart={})


def test_operator_and_platform_go_together(tmp_path: Path) -> None:
    application = platform(tmp_path / "b")
    del application.steps[1]
    with pytest.raises(BundleError, match="needs one resource that installs a chart, and has 0"):
        wanted(application, tmp_path)
    application = platform(tmp_path / "c")
    del application.steps[1]["controller"]
    with pytest.raises(BundleError, match="needs one chart that is its controller, and has 0"):
        wanted(application, tmp_path)


def test_a_bundle_without_charts_has_nothing_to_install(tmp_path: Path) -> None:
    application = Application(tmp_path / "b", "demo", images={"docker.io/demo/x:1": pause()})
    with pytest.raises(UsageError, match="nothing to install"):
        wanted(application, tmp_path)


def test_an_answer_for_an_unknown_chart_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match=r"charts\.demo-plattform: .* no such chart; did you mean demo-platform\?"):
        wanted(platform(tmp_path / "b"), tmp_path, charts={"demo-plattform": {}})


def test_files_hold_every_object_and_no_secret(tmp_path: Path) -> None:
    answers: dict[str, Any] = {
        "registry": {
            "host": REGISTRY,
            "credentials": {"username": "u", "password": {"prompt": "?"}},
            "pull_secret": True,
        },
        "license": {"prompt": "License"},
    }
    found = wanted(platform(tmp_path / "b", {"web": {"replicas": 2}}), tmp_path, **answers)
    written = write(files(found, DRIVER), tmp_path / "out")
    text = b"".join(path.read_bytes() for path in written)
    encoded = base64.b64encode(PASSWORD.encode())
    assert PASSWORD.encode() not in text
    assert encoded not in text
    assert b"VALUE-FROM-SITE" in text
    manifests = [path for path in written if path.suffix == ".yaml" and "values" not in path.name]
    kinds = {item["kind"] for path in manifests for item in _read(path)}
    assert {"Namespace", "Secret", "ConfigMap", "WeightsAndBiases", "Deployment", "StatefulSet", "CronJob"} <= kinds


def test_pods_pull_with_the_secret_that_the_site_names(tmp_path: Path) -> None:
    named: dict[str, Any] = {"registry": {"host": REGISTRY, "pull_secret": "regcred"}}
    found = wanted(platform(tmp_path / "b"), tmp_path, license={"prompt": "?"}, **named)
    assert [item["metadata"]["name"] for item in found.secrets] == ["airferry-license"], "none is made"
    pods = [spec for part in found.parts for item in part.applied for spec in pod_specs(item)]
    assert pods
    pulling = [*pods, *found.accounts]
    assert {"regcred"} == {entry["name"] for item in pulling for entry in item.get("imagePullSecrets") or []}


def test_what_somebody_else_has_written_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "README.md").write_text("mine\n")
    first = {"README.md": b"rendered\n", "base/a.yaml": b"a: 1\n"}
    with pytest.raises(UsageError, match=r"(?s)not replaced.*out/README\.md") as caught:
        write(first, folder)
    assert "--force" in caught.value.hint
    assert [path.name for path in folder.iterdir()] == ["README.md"], "nothing is written"
    write(first, folder, force=True)

    write({**first, "base/a.yaml": b"a: 2\n"}, folder)
    assert (folder / "base" / "a.yaml").read_bytes() == b"a: 2\n", "its own files are replaced"
    (folder / "base" / "a.yaml").write_bytes(b"a: filled in\n")
    with pytest.raises(UsageError, match=r"base/a\.yaml"):
        write(first, folder)
    (folder / "base" / "a.yaml").write_bytes(b"a: 1\n")
    write(first, folder)


def test_external_secrets_come_before_what_needs_them(tmp_path: Path) -> None:
    made = wanted(platform(tmp_path / "b"), tmp_path, namespace="wandb", license={"prompt": "?"})
    found = files(made, DRIVER, "external")
    (entry,) = documents(found["secrets/wandb-airferry-license.yaml"].decode(), "secrets", ClusterError)
    assert entry["kind"] == "ExternalSecret"
    (data,) = entry["spec"]["data"]
    assert data == {"secretKey": "license", "remoteRef": {"key": "wandb/airferry-license", "property": "license"}}
    (root,) = documents(found["kustomization.yaml"].decode(), "kustomization", ClusterError)
    assert root["resources"] == ["namespaces", "secrets", "1-beforehand", "2-operator", "3-wandb"]


KEPT = {"host": REGISTRY, "names": "kept"}


def test_upstream_names_stay_for_nodes_with_mirrors_and_are_proven_all_the_same(tmp_path: Path) -> None:
    application = platform(tmp_path / "b")
    found = wanted(application, tmp_path, registry=KEPT)
    (platform_release,) = [release for release in found.releases if release.name.name == "wandb"]
    names = {str(image) for image in platform_release.images}
    assert names
    assert all(name.startswith("docker.io/demo/") for name in names)
    assert names <= set(found.images)
    with pytest.raises(SiteError, match="is not among the images of the bundle"):
        wanted(application, tmp_path, registry=KEPT, values={"web": {"image": {"tag": "9"}}})


def test_without_a_registry_nothing_is_pulled(tmp_path: Path) -> None:
    """Policies that values decide are changed, others are refused; the operator cannot pull its chart either."""
    nowhere: dict[str, Any] = {"registry": {"host": "images.enclave", "on_nodes": True}}
    always = {"image": {"pullPolicy": "Always"}}
    application = demo_app(tmp_path / "app", "app", values=always)
    found = wanted(application, tmp_path, **nowhere)
    places = [place for place in references(found.releases[0].objects) if place.certain]
    assert places
    assert not any(place.pulled for place in places)
    assert all(name.startswith("images.enclave/airferry/docker.io/demo/") for name in found.images)
    assert any(place.pulled for place in references(wanted(application, tmp_path).releases[0].objects))

    fixed = {"templates/fixed.yaml": (CHARTS / "demo-app" / "templates" / "deployment.yaml").read_text()}
    fixed = {name: text.replace("{{ .Values.image.pullPolicy }}", "Always") for name, text in fixed.items()}
    application.charts = [packed(CHARTS / "demo-app", fixed)]
    with pytest.raises(SiteError, match=r"pulled at every start, from nowhere:\n  Deployment .*, container web"):
        wanted(application, tmp_path, **nowhere)
    with pytest.raises(SiteError, match="this site has no registry"):
        wanted(platform(tmp_path / "platform"), tmp_path, **nowhere, chart_source="oci")


def test_mirrors_cover_every_upstream_registry(tmp_path: Path) -> None:
    application = demo_app(tmp_path / "b", "app")
    application.images["upstream.example:5001/a/b:1"] = pause()
    application.images["nowhere.invalid/a/b:1"] = pause()
    with open_bundle([application.write()]) as bundle:
        found = node_mirrors(bundle, site(tmp_path, bundle))
    prefix = "nodes/containerd/certs.d"
    mirrored = found[f"{prefix}/upstream.example_5001_/hosts.toml"].decode()
    assert f'[host."https://{REGISTRY}/v2/airferry/upstream.example__5001"]' in mirrored
    assert f"{prefix}/docker.io/hosts.toml" in found
    assert not [name for name in found if "nowhere" in name]
    own = found[f"{prefix}/registry.enclave_5000_/hosts.toml"].decode()
    assert f'server = "https://{REGISTRY}"\n' in own
    assert "override_path" not in own
    podman = found["nodes/containers/registries.conf.d/airferry.conf"].decode()
    assert f'prefix = "upstream.example:5001"\nlocation = "{REGISTRY}/airferry/upstream.example__5001"\n' in podman


def test_no_secret_is_read_for_files_alone(tmp_path: Path) -> None:
    application = platform(tmp_path / "b")
    (tmp_path / "license.txt").touch(mode=0o600)
    with open_bundle([application.write()]) as bundle:
        place = site(tmp_path, bundle, license={"file": "license.txt"})
        (tmp_path / "license.txt").unlink()
        found = files(desired(bundle, place, DRIVER, blank=True), DRIVER)
        assert b"VALUE-FROM-SITE" in next(
            data for name, data in found.items() if name.endswith("airferry-license.yaml")
        )
        with pytest.raises(SiteError):
            desired(bundle, place, DRIVER)


def test_files_mean_the_same_to_every_yaml_reader(tmp_path: Path) -> None:
    texts = TRICKY_TEXTS
    values = {"list": texts, **{f"key {text!r}": text for text in texts}, **{text: 1 for text in texts if text}}
    application = demo_app(tmp_path / "b", "app")
    found = wanted(application, tmp_path, charts={"app": {"values": {"x": values}}})
    (data,) = (content for name, content in files(found, PlainDriver()).items() if name.endswith("-values.yaml"))
    (ours,) = documents(data.decode(), "values", ClusterError)
    assert ours["x"] == values
    assert yaml.safe_load(data)["x"] == values  # noqa: TID251 - another reader on purpose


def _read(path: Path) -> list[dict[str, Any]]:
    return documents(path.read_text(), path.name, ClusterError)

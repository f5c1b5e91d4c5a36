"""Where the operator shall read the platform chart: what is chosen, what is refused, what this host itself serves."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from installer.apps.wandb.chart_source.configmap import CONFIG_MAP_NAME
from installer.apps.wandb.chart_source.source import ChartSource, Placed, choose, describe
from installer.apps.wandb.driver import DRIVER, operator_of, platform_of
from installer.chart.helm import Chart, documents
from installer.chart.relocation import Relocation
from installer.cli.cluster.own_repository import own_repository
from installer.cluster.kinds import CONFIG_MAP
from installer.errors import ClusterError, SiteError, UsageError
from installer.objects.driver import ChartSourceRequest, TemporaryRepository
from installer.objects.render import files
from installer.oci.reference import DigestRef, Repository
from installer.registry.client import Registry as Client
from installer.registry.endpoint import HostSettings
from installer.registry.transport import Transport
from installer.report import Silent
from installer.serving.chart_repository import ChartRepository
from installer.serving.server import Server
from installer.transfer.load import load
from tests.parts.application import CHARTS, Application, packed
from tests.parts.authority import Authority
from tests.parts.bundles import Cargo, open_bundle, packed_chart, signing_key
from tests.parts.demo_site import PASSWORD, REGISTRY, platform, wanted
from tests.parts.faulty_registry import FaultyRegistry, status
from tests.parts.images import write_layout
from tests.parts.runnable import job
from tests.parts.wandb_site import load_site

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from installer.objects.desired import Desired

OWN = TemporaryRepository("http://10.0.0.5:8879/charts", contextlib.nullcontext)
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: manager}
spec:
  template:
    spec:
      containers: [{name: manager, image: "{{ .Values.repository }}:1.22.0"}]
"""


@pytest.fixture(scope="module")
def charts() -> dict[bool, Chart]:
    """The platform chart, and under True the same too large for a ConfigMap."""
    noise = base64.b85encode(random.Random(5).randbytes(1_400_000)).decode()
    found = {False: packed(CHARTS / "demo-platform"), True: packed(CHARTS / "demo-platform", {"files/noise": noise})}
    return {large: Chart.load(archive) for large, archive in found.items()}


def chosen(chart: Chart, controller: str, asked: ChartSourceRequest, folder: Path, **answers: Any) -> ChartSource:
    artifact = DigestRef(Repository(REGISTRY, "airferry/charts/demo-platform"), chart.digest)
    text = json.dumps({"registry": {"host": REGISTRY}, **answers})
    return choose(asked, Placed(chart, artifact, "wandb"), load_site(text, folder), controller)


def application(folder: Path) -> Application:
    """The demonstration platform with an operator whose controller is of version 1.22.0."""
    operator = packed_chart("operator", "1.0.0", {"templates/manager.yaml": DEPLOYMENT})
    values = {"repository": f"{REGISTRY}/airferry/docker.io/wandb/controller"}
    made = platform(folder, operator=operator, operator_values=values)
    made.images["docker.io/wandb/controller:1.22.0"] = job()
    return made


def chart_of(found: Desired) -> Mapping[str, Any]:
    source = platform_of(found.steps).addition
    assert isinstance(source, ChartSource)
    return source.spec


@pytest.mark.parametrize(
    ("controller", "large", "asked", "kind", "then"),
    [
        ("1.22.0", False, ChartSourceRequest(), "configmap", None),
        ("1.22.0", True, ChartSourceRequest(repository=OWN), "oci", None),
        ("v1.23.4-rc.1", False, ChartSourceRequest("oci"), "oci", None),
        ("1.21.9", True, ChartSourceRequest(repository=OWN), "temporary", None),
        ("1.22.0", True, ChartSourceRequest(refusal="415", repository=OWN), "temporary", None),
        ("1.22.0", False, ChartSourceRequest("temporary", repository=OWN), "temporary", "configmap"),
        ("1.22.0", True, ChartSourceRequest("temporary", repository=OWN), "temporary", "oci"),
    ],
)
def test_what_lasts_is_preferred(
    charts: dict[bool, Chart],
    tmp_path: Path,
    controller: str,
    large: bool,
    asked: ChartSourceRequest,
    kind: str,
    then: str | None,
) -> None:
    found = chosen(charts[large], controller, asked, tmp_path)
    assert (found.kind, found.lasting and found.lasting.kind) == (kind, then)
    if kind == "temporary":
        assert found.spec == {"url": OWN.url, "name": "demo-platform", "version": "1.0.0"}


@pytest.mark.parametrize(
    ("controller", "large", "asked", "words"),
    [
        ("1.22.0", True, ChartSourceRequest("configmap"), ["a ConfigMap holds 1048576"]),
        ("1.21.9", False, ChartSourceRequest("oci"), ["controller is 1.21.9", "1.22.0 or later"]),
        ("latest", False, ChartSourceRequest("oci"), ["unknown (its tag is 'latest')"]),
        ("1.22.0", False, ChartSourceRequest("oci", refusal="status 415"), ["chart source oci: status 415"]),
        ("1.22.0", False, ChartSourceRequest("temporary"), ["no address"]),
        (
            "1.21.9",
            True,
            ChartSourceRequest(),
            ["a ConfigMap holds", "controller is 1.21.9", "no temporary repository"],
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_reasons(
    charts: dict[bool, Chart],
    tmp_path: Path,
    controller: str,
    large: bool,
    asked: ChartSourceRequest,
    words: list[str],
) -> None:
    with pytest.raises(SiteError) as caught:
        chosen(charts[large], controller, asked, tmp_path)
    assert all(each in caught.value.message for each in words), caught.value.message


def test_pods_do_not_reach_a_registry_at_a_loopback_address(charts: dict[bool, Chart], tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="loopback"):
        chosen(charts[False], "1.22.0", ChartSourceRequest("oci"), tmp_path, registry={"host": "localhost:5000"})


def test_the_registry_as_a_source_brings_trust_and_a_login_along(tmp_path: Path) -> None:
    own, other = (Authority(tmp_path / name, name).certificate for name in ("own", "other"))
    (tmp_path / "both.pem").write_bytes(own.read_bytes() + other.read_bytes())
    login = {"username": "puller", "password": {"prompt": "Password"}}
    registry = {"host": REGISTRY, "ca": "both.pem", "credentials": login}
    made = application(tmp_path / "b")
    found = wanted(
        made, tmp_path, request=ChartSourceRequest(), registry=registry, certificates=["own/ca.crt"], chart_source="oci"
    )
    url = f"oci://{REGISTRY}/airferry/charts/demo-platform@sha256:"
    assert str(chart_of(found)["url"]).startswith(url)
    resource = platform_of(found.steps).document
    assert resource["spec"]["chart"] == chart_of(found)
    # Looked for in the registry together with the images.
    assert str(chart_of(found)["url"]).removeprefix("oci://") in found.images
    names = {"name": "airferry-charts", "usernameKey": "username", "passwordKey": "password"}
    assert {key: value for key, value in chart_of(found).items() if key != "url"} == {"credentialSecret": names}
    assert operator_of(found.steps).values["customCACerts"] == [own.read_text(), other.read_text()]
    (secret,) = [item for item in found.secrets if item["metadata"]["name"] == "airferry-charts"]
    assert secret["metadata"]["namespace"] == "default"
    assert {key: base64.b64decode(text).decode() for key, text in secret["data"].items()} == {
        "username": "puller",
        "password": PASSWORD,
    }
    assert PASSWORD not in json.dumps(resource)
    # Nothing of it where the registry is not the source; and the option is stronger than the answer.
    plain = wanted(made, tmp_path, request=ChartSourceRequest("configmap"), registry=registry, chart_source="oci")
    assert "airferry-charts" not in json.dumps(plain.secrets)
    assert "customCACerts" not in operator_of(plain.steps).values


def test_what_is_written_for_others_shows_the_chart_only_where_it_is_a_config_map(tmp_path: Path) -> None:
    made = application(tmp_path / "b")
    found = files(wanted(made, tmp_path, request=ChartSourceRequest("configmap")), DRIVER)
    (config_map,) = documents(found["1-beforehand/objects.yaml"].decode(), "objects", ClusterError)
    assert (config_map["kind"], config_map["metadata"]["name"]) == (CONFIG_MAP.name, CONFIG_MAP_NAME)
    registry = {"host": REGISTRY, "plain_http": True}
    found = files(wanted(made, tmp_path, request=ChartSourceRequest("oci"), registry=registry), DRIVER)
    assert not [name for name in found if "beforehand" in name]
    assert CONFIG_MAP_NAME.encode() not in found["1-operator/objects.yaml"]
    assert b"plainHTTP: true" in found["2-wandb/objects.yaml"]


def test_a_registry_that_takes_no_charts_gets_the_images_all_the_same(tmp_path: Path) -> None:
    cargo = Cargo()
    cargo.image("docker.io/demo/app:1.0", write_layout(tmp_path / "app", job()))
    cargo.chart(packed_chart("greeter", "0.1.0+b.1"))
    with FaultyRegistry() as registry, open_bundle(cargo.write(tmp_path, key=signing_key())) as bundle:
        registry.on("PUT", "/charts/greeter/manifests/", status(415), times=1)
        client = Client(Transport(hosts={registry.address: HostSettings(plain_http=True)}))
        images = frozenset(image.reference for image in bundle.manifest.images)
        relocation = Relocation(registry.address, "p", images)
        done = load(bundle, client, relocation, Silent(), threads=1)
        assert [image.present for image in done.images] == [False]
        assert "415" in done.refusal({("greeter", "0.1.0+b.1"), ("another", "1")})
        assert done.refusal({("another", "1")}) == ""
        # The obstacle is gone: the next load brings what was missing.
        done = load(bundle, client, relocation, Silent(), threads=1)
        (chart,) = done.charts
        assert (str(chart.target), chart.refusal) == (f"{registry.address}/p/charts/greeter:0.1.0_b.1", "")


def get(url: str, method: str = "GET") -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as exc:
        return exc.code, b""


def test_the_temporary_repository_serves_the_platform_chart_and_nothing_else(tmp_path: Path) -> None:
    made = application(tmp_path / "b")
    with open_bundle([made.write()]) as bundle:
        charts = [chart for chart in bundle.manifest.charts if chart.name == "demo-platform"]
        with Server(bundle, "127.0.0.1", 0, Silent(), ChartRepository(bundle, charts)) as server:
            origin = f"http://{server.address}"
            index = json.loads(get(f"{origin}/charts/index.yaml")[1])
            (entry,) = index["entries"].pop("demo-platform")
            assert not index["entries"]
            archive = get(f"{origin}/charts/{entry['urls'][0]}")[1]
            assert archive == bundle.read(charts[0].archive)
            for path in ("/", "/v2/", "/charts/", "/charts/operator-1.0.0.tgz", "/v2/charts/demo-platform/tags/list"):
                assert get(origin + path)[0] == 404, path
            assert get(f"{origin}/charts/index.yaml", "PUT")[0] == 405


def test_the_address_is_where_this_host_faces_the_cluster(tmp_path: Path) -> None:
    with open_bundle([application(tmp_path / "b").write()]) as bundle:
        assert own_repository(bundle, "https://127.0.0.1:6443", "", Silent()) is None
        assert own_repository(bundle, "https://no.such.host.invalid:6443", "", Silent()) is None
        for address, url in [
            ("10.0.0.5", "http://10.0.0.5:8879/charts"),
            ("installer.enclave:9000", "http://installer.enclave:9000/charts"),
            ("[fd00::5]:9000", "http://[fd00::5]:9000/charts"),
        ]:
            found = own_repository(bundle, "https://127.0.0.1:6443", address, Silent())
            assert found
            assert found.url == url
        for wrong in ("127.0.0.1", "localhost:80", "10.0.0.5:0", "10.0.0.5:99999", "http://10.0.0.5", "10.0.0.5/x"):
            with pytest.raises(UsageError):
                own_repository(bundle, "https://127.0.0.1:6443", wrong, Silent())


def test_sources_are_told_in_the_words_of_people() -> None:
    assert describe({"path": "/charts/x.tgz", "url": "http://gone"}) == "ConfigMap, /charts/x.tgz"
    assert describe({"url": "oci://r/x"}) == "registry, oci://r/x"
    assert describe({"url": "http://r/x"}) == "repository, http://r/x"

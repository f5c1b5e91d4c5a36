"""What is known to bring images that no rendering shows: operators name them in their code or settings, not in objects.

A table of kinds and of marks, each with what comes and where it can be said. Sources: the definitions, flags and
variables of these projects as of 2026. What is not listed may bring images as well: `airferry observe` sees them run.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from installer.apps.profile import at_path
from installer.chart.helm import Object
from installer.chart.images import references
from installer.value import Value


class Bringer(Value):
    """What brings `images`, by its `signs`: kinds (`KIND.GROUP`) of its resources, or marks (`KEY=VALUE`) on objects.

    `said` is where these images can be named.

    With `alone` nothing else comes where an object names an image itself, in a place that rendering finds or at one of
    these paths. Only objects with something at the path `only` count, if there is one.
    """

    signs: str
    images: str
    said: str
    alone: tuple[str, ...] | None = None
    only: str = ""


BRINGERS = (
    Bringer(
        "Cluster.postgresql.cnpg.io",
        "PostgreSQL",
        "spec.imageName, or POSTGRES_IMAGE_NAME of the operator",
        ("spec.imageName", "spec.imageCatalogRef"),
    ),
    Bringer("Pooler.postgresql.cnpg.io", "PgBouncer", "spec.template", ()),
    Bringer("Tenant.minio.min.io", "MinIO and a sidecar", "spec.image, and OPERATOR_SIDECAR_IMAGE of the operator"),
    Bringer(
        "ClusterPolicy.nvidia.com NVIDIADriver.nvidia.com",
        "driver, container toolkit, device plugin and others; the driver's tag depends on the system of the nodes",
        "repository, image and version of each part",
    ),
    Bringer(
        "Kafka.kafka.strimzi.io KafkaConnect.kafka.strimzi.io KafkaMirrorMaker2.kafka.strimzi.io "
        "KafkaBridge.kafka.strimzi.io",
        "Kafka and its companions, by version",
        "variables STRIMZI_* of the operator, or `image` of each part",
    ),
    Bringer(
        "InferenceService.serving.kserve.io ServingRuntime.serving.kserve.io ClusterServingRuntime.serving.kserve.io",
        "storage initializer, agent and router beside the model server",
        "ConfigMap inferenceservice-config",
    ),
    Bringer(
        "Gateway.gateway.networking.k8s.io",
        "the proxy that its gateway class stands for",
        "the settings of that controller: NginxProxy of NGINX Gateway Fabric, global.hub and global.tag of Istio",
    ),
    Bringer("IstioOperator.install.istio.io", "Istio's control plane and proxies", "spec.hub and spec.tag"),
    Bringer(
        "Prometheus.monitoring.coreos.com PrometheusAgent.monitoring.coreos.com Alertmanager.monitoring.coreos.com "
        "ThanosRuler.monitoring.coreos.com",
        "the program and a reloader of its configuration",
        "spec.image, and --prometheus-config-reloader of the operator",
        (),
    ),
    Bringer(
        "Issuer.cert-manager.io ClusterIssuer.cert-manager.io",
        "a solver, for challenges of the kind HTTP-01",
        "--acme-http01-solver-image of cert-manager",
        only="spec.acme",
    ),
    Bringer(
        "VMSingle.operator.victoriametrics.com VMCluster.operator.victoriametrics.com "
        "VMAgent.operator.victoriametrics.com VMAlert.operator.victoriametrics.com "
        "VMAlertmanager.operator.victoriametrics.com VMAuth.operator.victoriametrics.com "
        "VMAnomaly.operator.victoriametrics.com VLSingle.operator.victoriametrics.com "
        "VLCluster.operator.victoriametrics.com VLAgent.operator.victoriametrics.com "
        "VTSingle.operator.victoriametrics.com VTCluster.operator.victoriametrics.com",
        "the program, and for some a reloader of its configuration",
        "spec.image, or variables VM_*DEFAULT_IMAGE and VM_CONFIG_RELOADER_IMAGE of the operator",
    ),
    Bringer(
        "MySQLCluster.moco.cybozu.com",
        "agent, Fluent Bit, exporter and backup beside MySQL",
        "--agent-image, --fluent-bit-image, --mysqld-exporter-image and --backup-image of moco-controller",
    ),
    Bringer(
        "ClickHouseInstallation.clickhouse.altinity.com",
        "ClickHouse",
        "spec.templates.podTemplates",
        (),
    ),
    Bringer(
        "SeaweedCSIDriver.seaweed.seaweedfs.com",
        "the driver and its mount service",
        "spec.image, spec.mountService.image",
    ),
    Bringer(
        "Service.serving.knative.dev",
        "the queue proxy beside each pod",
        "queue-sidecar-image in ConfigMap config-deployment",
    ),
    Bringer(
        "Task.tekton.dev Pipeline.tekton.dev TaskRun.tekton.dev PipelineRun.tekton.dev",
        "entrypoint, nop and workingdirinit in each pod",
        "-entrypoint-image, -nop-image and -workingdirinit-image of the controller",
    ),
    Bringer(
        "Workflow.argoproj.io CronWorkflow.argoproj.io WorkflowTemplate.argoproj.io "
        "ClusterWorkflowTemplate.argoproj.io",
        "the executor in each pod",
        "--executor-image of the workflow controller",
    ),
    Bringer(
        "Elasticsearch.elasticsearch.k8s.elastic.co Kibana.kibana.k8s.elastic.co ApmServer.apm.k8s.elastic.co "
        "Agent.agent.k8s.elastic.co Beat.beat.k8s.elastic.co Logstash.logstash.k8s.elastic.co "
        "EnterpriseSearch.enterprisesearch.k8s.elastic.co ElasticMapsServer.maps.k8s.elastic.co",
        "the program in the version of spec.version",
        "spec.image, or container-registry of the operator",
        (),
    ),
    Bringer(
        "OpenTelemetryCollector.opentelemetry.io TargetAllocator.opentelemetry.io OpAMPBridge.opentelemetry.io",
        "the collector, and its target allocator if enabled",
        "spec.image, or --collector-image and --target-allocator-image of the operator",
        (),
    ),
    Bringer("Instrumentation.opentelemetry.io", "what is put into pods of each language", "`image` of each language"),
    Bringer("Jaeger.jaegertracing.io", "Jaeger", "`image` of each part, such as spec.allInOne.image", ()),
    Bringer(
        "EngineImage.longhorn.io InstanceManager.longhorn.io ShareManager.longhorn.io BackingImageManager.longhorn.io",
        "engine, instance manager, share manager and the CSI driver",
        "flags of longhorn-manager and variables of longhorn-driver-deployer",
    ),
    Bringer(
        "CephCluster.ceph.rook.io",
        "the CSI driver and its sidecars beside Ceph",
        "spec.cephVersion.image, and ConfigMap rook-csi-operator-image-set-configmap (before: ROOK_CSI_*_IMAGE)",
    ),
    Bringer("SparkApplication.sparkoperator.k8s.io", "Spark", "spec.image", ()),
    Bringer("FlinkDeployment.flink.apache.org", "Flink", "spec.image", ()),
    Bringer(
        "postgresql.acid.zalan.do",
        "PostgreSQL (Spilo), and connection pooler and logical backup if enabled",
        "spec.dockerImage, and docker_image, connection_pooler_image and logical_backup_docker_image of the operator",
    ),
    Bringer(
        "PerconaServerMongoDB.psmdb.percona.com PerconaXtraDBCluster.pxc.percona.com PerconaPGCluster.pgv2.percona.com",
        "the database and its companions",
        "`image` of each part, such as spec.image, spec.pxc.image and spec.backup.image",
        (),
    ),
    Bringer(
        "MongoDBCommunity.mongodbcommunity.mongodb.com",
        "MongoDB, agent, readiness probe and upgrade hook",
        "variables MONGODB_IMAGE, AGENT_IMAGE and VERSION_UPGRADE_HOOK_IMAGE of the operator",
    ),
    Bringer("RabbitmqCluster.rabbitmq.com", "RabbitMQ", "spec.image, or DEFAULT_RABBITMQ_IMAGE of the operator", ()),
    # What follows are marks: labels and annotations by which an admission webhook puts a container into pods.
    Bringer(
        "sidecar.istio.io/inject=true istio-injection=enabled",
        "Istio's proxy",
        "global.proxy.image, global.hub and global.tag of Istio, or sidecar.istio.io/proxyImage",
    ),
    Bringer("linkerd.io/inject=enabled", "Linkerd's proxy", "config.linkerd.io/proxy-image"),
    Bringer("dapr.io/enabled=true", "Dapr's sidecar", "dapr.io/sidecar-image"),
    Bringer("vault.hashicorp.com/agent-inject=true", "Vault's agent", "vault.hashicorp.com/agent-image"),
)
_DEFINITION = "CustomResourceDefinition"
_SIGNS = {sign: number for number, bringer in enumerate(BRINGERS) for sign in bringer.signs.split()}
_SHOWN = 5


class Brought(Value, order=True):
    """Images that come without being rendered: `asking` are the objects, or the kinds, that bring them about.

    `images` says what comes, `said` where it can be named.
    """

    asking: str
    images: str
    said: str

    def __str__(self) -> str:
        return f"{self.asking}: an operator brings what rendering does not show: {self.images} (said in {self.said})"


class Sighted(Value, order=True):
    """A `sign` of a bringer, by its number, on an object (`Cluster db`), or in the definition of its kind (empty).

    `covered` says that the object names all images itself.
    """

    bringer: int
    sign: str
    object: str
    covered: bool = False


def sighted(objects: Iterable[Object]) -> set[Sighted]:
    """What among `objects` brings images that they do not name."""
    return {found for item in objects for found in (*_kind(item), *_marks(item))}


def brought(found: Iterable[Sighted]) -> tuple[Brought, ...]:
    """What all these signs mean, each bringer once; kinds that are only defined count where there is no object."""
    held = sorted(set(found))
    told = []
    for number, bringer in enumerate(BRINGERS):
        of_it = [item for item in held if item.bringer == number]
        shown, what = [item for item in of_it if item.object and not item.covered], ""
        if not any(item.object for item in of_it):
            shown, what = of_it, "kind " if len(of_it) == 1 else "kinds "
        names = [item.object or item.sign.partition(".")[0] for item in shown]
        signs = dict.fromkeys(item.sign if "=" in item.sign else item.sign.partition(".")[2] for item in shown)
        if shown:
            told.append(Brought(f"{what}{_few(names)} ({', '.join(signs)})", bringer.images, bringer.said))
    return tuple(told)


def _kind(item: Object) -> Iterator[Sighted]:
    kind, group = str(item.get("kind", "")), str(item.get("apiVersion", "")).rpartition("/")[0]
    name = _name(item)
    if kind == _DEFINITION:
        kind, group, name = str(at_path(item, "spec.names.kind")), str(at_path(item, "spec.group")), ""
    number = _SIGNS.get(sign := f"{kind}.{group}")
    if number is None:
        return
    bringer = BRINGERS[number]
    if not name:
        yield Sighted(number, sign, "")
    elif not bringer.only or at_path(item, bringer.only) is not None:
        yield Sighted(number, sign, f"{kind} {name}", _covered(item, bringer))


def _covered(item: Object, bringer: Bringer) -> bool:
    if bringer.alone is None:
        return False
    said = any(at_path(item, path) is not None for path in bringer.alone)
    return said or any(found.certain for found in references([item]))


def _marks(item: Object) -> Iterator[Sighted]:
    if item.get("kind") == _DEFINITION:
        return
    for key, value in _metadata(item):
        sign = f"{key}={str(value).lower()}"
        if sign in _SIGNS:
            yield Sighted(_SIGNS[sign], sign, f"{item.get('kind', '')} {_name(item)}")


def _metadata(node: Any) -> Iterator[tuple[str, Any]]:
    """All labels and annotations in an object, those of templates too."""
    if isinstance(node, list):
        for part in node:
            yield from _metadata(part)
    elif isinstance(node, Mapping):
        for key, value in node.items():
            if key in ("labels", "annotations") and isinstance(value, Mapping):
                yield from value.items()
            else:
                yield from _metadata(value)


def _name(item: Object) -> str:
    return str(at_path(item, "metadata.name") or "?")


def _few(texts: list[str]) -> str:
    more = len(texts) - _SHOWN
    return ", ".join([*texts[:_SHOWN], *([f"{more} more"] if more > 0 else [])])

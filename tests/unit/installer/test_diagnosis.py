"""Causes from pods, claims and events as a real cluster has shown them (Kubernetes 1.35, containerd 1.6)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from installer.cluster.cluster import WebhookError
from installer.cluster.kinds import DEPLOYMENT, JOB, NODE, POD, STATEFUL_SET, STORAGE_CLASS, VOLUME_CLAIM, Kind
from installer.cluster.workload import ReleaseName, Workload
from installer.diagnosis.cause import FINAL_AFTER, Cause
from installer.diagnosis.diagnosis import problems
from installer.diagnosis.stall_detector import Outlook
from installer.diagnosis.wait import DIAGNOSE_SECONDS, POLL_SECONDS, STEADY_SECONDS, Patience, until_rolled_out
from installer.errors import AirferryError, ClusterForbiddenError, ClusterUnreachableError
from installer.report import Silent
from tests.parts.fake_cluster import FakeCluster

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from installer.cluster.cluster import Object

IMAGE = "reg.example:5000/a/t:1"
PULL = f'failed to pull and unpack image "{IMAGE}": failed to resolve reference "{IMAGE}": '
BACK_OFF = f'Back-off pulling image "{IMAGE}": ErrImagePull: '
HEAD = 'failed to do request: Head "https://reg.example:5000/v2/a/t/manifests/1": '
BAD_CONFIG = (
    f'rpc error: code = FailedPrecondition desc = failed to pull and unpack image "{IMAGE}": failed commit on ref '
    '"config-sha256:c8": unexpected commit digest sha256:95, expected sha256:c8: failed precondition'
)
NOT_FOUND = f"rpc error: code = NotFound desc = {PULL}{IMAGE}: not found"


def seen(
    *objects: Object, said: Iterable[tuple[str, str]] = (), log: Iterable[str] = (), about: Iterable[Workload] = ()
) -> FakeCluster:
    """A cluster that holds `objects`, in which `said` has happened to each of them and to `about`, as reason and
    message; the containers of pods wrote `log`, and the same in the run before."""
    cluster = FakeCluster(*objects, namespaces=["n"])
    happens(cluster, said, (*objects, *(item.obj for item in about)))
    for item in objects:
        if item["kind"] == POD.name:
            name = item["metadata"]["name"]
            cluster.said("n", name, *log)
            cluster.said("n", name, *(f"before: {line}" for line in log), previous=True)
    return cluster


def happens(cluster: FakeCluster, said: Iterable[tuple[str, str]], objects: Iterable[Object]) -> None:
    for item in objects:
        for reason, message in said:
            cluster.happened("n", item["kind"], item["metadata"]["name"], reason, message)


def of(kind: Kind, **content: Any) -> Object:
    return {"apiVersion": kind.api_version, "kind": kind.name, **content}


def pod(status: dict[str, Any], **spec: Any) -> Object:
    """A pod of the Job `w`."""
    owner = {"kind": "Job", "name": "w", "controller": True}
    metadata = {
        "name": "w-1",
        "namespace": "n",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "ownerReferences": [owner],
    }
    return of(POD, metadata=metadata, spec={"containers": [{"name": "main"}], **spec}, status=status)


def container(state: dict[str, Any], *, last: dict[str, Any] | None = None, restarts: int = 0) -> dict[str, Any]:
    """The status of a pod with one container that is not ready."""
    return {
        "phase": "Pending" if "waiting" in state else "Running",
        "containerStatuses": [
            {
                "name": "main",
                "image": IMAGE,
                "ready": False,
                "restartCount": restarts,
                "state": state,
                "lastState": {"terminated": last} if last else {},
            }
        ],
    }


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    return container({"waiting": {"reason": reason, "message": message}}, **more)


def unscheduled(message: str) -> dict[str, Any]:
    return {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}],
    }


def workload(kind: Kind = JOB, status: dict[str, Any] | None = None, **spec: Any) -> Workload:
    held = of(kind, metadata={"name": "w", "namespace": "n"}, spec=spec, status=status or {})
    return Workload(kind, "n", "w", False, False, "state", False, held)


def found(cluster: FakeCluster, item: Workload | None = None) -> list[Cause]:
    return problems(cluster, item or workload())


def crash(code: int = 3, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return {"exitCode": code, "reason": reason, "message": message}


PREEMPTION = "no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful."
ONE_NODE = of(NODE, metadata={"name": "one"}, status={"allocatable": {"cpu": "1900m", "memory": "2Gi"}})
RUNNING = container({"running": {"startedAt": "2026-01-01T00:00:00Z"}})
# What the pod says, and events → the cause, words of its detail, words of the next step.
CASES: dict[str, tuple[dict[str, Any], list[tuple[str, str]], str, str, str]] = {
    "missing": (waiting("ImagePullBackOff", BACK_OFF + NOT_FOUND), [], "image-missing", "not found", "run `load`"),
    "missing, Kubernetes 1.31": (
        waiting("ImagePullBackOff", f'Back-off pulling image "{IMAGE}"'),
        [("Failed", f'Failed to pull image "{IMAGE}": {NOT_FOUND}'), ("Failed", "Error: ImagePullBackOff")],
        "image-missing",
        "cannot be pulled: not found",
        "run `load`",
    ),
    "CRI-O": (
        waiting("ImagePullBackOff", f'Back-off pulling image "{IMAGE}"'),
        [("Failed", f'Failed to pull image "{IMAGE}": reading manifest 1 in reg.example:5000/a/t: manifest unknown')],
        "image-missing",
        "cannot be pulled: reading manifest 1",
        "run `load`",
    ),
    "differs": (waiting("ErrImagePull", BAD_CONFIG), [], "image-differs", "unexpected commit digest", "run `load`"),
    "plain": (
        waiting("ErrImagePull", f"{PULL}{HEAD}http: server gave HTTP response to HTTPS client"),
        [],
        "registry-plain-http",
        "HTTP response to HTTPS client",
        "/etc/containerd/certs.d/reg.example:5000/hosts.toml",
    ),
    "authority": (
        waiting("ErrImagePull", f"{PULL}{HEAD}x509: certificate signed by unknown authority"),
        [],
        "registry-certificate",
        "unknown authority",
        "/etc/containerd/certs.d/reg.example:5000/hosts.toml",
    ),
    "refused": (
        waiting("ErrImagePull", f"{PULL}pulling from host reg.example:5000 failed with status code: 401 Unauthorized"),
        [],
        "pull-refused",
        "401 Unauthorized",
        "registry.credentials",
    ),
    "no secret": (
        waiting("ErrImagePull", f"{PULL}unexpected status from HEAD request: 401 Unauthorized"),
        [("FailedToRetrieveImagePullSecret", "Unable to retrieve some image pull secrets (absent); attempting")],
        "pull-secret-missing",
        "image pull secrets (absent)",
        "registry.credentials",
    ),
    "silent": (
        waiting("ErrImagePull", f"{PULL}{HEAD}dial tcp 10.0.0.1:5000: connect: connection refused"),
        [],
        "registry-silent",
        "connection refused",
        "reg.example:5000 does not answer",
    ),
    "name": (
        waiting("ErrImagePull", f"{PULL}{HEAD}dial tcp: lookup reg.example on 10.0.0.2:53: no such host"),
        [],
        "registry-name-unknown",
        "no such host",
        "DNS",
    ),
    "none": (unscheduled("no nodes available to schedule pods"), [], "no-node", "no nodes available", "join a node"),
    "cpu": (unscheduled(f"0/1 nodes are available: 1 Insufficient cpu. {PREEMPTION}"), [], "no-room", "cpu", "lower"),
    "selector": (
        unscheduled(f"0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. {PREEMPTION}"),
        [],
        "no-matching-node",
        "didn't match",
        "label a node",
    ),
    "key": (
        waiting("CreateContainerConfigError", "couldn't find key zz in Secret n/wrong"),
        [],
        "key-missing",
        "couldn't find key zz",
        "add the key zz to Secret n/wrong",
    ),
    "secret": (
        waiting("CreateContainerConfigError", 'secret "absent" not found'),
        [],
        "secret-missing",
        'secret "absent" not found',
        "create the Secret absent",
    ),
    "mount": (
        waiting("ContainerCreating"),
        [("FailedMount", 'MountVolume.SetUp failed for volume "data" : configmap "absent" not found')],
        "config-map-missing",
        'configmap "absent" not found',
        "create the ConfigMap absent",
    ),
    "command": (
        waiting(
            "RunContainerError", "x", last=crash(128, "StartError", 'exec: "/no": stat /no: no such file'), restarts=2
        ),
        [],
        "cannot-start",
        "stat /no: no such file",
        "correct the command",
    ),
    "crash": (
        waiting("CrashLoopBackOff", "back-off 20s", last=crash(), restarts=3),
        [],
        "crash",
        "ends with exit code 3 (Error) after 3 restarts; its last words: before: one | before: two",
        "kubectl logs -n n w-1 -c main --previous",
    ),
    "memory": (container({"terminated": crash(137, "OOMKilled")}, restarts=3), [], "out-of-memory", "OOM", "memory"),
    "liveness": (
        waiting("CrashLoopBackOff", "back-off 20s", last=crash(137), restarts=3),
        [("Unhealthy", "Liveness probe failed: no"), ("Killing", "Container main failed liveness probe, will be")],
        "crash",
        "Liveness probe failed: no, therefore the node ended it",
        "kubectl logs",
    ),
    "probe": (
        RUNNING,
        [("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")],
        "probe-failing",
        "statuscode: 503; its last words: one | two",
        "read its log",
    ),
    "init": (
        {"phase": "Pending", "initContainerStatuses": RUNNING["containerStatuses"]},
        [],
        "init-running",
        "has not ended since 2026-01-01T00:00:00Z; its last words: one | two",
        "it may need more time",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_ails_a_pod(case: str) -> None:
    status, events, cause, detail, step = CASES[case]
    (only,) = found(seen(pod(status), ONE_NODE, said=events, log=["one", "two"]))
    assert only.cause == cause
    assert detail in only.detail
    assert step in only.next
    assert only.object.startswith("pod n/w-1")
    assert "\n" not in str(only)


@pytest.mark.parametrize(
    ("held", "cause", "words", "step"),
    [
        (None, "image-pull", f'Back-off pulling image "{IMAGE}"', "check that `load` has put it there"),
        (True, "image-pull", "though the registry has it by now", "check that `load` has put it there"),
        (False, "image-missing", "the registry does not have it", "run `load`"),
    ],
)
def test_the_registry_is_asked_where_a_node_does_not_say_why(
    held: bool | None, cause: str, words: str, step: str
) -> None:
    cluster = seen(pod(waiting("ImagePullBackOff", f'Back-off pulling image "{IMAGE}"')))
    (only,) = problems(cluster, workload(), lambda image: held if image == IMAGE else None)
    assert (only.cause, only.mending) == (cause, False)
    assert words in only.detail
    assert step in only.next


def test_a_pod_that_no_node_could_ever_take() -> None:
    too_large = [
        {"name": "a", "resources": {"requests": {"cpu": "1500m"}}},
        {"name": "b", "resources": {"requests": {"cpu": 1}}},
    ]
    status = unscheduled(f"0/1 nodes are available: 1 Insufficient cpu. {PREEMPTION}")
    (only,) = found(seen(pod(status, containers=too_large), ONE_NODE))
    assert only.cause == "node-too-small"
    assert "asks for 2.5 CPUs, and the largest node has 1900m" in only.detail


def test_room_that_is_being_made_is_waited_for() -> None:
    status = unscheduled(f"0/1 nodes are available: 1 Insufficient cpu. {PREEMPTION}")
    (only,) = found(seen(pod(status), ONE_NODE, said=[("TriggeredScaleUp", "pod triggered scale-up")]))
    assert only.mending


SILENT = {"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting node status."}
AWAY = of(NODE, metadata={"name": "one"}, status={"conditions": [SILENT]})
FULL = {"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"}
CORDONED = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
TAINT = unscheduled(f"0/1 nodes are available: 1 node(s) had untolerated taint(s). {PREEMPTION}")


@pytest.mark.parametrize("status", [TAINT, RUNNING, waiting("ContainerCreating")], ids=["new", "ran", "starts"])
def test_a_node_that_is_not_ready_is_named(status: dict[str, Any]) -> None:
    (only,) = found(seen(pod(status, nodeName="" if status == TAINT else "one"), AWAY))
    assert (only.cause, only.object) == ("node-not-ready", "pod n/w-1")
    assert "node one is not ready: Kubelet stopped posting node status." in only.detail
    assert only.cause not in FINAL_AFTER, "it may come back at any time"


def test_what_a_node_that_is_away_does_not_let_go_is_named() -> None:
    """Kubernetes deletes such pods after a while, and StatefulSets wait for the end of theirs."""
    held = pod(RUNNING, nodeName="one")
    held["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/kubelet"]}
    (only,) = found(seen(held, AWAY))
    assert (only.cause, only.object) == ("node-not-ready", "pod n/w-1")
    assert found(seen(held, ONE_NODE)) == []


def test_a_taint_that_passes_is_waited_for() -> None:
    """Since Kubernetes 1.35 the scheduler does not say which taint it is."""
    unfit = unscheduled(f"0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. {PREEMPTION}")
    for status, taints, mending in ((TAINT, [FULL], True), (TAINT, [CORDONED], False), (unfit, [FULL], False)):
        (only,) = found(seen(pod(status), {**ONE_NODE, "spec": {"taints": taints}}))
        assert (only.cause, only.mending) == ("no-matching-node", mending)


def test_what_a_node_is_short_of_is_named() -> None:
    short = {"type": "DiskPressure", "status": "True", "message": "kubelet has disk pressure"}
    node = {**ONE_NODE, "spec": {"taints": [FULL]}}
    node["status"] = {**node["status"], "conditions": [short]}
    (only,) = found(seen(pod(TAINT), node))
    assert only.cause == "node-under-pressure"
    assert "node one reports DiskPressure (kubelet has disk pressure)" in only.detail
    assert only.cause not in FINAL_AFTER, "the kubelet frees what it can"


LOCAL = of(STORAGE_CLASS, metadata={"name": "local", "annotations": {}})
MARK = {"storageclass.kubernetes.io/is-default-class": "true"}
DEFAULT = of(STORAGE_CLASS, metadata={"name": "fast", "annotations": MARK})
LATE = {**LOCAL, "volumeBindingMode": "WaitForFirstConsumer"}
# Class that the claim names, classes of the cluster → cause; words of it.
CLAIMS: list[tuple[str, list[Object], str, str]] = [
    ("absent", [LOCAL], "storage-class-missing", "storage class absent does not exist"),
    ("", [LOCAL], "no-default-storage-class", "no default one"),
    ("", [DEFAULT], "volume-pending", "nobody provides"),
    ("local", [LATE], "no-room", "no node can take it"),
]


@pytest.mark.parametrize(("name", "classes", "cause", "words"), CLAIMS)
def test_a_volume_without_a_place(name: str, classes: list[Object], cause: str, words: str) -> None:
    claim = of(
        VOLUME_CLAIM,
        metadata={"name": "data", "namespace": "n"},
        spec={"storageClassName": name} if name else {},
        status={"phase": "Pending"},
    )
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    held = pod(unscheduled("pod has unbound immediate PersistentVolumeClaims"), volumes=volumes)
    (only,) = found(seen(held, claim, *classes, said=[("FailedBinding", "nobody provides")]))
    assert only.cause == cause
    assert words in only.detail


def test_a_volume_claim_that_is_gone() -> None:
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    (only,) = found(seen(pod(unscheduled('persistentvolumeclaim "data" not found'), volumes=volumes)))
    assert (only.cause, only.detail) == ("volume-claim-missing", "volume claim data does not exist")


LEAVING = "namespace-terminating"
# What the API server says of a pod that it refuses → cause.
REFUSED = {
    'pods "w-" is forbidden: exceeded quota: none, requested: pods=1, used: pods=0, limited: pods=0': "quota",
    'pods "w-" is forbidden: maximum cpu usage per Container is 1, but limit is 2': "limit-range",
    'pods "w-" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot': "pod-security",
    'pods "w-" is forbidden: unable to create new content in namespace n because it is being terminated': LEAVING,
    'pods "w-" is forbidden: looking up service account n/a: serviceaccount "a"': "service-account-missing",
    'admission webhook "policy.example" denied the request: no': "admission",
}


@pytest.mark.parametrize("message", REFUSED)
def test_pods_that_are_refused(message: str) -> None:
    conditions = [{"type": "ReplicaFailure", "status": "True", "message": message}]
    (only,) = found(seen(), workload(DEPLOYMENT, {"conditions": conditions}))
    assert (only.cause, only.object) == (REFUSED[message], "Deployment n/w")
    item = workload(STATEFUL_SET)
    (only,) = found(seen(said=[("FailedCreate", message)], about=[item]), item)
    assert only.cause == REFUSED[message]


def test_pods_of_an_earlier_generation_are_not_blamed_but_may_block() -> None:
    old = pod(waiting("CrashLoopBackOff", last=crash(), restarts=50))
    old["metadata"]["ownerReferences"][0] |= {"kind": "StatefulSet"}
    old["metadata"]["labels"] = {"controller-revision-hash": "w-old"}
    (only,) = found(seen(old), workload(STATEFUL_SET, {"updateRevision": "w-new"}))
    assert only.cause == "old-replica-blocks"
    assert "kubectl delete pod -n n w-1" in only.next


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def looks(*steps: tuple[float, Mapping[str, list[Cause]]]) -> list[bool]:
    """What the outlook says at each time, when workloads of these names have these causes."""
    clock = Clock()
    outlook, answers = Outlook(clock), []
    for now, causes in steps:
        clock.now = now
        items = {Workload(JOB, "n", name, False, False, "", False, {}): each for name, each in causes.items()}
        answers.append(outlook.hopeless(items))
    return answers


def cause(name: str, runs: int = 0, *, mending: bool = False) -> Cause:
    return Cause(name, f"pod {name}", "detail", "next", runs, mending)


def test_a_cause_is_final_once_it_has_lasted() -> None:
    missing, silent, held = cause("image-missing"), cause("registry-silent"), cause("image-missing", mending=True)
    assert looks((0, {"a": [missing]}), (10, {"a": [missing]}), (20, {"a": [missing]})) == [False, False, True]
    # Away in between for long, it starts anew; others are no matter.
    assert looks((0, {"a": [missing]}), (30, {"a": []}), (35, {"a": [missing]}), (60, {"a": []})) == [False] * 4
    assert looks((0, {"a": [missing], "b": []}), (20, {"a": [missing], "b": []})) == [False, True]
    assert looks((0, {"a": [silent]}), (500, {"a": [silent]})) == [False, False]
    assert looks((0, {"a": [held]}), (15, {"a": [held]}), (30, {"a": [held]})) == [False] * 3


def test_a_crash_is_final_if_nothing_else_can_end_it() -> None:
    def of(runs: int) -> list[Cause]:
        return [cause("crash", runs)]

    assert looks((0, {"a": of(1)}), (15, {"a": of(1)}), (30, {"a": of(1)}), (35, {"a": of(2)})) == [*[False] * 3, True]
    # Its database is still coming; when that is there, the program gets another chance.
    waiting_for_it = [(0, {"a": of(3), "db": []}), (15, {"a": of(3), "db": []}), (30, {"a": of(3), "db": []})]
    assert looks(*waiting_for_it, (45, {"a": of(3)}), (60, {"a": of(4)})) == [*[False] * 4, True]
    # Two that wait for each other wait in vain.
    both = {"a": of(3), "b": of(2)}
    assert looks((0, both), (15, both), (30, both)) == [False, False, True]


def answers(*steps: AirferryError | str, seconds: float = 100.0) -> tuple[str, float]:
    """What a question is answered with that meets these in turn, the last one for good, and the time it took."""
    left, clock = list(steps), Clock()

    def sleep(pause: float) -> None:
        clock.now += pause

    def question() -> str:
        step = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(step, AirferryError):
            raise step
        return step

    return Patience(seconds, Silent(), sleep, clock).asked(question), clock.now


def test_a_restarted_api_server_is_waited_for_but_not_a_missing_permission() -> None:
    silent, forbidden = ClusterUnreachableError("no answer"), ClusterForbiddenError("not yet known")
    assert answers(silent, silent, "yes") == ("yes", 2 * POLL_SECONDS)
    # One that has just come back knows nobody yet.
    assert answers(silent, forbidden, "yes")[0] == "yes"
    for steps in ([forbidden, "yes"], [silent, forbidden]):
        with pytest.raises(ClusterForbiddenError):
            answers(*steps)
    with pytest.raises(ClusterUnreachableError, match="no answer") as caught:
        answers(silent, seconds=10)
    assert "run the same command again" in caught.value.hint
    # What converts objects is rolled out like any other program.
    down = WebhookError("connection refused")
    assert answers(down, down, "yes") == ("yes", 2 * POLL_SECONDS)
    with pytest.raises(WebhookError):
        answers(down, seconds=10)


def owned_by_set() -> list[dict[str, Any]]:
    return [{"kind": "ReplicaSet", "name": "w-1", "controller": True}]


def test_a_program_that_has_just_been_started_again_is_watched() -> None:
    clock = Clock()

    def sleep(pause: float) -> None:
        clock.now += pause

    def after(restarts: int) -> float:
        """Seconds until the Deployment, whose status is all well, counts as rolled out."""
        running = container({"running": {}}, last=crash() if restarts else None, restarts=restarts)
        held = pod(running)
        held["metadata"]["ownerReferences"] = owned_by_set()
        status = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
        metadata = {"name": "w", "namespace": "n", "annotations": {"meta.helm.sh/release-name": "r"}}
        cluster = seen(held, of(DEPLOYMENT, metadata=metadata, spec={}, status=status))
        start = clock.now
        patience = Patience(100, Silent(), sleep, clock)
        assert len(until_rolled_out(cluster, ReleaseName("r", "n"), patience)) == 1
        return clock.now - start

    assert after(0) == 0
    assert after(1) >= STEADY_SECONDS


@dataclass
class Notes(Silent):
    clock: Clock
    notes: list[tuple[float, str]] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append((self.clock.now, text))


def test_a_probe_that_fails_is_told_at_once_and_once_long_before_the_chart_gives_up() -> None:
    clock = Clock()
    starting = container({"running": {"startedAt": "2026-01-01T00:00:00Z"}})
    pods = [pod(starting), pod(starting)]
    for number, each in enumerate(pods):
        each["metadata"] |= {"name": f"w-1-{number}", "ownerReferences": owned_by_set()}
    metadata = {"name": "w", "namespace": "n", "annotations": {"meta.helm.sh/release-name": "r"}}
    # Kubernetes' default, and that of the chart.
    spec = {"replicas": 2, "progressDeadlineSeconds": 600}
    cluster = seen(*pods, of(DEPLOYMENT, metadata=metadata, spec=spec, status={}), log=["cannot reach the database"])

    def sleep(pause: float) -> None:
        clock.now += pause
        if clock.now == 20:
            happens(cluster, [("Unhealthy", "Startup probe failed: connection refused")], pods)
        if clock.now == 300:
            status = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
            cluster.set_status(DEPLOYMENT, "w", "n", status)

    reporter = Notes(clock)
    until_rolled_out(cluster, ReleaseName("r", "n"), Patience(600, reporter, sleep, clock))
    told = [(time, text) for time, text in reporter.notes if "probe failed" in text]
    assert len(told) == 1, "replicas fail alike"
    time, text = told[0]
    assert 20 <= time <= 20 + DIAGNOSE_SECONDS
    assert "pod n/w-1-0, container main: runs, but Startup probe failed" in text
    assert "its last words: cannot reach the database; next: it may need more time; else read its log" in text

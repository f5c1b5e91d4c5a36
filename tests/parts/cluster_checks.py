"""What holds for every `Cluster`: for a real API server, and so for the one in memory.

    python -m tests.parts.cluster_checks KUBECONFIG NAMESPACE CHECK

makes one check of `CHECKS` on a real one, in a namespace that is there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from installer.cluster.api_server import ApiServer
from installer.cluster.cluster import FIELD_MANAGER, AbsentError, Cluster, ConflictError
from installer.cluster.kinds import CONFIG_MAP, CUSTOM_RESOURCE_DEFINITION, NAMESPACE, POD_LOG, SECRET, VOLUME, Kind
from installer.cluster.kubeconfig import read_kubeconfig
from installer.cluster.managed_fields import handed_over, lost, shared, text
from installer.errors import ClusterError
from tests.parts.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from installer.cluster.cluster import Object

SECONDS = 60.0
HOLD = "airferry.example/hold"
GADGET = Kind("check.airferry.example", "v1", "Gadget", "gadgets")
GADGETS: Object = {
    "apiVersion": CUSTOM_RESOURCE_DEFINITION.api_version,
    "kind": CUSTOM_RESOURCE_DEFINITION.name,
    "metadata": {"name": str(GADGET)},
    "spec": {
        "group": GADGET.group,
        "scope": "Namespaced",
        "names": {"kind": GADGET.name, "plural": GADGET.plural, "singular": "gadget", "listKind": "GadgetList"},
        "versions": [
            {
                "name": GADGET.version,
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            }
        ],
    },
}


def config_map(namespace: str, name: str, data: dict[str, str] | None = None, **metadata: Any) -> Object:
    place = {"name": name, "namespace": namespace, **metadata}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": place, "data": data or {}}


def owners(obj: Object) -> set[tuple[str, str]]:
    return {(entry["manager"], entry["operation"]) for entry in obj["metadata"]["managedFields"]}


def what_is_not_there(cluster: Cluster, namespace: str) -> None:
    assert cluster.get(CONFIG_MAP, "absent", namespace) is None
    assert cluster.find(CONFIG_MAP, namespace, labels={"no": "one"}) == []
    assert cluster.delete(CONFIG_MAP, "absent", namespace) is False
    assert cluster.get(Kind("no.airferry.example", "v1", "No", "noes"), "absent", namespace) is None
    assert cluster.find(Kind("no.airferry.example", "v1", "No", "noes")) == []
    assert cluster.logs(namespace, "absent") == []
    assert cluster.events(namespace, "Pod", "absent") == []
    with pytest.raises(AbsentError):
        cluster.kind("no.airferry.example/v1", "No")
    with pytest.raises(AbsentError):
        cluster.merge(CONFIG_MAP, "absent", namespace, {"data": {"a": "1"}})
    for write in (cluster.create, cluster.apply):
        with pytest.raises(AbsentError):
            write(config_map("absent", "a"))


def creating(cluster: Cluster, namespace: str) -> None:
    made = cluster.create(config_map(namespace, "made", {"a": "1"}))
    assert (made["kind"], made["data"]) == ("ConfigMap", {"a": "1"})
    assert owners(made) == {(FIELD_MANAGER, "Update")}
    assert made["metadata"]["uid"]
    assert made["metadata"]["creationTimestamp"].endswith("Z")
    assert cluster.get(CONFIG_MAP, "made", namespace) == made
    for trial in (False, True):
        with pytest.raises(ConflictError):
            cluster.create(config_map(namespace, "made", {"a": "2"}), dry_run=trial)
    assert cluster.create(config_map(namespace, "tried", {"a": "1"}), dry_run=True)["data"] == {"a": "1"}
    assert cluster.get(CONFIG_MAP, "tried", namespace) is None
    assert cluster.get(CONFIG_MAP, "made", namespace) == made


def applying(cluster: Cluster, namespace: str) -> None:
    first = cluster.apply(config_map(namespace, "applied", {"a": "1", "b": "1"}, labels={"x": "1"}))
    assert owners(first) == {(FIELD_MANAGER, "Apply")}
    again = cluster.apply(config_map(namespace, "applied", {"a": "1", "b": "1"}, labels={"x": "1"}))
    assert again == first, "nothing has changed"
    tried = cluster.apply(config_map(namespace, "applied", {"a": "2"}), dry_run=True)
    assert tried["data"] == {"a": "2"}
    assert cluster.get(CONFIG_MAP, "applied", namespace) == first, "a trial"
    after = cluster.apply(config_map(namespace, "applied", {"a": "2"}))
    assert after["data"] == {"a": "2"}, "what is not wanted any more goes"
    assert not after["metadata"].get("labels")
    assert after["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
    assert after["metadata"]["uid"] == first["metadata"]["uid"]
    with pytest.raises(ConflictError):
        cluster.apply(config_map(namespace, "applied", resourceVersion=first["metadata"]["resourceVersion"]))


def fields_of_others(cluster: Cluster, namespace: str) -> None:
    # One who updates is another than one who applies, whatever their name.
    cluster.create(config_map(namespace, "shared", {"theirs": "1", "both": "1"}))
    applied = cluster.apply(config_map(namespace, "shared", {"ours": "1", "both": "1"}))
    assert applied["data"] == {"theirs": "1", "both": "1", "ours": "1"}
    assert owners(applied) == {(FIELD_MANAGER, "Update"), (FIELD_MANAGER, "Apply")}
    with pytest.raises(ConflictError, match="both"):
        cluster.apply(config_map(namespace, "shared", {"both": "2"}))
    taken = cluster.apply(config_map(namespace, "shared", {"both": "2"}), force=True)
    assert taken["data"] == {"theirs": "1", "both": "2"}, "ours is not wanted any more"
    assert cluster.apply(config_map(namespace, "shared"))["data"] == {"theirs": "1"}
    cluster.merge(CONFIG_MAP, "shared", namespace, {"data": {"theirs": None}})
    assert not (cluster.get(CONFIG_MAP, "shared", namespace) or {}).get("data")
    # A field that an update has changed is its own: to apply the former value again is a conflict.
    cluster.apply(config_map(namespace, "shared", {"mine": "1"}))
    cluster.merge(CONFIG_MAP, "shared", namespace, {"data": {"mine": "2"}})
    with pytest.raises(ConflictError, match="mine"):
        cluster.apply(config_map(namespace, "shared", {"mine": "1"}))


def fields_handed_over(cluster: Cluster, namespace: str) -> None:
    cluster.apply(config_map(namespace, "given", {"same": "1", "theirs": "1"}, finalizers=[HOLD]), manager="others")
    wanted = config_map(namespace, "given", {"same": "1"}, labels={"ours": "1"})
    held = cluster.apply(wanted)
    entries = shared(held, wanted, FIELD_MANAGER)
    assert [entry["manager"] for entry in entries] == ["others"]
    going = [(text(path), entry["manager"]) for path, entry in lost(held, entries, wanted, FIELD_MANAGER)]
    assert going == [(".data.theirs", "others")]
    change = {"managedFields": handed_over(held, entries, FIELD_MANAGER)}
    given = cluster.merge(CONFIG_MAP, "given", namespace, {"metadata": change})
    assert given["data"] == held["data"], "nothing but the ownership changes"
    after = cluster.apply(wanted)
    assert after["data"] == {"same": "1"}
    assert after["metadata"]["finalizers"] == [HOLD], "that is not of a manifest"
    assert shared(after, wanted, FIELD_MANAGER) == []
    with pytest.raises(ConflictError) as caught:
        cluster.apply(config_map(namespace, "given", {"same": "2"}), manager="others", dry_run=True)
    assert caught.value.fields == (".data.same",)
    cluster.merge(CONFIG_MAP, "given", namespace, {"metadata": {"finalizers": None}})


def merging(cluster: Cluster, namespace: str) -> None:
    before = cluster.create(config_map(namespace, "merged", {"a": "1", "b": "1"}, annotations={"x": "1"}))
    change = {"metadata": {"annotations": {"x": None, "y": "2"}}, "data": {"a": "2", "c": "3"}}
    tried = cluster.merge(CONFIG_MAP, "merged", namespace, change, dry_run=True)
    assert cluster.get(CONFIG_MAP, "merged", namespace) == before, "a trial"
    after = cluster.merge(CONFIG_MAP, "merged", namespace, change)
    assert tried["data"] == after["data"]
    assert after["data"] == {"a": "2", "b": "1", "c": "3"}
    assert after["metadata"]["annotations"] == {"y": "2"}
    assert cluster.merge(CONFIG_MAP, "merged", namespace, change) == after
    for state, accepted in ((before, False), (after, True)):
        checked = {"metadata": {"resourceVersion": state["metadata"]["resourceVersion"]}, "data": {"a": "4"}}
        if accepted:
            assert cluster.merge(CONFIG_MAP, "merged", namespace, checked)["data"]["a"] == "4"
        else:
            with pytest.raises(ConflictError):
                cluster.merge(CONFIG_MAP, "merged", namespace, checked)


def selecting(cluster: Cluster, namespace: str) -> None:
    for name, labels in (("s-1", {"a": "1", "b": "1"}), ("s-2", {"a": "1"})):
        secret = {"apiVersion": "v1", "kind": "Secret", "type": f"example.com/{name}"}
        cluster.create({**secret, "metadata": {"name": name, "namespace": namespace, "labels": labels}})

    def names(**selection: Any) -> list[str]:
        return [item["metadata"]["name"] for item in cluster.find(SECRET, namespace, **selection)]

    assert names(labels={"a": "1"}) == ["s-1", "s-2"]
    assert names(labels={"a": "1", "b": "1"}) == ["s-1"]
    assert names(fields={"metadata.name": "s-2"}) == ["s-2"]
    assert names(labels={"a": "1"}, fields={"type": "example.com/s-1"}) == ["s-1"]
    everywhere = cluster.find(SECRET, labels={"b": "1"})
    assert [(item["kind"], item["metadata"]["namespace"]) for item in everywhere] == [("Secret", namespace)]
    with pytest.raises(ClusterError):
        names(fields={"data.x": "1"})


def finalizers(cluster: Cluster, namespace: str) -> None:
    cluster.create(config_map(namespace, "held", finalizers=[HOLD]))
    for _ in range(2):
        assert cluster.delete(CONFIG_MAP, "held", namespace)
        held = cluster.get(CONFIG_MAP, "held", namespace)
        assert held
        assert held["metadata"]["deletionTimestamp"]
    cluster.merge(CONFIG_MAP, "held", namespace, {"metadata": {"finalizers": []}})
    assert cluster.get(CONFIG_MAP, "held", namespace) is None


def dependents(cluster: Cluster, namespace: str) -> None:
    owner = cluster.create(config_map(namespace, "owner"))
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    cluster.create(config_map(namespace, "dependent", ownerReferences=[reference]))
    cluster.delete(CONFIG_MAP, "owner", namespace)
    assert wait_until(lambda: cluster.get(CONFIG_MAP, "dependent", namespace) is None, SECONDS)


def kinds_of_charts(cluster: Cluster, namespace: str) -> None:
    def known() -> bool:
        try:
            return cluster.kind(GADGET.api_version, GADGET.name) == GADGET
        except AbsentError:
            return False

    assert not known()
    cluster.apply(GADGETS)
    assert wait_until(known, SECONDS)
    gadget = {"apiVersion": GADGET.api_version, "kind": GADGET.name, "metadata": {"name": "g", "namespace": namespace}}
    assert wait_until(lambda: f"{GADGET.api_version}/Gadget" in cluster.api_versions(), SECONDS)
    made = cluster.apply({**gadget, "spec": {"a": [1, 2]}, "status": {"b": 1}})
    assert made["spec"] == {"a": [1, 2]}
    assert "status" not in made, "that is its controller's"
    generations = [
        item["metadata"]["generation"]
        for item in (
            made,
            cluster.merge(GADGET, "g", namespace, {"metadata": {"labels": {"x": "1"}}}),
            cluster.merge(GADGET, "g", namespace, {"spec": {"a": [3]}}),
        )
    ]
    assert generations == [1, 1, 2]
    (found,) = cluster.find(GADGET)
    assert (found["kind"], found["spec"]) == ("Gadget", {"a": [3]})
    assert cluster.delete(CUSTOM_RESOURCE_DEFINITION, str(GADGET))
    assert wait_until(lambda: cluster.get(CUSTOM_RESOURCE_DEFINITION, str(GADGET)) is None, SECONDS)
    assert wait_until(lambda: cluster.find(GADGET) == [], SECONDS)


def namespaces(cluster: Cluster, namespace: str) -> None:
    name = f"{namespace}-inner"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    cluster.create(config_map(name, "free"))
    cluster.create(config_map(name, "held", finalizers=[HOLD]))
    assert cluster.delete(NAMESPACE, name)
    assert wait_until(lambda: cluster.get(CONFIG_MAP, "free", name) is None, SECONDS)
    leaving = cluster.get(NAMESPACE, name)
    assert leaving
    assert leaving["status"]["phase"] == "Terminating"
    with pytest.raises(ClusterError, match="being terminated"):
        cluster.create(config_map(name, "more"))
    cluster.merge(CONFIG_MAP, "held", name, {"metadata": {"finalizers": None}})
    assert wait_until(lambda: cluster.get(NAMESPACE, name) is None, SECONDS)


def about_the_server(cluster: Cluster, namespace: str) -> None:
    assert cluster.version().startswith("v1.")
    assert {"v1", "v1/Secret", "apps/v1", "apps/v1/Deployment"} <= set(cluster.api_versions())
    assert cluster.silent_groups == ()
    assert cluster.kind("apps/v1", "Deployment").plural == "deployments"
    assert cluster.server.startswith("https://")
    assert cluster.context
    assert cluster.can_i("get", POD_LOG, namespace)
    assert cluster.can_i("patch", VOLUME, name="x")
    assert cluster.http_status(namespace, "absent", 80, "/") == 0


CHECKS: dict[str, Callable[[Cluster, str], None]] = {
    check.__name__: check
    for check in (
        what_is_not_there,
        creating,
        applying,
        fields_of_others,
        fields_handed_over,
        merging,
        selecting,
        finalizers,
        dependents,
        kinds_of_charts,
        namespaces,
        about_the_server,
    )
}

if __name__ == "__main__":
    file, place, wanted = sys.argv[1:]
    with ApiServer(read_kubeconfig(Path(file))) as server:
        CHECKS[wanted](server, place)

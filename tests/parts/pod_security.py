"""The level `restricted` of Kubernetes' "Pod Security Standards", rule by rule as its documentation words them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Pod = dict[str, Any]


def _containers(pod: Pod) -> list[dict[str, Any]]:
    kinds = ("containers", "initContainers", "ephemeralContainers")
    return [container for kind in kinds for container in pod.get(kind) or []]


def _contexts(pod: Pod) -> list[dict[str, Any]]:
    """`spec.securityContext` and those of all containers, where they stand."""
    return [found for item in (pod, *_containers(pod)) if (found := item.get("securityContext"))]


def _inherited(pod: Pod, *path: str) -> Iterator[Any]:
    """What holds for each container: its own field, else the pod's, else nothing."""

    def at(item: Pod) -> Any:
        found: Any = item.get("securityContext")
        for key in path:
            found = (found or {}).get(key)
        return found

    for container in _containers(pod):
        own = at(container)
        yield at(pod) if own is None else own


def _each_container(pod: Pod, *path: str) -> Iterator[Any]:
    for container in _containers(pod):
        found: Any = container.get("securityContext")
        for key in path:
            found = (found or {}).get(key)
        yield found


VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SYSCTLS = {
    *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start"),
    *("net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports"),
    *("net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl"),
    "net.ipv4.tcp_keepalive_probes",
}

CONTROLS: dict[str, Callable[[Pod], bool]] = {
    "Host Namespaces": lambda pod: not (pod.get("hostNetwork") or pod.get("hostPID") or pod.get("hostIPC")),
    "HostProcess": lambda pod: not any((c.get("windowsOptions") or {}).get("hostProcess") for c in _contexts(pod)),
    "Privileged Containers": lambda pod: not any(_each_container(pod, "privileged")),
    "Host Ports": lambda pod: not any(p.get("hostPort") for c in _containers(pod) for p in c.get("ports") or []),
    "AppArmor": lambda pod: all(
        (c.get("appArmorProfile") or {}).get("type") in (None, "RuntimeDefault", "Localhost") for c in _contexts(pod)
    ),
    "SELinux": lambda pod: all(
        options.get("type", "") in ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
        and not options.get("user")
        and not options.get("role")
        for options in (c.get("seLinuxOptions") or {} for c in _contexts(pod))
    ),
    "/proc Mount Type": lambda pod: all(item in (None, "Default") for item in _each_container(pod, "procMount")),
    "Sysctls": lambda pod: all(
        item["name"] in SYSCTLS for item in (pod.get("securityContext") or {}).get("sysctls") or []
    ),
    "Volume Types": lambda pod: all({*volume} - {"name"} <= VOLUMES for volume in pod.get("volumes") or []),
    "Privilege Escalation": lambda pod: all(item is False for item in _each_container(pod, "allowPrivilegeEscalation")),
    "Running as Non-root": lambda pod: all(item is True for item in _inherited(pod, "runAsNonRoot")),
    "Running as Non-root user": lambda pod: not any(c.get("runAsUser") == 0 for c in _contexts(pod)),
    "Seccomp": lambda pod: (
        all(item in ("RuntimeDefault", "Localhost") for item in _inherited(pod, "seccompProfile", "type"))
        and not any((c.get("seccompProfile") or {}).get("type") == "Unconfined" for c in _contexts(pod))
    ),
    "Capabilities": lambda pod: (
        all("ALL" in (item or []) for item in _each_container(pod, "capabilities", "drop"))
        and all(set(item or []) <= {"NET_BIND_SERVICE"} for item in _each_container(pod, "capabilities", "add"))
    ),
}
"""The controls of the levels `baseline` and `restricted` by their names in the documentation: what is allowed."""


def broken(pod: Pod) -> list[str]:
    """The controls that the `spec` of a pod does not meet."""
    return [name for name, allowed in CONTROLS.items() if not allowed(pod)]

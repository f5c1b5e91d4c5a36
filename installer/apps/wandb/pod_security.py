"""What keeps a pod out of a namespace of the level `restricted`, or from OpenShift's `restricted-v2`.

Sources: Kubernetes, "Pod Security Standards"; OpenShift, "Managing security context constraints". OpenShift itself
gives user and group to a pod and drops its capabilities, and refuses a pod that asks for users or groups of its own.
"""

from collections.abc import Iterator, Mapping
from typing import Any

_VOLUMES = frozenset(
    (
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    )
)
_SYSCTLS = frozenset(
    (
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_syncookies",
    )
)
_PROFILES = ("RuntimeDefault", "Localhost")
_SELINUX = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")


def violations(spec: Mapping[str, Any], *, openshift: bool) -> list[str]:
    """Why a pod with this `spec` is refused, in the words of its fields; empty if it is not."""
    pod = spec.get("securityContext") or {}
    found = [*_of_pod(spec, pod, openshift=openshift)]
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            found += [f"{text} ({container['name']})" for text in _of_container(container, pod, openshift=openshift)]
    return list(dict.fromkeys(found))


def _of_pod(spec: Mapping[str, Any], pod: Mapping[str, Any], *, openshift: bool) -> Iterator[str]:
    yield from (key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key))
    for volume in spec.get("volumes") or ():
        yield from (f"volume {kind}" for kind in volume if kind != "name" and kind not in _VOLUMES)
    for sysctl in pod.get("sysctls") or ():
        if sysctl["name"] not in _SYSCTLS:
            yield f"sysctl {sysctl['name']}"
    yield from _anywhere(pod)
    if openshift:
        numbers = ("runAsUser", "runAsGroup", "fsGroup", "supplementalGroups")
        yield from (key for key in numbers if pod.get(key) not in (None, []))


def _of_container(container: Mapping[str, Any], pod: Mapping[str, Any], *, openshift: bool) -> Iterator[str]:
    own = container.get("securityContext") or {}
    capabilities = own.get("capabilities") or {}
    if any(port.get("hostPort") for port in container.get("ports") or ()):
        yield "hostPort"
    if own.get("privileged"):
        yield "privileged"
    if own.get("procMount") not in (None, "Default"):
        yield "procMount"
    yield from (f"capability {name}" for name in capabilities.get("add") or () if name != "NET_BIND_SERVICE")
    yield from _anywhere(own)
    if openshift:
        yield from (key for key in ("runAsUser", "runAsGroup") if own.get(key) is not None)
        return
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    if "ALL" not in (capabilities.get("drop") or ()):
        yield "capabilities not dropped"
    if _set(own, pod, "runAsNonRoot") is not True or _set(own, pod, "runAsUser") == 0:
        yield "may run as root"
    if (_set(own, pod, "seccompProfile") or {}).get("type") not in _PROFILES:
        yield "no seccompProfile"


def _anywhere(context: Mapping[str, Any]) -> Iterator[str]:
    """What neither a pod nor a container may ask for."""
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type", "") not in _SELINUX or selinux.get("user") or selinux.get("role"):
        yield "seLinuxOptions"
    for kind in ("seccompProfile", "appArmorProfile"):
        if (context.get(kind) or {}).get("type") == "Unconfined":
            yield f"{kind} Unconfined"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield "hostProcess"


def _set(own: Mapping[str, Any], pod: Mapping[str, Any], key: str) -> Any:
    """What a container says of `key`, or else its pod."""
    return pod.get(key) if own.get(key) is None else own[key]

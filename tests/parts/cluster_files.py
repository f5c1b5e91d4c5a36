"""Configuration files and command lines of a Kubernetes cluster of one node that has no way out.

Addresses: the node, its registry and the API server share `ADDRESS`; pods and services have ranges of their own.
Pods are given routes to the services and to the node and none beyond, so what the cluster was not given fails at once.
"""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.parts.registry import Certificate

ADDRESS = "10.99.0.1"
PODS = "10.244.0.0/16"
SERVICES = "10.96.0.0/16"
FIRST_SERVICE = "10.96.0.1"
NODE = "enclave"
RUNTIME_SOCKET = "/run/containerd/containerd.sock"
ETCD = "http://127.0.0.1:2379"
# Places that containerd and the kubelet use whatever their configuration says, and the folder behind each.
PLACES = {
    "/run/containerd": "run",
    "/var/lib/kubelet": "kubelet",
    "/var/lib/cni": "cni",
    "/var/log/containers": "containers",
}
# What the kubelet expects of the kernel (k8s.io/component-helpers, node/util/sysctl) and would otherwise set.
KERNEL_SETTINGS = {
    "/proc/sys/vm/overcommit_memory": "1",
    "/proc/sys/vm/panic_on_oom": "0",
    "/proc/sys/kernel/panic": "10",
    "/proc/sys/kernel/panic_on_oops": "1",
    "/proc/sys/kernel/keys/root_maxkeys": "1000000",
    "/proc/sys/kernel/keys/root_maxbytes": "25000000",
}


@dataclass(frozen=True)
class Credentials:
    """Everything secret or trusted: an authority's certificate, key pairs signed by it, the administrator's token."""

    authority: Path
    api_server: Certificate
    kubelet: Certificate
    kubelet_client: Certificate
    service_accounts: Certificate
    registry: Certificate
    token: str


@dataclass(frozen=True)
class ClusterFiles:
    """Writes the files into `folder`, and knows the command line of each part that reads them."""

    folder: Path
    programs: Path
    cgroup: str
    credentials: Credentials

    @property
    def kubeconfig(self) -> Path:
        """Access as administrator."""
        return self.folder / "kubeconfig"

    @property
    def config(self) -> Path:
        """The folder of all other configuration."""
        return self.folder / "config"

    def write(self, registry: str, registry_url: str, sandbox_image: str) -> None:
        """Write all files; containerd pulls from `registry` (HOST:PORT) only, and the `sandbox_image`, too."""
        for name in ("cni", f"certs.d/{registry}"):
            (self.config / name).mkdir(parents=True, exist_ok=True)
        _write_json(self.kubeconfig, self._kubeconfig(), secret=True)
        _write_secret(self.config / "tokens.csv", f'{self.credentials.token},admin,admin,"system:masters"\n')
        _write_json(self.config / "cni" / "10-enclave.conflist", self._network())
        _write_json(self.config / "kubelet.json", self._kubelet())
        (self.config / "containerd.toml").write_text(self._containerd(sandbox_image))
        (self.config / "certs.d" / registry / "hosts.toml").write_text(self._registry_host(registry_url))

    def overlays(self) -> dict[Path, Path]:
        """What the node must see in fixed places, and where it really is."""
        settings = self.config / "kernel"
        settings.mkdir(parents=True, exist_ok=True)
        shown = {Path(place): self.folder / name for place, name in PLACES.items()}
        for source in shown.values():
            source.mkdir(parents=True, exist_ok=True)
        for setting, value in KERNEL_SETTINGS.items():
            stand_in = settings / setting.replace("/", "_")
            stand_in.write_text(value + "\n")
            shown[Path(setting)] = stand_in
        return shown

    def commands(self) -> dict[str, list[str]]:
        """The command line of each part, in the order of starting."""
        program = {name: str(self.programs / name) for name in _KUBERNETES}
        access = f"--kubeconfig={self.kubeconfig}"
        return {
            "containerd": ["containerd", f"--config={self.config / 'containerd.toml'}"],
            "etcd": self._etcd(),
            "kube-apiserver": [program["kube-apiserver"], *self._api_server()],
            "kube-controller-manager": [program["kube-controller-manager"], access, *self._controller_manager()],
            "kube-scheduler": [program["kube-scheduler"], access, "--leader-elect=false", "--bind-address=127.0.0.1"],
            "kubelet": [
                program["kubelet"],
                access,
                f"--config={self.config / 'kubelet.json'}",
                f"--node-ip={ADDRESS}",
                f"--hostname-override={NODE}",
            ],
            "kube-proxy": [program["kube-proxy"], access, *_KUBE_PROXY],
        }

    def _etcd(self) -> list[str]:
        peers = "http://127.0.0.1:2380"
        return [
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={ETCD}",
            f"--advertise-client-urls={ETCD}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--logger=zap",
            "--log-level=warn",
        ]

    def _api_server(self) -> list[str]:
        own = self.credentials
        return [
            f"--etcd-servers={ETCD}",
            "--bind-address=0.0.0.0",
            "--secure-port=6443",
            f"--advertise-address={ADDRESS}",
            f"--tls-cert-file={own.api_server.certificate}",
            f"--tls-private-key-file={own.api_server.key}",
            f"--client-ca-file={own.authority}",
            f"--token-auth-file={self.config / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC",
            f"--service-cluster-ip-range={SERVICES}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={own.service_accounts.certificate}",
            f"--service-account-signing-key-file={own.service_accounts.key}",
            f"--kubelet-certificate-authority={own.authority}",
            f"--kubelet-client-certificate={own.kubelet_client.certificate}",
            f"--kubelet-client-key={own.kubelet_client.key}",
            "--kubelet-preferred-address-types=InternalIP",
            "--allow-privileged=true",
            "--profiling=false",
        ]

    def _controller_manager(self) -> list[str]:
        return [
            f"--service-account-private-key-file={self.credentials.service_accounts.key}",
            f"--root-ca-file={self.credentials.authority}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--node-monitor-period=2s",
            "--profiling=false",
        ]

    def _kubeconfig(self) -> dict[str, Any]:
        cluster = {
            "server": f"https://{ADDRESS}:6443",
            "certificate-authority-data": b64encode(self.credentials.authority.read_bytes()).decode(),
        }
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "enclave", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": self.credentials.token}}],
            "contexts": [{"name": "enclave", "context": {"cluster": "enclave", "user": "admin"}}],
            "current-context": "enclave",
        }

    def _network(self) -> dict[str, Any]:
        addresses = {
            "type": "host-local",
            "ranges": [[{"subnet": PODS}]],
            "routes": [{"dst": SERVICES}, {"dst": f"{ADDRESS}/32"}],
            "dataDir": str(self.folder / "addresses"),
        }
        bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "ipMasq": False, "hairpinMode": True}
        ports = {"type": "portmap", "capabilities": {"portMappings": True}}
        return {"cniVersion": "0.4.0", "name": "enclave", "plugins": [{**bridge, "ipam": addresses}, ports]}

    def _kubelet(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": False},
                "x509": {"clientCAFile": str(self.credentials.authority)},
            },
            "authorization": {"mode": "AlwaysAllow"},
            "tlsCertFile": str(self.credentials.kubelet.certificate),
            "tlsPrivateKeyFile": str(self.credentials.kubelet.key),
            "containerRuntimeEndpoint": f"unix://{RUNTIME_SOCKET}",
            "podLogsDir": str(self.folder / "pods"),
            # The host's name servers cannot be reached from inside; an empty file makes lookups fail at once.
            "resolvConf": "",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cgroup}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            # How full the host's disk is shall not decide about tests.
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "serializeImagePulls": False,
        }

    def _containerd(self, sandbox_image: str) -> str:
        return f"""version = 2
root = "{self.folder / "containerd"}"
state = "/run/containerd"

[grpc]
address = "{RUNTIME_SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
path = "{self.folder / "containerd" / "opt"}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{sandbox_image}"
netns_mounts_under_state_dir = true
# Without CAP_SYS_RESOURCE a container may not be given a better score than its parent.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{self.config / "cni"}"

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{self.config / "certs.d"}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"""

    def _registry_host(self, url: str) -> str:
        trust = f'ca = "{self.credentials.authority}"\n' if url.startswith("https:") else ""
        return f'server = "{url}"\n\n[host."{url}"]\ncapabilities = ["pull", "resolve"]\n{trust}'


_KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
_KUBE_PROXY = [
    f"--hostname-override={NODE}",
    "--proxy-mode=iptables",
    # Pods reach each other through services over one bridge; the answers must take the same way back.
    "--masquerade-all",
    "--conntrack-max-per-core=0",
    "--conntrack-tcp-timeout-established=0",
    "--conntrack-tcp-timeout-close-wait=0",
    "--bind-address=0.0.0.0",
]


def _write_json(path: Path, document: dict[str, Any], *, secret: bool = False) -> None:
    text = json.dumps(document, indent=1) + "\n"
    if secret:
        _write_secret(path, text)
    else:
        path.write_text(text)


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)

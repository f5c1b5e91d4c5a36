"""Registry mirrors for the nodes: pods may then keep the upstream names of images, and pull from the enclave.

Formats: containerd, docs/hosts.md (`certs.d`, read where `config_path` names it); containers-registries.conf.d(5) of
CRI-O and podman. Neither falls back to the upstream registry, which an enclave does not reach.
"""

from collections.abc import Iterable

from installer.bundle.reader import Bundle
from installer.chart.relocation import NOWHERE, target
from installer.oci.reference import Repository
from installer.site.site import Site

_CONTAINERD, _PODMAN = "nodes/containerd/certs.d", "nodes/containers"


def node_mirrors(bundle: Bundle, site: Site) -> dict[str, bytes]:
    """The files by path. Those below `containerd` belong to /etc/containerd, those below `containers` to
    /etc/containers."""
    plain, ca = site.answers.registry.plain_http, site.registry_ca
    hosts = sorted({image.reference.repository.host for image in bundle.manifest.images} - {NOWHERE})
    found = {f"{_PODMAN}/registries.conf.d/airferry.conf": _podman(hosts, site, insecure=plain)}
    if ca:
        found[f"{_PODMAN}/certs.d/{site.registry}/ca.crt"] = ca
    for host, path in [(host, _path(host, site)) for host in hosts] + [(site.registry, "")]:
        folder = f"{_CONTAINERD}/{_folder(host)}"
        found[f"{folder}/hosts.toml"] = _containerd(site.registry, path, plain=plain, ca=bool(ca))
        if ca:
            found[f"{folder}/ca.crt"] = ca
    return found


def _path(host: str, site: Site) -> str:
    """The path before all images of the upstream registry `host`."""
    return target(Repository(host, "x"), site.registry, site.project).path.removesuffix("/x")


def _folder(host: str) -> str:
    """The folder in `certs.d`: a colon is not allowed in file names everywhere, and containerd knows this form too."""
    name, colon, port = host.rpartition(":")
    return f"{name}_{port}_" if colon else host


def _containerd(registry: str, path: str, *, plain: bool, ca: bool) -> bytes:
    """With `override_path` the address is taken as it is, `/v2` included.

    The registry stands there twice: as the mirror, without which containerd refuses the file, and as the server that
    is asked after the mirrors, which would be the upstream one.
    """
    server = f"{'http' if plain else 'https'}://{registry}{f'/v2/{path}' if path else ''}"
    settings = [
        'capabilities = ["pull", "resolve"]',
        *(["override_path = true"] if path else []),
        *(['ca = "ca.crt"'] if ca else []),
    ]
    lines = [f'server = "{server}"', *settings, "", f'[host."{server}"]', *settings]
    return "".join(f"{line}\n" for line in lines).encode()


def _podman(hosts: Iterable[str], site: Site, *, insecure: bool) -> bytes:
    blocks = []
    for host in hosts:
        lines = ["[[registry]]", f'prefix = "{host}"', f'location = "{site.registry}/{_path(host, site)}"']
        blocks.append("\n".join([*lines, *(["insecure = true"] if insecure else [])]))
    return ("\n\n".join(blocks) + "\n").encode()

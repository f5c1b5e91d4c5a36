"""The platform chart in the enclave's registry, as an OCI artifact that the W&B operator pulls.

The chart is named by its digest, not by its tag: the operator then gets the very chart that was signed, and a chart
that was rebuilt under the same version is a change that it notices.

Source: github.com/wandb/operator v1.22.0, pkg/wandb/spec/charts/oci.go (the first release with it), and Helm 4,
pkg/registry. Certificates are trusted by way of the operator chart's `customCACerts`.
"""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from installer.bundle.manifest import BundleImage
from installer.chart.images import references
from installer.chart.relocation import Relocation
from installer.cluster.cluster import Object
from installer.errors import AirferryError
from installer.oci.reference import DigestRef
from installer.registry.endpoint import is_loopback
from installer.site.secret import Secret
from installer.site.site import Site, SiteSecret

SINCE = (1, 22, 0)
SECRET_NAME = "airferry-charts"  # noqa: S105 - a name
USERNAME, PASSWORD = "username", "password"
_VERSION = re.compile(r"v?([0-9]{1,6})\.([0-9]{1,6})\.([0-9]{1,6})(?:[-+.].*)?", re.ASCII)


def spec(artifact: DigestRef, site: Site) -> dict[str, Any]:
    """`spec.chart` for the chart that `artifact` names."""
    found: dict[str, Any] = {"url": f"oci://{artifact.repository}@{artifact.digest}"}
    if site.answers.registry.plain_http:
        found["plainHTTP"] = True
    if site.answers.registry.credentials:
        # Without both keys the operator writes its defaults into what it has applied, takes that for a change from
        # then on, and upgrades every hour.
        found["credentialSecret"] = {"name": SECRET_NAME, "usernameKey": USERNAME, "passwordKey": PASSWORD}
    return found


def secrets(site: Site, namespace: str, *, blank: bool) -> tuple[SiteSecret, ...]:
    """The Secret with the registry's user, in the namespace of the custom resource; none without a user.

    Raises SiteError if the password cannot be had; with `blank` it is not asked for.
    """
    login = site.answers.registry.credentials
    if login is None:
        return ()
    credentials = None if blank else site.credentials()
    password = credentials.password if credentials else ""
    data = {USERNAME: Secret(login.username), PASSWORD: Secret(password)}
    return (SiteSecret(SECRET_NAME, namespace, data, public=frozenset({USERNAME})),)


def objection(site: Site, controller: str) -> str:
    """Why the operator cannot pull its chart from the registry; empty if it can, as far as is known beforehand."""
    if site.on_nodes:
        return "this site has no registry (registry.on_nodes)"
    version = _VERSION.fullmatch(controller)
    needed = ".".join(map(str, SINCE))
    if version is None:
        known = f"its tag is {controller!r}" if controller else "its image is not in the bundle"
        return f"the version of the operator's controller is unknown ({known}); it must be {needed} or later"
    if tuple(map(int, version.groups())) < SINCE:
        return f"the operator's controller is {controller}; charts in a registry need {needed} or later"
    if is_loopback(urlsplit(f"//{site.registry}").hostname or ""):
        return f"registry {site.registry}: a loopback address is not what pods can reach"
    return ""


def controller_version(operator: Iterable[Object], images: Iterable[BundleImage], relocation: Relocation) -> str:
    """The tag by which the bundle knows the image that the chart `operator`'s Deployment runs; empty if it has none."""
    known: dict[str, str] = {}
    for image in images:
        target = relocation.target(image.reference)
        known |= {str(target): image.tag, str(DigestRef(target.repository, image.digest)): image.tag}
        known[str(DigestRef(target.repository, image.digest, image.tag))] = image.tag
    for found in references(item for item in operator if item.get("kind") == "Deployment"):
        try:
            tag = known.get(str(found.reference()))
        except AirferryError:
            continue
        if tag:
            return tag
    return ""

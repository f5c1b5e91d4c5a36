"""A lock whose blobs are called by name."""

from __future__ import annotations

from builder.recipe.findings import Excluded, Failure, OptionalImage, Reason, Suspected
from builder.recipe.lock import (
    FORMAT,
    Lock,
    LockedBlob,
    LockedChart,
    LockedDocument,
    LockedImage,
    LockedManifest,
    LockedRegistry,
    Origin,
)
from installer.bundle.manifest import NEVER
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Platform

AMD64 = Platform("linux", "amd64")
SWITCHED = Reason("web", "Pod", "prod", "x", "x", "spec.containers[0].image", "", "web/x.yaml", ("a.on", "b.on"))


def digest(name: str) -> Digest:
    """The digest of what is called `name`."""
    return Digest.of(name.encode())


def image(name: str, layers: list[str]) -> tuple[LockedImage, LockedManifest, list[LockedBlob]]:
    """An image whose blobs are called by name; a layer `base100` has 100 bytes, all others 1."""
    manifest = LockedManifest(digest(name), (digest(f"{name} config"), *map(digest, layers)))
    reason = Reason("web", "Deployment", "prod", "web", "main", "spec.containers[0].image", "")
    locked = LockedImage(
        source=f"docker.io/team/{name}:1.0",
        digest=digest(name),
        media_type=media_types.OCI_MANIFEST,
        size=1,
        upstream=digest(name),
        single=digest(name),
        platforms=(AMD64,),
        origin=Origin("registry", f"docker.io/team/{name}", "1.0"),
        reasons=(reason, Reason("", "", "", "", "", "images[0]", "")),
    )
    blobs = [
        LockedBlob(digest(name), media_types.OCI_MANIFEST, 1),
        LockedBlob(digest(f"{name} config"), media_types.OCI_CONFIG, 1),
    ]
    blobs += [
        LockedBlob(digest(layer), media_types.OCI_LAYER_GZIP, 100 if layer == "base100" else 1) for layer in layers
    ]
    return locked, manifest, blobs


def example() -> Lock:
    """A lock with something of everything."""
    parts = [image("app", ["base100", "own"]), image("job", ["base100"])]
    text = '{"schemaVersion":2}'
    values = "{}"
    artifact = LockedManifest(Digest.of(text.encode()), (digest("helm config"), digest("archive")))
    chart = LockedChart(
        name="web",
        version="1.2.3",
        asked="^1.2.0",
        origin=Origin("url", "https://charts.example.com/web-1.2.3.tgz"),
        archive=digest("archive"),
        artifact=artifact.digest,
        published=digest("archive"),
        size=7,
    )
    blobs = [
        *(blob for _, _, found in parts for blob in found),
        LockedBlob(artifact.digest, media_types.OCI_MANIFEST, len(text), text),
        LockedBlob(digest("helm config"), media_types.HELM_CONFIG, 5),
        LockedBlob(digest("archive"), media_types.HELM_CHART, 7),
        LockedBlob(Digest.of(values.encode()), media_types.OCTETS, len(values), values),
        LockedBlob(digest("recipe"), media_types.OCTETS, 9),
    ]
    unique = {blob.digest: blob for blob in blobs}
    documents = (
        LockedDocument("recipe.yaml", "recipe", digest("recipe"), Origin("file", "recipe.yaml")),
        LockedDocument("web-values.json", "values", Digest.of(values.encode()), Origin("inline", "")),
    )
    manifests = [artifact, *(manifest for _, manifest, _ in parts)]
    return Lock(
        format=FORMAT,
        name="demo",
        version="1.0",
        sequence=1,
        created="2026-01-01T00:00:00Z",
        expires=NEVER,
        site="",
        platforms=(AMD64,),
        images=tuple(locked for locked, _, _ in parts),
        charts=(chart,),
        documents=documents,
        excluded=(Excluded("docker.io/library/python:3.12", "test pods only"),),
        suspected=(
            Suspected("docker.io/team/agent:1", (Reason("web", "ConfigMap", "", "c", "", "data.x", ""),), "unknown"),
        ),
        optional=(OptionalImage("docker.io/team/extra:latest", (SWITCHED,)),),
        failures=(Failure("web", "web/charts/x", "the archive lacks this subchart", (), ()),),
        registries=(LockedRegistry("localhost:5000", "", "http", "", ("login.example",)),),
        manifests=tuple(sorted(manifests, key=lambda manifest: manifest.digest)),
        blobs=tuple(sorted(unique.values(), key=lambda blob: blob.digest)),
    )

"""Other programs for the same work, as far as they are on PATH, each with the commands that suit it best.

Commands find SOURCE and TARGET (registries, HOST:PORT) and NAMES (images, REPOSITORY:TAG) in the environment and work
in an empty folder of their own. Where a program takes one image at a time, a loop of the shell calls it for each.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Peer:
    """A program and its commands.

    build: from the source into `products`. archive: makes what `load` reads where `build` does not. load: from there
    into the target. left_over: what these leave behind besides. close: measured as often as airferry, which is
    compared with it; the others less often.
    """

    program: str
    version: str
    build: str
    load: str
    products: Sequence[str]
    archive: str = ""
    remark: str = ""
    name: str = ""
    close: bool = False
    left_over: Sequence[str] = field(default=())

    @property
    def title(self) -> str:
        """What the tables call it."""
        return self.name or self.program


CRANE = Peer(
    "crane",
    "crane version",
    "crane pull --insecure --format=oci $(for n in $NAMES; do echo $SOURCE/$n; done) crane; tar -cf crane.tar crane",
    "tar -xf crane-each.tar; for n in $NAMES; do crane push --insecure each/$n $TARGET/$n; done",
    ("crane*.tar",),
    archive=(
        "for n in $NAMES; do mkdir -p each/${n%/*}; crane pull --insecure --format=oci $SOURCE/$n each/$n; done;"
        " tar -cf crane-each.tar each; rm -r each"
    ),
    remark="built as one layout; loaded from one layout an image, since a shared one loses their names; "
    "the index arrives with another digest",
    name="crane, tar",
    close=True,
    left_over=("crane", "each"),
)
PEERS = (
    Peer(
        "imgpkg",
        "imgpkg version | sed 's/.* //'",
        "imgpkg copy --lock images.yml --to-tar imgpkg.tar",
        "imgpkg copy --tar imgpkg.tar --to-repo $TARGET/bench/all",
        ("imgpkg.tar",),
        remark="all images into one repository, by digest: names and tags are lost",
        close=True,
    ),
    CRANE,
    Peer(
        "oras",
        "oras version | sed -n 's/^Version: *//p'",
        "for n in $NAMES; do oras cp --from-plain-http $SOURCE/$n --to-oci-layout oras:${n//[:\\/]/-}; done;"
        " tar -cf oras.tar -C oras .",
        "for n in $NAMES; do oras cp --from-oci-layout oras.tar:${n//[:\\/]/-} --to-plain-http $TARGET/$n; done",
        ("oras.tar",),
        name="oras cp, tar",
        left_over=("oras",),
    ),
    Peer(
        "regctl",
        "regctl version --format '{{.VCSTag}}'",
        "for n in $NAMES; do regctl image export --host reg=$SOURCE,tls=disabled $SOURCE/$n"
        " regctl-${n//[:\\/]/-}.tar; done",
        "for n in $NAMES; do regctl image import --host reg=$TARGET,tls=disabled $TARGET/$n"
        " regctl-${n//[:\\/]/-}.tar; done",
        ("regctl-*.tar",),
        remark="one archive an image: shared layers several times",
    ),
    Peer(
        "skopeo",
        "skopeo --version | sed 's/.* //'",
        "for n in $NAMES; do skopeo --insecure-policy copy -q --all --src-tls-verify=false docker://$SOURCE/$n"
        " oci:skopeo:$n; done; tar -cf skopeo.tar skopeo",
        "tar -xf skopeo.tar; for n in $NAMES; do skopeo --insecure-policy copy -q --all --dest-tls-verify=false"
        " oci:skopeo:$n docker://$TARGET/$n; done",
        ("skopeo.tar",),
        name="skopeo copy oci:, tar",
        left_over=("skopeo",),
    ),
    Peer(
        "hauler",
        "hauler version | sed -n 's/^GitVersion: *//p'",
        "hauler store sync -f hauler.yaml -s hauler; hauler store save -f hauler.tar.zst -s hauler",
        "hauler store load -f hauler.tar.zst -s hauler; hauler store copy --plain-http -s hauler registry://$TARGET",
        ("hauler.tar.zst",),
        left_over=("hauler", ".hauler"),
    ),
    Peer(
        "zarf",
        "zarf version --no-color",
        "zarf package create zarf --confirm --skip-sbom --plain-http --architecture amd64 --output . --no-color"
        " --cache zarf-cache --tmpdir .",
        "zarf package mirror-resources zarf-package-bench-amd64.tar.zst --images --registry-url $TARGET"
        " --registry-push-username any --registry-push-password any --no-img-checksum --plain-http --confirm --no-color"
        " --tmpdir .",
        ("zarf-package-*.tar.zst",),
        remark="one architecture only",
        left_over=("zarf-cache",),
    ),
)


def present(path: str) -> list[Peer]:
    """Those whose program is on `path`."""
    return [peer for peer in PEERS if shutil.which(peer.program, path=path)]


def version(peer: Peer, path: str) -> str:
    """What the program says of itself: its own word, such as `devel` for some builds from source."""
    done = subprocess.run(["bash", "-c", peer.version], env={"PATH": path}, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def prepare(folder: Path, lock: Path, source: str, names: Sequence[str]) -> None:
    """Write the lists of images that some of them want: of digests for imgpkg, of names for hauler and zarf."""
    images = [f"{source}/{name}" for name in names]
    locked = {image["source"]: image["upstream"] for image in json.loads(lock.read_text())["images"]}
    by_digest = [{"image": f"{image.rpartition(':')[0]}@{locked[image]}"} for image in images]
    kind = {"apiVersion": "imgpkg.carvel.dev/v1alpha1", "kind": "ImagesLock"}
    (folder / "images.yml").write_text(json.dumps(kind | {"images": by_digest}))
    kind = {"apiVersion": "content.hauler.cattle.io/v1", "kind": "Images"}
    spec = {"metadata": {"name": "bench"}, "spec": {"images": [{"name": image} for image in images]}}
    (folder / "hauler.yaml").write_text(json.dumps(kind | spec))
    component = {"name": "all", "required": True, "images": images}
    package = {"kind": "ZarfPackageConfig", "metadata": {"name": "bench"}, "components": [component]}
    (folder / "zarf").mkdir(exist_ok=True)
    (folder / "zarf" / "zarf.yaml").write_text(json.dumps(package))

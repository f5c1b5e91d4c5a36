"""The command `import`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from installer.bundle.reader import Bundle
from installer.chart.relocation import Relocation
from installer.cli.opening import BundleChoice, bundle_options
from installer.cli.options import back_to_option
from installer.cli.registry.lacking import ask_for
from installer.commands import FILE, Command
from installer.errors import LackingError
from installer.floor.guard import Guard
from installer.frozen import program
from installer.report import count
from installer.shell import Session
from installer.transfer.containerd import ImageStore, import_images
from installer.transfer.image_archive import (
    NO_IMAGE,
    ImageArchive,
    Names,
    artifacts_among,
    described,
    names_on_node,
    put_into_folder,
)

if TYPE_CHECKING:
    from installer.site.site import Site


@click.command("import", cls=Command)
@bundle_options
@click.option(
    "--containerd",
    "socket",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Socket of this node's containerd, such as /run/containerd/containerd.sock.",
)
@click.option("-n", "--namespace", default="k8s.io", show_default=True, help="Namespace there; Kubernetes has its own.")
@click.option(
    "--image-folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder that k3s or RKE2 imports from, such as /var/lib/rancher/k3s/agent/images.",
)
@click.option("--site", "site_file", type=FILE, help="Name images as pods of this site will ask for them.")
@back_to_option
@click.option("--request", type=FILE, help="If what an update builds on is not there: ask for it in this file.")
def node_import(
    session: Session,
    *,
    choice: BundleChoice,
    socket: Path | None,
    namespace: str,
    image_folder: Path | None,
    site_file: Path | None,
    back_to: int | None,
    request: Path | None,
) -> None:
    """Bring the images onto this node, where the site has no registry. Run it on every node.

    With `on_nodes: true` below `registry` in site.yaml, `install` and `render` rely on it. Without --site images keep
    their upstream names. What is there already is left alone. Artifacts, which no node can unpack, are left out and
    named; an image that the node refuses stops no other. In containerd images are pinned, so that the kubelet does not
    clear them away: `ctr images rm` does. A bundle that is older than what was brought onto this node is refused.

    An image folder takes one file, which k3s and RKE2 read within seconds, versions before 2025 only when they start;
    at each start they read it again, unless there is a file `.cache.json`. Delete the files of earlier bundles there.

    Kubelets from 1.35 on ask again for an image that they once pulled under another name: a node that had a registry
    before needs `imagePullCredentialsVerificationPolicy: NeverVerify` in their configuration.

    \b
    Examples, where S is /run/containerd/containerd.sock, in k3s and RKE2
    /run/k3s/containerd/containerd.sock, and F is
    /var/lib/rancher/k3s/agent/images or /var/lib/rancher/rke2/agent/images:
      PROGRAM import --site site.yaml --containerd S
      PROGRAM import --site site.yaml --image-folder F
    """
    if bool(image_folder) == bool(socket):
        raise click.UsageError("say where to: --containerd SOCKET, or --image-folder FOLDER")
    with choice.open(session) as bundle:
        names = _names(bundle, _site(session, bundle, site_file) if site_file else None)
        there = str(image_folder.resolve()) if image_folder else f"{socket} {namespace}"
        guard = Guard(bundle.manifest, there, back_to, session.state(), session.reporter.note)
        if image_folder:
            _into_folder(session, bundle, names, image_folder, guard, request)
        elif socket:
            store = ImageStore.at(socket, namespace, program.child_environment(session.environment))
            _into_containerd(session, bundle, names, store, guard, request)


def _site(session: Session, bundle: Bundle, file: Path) -> "Site":
    # The libraries that read answers are large, and not needed without them.
    from installer.cli.site_file import read_registry_part

    return read_registry_part(session, bundle, file)


def _names(bundle: Bundle, site: "Site | None") -> Names:
    registry, project = (site.registry, site.project) if site else ("", "")
    images = bundle.manifest.images
    known = frozenset(image.reference for image in images)
    return names_on_node(images, Relocation(registry, project, known, names_stay=not registry))


def _into_containerd(
    session: Session, bundle: Bundle, names: Names, store: ImageStore, guard: Guard, request: Path | None
) -> None:
    guard.check()
    done = import_images(bundle, store, names, session.reporter)
    if not done.lacking and (done.new or done.present):
        guard.keep()
    session.emit(done.document(names) | ask_for(session, bundle, done.lacking, request), done.text(names))
    done.check()


def _into_folder(
    session: Session, bundle: Bundle, names: Names, folder: Path, guard: Guard, request: Path | None
) -> None:
    guard.check()
    artifacts = artifacts_among(bundle, names)
    names = {image: some for image, some in names.items() if image not in artifacts}
    archive = ImageArchive(bundle, names)
    try:
        path, written = put_into_folder(archive, folder, session.reporter)
    except LackingError:
        document = ask_for(session, bundle, list(archive.lacking.values()), request)
        if session.output == "json":
            session.emit(document, "")
        raise
    guard.keep()
    document = {
        "file": str(path),
        "written": written,
        "images": described(names, present=not written),
        "left_out": {image.source: NO_IMAGE for image in artifacts},
    }
    text = f"{path}  {'written' if written else 'was there'}: {count(len(names), 'image')}"
    session.emit(document, "\n".join([*(f"{image.source}  left out: {NO_IMAGE}" for image in artifacts), text]))

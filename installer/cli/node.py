"""The command that brings images onto a node, for sites without a registry."""

from pathlib import Path
from typing import Any

import click

from installer.cli.options import FILE, bundle_options
from installer.shell import Session, common


@click.command("import")
@common
@bundle_options
@click.option(
    "--containerd",
    "socket",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Socket of this node's containerd, such as /run/containerd/containerd.sock.",
)
@click.option("--namespace", default="k8s.io", show_default=True, help="Namespace there; Kubernetes has its own.")
@click.option(
    "--image-folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder that k3s or RKE2 imports from, such as /var/lib/rancher/k3s/agent/images.",
)
@click.option("--site", "site_file", type=FILE, help="Name images as pods of this site will ask for them.")
@click.option("--request", type=FILE, help="If what an update builds on is not there: ask for it in this file.")
def import_(
    session: Session,
    bundle: Any,
    socket: Path | None,
    namespace: str,
    image_folder: Path | None,
    site_file: Path | None,
    request: Path | None,
) -> None:
    """Bring the images onto this node, where the site has no registry. Run it on every node.

    \b
    Examples:
      ./wandb-installer import --site site.yaml --containerd /run/containerd/containerd.sock
      ./wandb-installer import --site site.yaml --containerd /run/k3s/containerd/containerd.sock
      ./wandb-installer import --site site.yaml --image-folder /var/lib/rancher/rke2/agent/images
    With `on_nodes: true` below `registry` in site.yaml, `install` and `render` rely on it. Without --site images keep
    their upstream names. What is there already is left alone. In containerd images are pinned, so that the kubelet
    does not clear them away: `ctr images rm` does. An image folder takes one file, which k3s and RKE2 read within
    seconds, versions before 2025 only when they start; at each start they read it again, unless there is a file
    `.cache.json`. Delete the files of earlier bundles there.
    Kubelets from 1.35 on ask again for an image that they once pulled under another name: a node that had a registry
    before needs `imagePullCredentialsVerificationPolicy: NeverVerify` in their configuration.
    """
    from installer.chart.relocation import Relocation
    from installer.cli import loading
    from installer.cli.requesting import hand_over
    from installer.errors import LackingError
    from installer.frozen import program
    from installer.transfer.containerd import ImageStore, import_images
    from installer.transfer.existing_blobs import lacking_document, request_for
    from installer.transfer.image_archive import ImageArchive, names_on_node, put_into_folder

    site = loading.read_site(session, site_file, for_charts=False) if site_file else None
    registry, project = (site.registry, site.project) if site else ("", "")
    images = bundle.manifest.images
    known = frozenset(image.reference for image in images)
    names = names_on_node(images, Relocation(registry, project, known, names_stay=not registry))
    if image_folder and not socket:
        archive = ImageArchive(bundle, names)
        try:
            path, written = put_into_folder(archive, image_folder, session.reporter)
        except LackingError:
            wanted = request_for(bundle, list(archive.lacking.values()))
            if wanted and request:
                hand_over(session, wanted, request, qr=None)
            if session.output == "json":
                lacking = lacking_document(bundle, list(archive.lacking.values()))
                session.emit({"lacking": lacking, "request": wanted.text if wanted else ""}, "")
            raise
        document = {"file": str(path), "written": written, "images": _described(names, present=not written)}
        session.emit(document, f"{path}  {'written' if written else 'was there'}: {len(names)} images")
        return
    if image_folder or not socket:
        raise click.UsageError("say where to: --containerd SOCKET, or --image-folder FOLDER")
    store = ImageStore.at(socket, namespace, program.child_environment(session.environment))
    done = import_images(bundle, store, names, session.reporter)
    wanted = request_for(bundle, done.lacking)
    if wanted and request:
        hand_over(session, wanted, request, qr=None)
    new, there = ({image: names[image] for image in some} for some in (done.new, done.present))
    document = {
        "images": _described(new, present=False) + _described(there, present=True),
        "left_out": {image.source: error.message for image, error in done.left_out.items()},
        "sent": done.sent,
        "request": wanted.text if wanted else "",
    }
    lines = [f"{some[0]}  imported" for some in new.values()] + [f"{some[0]}  was there" for some in there.values()]
    session.emit(document, "\n".join([*lines, done.summary()]))
    done.check()


def _described(names: Any, *, present: bool) -> list[dict[str, Any]]:
    return [
        {"source": image.source, "names": list(some), "digest": image.digest.text, "present": present}
        for image, some in names.items()
    ]

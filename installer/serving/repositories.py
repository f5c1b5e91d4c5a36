"""The repositories that a bundle's images and charts make, each with its manifests, blobs, tags and referrers."""

from collections.abc import Iterable, Mapping
from typing import Any

from installer.bundle.manifest import BundleBlob, BundleChart
from installer.bundle.reader import Bundle
from installer.chart.bundled import artifact_of
from installer.chart.relocation import path_of
from installer.errors import BundleError, StorageError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.model import Descriptor, Index, Manifest
from installer.registry import referrers
from installer.report import Reporter
from installer.serving.answer import Answer


class Repository:
    """What is answered in one repository: `manifests` by digest and tag, `blobs` by digest, both as text.

    `tags` are those that are listed, sorted.
    """

    def __init__(self) -> None:
        self.manifests: dict[str, Answer] = {}
        self.blobs: dict[str, Answer] = {}
        self.tags: list[str] = []
        self._about: dict[Digest, dict[Digest, dict[str, Any]]] = {}

    def add(
        self, nodes: Iterable[Manifest | Index], parts: Iterable[Descriptor | BundleBlob], tags: Mapping[str, Digest]
    ) -> None:
        """Take in an image or an artifact: its manifests, all that it consists of, and what `tags` name of that."""
        for part in parts:
            # What a manifest calls it is for whoever reads the manifest, which may call a manifest a layer; here all
            # blobs are the same.
            self.blobs[part.digest.text] = Answer(media_types.OCTETS, part.size, part.digest)
        for node in nodes:
            root = node.descriptor
            self.manifests[root.digest.text] = Answer(root.media_type, root.size, root.digest)
            if node.subject is not None:
                about = self._about.setdefault(node.subject.digest, {})
                about[root.digest] = referrers.entry(node)
        self.manifests |= {tag: self.manifests[digest.text] for tag, digest in tags.items()}
        self.tags = sorted({*self.tags, *tags})

    def tag_lists(self) -> None:
        """Have the lists of referrers under the tags, too, by which clients find them that do not ask for lists."""
        for subject, about in self._about.items():
            raw = referrers.list_of(about.values())
            digest = Digest.of(raw)
            listed = Answer.of(raw, media_types.OCI_INDEX, (("Docker-Content-Digest", digest.text),))
            # It is not among `tags`: who copies all tags would copy it as an image.
            self.manifests[digest.text] = listed
            self.manifests.setdefault(referrers.tag_for(subject), listed)

    def referrers(self, subject: str, artifact_type: str) -> Answer:
        """The list of what is about the manifest with the digest `subject`, or of those of one type."""
        about = next((about for digest, about in self._about.items() if digest.text == subject), {})
        entries = [entry for entry in about.values() if artifact_type in ("", entry.get("artifactType"))]
        headers = (("OCI-Filters-Applied", "artifactType"),) if artifact_type else ()
        return Answer.of(referrers.list_of(entries), media_types.OCI_INDEX, headers)


def repositories_of(bundle: Bundle, reporter: Reporter) -> Mapping[str, Repository]:
    """The repositories by name: `HOST/PATH` as `load` makes of upstream names, and `charts/NAME`.

    An image of which an update carries a part only is not there: it could be begun, but never be pulled. Nor is one
    whose manifests are damaged, which is told. Raises BundleError for a damaged chart.
    """
    found: dict[str, Repository] = {}
    for image in bundle.manifest.images:
        if bundle.lacking(image):
            continue
        try:
            nodes = bundle.images.manifests(image)
        except (BundleError, StorageError) as exc:
            reporter.note(f"{image.source} is not served: {exc.message}")
            continue
        tags = {tag: digest for tag, digest in ((image.tag, image.digest), *image.tagged) if tag}
        repository = found.setdefault(path_of(image.reference.repository), Repository())
        repository.add(nodes, bundle.manifest.parts(image), tags)
    for chart in bundle.manifest.charts:
        _add_chart(found.setdefault(f"charts/{chart.name}", Repository()), bundle, chart)
    for repository in found.values():
        repository.tag_lists()
    return found


def _add_chart(repository: Repository, bundle: Bundle, chart: BundleChart) -> None:
    artifact = artifact_of(bundle, chart)
    # HIP 6: a version's plus sign, which no tag may hold, is written as an underscore.
    tag = chart.version.replace("+", "_")
    repository.add([artifact], (artifact.descriptor, *artifact.blobs), {tag: chart.artifact})

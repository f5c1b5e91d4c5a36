"""Which images and charts a registry holds already, under the very name and digest that a load gives them, and what the
tags of others name until then."""

import threading
from collections.abc import Mapping

from installer.bundle.manifest import BundleChart, BundleImage
from installer.bundle.reader import Bundle
from installer.errors import AirferryError, ContentError, NotFoundError, RegistryAccessError
from installer.oci import media_types
from installer.oci.digest import Digest
from installer.oci.reference import DigestRef, Reference, Repository, TagRef
from installer.parallel import each
from installer.registry.client import Registry
from installer.registry.failures import RegistryFailedError
from installer.value import Value


class Held(Value):
    """What a registry holds of an image: `whole` if all of it is there; `before` is what else its tag names."""

    whole: bool
    before: Digest | None


def existing_images(
    bundle: Bundle, registry: Registry, targets: Mapping[str, Reference], *, threads: int
) -> Mapping[str, Held]:
    """What `registry` holds already at the `targets` of the images in `bundle`, by their sources.

    An image that it does not answer for counts as one that it lacks. Raises RegistryAccessError or
    RegistryUnreachableError if it lets us see none.
    """
    found: dict[str, Held] = dict.fromkeys(targets, Held(whole=False, before=None))
    barred: list[AirferryError] = []

    def look(image: BundleImage) -> None:
        try:
            found[image.source] = held_at(bundle, registry, targets[image.source], image)
        except (RegistryAccessError, RegistryFailedError) as exc:
            barred.append(exc)
        except (ContentError, NotFoundError):
            pass

    each(look, bundle.manifest.images, threads=threads, stop=threading.Event(), waits=lambda _: True)
    if barred and len(barred) == len(bundle.manifest.images):
        raise barred[0]
    return found


def held_at(bundle: Bundle, registry: Registry, target: Reference, image: BundleImage) -> Held:
    """Whether `target` names the image already; a registry accepts a manifest only with all its parts.

    The registry must list its referrers, too: a load that was interrupted may have pushed and not yet listed them. Tags
    about it must be there; one that names another manifest now than the one that was pushed was changed by the site.

    An image that is not noticed is pushed once more.
    """
    named = registry.head_manifest(tag_or_digest(target), surely=False)
    if named != image.digest:
        return Held(whole=False, before=named)
    whole = (
        all(registry.head_manifest(DigestRef(target.repository, digest)) for digest in image.referrers)
        and all(_is_tagged(registry, TagRef(target.repository, tag), digest) for tag, digest in image.tagged)
        and _lists_referrers(bundle, registry, target.repository, image)
    )
    return Held(whole, before=None)


def chart_exists(bundle: Bundle, registry: Registry, target: TagRef, chart: BundleChart) -> bool:
    """Whether `target` names the chart already."""
    return held_at(bundle, registry, target, chart_as_image(bundle, chart, target)).whole


def chart_as_image(bundle: Bundle, chart: BundleChart, target: TagRef) -> BundleImage:
    """The OCI artifact of `chart` as an image called `target`: it has a manifest and one layer."""
    size = bundle.blob(chart.artifact).size
    return BundleImage(str(target), chart.artifact, media_types.OCI_MANIFEST, size, chart.artifact, ())


def tag_or_digest(target: Reference) -> Reference:
    """`target` by its tag if it has one: the digest may be there although the tag still names another."""
    return TagRef(target.repository, target.tag) if target.tag else target


def _is_tagged(registry: Registry, tag: TagRef, digest: Digest) -> bool:
    found = registry.head_manifest(tag)
    return found == digest or bool(found and registry.head_manifest(DigestRef(tag.repository, digest)))


def _lists_referrers(bundle: Bundle, registry: Registry, repository: Repository, image: BundleImage) -> bool:
    """Whether the registry lists all referrers of the image. Reads no blob: its volume need not be at hand."""
    unlisted = {digest.text for digest in image.referrers}
    parts = bundle.manifest.parts(image) if unlisted else ()
    for subject in sorted(parts, key=lambda blob: blob.digest != image.digest):
        if unlisted and subject.is_manifest:
            unlisted -= set(registry.referrers(repository, subject.digest))
    return not unlisted

"""The projects and repositories that a load writes into: some registries want them made beforehand."""

from collections.abc import Callable

from installer.bundle.manifest import BundleManifest
from installer.chart.relocation import Relocation
from installer.errors import NotFoundError, RegistryAccessError
from installer.oci.reference import Repository


def repositories(manifest: BundleManifest, relocation: Relocation) -> list[Repository]:
    """All repositories that the images and charts of a bundle are loaded into, in order, each once."""
    images = [relocation.target(image.reference).repository for image in manifest.images]
    charts = [relocation.chart(chart.name, chart.version).repository for chart in manifest.charts]
    return sorted({*images, *charts}, key=str)


def projects(found: list[Repository]) -> list[str]:
    """The first parts of the paths: what Harbor calls a project, and others a namespace or an organization."""
    return sorted({repository.path.partition("/")[0] for repository in found})


def listed(found: list[Repository]) -> str:
    """For people: the projects, then the repositories."""
    return "\n".join([f"projects: {', '.join(projects(found))}", "repositories:", *(f"  {item}" for item in found)])


def with_destinations(load: Callable[[], None], manifest: BundleManifest, relocation: Relocation) -> None:
    """`load()`; when the registry says that a place is missing or forbidden, the error tells all that are needed.

    Raises NotFoundError, RegistryAccessError, and whatever else `load` raises.
    """
    hint = (
        "these must exist, and this account must be allowed to push into them; in a Harbor, "
        "`load --create-projects` makes the projects."
    )
    try:
        load()
    except NotFoundError as exc:
        raise NotFoundError(f"{exc.message}\n{listed(repositories(manifest, relocation))}", hint=hint) from exc
    except RegistryAccessError as exc:
        message = f"{exc.message}\n{listed(repositories(manifest, relocation))}"
        raise RegistryAccessError(message, hint=f"{exc.hint} {hint}".strip()) from exc

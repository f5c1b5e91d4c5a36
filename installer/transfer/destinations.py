"""The projects and repositories that a load writes into: some registries want them made beforehand."""

from collections.abc import Sequence

from installer.bundle.manifest import BundleManifest
from installer.chart.relocation import Relocation
from installer.errors import AirferryError, NotFoundError, RegistryAccessError
from installer.oci.reference import Repository


def repositories(manifest: BundleManifest, relocation: Relocation) -> list[Repository]:
    """All repositories that a load of a bundle writes into, in order, each once."""
    images = [relocation.target(image.reference).repository for image in manifest.images]
    charts = [relocation.chart(chart.name, chart.version).repository for chart in manifest.charts]
    return sorted({*images, *charts, relocation.floors}, key=str)


def projects(found: Sequence[Repository]) -> list[str]:
    """The first parts of the paths: what Harbor calls a project, and others a namespace or an organization."""
    return sorted({repository.path.partition("/")[0] for repository in found})


def listed(found: Sequence[Repository]) -> str:
    """For people: the projects, then the repositories."""
    return "\n".join([f"projects: {', '.join(projects(found))}", "repositories:", *(f"  {item}" for item in found)])


def with_destinations(error: AirferryError, found: Sequence[Repository]) -> AirferryError:
    """`error`; if the registry says with it that a place is missing or forbidden, it tells all that are needed."""
    if not isinstance(error, NotFoundError | RegistryAccessError):
        return error
    hint = (
        "these must exist, and this account must be allowed to push into them; in a Harbor, "
        "`load --create-projects` makes the projects."
    )
    if isinstance(error, RegistryAccessError):
        hint = f"{error.hint} {hint}".strip()
    return type(error)(f"{error.message}\n{listed(found)}", hint=hint)

"""An installation rehearsed: all that the installer works out and proves before it applies anything.

What it would refuse in the enclave is refused here, where something can be done about it. The very code of the
installer does it (`installer.objects.make_desired`), for sites that are made up.
"""

from collections.abc import Iterable, Iterator, Sequence

from builder.assemble.contents import contents
from builder.charts.fetch import FetchedChart
from builder.images.parallel import RENDERINGS, in_parallel
from builder.images.source import Places
from builder.recipe.lock import Lock
from builder.rehearse.cluster_limits import defects
from builder.rehearse.sample_site import sample_site
from installer.apps.application import Application
from installer.apps.samples import Sample
from installer.bundle.limits import MAX_SMALL_BLOB
from installer.bundle.manifest import BundleManifest, Contents
from installer.errors import BundleError, RecipeError, SiteError
from installer.objects.desired import Desired
from installer.objects.make_desired import desired
from installer.oci.digest import Digest
from installer.preflight.namespaces import unmade_by
from installer.site.site import Site
from installer.value import Value
from installer.workflows.driver import driver_of

# Kubernetes documentation, "Namespaces": those of every cluster.
_THERE = frozenset({"default", "kube-node-lease", "kube-public", "kube-system"})


class LockedContents:
    """What a bundle will hold, before it is built: what `lock` says, in `places`, and the archives of its `charts`."""

    def __init__(self, lock: Lock, charts: Iterable[FetchedChart], places: Places) -> None:
        self.manifest: BundleManifest = contents(lock).skeleton
        self._held = {blob.digest: blob.content for blob in lock.blobs if blob.text}
        self._held |= {item.archive: item.chart.archive for item in charts}
        self._files = {item.digest: item.origin for item in lock.documents if item.origin.kind == "file"}
        self._blobs, self._places = lock.blobs_by_digest(), places

    def read(self, digest: Digest, limit: int = MAX_SMALL_BLOB) -> bytes:
        """A chart or a document. Raises BundleError for what is neither, or longer than `limit`."""
        if digest in self._files:
            return self._places.read(self._files[digest], self._blobs[digest].descriptor, limit)
        found = self._held.get(digest)
        if found is None or len(found) > limit:
            raise BundleError(f"{digest}: no chart or document of at most {limit} bytes")
        return found


class Cluster(Value):
    """The cluster that charts see: its version, `1.34`, and API versions beside Kubernetes' own."""

    version: str
    api_versions: tuple[str, ...] = ()


class Rehearsal(Value):
    """What came of it: `asked` are the questions that a site has to answer, `notes` are for the release engineer."""

    asked: tuple[str, ...]
    notes: tuple[str, ...]


class _Trial(Value):
    """An installation at one site, with a word about its answers unless these are the plainest, on one cluster."""

    about: str
    site: Site
    cluster: Cluster
    left_out: frozenset[str]

    def outcome(self, bundle: Contents, app: Application) -> "_Outcome":
        """What an installer would say to it."""
        where = f"Kubernetes {self.cluster.version}: " if self.cluster.version else ""
        where += f"a site {self.about}: " if self.about else ""
        try:
            made = desired(
                bundle,
                self.site,
                driver_of(app.profile.driver),
                kube_version=self.cluster.version,
                api_versions=self.cluster.api_versions,
                blank=True,
                left_out=self.left_out,
                draft=True,
            )
        except SiteError as exc:
            return _Outcome(wrong=(f"{where}{exc.message}",))
        return _Outcome(
            wrong=tuple(f"{where}{text}" for text in defects(made, self.cluster.version, self.cluster.api_versions)),
            notes=(*made.misspelt, *_unmade(made)),
            asked=made.open_questions,
        )


class _Outcome(Value):
    wrong: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()


def rehearse(
    bundle: Contents,
    app: Application,
    sites: Sequence[tuple[str, Site]],
    clusters: Sequence[Cluster],
    left_out: frozenset[str] = frozenset(),
) -> Rehearsal:
    """Install `bundle` at `sites`, as far as nothing is applied: at the first on all `clusters`, else on the last.

    `app` is what the bundle holds. With each site goes a word about its answers, empty for one that gives no more than
    it must. Raises RecipeError that names all that an installer would refuse, other than for the images `left_out` on
    purpose (full names).
    """
    first, *others = sites
    pairs = [*((first, cluster) for cluster in clusters), *((site, clusters[-1]) for site in others)]
    trials = [_Trial(about=about, site=site, cluster=cluster, left_out=left_out) for (about, site), cluster in pairs]
    outcomes = in_parallel(lambda trial: trial.outcome(bundle, app), trials, "rehearsals fail", threads=RENDERINGS)
    if wrong := dict.fromkeys(text for item in outcomes for text in item.wrong):
        raise RecipeError(
            "\n  ".join(["the installer would refuse this in the enclave:", *wrong]),
            hint="correct the answers; or correct the recipe, the profile or the values of the charts and run "
            "`airferry lock` again.",
        )
    notes = dict.fromkeys(text for item in outcomes for text in item.notes)
    return Rehearsal(asked=outcomes[0].asked, notes=tuple(notes))


def _unmade(made: Desired) -> Iterator[str]:
    for place, owners in unmade_by(made).items():
        if place not in _THERE:
            yield f"nothing makes the namespace {place}, named by {owners}: a site needs it, or a controller makes it"


def sample_sites(app: Application, others: Iterable[Sample] = ()) -> list[tuple[str, Site]]:
    """A site that answers no more than it must, and those with the answers of `others`."""
    further = ((f"that answers {item.key}", sample_site(app, item.after)) for item in others)
    return [("", sample_site(app, app.example())), *further]

"""Which images a chart needs, and which more it can ask for, each with its reasons."""

from collections.abc import Iterable, Mapping

from builder.charts.operators import Sighted
from builder.charts.render_matrix import Renderings, only
from builder.charts.rendering import PROFILE, Release, Rendering, Seen
from builder.charts.values_images import Spelling, switches_above
from builder.recipe.findings import Failure, Reason
from builder.recipe.recipe import KubernetesEntry
from installer.apps.profile import at_path
from installer.chart.images import Found, references
from installer.chart.parts import Part
from installer.errors import ContentError, RecipeError
from installer.oci.reference import Repository
from installer.strict_yaml import load_yaml
from installer.value import Value, replace

# By which charts tell what they use (artifacthub.io, "Helm annotations reference"; Helm's; Bitnami's).
_HINTS = ("artifacthub.io/images", "helm.sh/images", "images")


class Discovery(Value):
    """What one chart asks for, each with its places.

    `images` are those of the profile by their full name, `optional` those that only further switches ask for;
    `suspected` is text that may be an image or that only `helm test` asks for, `supposed` the same where only further
    switches bring it about, and `unused` are repositories that the values name, but no rendering, with the places
    there. `operators` are signs of images that rendering does not show, and `notes` are for people. `versions` are
    those of the cluster on which it asks for other images than on the one that counts.
    """

    release: Release
    images: Mapping[str, tuple[Reason, ...]]
    optional: Mapping[str, tuple[Reason, ...]]
    suspected: Mapping[str, tuple[Reason, ...]]
    supposed: Mapping[str, tuple[Reason, ...]]
    unused: tuple[str, ...]
    failures: tuple[Failure, ...]
    renderings: tuple[Rendering, ...]
    operators: frozenset[Sighted]
    notes: tuple[str, ...]
    versions: tuple[str, ...]


def discover(release: Release, kubernetes: KubernetesEntry) -> Discovery:
    """The images of `release`.

    Raises RecipeError if the chart cannot be rendered with the profile, or then asks for something that is no image, or
    that cannot be known before the cluster is.
    """
    made = Renderings(release, kubernetes)
    made.run()
    return _Finder(release, made).discovery()


class _Finder:
    """Tells what was seen in the renderings of one chart apart."""

    def __init__(self, release: Release, made: Renderings) -> None:
        self.release, self.made = release, made
        self.chart = release.fetched.chart.name
        self.seen = made.made.seen
        self.identities = {name: {seen.identity for seen in places} for name, places in self.seen.items()}
        self.profile = self.identities[PROFILE]
        self.needed: dict[str, set[Reason]] = {}
        self.optional: dict[str, set[Reason]] = {}
        self.suspected: dict[str, set[Reason]] = {}
        self.supposed: dict[str, set[Reason]] = {}
        self.failures = {replace(failure, values=self._near(failure.template)) for failure in made.made.failures}

    def discovery(self) -> Discovery:
        """What was found."""
        self._check_moving()
        for name, places in self.seen.items():
            for seen in places:
                if name == PROFILE or seen.identity not in self.profile:
                    self._add(seen, needed=name == PROFILE)
        self._add_hints()
        return Discovery(
            release=self.release,
            images=_sorted(self.needed),
            optional=_sorted({name: reasons for name, reasons in self.optional.items() if name not in self.needed}),
            suspected=_sorted(self.suspected),
            supposed=_sorted({text: found for text, found in self.supposed.items() if text not in self.suspected}),
            unused=self._unused(),
            failures=tuple(sorted(self.failures)),
            renderings=tuple(self.made.made.renderings),
            operators=frozenset(self.made.made.operators),
            notes=tuple(f"chart {self.chart}: {item}" for item in self.made.moving),
            versions=tuple(
                sorted({version for item in self.made.moving if not item.open for version in item.versions})
            ),
        )

    def _check_moving(self) -> None:
        """Raises RecipeError where the recipe leaves open which image the cluster will need."""
        if undecided := [item for item in self.made.moving if item.open and item.pulled]:
            told = f"chart {self.chart}: which image it needs is not known before the cluster is:"
            raise RecipeError(
                "\n  ".join([told, *map(str, undecided)]),
                hint="set the tag in the chart's values, or name the exact version of the cluster in the recipe, as "
                "`kubernetes: {to: 1.34.2}`.",
            )

    def _near(self, template: str) -> tuple[str, ...]:
        """The places in the values that spell images of the part that `template` belongs to, the chart itself aside."""
        part = self.release.tree.part(template)
        return tuple(str(item) for item in self.made.spelt if self.release.tree.owner(item.path) == part and part.path)

    def _add(self, seen: Seen, *, needed: bool) -> None:
        reason = self._reason(seen)
        if not seen.found.certain or seen.found.test_only:
            found = self.suspected if needed else self.supposed
            found.setdefault(seen.found.text, set()).add(reason)
        elif seen.reference:
            found = self.needed if needed else self.optional
            found.setdefault(str(seen.reference), set()).add(reason)
        elif needed:
            raise RecipeError(f"{reason}: {seen.defect}", hint="set the image in the chart's values.")
        else:
            self.failures.add(Failure(self.chart, seen.template, seen.defect, reason.switches, reason.values))

    def _add_hints(self) -> None:
        """Add what the charts that the profile switches on say of their images.

        Values often say another version, or another place: what is known by the last part of its name is no news, be
        it rendered or among the values.
        """
        seen = [item.repository for places in self.seen.values() for place in places if (item := place.reference)]
        known = {_leaf(item) for item in (*seen, *(spelling.repository for spelling in self.made.spelt))}
        tree = self.release.tree
        for part in tree.parts:
            if all(at_path(self.made.defaults, switch) is True for switch in part.switches):
                file = f"{tree.folder(part)}/Chart.yaml"
                for found in _hints(file, tree.files[file]):
                    if _leaf(found.reference().repository) not in known:
                        reason = Reason(self.chart, found.kind, "", found.name, "", found.path, "", template=file)
                        self.suspected.setdefault(found.text, set()).add(reason)

    def _unused(self) -> tuple[str, ...]:
        used = {
            reference.repository for places in self.seen.values() for seen in places if (reference := seen.reference)
        }
        return tuple(sorted({f"{item}: {item.repository}" for item in self.made.spelt if item.repository not in used}))

    def _reason(self, seen: Seen) -> Reason:
        found = seen.found
        part = self.release.tree.part(seen.template)
        spelt = self._spelt(seen, part)
        return Reason(
            chart=self.chart,
            kind=found.kind,
            namespace=found.namespace,
            name=found.name,
            container=found.container,
            field=found.path,
            hooks=",".join(found.hooks),
            template=seen.template,
            switches=(*part.switches, *self._inner_switches(seen, part, spelt)),
            values=tuple(str(item) for item in spelt),
        )

    def _inner_switches(self, seen: Seen, part: Part, spelt: Iterable[Spelling]) -> tuple[str, ...]:
        """The switches inside `part` that bring `seen` about."""
        inner = sorted(switch for switch, owner in self.made.inner.items() if owner.switches == part.switches)

        def made(*extra: str) -> bool:
            return seen.identity in self.identities.get(only((*part.switches, *extra)), ())

        if seen.identity in self.profile or not inner or made():
            return ()
        alone = next(((switch,) for switch in inner if made(switch)), ())
        # Several are needed together: most likely those that stand above the image.
        above = {".".join(path) for item in spelt for path, _ in switches_above(self.made.defaults, item.path)}
        return alone or tuple(switch for switch in inner if switch in above)

    def _spelt(self, seen: Seen, part: Part) -> list[Spelling]:
        reference = seen.reference
        if reference is None:
            return []
        fitting = [item for item in self.made.spelt if item.repository == reference.repository]
        own = [item for item in fitting if self.release.tree.owner(item.path) == part]
        # A part may take it from values of a part above it, but the chart itself has too many of them to tell.
        above = [item for item in fitting if part.path[:1] and item.path[:1] == part.path[:1]]
        return own or above


def _leaf(repository: Repository) -> str:
    return repository.path.rpartition("/")[2]


def _hints(file: str, data: bytes) -> Iterable[Found]:
    """The images in the annotations of a Chart.yaml."""
    chart = load_yaml(data, file, ContentError)
    annotations = chart.get("annotations") if isinstance(chart, dict) else None
    if not isinstance(annotations, dict):
        return ()
    hints = {key: annotations[key] for key in _HINTS if key in annotations}
    return references([{"kind": "Chart", "metadata": {"name": chart.get("name"), "annotations": hints}}])


def _sorted(found: Mapping[str, Iterable[Reason]]) -> dict[str, tuple[Reason, ...]]:
    return {name: tuple(sorted(found[name])) for name in sorted(found)}


def merged(parts: Iterable[Mapping[str, tuple[Reason, ...]]]) -> dict[str, tuple[Reason, ...]]:
    """Several maps of reasons as one."""
    found: dict[str, set[Reason]] = {}
    for part in parts:
        for name, reasons in part.items():
            found.setdefault(name, set()).update(reasons)
    return _sorted(found)

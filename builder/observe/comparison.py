"""An observation compared with a lock: what is not carried, as lines for the recipe."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, get_args

from builder.observe.observation import Observation, Sighting
from builder.recipe.findings import told
from builder.recipe.lock import Lock, full_name, reach
from installer.apps.profile import DOCUMENT, parse_profile
from installer.chart.relocation import path_of
from installer.chart.spelling.text import as_reference
from installer.errors import RecipeError
from installer.oci.reference import DigestRef, Reference
from installer.report import count
from installer.value import Value

MAX_PLACES = 4
"""Places that are shown for each image; the JSON form shows all."""
Verdict = Literal["missing", "possible", "renamed", "excluded", "carried"]
"""`missing` is asked for and not carried. `possible` is not carried either, but only custom resources, arguments,
variables or tests name it. `renamed` is carried under another name only, `excluded` left out by the recipe."""
_COMMENTED: dict[Verdict, str] = {
    "possible": "may be asked for",
    "renamed": "carried under another name; add it if an operator asks for it by this one",
    "excluded": "excluded by the recipe, and asked for",
}


class Seen(Value):
    """An image that the cluster names: by its full name, or as it stands there where it is none.

    `places` are where, `runs` the digests that nodes have pulled; `because` is what the lock says of it.
    """

    name: str
    verdict: Verdict
    because: str
    places: tuple[str, ...]
    runs: tuple[str, ...]


class Comparison(Value):
    """What became of each image of an observation."""

    observation: Observation
    seen: tuple[Seen, ...]

    def of(self, verdict: Verdict) -> tuple[Seen, ...]:
        """Those with this verdict, by name."""
        return tuple(item for item in self.seen if item.verdict == verdict)

    def document(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "namespaces": list(self.observation.namespaces),
            "pods": list(self.observation.pods),
            "not_listed": list(self.observation.unseen),
            **{
                verdict: [
                    {"image": item.name, "because": item.because, "seen": list(item.places), "runs": list(item.runs)}
                    for item in self.of(verdict)
                ]
                for verdict in get_args(Verdict)
            },
        }

    def text(self) -> str:
        """What belongs into the recipe, as its author writes it; all else stands in comments."""
        pods, carried = count(len(self.observation.pods), "pod"), count(len(self.of("carried")), "image")
        missing = [line for item in self.of("missing") for line in _entry(item, "  - ")]
        lines = [f"# seen: {pods}, {carried} carried", *(["images:", *missing] if missing else [])]
        for verdict, title in _COMMENTED.items():
            if found := self.of(verdict):
                lines += [f"  # {title}:", *(line for item in found for line in _entry(item, "  # - "))]
        return "\n".join(lines)


def _entry(item: Seen, lead: str) -> Iterator[str]:
    more = len(item.places) - MAX_PLACES
    yield from (f"  # {place}" for place in item.places[:MAX_PLACES])
    if more > 0:
        yield f"  # and {more} more"
    if item.because:
        yield f"  # {item.because}"
    yield f"{lead}{item.name}"


def namespaces_of(lock: Lock) -> list[str]:
    """The namespaces of the steps that `lock` has, where a site says no other; none for images alone.

    Raises RecipeError.
    """
    texts = [lock.blobs_by_digest()[item.digest].content for item in lock.documents if item.name == DOCUMENT]
    profiles = [parse_profile(text, DOCUMENT, RecipeError) for text in texts]
    return sorted({step.namespace or profile.namespace for profile in profiles for step in profile.steps})


def compared(observation: Observation, lock: Lock) -> Comparison:
    """What `lock` carries of what was seen."""
    held = _Held(lock)
    asked = _by_name(item for item in observation.sightings if item.certain)
    seen = []
    for name, sightings in asked.items():
        runs = sorted({item.runs for item in sightings} - {""})
        verdict, because = held.verdict(name, runs)
        seen.append(Seen(name, verdict, because, _places(sightings), tuple(runs)))
    for name, sightings in _by_name(item for item in observation.sightings if not item.certain).items():
        if name not in asked and held.verdict(name)[0] == "missing":
            seen.append(Seen(name, "possible", "", _places(sightings), ()))
    return Comparison(observation, tuple(seen))


def _by_name(sightings: Iterable[Sighting]) -> dict[str, list[Sighting]]:
    """Sightings by the full name of what they name, in order."""
    found: dict[str, list[Sighting]] = {}
    for item in sightings:
        name = full_name(item.text) if as_reference(item.text) else item.text
        found.setdefault(name, []).append(item)
    return {name: found[name] for name in sorted(found)}


def _places(sightings: Sequence[Sighting]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item.place for item in sightings))


class _Held:
    """What a lock says of images."""

    def __init__(self, lock: Lock) -> None:
        trees = lock.manifests_by_digest()
        # All that its images consist of: a node may tell the digest of an index, of a manifest, or of a configuration.
        self.content = {
            digest.text: image.source
            for image in lock.images
            for digest in (*reach(trees, image.digest), image.upstream, image.single)
        }
        self.names = {image.source for image in lock.images}
        references = [image.in_bundle().reference for image in lock.images]
        self.moved = {(path_of(reference.repository), reference.selector) for reference in references}
        self.excluded = {item.image: item.reason for item in lock.excluded}
        self.switches = {item.image: item.reasons[0].switches for item in lock.optional if item.reasons}

    def verdict(self, name: str, runs: Sequence[str] = ()) -> tuple[Verdict, str]:
        """What is to be said of the image `name`, whose content has the digests `runs`, and why."""
        reference = as_reference(name)
        if reference is None:
            return "possible", "not an image reference"
        if self._has(reference):
            return "carried", ""
        if name in self.excluded:
            return "excluded", self.excluded[name]
        if runs and all(digest in self.content for digest in runs):
            return "renamed", f"carried as {', '.join(sorted({self.content[digest] for digest in runs}))}"
        return "missing", f"the chart asks for it{told(self.switches[name])}" if name in self.switches else ""

    def _has(self, reference: Reference) -> bool:
        """Whether `reference` is carried, by its upstream name or as it is called in a registry like the enclave's."""
        if str(reference) in self.names or (isinstance(reference, DigestRef) and reference.selector in self.content):
            return True
        parts = reference.repository.path.split("/")
        tails = ("/".join(parts[start:]) for start in range(len(parts)))
        return any((tail, reference.selector) in self.moved for tail in tails)

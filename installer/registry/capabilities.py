"""Registry capabilities, observed from responses to requests that had to be made anyway; never probed."""

from collections import Counter

from installer.registry.endpoint import Endpoint
from installer.report import size
from installer.value import Value

AGREEMENTS = 4
"""So many GETs that find nothing, either, are enough to believe a HEAD."""


class Capabilities(Value):
    """What a registry can do; None where no response showed it.

    `mounts`: it mounts blobs from its other repositories. `resumes`: it keeps what it has of an upload that broke
    off. `largest_request`: the largest body of a request, in bytes. `slowed_down`: how often it had too many requests.
    `lists_referrers`: it lists the referrers of a manifest itself.
    """

    mounts: bool | None = None
    resumes: bool | None = None
    largest_request: int | None = None
    slowed_down: int = 0
    lists_referrers: bool | None = None

    def __str__(self) -> str:
        notes = []
        if self.mounts is False:
            notes.append("it shares no blobs between its repositories")
        if self.resumes is not None:
            notes.append(f"it {'keeps' if self.resumes else 'forgets'} what it has of an upload that breaks off")
        if self.largest_request:
            notes.append(f"requests are limited: they have {size(self.largest_request)} at most")
        if self.slowed_down:
            notes.append(f"it asked {self.slowed_down} times to slow down")
        if self.lists_referrers is False:
            notes.append("what refers to an image is listed under a tag, since it keeps no such list")
        return "; ".join(notes)


class Heads:
    """In which registries a 404 to HEAD means that a manifest is not there. Safe to use from several threads.

    Nexus knows no HEAD of manifests and answers 404 to each (registry-cli#43).
    """

    def __init__(self) -> None:
        self._seeing, self._blind = set[Endpoint](), set[Endpoint]()
        self._agreed = Counter[Endpoint]()

    def found(self, endpoint: Endpoint) -> None:
        """Note that HEAD has found a manifest."""
        self._seeing.add(endpoint)

    def missed(self, endpoint: Endpoint, *, there: bool) -> None:
        """Note that HEAD has found none, and whether GET did."""
        if there:
            self._blind.add(endpoint)
        else:
            self._agreed[endpoint] += 1

    def believed(self, endpoint: Endpoint, *, surely: bool) -> bool:
        """Whether a 404 counts: where HEAD has found something before.

        Unless it must be known `surely`, also where a few GETs have agreed with HEAD and none has found more.
        """
        unsure = not surely and endpoint not in self._blind and self._agreed[endpoint] >= AGREEMENTS
        return unsure or endpoint in self._seeing

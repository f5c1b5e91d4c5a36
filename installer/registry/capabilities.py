"""Registry capabilities, observed from responses to requests that had to be made anyway; never probed."""

from installer.report import size
from installer.value import Value


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

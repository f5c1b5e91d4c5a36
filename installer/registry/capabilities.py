"""What a registry is found to be able to do, told by its answers to requests that had to be made anyway."""

from installer.report import size
from installer.value import Value


class Learnt(Value):
    """What the answers of a registry have told about it; None where nothing did.

    `mounts`: it takes blobs over from its other repositories. `resumes`: it keeps what it has of an upload that broke
    off. `largest_request`: how many bytes one request may have. `slowed_down`: how often it had too many requests.
    `lists_referrers`: it knows itself what refers to a manifest.
    """

    mounts: bool | None = None
    resumes: bool | None = None
    largest_request: int | None = None
    slowed_down: int = 0
    lists_referrers: bool | None = None

    def __str__(self) -> str:
        told = []
        if self.mounts is False:
            told.append("it shares no blobs between its repositories")
        if self.resumes is not None:
            told.append(f"it {'keeps' if self.resumes else 'forgets'} what it has of an upload that breaks off")
        if self.largest_request:
            told.append(f"requests are limited: they have {size(self.largest_request)} at most")
        if self.slowed_down:
            told.append(f"it asked {self.slowed_down} times to slow down")
        if self.lists_referrers is False:
            told.append("what refers to an image is listed under a tag, since it keeps no such list")
        return "; ".join(told)

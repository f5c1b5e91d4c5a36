"""Why a node cannot pull an image, by the words of its container runtime.

The words are those of containerd (1.6 and later) and CRI-O; the file that mends what a node does not know of a
registry is containerd's `hosts.toml` (containerd, docs/hosts.md).
"""

import re
from collections.abc import Callable

from installer.diagnosis.cause import Cause, brief

Holds = Callable[[str], bool | None]
"""Whether the registry holds the image of a reference; None if that cannot be told from here."""

REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "RegistryUnavailable", "ErrImageNeverPull"}
)
# Words of the runtime, in lower case, and the cause that they mean; the first that fits counts.
_SIGNS: tuple[tuple[str, str], ...] = (
    ("http response to https client", "registry-plain-http"),
    ("x509", "registry-certificate"),
    ("certificate", "registry-certificate"),
    ("unexpected commit digest", "image-differs"),
    ("failed size validation", "image-differs"),
    ("does not match", "image-differs"),
    ("unauthorized", "pull-refused"),
    ("authorization", "pull-refused"),
    ("authentication required", "pull-refused"),
    ("no basic auth credentials", "pull-refused"),
    ("forbidden", "pull-refused"),
    ("denied", "pull-refused"),
    ("no match for platform", "image-platform"),
    ("no such host", "registry-name-unknown"),
    ("lookup ", "registry-name-unknown"),
    ("not found", "image-missing"),
    ("manifest unknown", "image-missing"),
    ("connection refused", "registry-silent"),
    ("timeout", "registry-unreachable"),
    ("deadline exceeded", "registry-unreachable"),
    ("no route", "registry-unreachable"),
    ("unreachable", "registry-unreachable"),
    ("no space left", "node-disk-full"),
)
_NO_REASON = re.compile(r'Back-off pulling image "[^"]*"')
_HOSTS = "/etc/containerd/certs.d/{host}/hosts.toml"
_STEPS: dict[str, str] = {
    "registry-plain-http": (
        f"this registry speaks plain HTTP, which the nodes do not expect: write {_HOSTS} on every node, with the line "
        '[host."http://{host}"] and below it capabilities = ["pull", "resolve"]; or give the registry a certificate.'
    ),
    "registry-certificate": (
        f"the nodes do not trust the registry's certificate: write {_HOSTS} on every node, with the line "
        '[host."https://{host}"] and below it ca = "/path/of/the/authority.crt".'
    ),
    "image-differs": (
        "the registry's copy is damaged: have it deleted there, then run `load` again; `verify` checks the bundle."
    ),
    "pull-refused": (
        "correct registry.credentials in site.yaml (pull_secret: true makes the Secret from it) or the Secret that "
        "pull_secret names, and run `install` again; or give the nodes credentials for {host}."
    ),
    "image-platform": "these nodes have another architecture than the image: use a bundle that is made for it.",
    "registry-name-unknown": (
        "the nodes cannot resolve the name {host}: check their DNS; without a registry, run `import --site` on them."
    ),
    "image-missing": "run `load` with the bundle that brings it.",
    "registry-silent": "{host} does not answer the nodes: check that the registry runs at this address and port.",
    "registry-unreachable": "the nodes cannot reach {host}: check routes and firewalls.",
    "node-disk-full": "the node's disk is full: make room for images there.",
    "image-name-invalid": "correct the image's name in the values of site.yaml.",
    "image-never-pulled": "the pull policy is Never: set it to IfNotPresent in the values of site.yaml.",
    "image-pull": "check that `load` has put it there and that the nodes may pull from this registry.",
}


def pull_cause(where: str, image: str, reason: str, message: str, lost_secrets: str, holds: Holds) -> Cause:
    """The cause behind a failed pull of `image`; `lost_secrets` is what the kubelet says of absent pull secrets."""
    said = essence(message, image) or reason
    cause = _kind(reason, said)
    if cause == "pull-refused" and lost_secrets:
        said = f"{brief(lost_secrets)} ({said})"
        return _cause("pull-secret-missing", where, image, said, _STEPS["pull-refused"])
    held = holds(image) if cause in ("image-missing", "image-pull") else None
    if held is False:
        said = f"{said}; the registry {'says the same' if cause == 'image-missing' else 'does not have it'}"
        return _cause("image-missing", where, image, said, _STEPS["image-missing"])
    if held:
        said = f"{said}, though the registry has it by now"
    if held and cause == "image-missing":
        return _cause(cause, where, image, said, "wait: the node tries again within minutes.", mending=True)
    return _cause(cause, where, image, said, _STEPS[cause])


def _cause(cause: str, where: str, image: str, said: str, step: str, *, mending: bool = False) -> Cause:
    step = step.format(host=image.partition("/")[0])
    return Cause(cause, where, f"image {image} cannot be pulled: {said}", step, mending=mending, image=image)


def is_silent(message: str) -> bool:
    """Whether `message` does not say why: before Kubernetes 1.32 the kubelet, once it has tried, tells the name alone.

    Then an event says it, see `failed_pull`.
    """
    return _NO_REASON.fullmatch(message) is not None


def failed_pull(image: str) -> str:
    """How the kubelet's message about a failed pull of `image` begins (Kubernetes, pkg/kubelet/images)."""
    return f'Failed to pull image "{image}": '


def essence(message: str, image: str) -> str:
    """What remains of a runtime's message without the chain of who passed it on."""
    text = brief(message, 2000)
    leads = (f'failed to resolve reference "{image}": ', f'failed to pull and unpack image "{image}": ')
    for lead in (failed_pull(image), *leads):
        text = text.rpartition(lead)[2]
    return brief(text.removeprefix(f"{image}: "))


def _kind(reason: str, said: str) -> str:
    if reason == "InvalidImageName":
        return "image-name-invalid"
    if reason == "ErrImageNeverPull":
        return "image-never-pulled"
    lower = said.lower()
    return next((cause for sign, cause in _SIGNS if sign in lower), "image-pull")

"""What goes wrong between us and an API server, as errors of this program."""

import ssl
from collections.abc import Iterable
from urllib.parse import urlsplit

from urllib3.exceptions import HTTPError, ProxyError

from installer.chart.releases import RIGHT_LACKING
from installer.cluster.cluster import AbsentError, ConflictError, NoDryRunError, UnavailableError, WebhookError
from installer.cluster.endpoint import Endpoint
from installer.errors import AirferryError, ClusterError, ClusterForbiddenError, ClusterUnreachableError

# Hints by the code of OpenSSL's X509_V_ERR_… (x509_vfy.h).
_CERTIFICATE_HINTS = {
    9: "correct the clock of this host, or renew the certificate.",
    10: "renew the certificate, or correct the clock of this host.",
    62: "use a name that the certificate has, or write one of them into the kubeconfig as tls-server-name.",
    64: "use an address that the certificate has, or write a name that it has into the kubeconfig as tls-server-name.",
}


class RefusedError(Exception):
    """An answer with a status that is no success, as the API server words it; `causes` are reasons, too, each with the
    field that it is about, if any."""

    def __init__(self, code: int, reason: str, message: str, causes: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.causes = code, reason, message, tuple(causes)


class TooLargeError(Exception):
    """An answer beyond the count of bytes that is the argument."""


def refusal(exc: RefusedError, message: str, endpoint: Endpoint) -> AirferryError:
    """The error for an answer that refuses; `message` says what was asked and how it was refused."""
    if exc.code == 401:
        return ClusterForbiddenError(
            f"{endpoint.server} does not accept the credentials of context {endpoint.context!r}",
            hint="renew them; the kubeconfig's token or client certificate may have expired.",
        )
    if exc.code == 403:
        return _forbidden(exc, message)
    if exc.code == 407:
        return _proxy_problem(endpoint, message)
    if exc.code == 404:
        return AbsentError(message, hint="its namespace or kind does not exist.")
    if exc.code == 400 and "dry run" in exc.message:
        return NoDryRunError(message)
    if exc.code == 409:
        return ConflictError(
            message,
            hint="another tool manages these fields: --take-over overwrites them; or change them with that tool.",
            fields=[field for cause, field in exc.causes if cause == "FieldManagerConflict"],
        )
    if exc.code == 500 and any(words in exc.message for words in ("failed calling webhook", "conversion webhook for")):
        return WebhookError(message, hint="look at the pods behind that webhook.")
    if exc.code in (502, 503, 504):
        return UnavailableError(message, hint="the API server, or what stands before it, is not ready.")
    hints = {
        422: "correct the answers in site.yaml that lead to this value.",
        413: "the object is too large for this API server.",
    }
    return ClusterError(message, hint=hints.get(exc.code, "see the message of the API server."))


def _forbidden(exc: RefusedError, message: str) -> AirferryError:
    if "NamespaceTerminating" in dict(exc.causes):
        hint = "wait until it is gone; `kubectl describe namespace` tells what its deletion waits for."
        return ClusterError(message, hint=hint)
    if RIGHT_LACKING in exc.message.lower():
        return ClusterForbiddenError(message, hint="ask for this permission, or use a context that has it.")
    if exc.reason == "Forbidden":
        return ClusterError(message, hint="a quota or an admission policy of the cluster refuses this object.")
    return ClusterForbiddenError(message, hint="not the API server but something before it says so: a proxy, perhaps.")


def unreachable(exc: HTTPError, endpoint: Endpoint) -> ClusterUnreachableError:
    """The error for a request that brought no answer. Its message is not bounded."""
    cause = _innermost(exc)
    reason = (
        getattr(cause, "verify_message", "") or getattr(cause, "strerror", "") or str(cause) or type(cause).__name__
    )
    # A proxy that refuses a tunnel has answered: http.client tells its status as an OSError without a number.
    if isinstance(exc, ProxyError) or (endpoint.proxy and type(cause) is OSError and cause.errno is None):
        return _proxy_problem(endpoint, reason)
    if isinstance(cause, ssl.SSLCertVerificationError):
        hint = _CERTIFICATE_HINTS.get(
            cause.verify_code, "put the cluster's CA into the kubeconfig (certificate-authority-data)."
        )
        return ClusterUnreachableError(f"{endpoint.server}: its certificate is not trusted: {reason}", hint=hint)
    return ClusterUnreachableError(
        f"{endpoint.server}: {reason}",
        hint="check that the API server runs and that this host reaches it; proxies are used only if named.",
    )


def is_certificate_problem(exc: HTTPError) -> bool:
    """Whether `exc` came of a certificate that is not trusted."""
    return isinstance(_innermost(exc), ssl.SSLCertVerificationError)


def _innermost(exc: BaseException) -> BaseException:
    """What led to `exc` in the end: an error of the system, or of TLS. urllib3 keeps some causes in arguments."""
    while cause := exc.__cause__ or next((item for item in exc.args if isinstance(item, BaseException)), None):
        exc = cause
    return exc


def _proxy_problem(endpoint: Endpoint, reason: str) -> ClusterUnreachableError:
    parts = urlsplit(endpoint.proxy)
    proxy = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return ClusterUnreachableError(
        f"{endpoint.server}: its proxy {proxy} does not lead there: {reason}",
        hint="check proxy-url in the kubeconfig, and that the proxy runs and allows this address.",
    )

"""Charts served by this process, for a controller that has no other source yet."""

import socket
from urllib.parse import urlsplit

from installer.apps.application import application_of
from installer.bundle.reader import Bundle
from installer.errors import UsageError
from installer.objects.driver import TemporaryRepository
from installer.registry.endpoint import is_loopback
from installer.report import Reporter
from installer.serving.chart_repository import ChartRepository
from installer.serving.server import Server

# Always the same, so that a firewall can be told, and an address that is still in use stays what it was.
PORT = 8879


def own_repository(bundle: Bundle, api_server: str, address: str, reporter: Reporter) -> TemporaryRepository | None:
    """The repository at `address` (`HOST` or `HOST:PORT`), or where this host faces the `api_server` (a URL).

    None if there is no such address that pods could reach. Raises UsageError for a malformed one.
    """
    host, port = _parsed(address) if address else (_facing(api_server), PORT)
    if not host or is_loopback(host):
        if address:
            raise UsageError(f"--serve-address {address}: pods cannot reach a loopback address")
        return None
    application = application_of(bundle)
    steps = application.profile.steps if application else []
    pulled = {step.installs.chart for step in steps if step.installs}
    charts = [chart for chart in bundle.manifest.charts if chart.name in pulled]
    shown = f"[{host}]" if ":" in host else host
    return TemporaryRepository(
        f"http://{shown}:{port}/charts",
        lambda: Server(bundle, host, port, reporter, ChartRepository(bundle, charts)),
    )


def _parsed(address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{address}")
        if parts.hostname and parts.netloc == address and parts.port != 0:
            return parts.hostname, parts.port or PORT
    except ValueError:
        pass
    raise UsageError(f"--serve-address {address}: write it HOST or HOST:PORT")


def _facing(server: str) -> str:
    """The local address of the route to the host of the URL `server`; empty if there is none. Nothing is sent."""
    parts = urlsplit(server)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, place = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(place)
            return str(probe.getsockname()[0]).partition("%")[0]
    except OSError:
        return ""

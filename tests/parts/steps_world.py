"""An application of every kind of step, in a cluster in memory in which all goes well.

world = World(tmp_path)
world.install(world.application())                     # its bundle, for a site in the namespace `home`
world.cluster.after                                    # serves kinds, and makes things ready
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from installer.cluster.kinds import CUSTOM_RESOURCE_DEFINITION, Kind
from installer.diagnosis.wait import Patience
from installer.workflows import install, record, rollback, uninstall
from installer.workflows.lease import Holder, Means
from tests.parts.application import Application
from tests.parts.bundles import open_bundle, packed_chart
from tests.parts.counted import Notes
from tests.parts.demo_site import site
from tests.parts.fake_cluster import FakeCluster
from tests.parts.fake_helm import FakeHelm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from installer.cluster.cluster import Object
    from installer.workflows.install import Examined, Installation, Prepared
    from installer.workflows.record import Record
    from installer.workflows.uninstall import Removal

THING = Kind("example.com", "v1", "Thing", "things")
DEFINITION: Object = {
    "apiVersion": CUSTOM_RESOURCE_DEFINITION.api_version,
    "kind": CUSTOM_RESOURCE_DEFINITION.name,
    "metadata": {"name": str(THING)},
    "spec": {
        "group": THING.group,
        "names": {"kind": THING.name, "plural": THING.plural},
        "scope": "Namespaced",
        "versions": [{"name": THING.version, "served": True, "storage": True, "subresources": {"status": {}}}],
    },
}


def config(name: str, namespace: str = "", **data: str) -> Object:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


class World:
    """The cluster, its Helm, and a clock that runs while somebody waits; `meanwhile` happens then."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cluster, self.notes = folder, FakeCluster(namespaces=["home"]), Notes()
        self.helm = FakeHelm(self.cluster)
        self.seconds = 0.0
        self.meanwhile: Callable[[float], None] = lambda _seconds: None
        self.ready: dict[str, Any] = {"type": "Ready", "status": "True"}
        self.cluster.after = self.controllers

    def controllers(self, verb: str, kind: Kind, obj: Object) -> None:
        """What the cluster makes of what is applied."""
        metadata = obj["metadata"]
        if verb == "patch" and kind == CUSTOM_RESOURCE_DEFINITION:
            established = {"conditions": [{"type": "Established", "status": "True"}]}
            self.cluster.set_status(kind, metadata["name"], "", established)
        elif verb == "patch" and kind == THING:
            self.reports(metadata["name"], **self.ready)

    def reports(self, name: str, **condition: Any) -> None:
        """What the controller says of a thing."""
        if held := self.cluster.get(THING, name, "home"):
            status = {"observedGeneration": held["metadata"]["generation"], "conditions": [condition]}
            self.cluster.set_status(THING, name, "home", status)

    def application(self, *more: Object, version: str = "1", copies: int = 1, **changes: Any) -> Application:
        """A definition and `more` as manifests, a chart, and a thing."""
        made = Application(self.folder / version, "demo", version=version, sequence=int(version))
        made.manifests("base", DEFINITION, config("kept", text=version), *more)
        made.chart(packed_chart("app", f"{version}.0.0"))
        thing = {"apiVersion": THING.api_version, "kind": THING.name, "metadata": {"name": "it"}}
        made.document("thing.yaml", {**thing, "spec": {"copies": copies}}, "resource")
        made.resource("thing.yaml", **{"ready": {"condition": "Ready"}, "controller": "app", **changes})
        return made

    def examined(self, made: Application, *, back_to: int | None = None, **answers: Any) -> Examined:
        with open_bundle([made.write()]) as bundle:
            return install.examine(
                bundle,
                site(self.folder, bundle, **{"namespace": "home", "charts": {"app": {"values": GREETING}}, **answers}),
                self.cluster,
                self.helm,
                registry=None,
                time=f"2026-01-0{made.version}T00:00:00Z",
                back_to=back_to,
            )

    def prepared(
        self, made: Application, *, upgrading: bool = False, back_to: int | None = None, **answers: Any
    ) -> Prepared:
        examined = self.examined(made, back_to=back_to, **answers)
        return install.prepare(examined, self.helm, self.notes, upgrading=upgrading)

    def install(self, made: Application, *, upgrading: bool = False, **answers: Any) -> Installation:
        return install.carry_out(self.prepared(made, upgrading=upgrading, **answers), self.means(), None)

    def roll_back(self) -> Installation:
        back = rollback.prepare(self.cluster, self.helm, self.note, time="2026-01-09T00:00:00Z")
        return rollback.carry_out(back, self.means(), None)

    def uninstall(self, **how: bool) -> Removal:
        return uninstall.uninstall(self.means(), self.note, **how)

    @property
    def note(self) -> Record:
        return record.find(self.cluster, "demo")

    def means(self, seconds: float = 120) -> Means:
        now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        patience = Patience(seconds, self.notes, self._sleep, lambda: self.seconds)
        return Means(self.cluster, self.helm, patience, Holder("me", "m 1 1"), lambda: now)

    def _sleep(self, pause: float) -> None:
        self.seconds += pause
        self.meanwhile(self.seconds)

    def names(self, kind: Kind) -> list[str]:
        """The names of the objects of `kind` in `home`, those of the installer and of Helm aside."""
        found = [item["metadata"]["name"] for item in self.cluster.find(kind, "home" if kind.namespaced else "")]
        return [name for name in found if not name.startswith(("airferry-", "sh.helm."))]


GREETING = {"greeting": "good-day"}

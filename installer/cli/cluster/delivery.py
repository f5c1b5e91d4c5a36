"""What `preflight`, `install` and `upgrade` share: examine, prepare, load the images, carry out, report."""

from collections.abc import Iterator
from dataclasses import dataclass

from installer.bundle.reader import Bundle
from installer.cli.cluster.mutation import means, report, time_of
from installer.cli.registry.load_images import guard_of, load_into
from installer.cli.registry_place import held_in, of_site, registry_at
from installer.cli.target import Target
from installer.diagnosis.finding import Finding
from installer.objects.driver import ChartSourceRequest
from installer.preflight.clock import clock
from installer.preflight.preflight import Check
from installer.registry.client import Registry
from installer.shell import Session
from installer.site.site import Site
from installer.transfer.load_result import summary
from installer.value import replace
from installer.workflows.install import Examined, Prepared, carry_out, examine, phases, prepare
from installer.workflows.phases import described, documents


@dataclass(frozen=True)
class Delivery:
    """A bundle on its way into a cluster; the rest as options."""

    session: Session
    bundle: Bundle
    target: Target
    site: Site
    request: ChartSourceRequest
    take_over: bool
    back_to: int | None
    upgrading: bool = False

    def examine(self, refusal: str = "") -> Examined:
        """What stands in the way; `refusal` is why the registry does not take the chart. Raises the errors of
        `examine`."""
        registry = None if self.site.on_nodes else registry_at(self.session, of_site(self.site), pushes=True)
        return examine(
            self.bundle,
            self.site,
            self.target.cluster,
            self.target.releases,
            registry=registry,
            time=time_of(self.session),
            back_to=self.back_to,
            take_over=self.take_over,
            request=replace(self.request, refusal=refusal),
            further=self._further(registry),
        )

    def _further(self, registry: Registry | None) -> Iterator[Check]:
        """The clock, and what was loaded before."""
        yield lambda: clock(self.target.cluster, self.session.now)
        if registry is not None:
            place = of_site(self.site)
            guard = guard_of(self.session, self.bundle, place, registry, self.back_to, lambda _: None)

            def newer() -> list[Finding]:
                guard.check()
                return []

            yield newer

    def prepare(self, refusal: str = "") -> Prepared:
        """What is to be done; `refusal` as for `examine`. Raises the errors of both."""
        examined, reporter = self.examine(refusal), self.session.reporter
        return prepare(examined, self.target.releases, reporter, upgrading=self.upgrading)

    def show(self, prepared: Prepared) -> None:
        """Print what `carry_out` would change, and its phases; nothing is loaded or changed."""
        todo = phases(prepared)
        before = f"{prepared.changes.text()}\n\n" if prepared.history.last or prepared.changes.overwritten else ""
        text = f"{before}{described(todo)}"
        self.session.emit({"changes": prepared.changes.document(), "phases": documents(todo)}, text)

    def carry_out(self, prepared: Prepared, timeout: int) -> None:
        """Load the images, do what was prepared, and print what came of it; at most `timeout` seconds are waited.

        Whether the registry takes charts is known only then: if not, what has to be done is worked out anew.
        """
        session = self.session
        if self.site.on_nodes:
            done = carry_out(prepared, means(session, self.target, timeout), None)
            report(session, done, prepared.changes)
            return
        place = of_site(self.site)
        loaded = load_into(session, self.bundle, place, back_to=self.back_to)
        session.reporter.note(summary(loaded))
        loaded.check()
        if refusal := loaded.refusal(prepared.pulled_charts):
            prepared = self.prepare(refusal)
        held = means(session, self.target, timeout, held_in(session, place))
        done = carry_out(prepared, held, registry_at(session, place))
        report(session, done, prepared.changes)

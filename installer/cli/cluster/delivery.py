"""What `install` and `upgrade` share: prepare, load the images, carry out, report."""

from dataclasses import dataclass

from installer.bundle.reader import Bundle
from installer.cli.cluster.mutation import means, report, time_of
from installer.cli.registry.load_images import load_into
from installer.cli.registry_place import held_in, of_site, registry_at, registry_of
from installer.cli.target import Target
from installer.objects.driver import ChartSourceRequest
from installer.shell import Session
from installer.site.site import Site
from installer.transfer.load_result import summary
from installer.value import replace
from installer.workflows.install import Prepared, carry_out, phases, prepare
from installer.workflows.phases import described, documents


@dataclass(frozen=True)
class Delivery:
    """A bundle on its way into a cluster, `upgrading` if another one is there; the rest as options."""

    session: Session
    bundle: Bundle
    target: Target
    site: Site
    request: ChartSourceRequest
    upgrading: bool
    take_over: bool
    back_to: int | None

    def prepare(self, refusal: str = "") -> Prepared:
        """What is to be done; `refusal` is why the registry does not take the chart. Raises the errors of `prepare`."""
        return prepare(
            self.bundle,
            self.site,
            self.target.cluster,
            self.target.releases,
            registry=registry_of(self.session, self.site),
            reporter=self.session.reporter,
            time=time_of(self.session),
            upgrading=self.upgrading,
            back_to=self.back_to,
            take_over=self.take_over,
            request=replace(self.request, refusal=refusal),
        )

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

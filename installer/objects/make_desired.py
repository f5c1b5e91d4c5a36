"""The whole of what a bundle shall be at a site: all steps of its profile, completed by its driver."""

import base64
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from installer.apps.application import Application, application_of
from installer.bundle.manifest import Contents
from installer.chart.misspelt import misspelt
from installer.cluster.cluster import Object
from installer.errors import SiteError, UsageError
from installer.objects.desired import MANAGED_BY, ChartRelease, Desired, DesiredStep, Endpoint, Resource
from installer.objects.driver import ChartSourceRequest, Completed, Preparing
from installer.objects.maker import Maker
from installer.objects.pull_secret import accounts
from installer.site.site import Site, SiteSecret


def desired(
    bundle: Contents,
    site: Site,
    driver: Preparing,
    *,
    kube_version: str = "",
    api_versions: Iterable[str] = (),
    blank: bool = False,
    left_out: Collection[str] = (),
    draft: bool = False,
    request: ChartSourceRequest = ChartSourceRequest(),  # noqa: B008 - it cannot be changed
) -> Desired:
    """What `bundle` shall be at `site`, completed by `driver`.

    `kube_version` and `api_versions` are what the charts see of the cluster.

    `request` says where a controller shall read its chart.
    With `blank` no secret of the site is read, and Secrets have empty values. The bundle may lack the images `left_out`
    (full names), as for a site that is not going to ask for them. A `draft` is made quickly, only to be looked at: tags
    stay where digests could be, and charts make up their keys.
    Raises SiteError if an image reference leads out of the enclave or the values do not fit the charts, BundleError
    if the bundle does not hold together, UsageError if there is nothing to install.
    """
    application = application_of(bundle)
    if application is None:
        raise UsageError("the bundle has no chart: there is nothing to install", hint="load its images with `load`.")
    application.check(site)
    maker = Maker(
        bundle, application, site, kube_version, tuple(api_versions), blank=blank, left_out=left_out, draft=draft
    )
    steps = _all(maker.made(step) for step in application.steps(site))
    done = driver.completed(Completed(steps), maker, request, blank=blank)
    made = [step.installs for step in done.steps if isinstance(step, Resource) and step.installs]
    parts = [*done.steps, *made]
    places = _namespaces(parts)
    secrets = [*site.pull_secrets(places, blank=blank), *application.secrets(site, blank=blank), *done.secrets]
    places |= {secret.namespace for secret in secrets}
    images = maker.digests(reference for part in parts for reference in part.images)
    pull_secret = site.answers.registry.pull_secret_name
    bearers, unserved = accounts(parts, pull_secret) if pull_secret else ([], [])
    return Desired(
        home=_home(application.default_namespace(site), done.steps),
        namespaces={place: maker.labels(place) for place in sorted(places)},
        secrets=tuple(secret_object(secret) for secret in secrets),
        steps=done.steps,
        images={**images, **done.images},
        suspects=tuple(dict.fromkeys(text for part in parts for text in part.suspects)),
        confidential=tuple(
            value.reveal() for secret in secrets for key, value in secret.data.items() if key not in secret.public
        ),
        accounts=tuple(bearers),
        unserved=tuple(unserved),
        open_questions=tuple(application.open_questions(site)),
        misspelt=tuple(_misspelt(application, steps, site)),
        smoke=tuple(_smoke(application, site)),
        keys=application.keys,
    )


def _smoke(application: Application, site: Site) -> Iterator[Endpoint]:
    for item in application.profile.smoke:
        place = application.namespace(application.profile.step(item.step), site)
        yield Endpoint(place, item.service, item.port, item.path)


def _home(general: str, steps: Sequence[DesiredStep]) -> str:
    """The namespace that the application is called by, unless no step goes there; then that of the first one."""
    return general if any(step.name.namespace == general for step in steps) else steps[0].name.namespace


def _misspelt(application: Application, steps: Sequence[DesiredStep], site: Site) -> Iterator[str]:
    """The keys in the site's own values of `steps` that are probably misspelt, for people."""
    for step, made in zip(application.steps(site), steps, strict=True):
        release = made.installs if isinstance(made, Resource) else made
        if isinstance(release, ChartRelease):
            for key, values in application.own_words(step, site):
                yield from (f"{key}.{item}" for item in misspelt(release.chart, values))


def _all(makers: Iterable[Callable[[], DesiredStep]]) -> tuple[DesiredStep, ...]:
    """All steps. Raises SiteError with what is wrong with any of them."""
    made: list[DesiredStep] = []
    wrong: list[SiteError] = []
    for make in makers:
        try:
            made.append(make())
        except SiteError as exc:
            wrong.append(exc)
    if wrong:
        raise SiteError("\n".join(exc.message for exc in wrong), hint=wrong[0].hint) from wrong[0]
    return tuple(made)


def _namespaces(parts: Iterable[DesiredStep]) -> set[str]:
    """The namespaces of all parts, and those that their objects name."""
    found = set()
    for part in parts:
        found.add(part.name.namespace)
        found |= {str(item["metadata"]["namespace"]) for item in part.applied if item["metadata"].get("namespace")}
    return found - {""}


def secret_object(secret: SiteSecret) -> Object:
    """A Secret of the site as an object."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret.name, "namespace": secret.namespace, "labels": dict(MANAGED_BY)},
        "type": secret.type,
        "data": {key: base64.b64encode(value.reveal().encode()).decode() for key, value in secret.data.items()},
    }

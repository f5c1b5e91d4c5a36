"""W&B with its operator v2 as an application: its profile says all."""

from installer.apps.application import Application
from installer.apps.profile import Profile


def application(profile: Profile) -> Application:
    """The application that `profile` describes."""
    return Application(profile)

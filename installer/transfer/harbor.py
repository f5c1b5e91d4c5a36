"""Projects of a Harbor registry, which must exist before anything can be pushed into them.

Source: Harbor's API version 2.0 (github.com/goharbor/harbor, api/v2.0/swagger.yaml: `createProject`).
"""

import json

from installer.errors import NotFoundError, RegistryAccessError
from installer.registry.endpoint import Endpoint
from installer.registry.messages import Request
from installer.registry.transport import Transport

_CREATED = 201
_EXISTS = 409
_NO_SUCH_API = frozenset({404, 405})


def create_project(transport: Transport, host: str, project: str) -> bool:
    """Make the private project `project` at the registry `host`; whether it is new.

    Raises NotFoundError if that is no Harbor, RegistryAccessError without credentials or without the right to do it,
    RegistryUnreachableError, ContentError.
    """
    registry = transport.endpoint(host)
    credentials = transport.credentials(host)
    if credentials is None or not credentials.username:
        raise RegistryAccessError(
            f"{host}: making a project needs a user name and a password", hint=f"docker login {host}"
        )
    # An endpoint of its own: the API wants the password itself, not a token for repositories.
    api = Endpoint(registry.host, registry.origin, "api/v2.0/")
    raw = json.dumps({"project_name": project, "metadata": {"public": "false"}}).encode()
    headers = {"Content-Type": "application/json", "Authorization": credentials.basic()}
    expect = frozenset({_CREATED, _EXISTS}) | _NO_SUCH_API
    request = Request(api, "POST", f"{api.origin}/{api.prefix}projects", expect, headers)
    with transport.send(request.with_body(lambda: [raw], len(raw))) as response:
        if response.status in _NO_SUCH_API:
            raise NotFoundError(
                f"{host}: has no API of Harbor to make the project {project} with",
                hint="have its administrator make what `load --list-repositories` prints.",
            )
        return response.status == _CREATED

"""What stands for a Secret in rendered files: a manifest without values, or where an external store has them.

An ExternalSecret is of External Secrets Operator (external-secrets.io), API version v1.
"""

from typing import Literal

from installer.apps.application import PLACEHOLDER
from installer.cluster.cluster import Object

SecretForm = Literal["placeholder", "external"]
STORE = "airferry"


def secret_manifest(secret: Object, form: SecretForm) -> Object:
    """`secret` without its values.

    As a placeholder its keys are to be filled in or sealed by whoever applies it. As an external secret it is filled
    from the ClusterSecretStore `airferry`, where the entry NAMESPACE/NAME has a property for each key.
    """
    keys = sorted({*(secret.get("data") or {}), *(secret.get("stringData") or {})})
    kind = secret.get("type") or "Opaque"
    if form == "placeholder":
        rest = {key: value for key, value in secret.items() if key not in ("data", "stringData")}
        return {**rest, "type": kind, "stringData": dict.fromkeys(keys, PLACEHOLDER)}
    name, namespace = secret["metadata"]["name"], secret["metadata"]["namespace"]
    entry = f"{namespace}/{name}"
    return {
        "apiVersion": "external-secrets.io/v1",
        "kind": "ExternalSecret",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "refreshInterval": "1h",
            "secretStoreRef": {"kind": "ClusterSecretStore", "name": STORE},
            "target": {"name": name, "creationPolicy": "Owner", "template": {"type": kind}},
            "data": [{"secretKey": key, "remoteRef": {"key": entry, "property": key}} for key in keys],
        },
    }

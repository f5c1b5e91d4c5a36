"""Kubeconfig files: where the API server is and with which identity to talk to it.

Source of the format: Kubernetes, staging/src/k8s.io/client-go/tools/clientcmd/api/v1/types.go. Key material that stands
in the file itself stays in memory; nothing of it is written anywhere.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from installer.cluster.endpoint import Endpoint, Plugin
from installer.errors import SiteError, UsageError
from installer.files import look_at, read_bounded
from installer.report import printable
from installer.strict_yaml import load_yaml

MAX_KUBECONFIG = 1024 * 1024
MAX_FILE = 256 * 1024
MAX_HINT = 1000
_EXEC_EXTENSION = "client.authentication.k8s.io/exec"
_WHERE = "name one with --kubeconfig or KUBECONFIG; k3s has it in /etc/rancher/k3s/k3s.yaml."
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def read_kubeconfig(path: Path, context: str = "") -> Endpoint:
    """The endpoint that `context` of the kubeconfig at `path` names; without `context` its current one.

    Raises SiteError for a file that is no kubeconfig or lacks what it names, UsageError without such a file or
    context, StorageError.
    """
    doc = load_yaml(read_bounded(path, MAX_KUBECONFIG), str(path), SiteError)
    if not isinstance(doc, dict):
        raise SiteError(f"{path}: not a kubeconfig", hint="give the file that kubectl uses with --kubeconfig.")
    name = context or _text(doc, "current-context", path)
    if not name:
        raise SiteError(f"{path}: no current context", hint="name one of its contexts with --context.")
    if context and _home({path: doc}, "contexts", context) is None:
        raise _no_context({path: doc}, context)
    chosen = _named(doc, "contexts", "context", name, path)
    cluster = _named(doc, "clusters", "cluster", _text(chosen, "cluster", path), path)
    user_name = _text(chosen, "user", path)
    user = _named(doc, "users", "user", user_name, path) if user_name else {}
    if user.get("auth-provider"):
        raise SiteError(
            f"{path}: auth-provider is no longer supported by Kubernetes", hint="use a token or an exec plugin."
        )
    if user.get("as"):
        raise SiteError(f"{path}: impersonation (`as`) is not supported", hint="use the identity itself.")
    token_file = _text(user, "tokenFile", path)
    return Endpoint(
        server=_text(cluster, "server", path).rstrip("/"),
        context=name,
        namespace=_text(chosen, "namespace", path) or "default",
        ca=_material(cluster, "certificate-authority", path),
        verify=cluster.get("insecure-skip-tls-verify") is not True,
        server_name=_text(cluster, "tls-server-name", path),
        proxy=_text(cluster, "proxy-url", path),
        certificate=_material(user, "client-certificate", path),
        key=_material(user, "client-key", path),
        # A line break is refused, as by Helm, which reads the same file.
        token="" if token_file else _text(user, "token", path).strip(" \t"),
        token_file=path.parent / token_file if token_file else None,
        username=_text(user, "username", path),
        password=_text(user, "password", path),
        plugin=_plugin(user.get("exec"), cluster.get("extensions"), path),
    )


def choose(files: Sequence[Path], context: str = "") -> tuple[Path, str]:
    """Which of several kubeconfig files counts, and the context in it, as kubectl merges the files of `KUBECONFIG`:
    what the first file says of a name is what counts, and files that do not exist are passed over.

    Raises SiteError if context, cluster and user would have to come from different files, UsageError if there is no
    file or no such context.
    """
    present = [file for file in files if look_at(file)]
    if not present:
        raise UsageError(f"no kubeconfig at {', '.join(map(str, files))}", hint=_WHERE)
    if len(present) == 1:
        return present[0], context
    docs = {file: load_yaml(read_bounded(file, MAX_KUBECONFIG), str(file), SiteError) or {} for file in present}
    for file, doc in docs.items():
        if not isinstance(doc, dict):
            raise SiteError(f"{file}: not a kubeconfig", hint="name one file with --kubeconfig.")
    name = context or next((text for file, doc in docs.items() if (text := _text(doc, "current-context", file))), "")
    home = _home(docs, "contexts", name)
    if home is None:
        raise _no_context(docs, name)
    entry = _named(docs[home], "contexts", "context", name, home)
    for group, key in (("clusters", "cluster"), ("users", "user")):
        other = _home(docs, group, _text(entry, key, home))
        if other not in (home, None):
            raise SiteError(
                f"context {name!r} stands in {home}, its {key} in {other}",
                hint="write it into one file (`kubectl config view --flatten --minify`), and name that with "
                "--kubeconfig.",
            )
    return home, name


def in_cluster(environment: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> Endpoint | None:
    """The API server as a pod finds it, with the pod's service account; None outside of a pod.

    Source: Kubernetes documentation, "Accessing the Kubernetes API from a Pod".
    """
    host, port = (environment.get(f"KUBERNETES_SERVICE_{part}", "") for part in ("HOST", "PORT"))
    token = folder / "token"
    if not (host and port and look_at(token)):
        return None
    return Endpoint(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        context="in-cluster",
        namespace=read_bounded(folder / "namespace", MAX_FILE).decode().strip() or "default",
        ca=read_bounded(folder / "ca.crt", MAX_FILE),
        token_file=token,
    )


def _no_context(docs: Mapping[Path, Mapping[str, Any]], name: str) -> UsageError:
    """The error for a context that stands in none of the files."""
    groups = [doc.get("contexts") for doc in docs.values()]
    entries = [entry for group in groups if isinstance(group, list) for entry in group if isinstance(entry, dict)]
    known = ", ".join(sorted({str(entry.get("name"))[:100] for entry in entries})) or "none"
    where = ", ".join(map(str, docs))
    return UsageError(f"no context {name[:100]!r} in {where}", hint=f"name one with --context; there are: {known}.")


def _home(docs: Mapping[Path, Mapping[str, Any]], group: str, name: str) -> Path | None:
    """The first file that has an entry `name`."""
    for file, doc in docs.items():
        entries = doc.get(group)
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and entry.get("name") == name:
                return file
    return None


def _named(doc: Mapping[str, Any], group: str, key: str, name: str, path: Path) -> dict[str, Any]:
    entries = doc.get(group)
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(key), dict):
            found: dict[str, Any] = entry[key]
            return found
    raise SiteError(f"{path}: no {key} named {name[:100]!r}", hint="check --context and the file.")


def _text(doc: Mapping[str, Any], key: str, path: Path) -> str:
    value = doc.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise SiteError(f"{path}: {key} is not text")
    return value


def _material(doc: Mapping[str, Any], key: str, path: Path) -> bytes:
    """PEM given in the file (`KEY-data`, base64) or by the name of another file, relative to this one.

    Lines may be wrapped: line breaks count for nothing, and anything else for what it is (Go, encoding/base64).
    """
    text = _text(doc, f"{key}-data", path)
    if text:
        try:
            return base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
        except binascii.Error:
            raise SiteError(
                f"{path}: {key}-data is not base64",
                hint="copy it again; wrapped lines need a block of YAML (`|`), which keeps the line breaks.",
            ) from None
    name = _text(doc, key, path)
    return read_bounded(path.parent / name, MAX_FILE, SiteError) if name else b""


def _plugin(doc: Any, extensions: Any, path: Path) -> Plugin | None:
    if doc is None:
        return None
    if not isinstance(doc, dict) or not isinstance(doc.get("command"), str):
        raise SiteError(f"{path}: exec names no command")
    arguments = doc.get("args") or []
    pairs = doc.get("env") or []
    if not isinstance(arguments, list) or not isinstance(pairs, list):
        raise SiteError(f"{path}: exec: args and env must be lists")
    try:
        environment = tuple((str(pair["name"]), str(pair["value"])) for pair in pairs)
    except (KeyError, TypeError):
        raise SiteError(f"{path}: exec: env is not a list of name and value") from None
    command = doc["command"]
    if "/" in command:
        # A name alone is looked for in PATH.
        command = str((path.parent / command).absolute())
    return Plugin(
        api_version=_text(doc, "apiVersion", path),
        command=command,
        arguments=tuple(map(str, arguments)),
        environment=environment,
        told=doc.get("provideClusterInfo") is True,
        config=next(
            (
                each.get("extension")
                for each in (extensions if isinstance(extensions, list) else [])
                if isinstance(each, dict) and each.get("name") == _EXEC_EXTENSION
            ),
            None,
        ),
        install_hint=printable(" ".join(_text(doc, "installHint", path).split()))[:MAX_HINT],
    )

"""The templates of `airferry init` as users fill them in."""

from __future__ import annotations

import re
from pathlib import Path

import templates
from tests.parts.authority import Authority

FOLDER = Path(templates.__file__).parent
WANDB = FOLDER / "wandb"
# A commented key, item or nested line of YAML, as opposed to a sentence.
_COMMENTED = re.compile(r"^( *)# (?!yaml-language-server)( *(?:- )?(?:[a-z_.0-9/:-]+:(?: .*)?|- \S.*))$")


def uncommented(text: str) -> str:
    """A template with all that its comments hold in store."""
    return "\n".join(_COMMENTED.sub(r"\1\2", line) for line in text.splitlines())


def files_of_the_template(folder: Path) -> None:
    """The files that the comments of the platform's template name."""
    authority = Authority(folder / "authority")
    for name in ("registry-ca.pem", "enclave-ca.pem", "mysql-ca.pem", "bucket-ca.pem", "redis-ca.pem"):
        (folder / name).write_bytes(authority.certificate.read_bytes())
    server = authority.issue("wandb", ["wandb.enclave.example", "wandb.other.example"])
    (folder / "wandb.pem").write_bytes(server.certificate.read_bytes())
    (folder / "wandb.key").write_bytes(server.key.read_bytes())
    client = authority.issue("wandb-at-mysql", ["wandb"])
    (folder / "mysql-client.pem").write_bytes(client.certificate.read_bytes())
    (folder / "mysql-client.key").write_bytes(client.key.read_bytes())
    for name in re.findall(r"{file: ([a-z]+\.[a-z]+)}", (WANDB / "site.yaml").read_text()):
        if not (folder / name).exists():
            (folder / name).write_text("word\n")

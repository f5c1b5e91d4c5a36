"""The command `sign`."""

from pathlib import Path

import click

from builder.cli.bundle.passphrase import passphrase_for, passphrase_option
from builder.cli.trust import bundle_argument
from builder.recipe.checksum import sha256_of
from builder.release import sign as signing
from installer.bundle.reader import Bundle
from installer.bundle.signature import PublicKey, Trust
from installer.bundle.volume import VolumeFile
from installer.commands import FILE, Command
from installer.errors import UsageError
from installer.files import check_output, read_bounded, write_atomic
from installer.oci.digest import Digest
from installer.opening.trust import read_keys
from installer.opening.volume_discovery import expand
from installer.report import Reporter
from installer.shell import Session
from installer.verify.par2 import SUFFIX

MAX_SIGNATURE = 16 * 1024


@click.command(cls=Command)
@bundle_argument
@click.option("-k", "--key", type=FILE, help="The secret key that `airferry keygen` wrote.")
@passphrase_option
@click.option("--export", type=FILE, help="Write SHA256SUMS to this file, to be signed elsewhere.")
@click.option("--attach", type=FILE, help="A signature made elsewhere: DER (openssl, cosign, HSM) or minisign.")
@click.option("--public-key", type=FILE, help="The public key of --attach.")
@click.option("--sidecar", is_flag=True, help="Also write BUNDLE.sha256 over the whole file, for `sha256sum -c`.")
def sign(
    session: Session,
    *,
    bundle: tuple[Path, ...],
    key: Path | None,
    passphrase_file: Path | None,
    export: Path | None,
    attach: Path | None,
    public_key: Path | None,
    sidecar: bool,
) -> None:
    """Sign BUNDLE (all its volumes) in place: the signature covers SHA256SUMS, and nothing moves.

    \b
      airferry sign app-1.0.tar --key release.key
      airferry sign volumes/ --key release.key    # all volumes in that folder
      airferry sign app-1.0.tar --export SHA256SUMS    # sign it elsewhere, then
      airferry sign app-1.0.tar --attach SHA256SUMS.sig --public-key hsm.pub
    """
    if [key, export, attach].count(None) != 2 or (attach is None) != (public_key is None):
        raise UsageError(
            "sign needs one of --key, --export, --attach (with --public-key)", hint="see `airferry sign --help`."
        )
    files = expand(bundle)
    if export is not None:
        check_output(export, [*files, *([passphrase_file] if passphrase_file else [])])
    raw = signing.sums_of(files[0])
    with Bundle.open([VolumeFile(path) for path in files], Trust(sums=Digest.of(raw))) as opened:
        opened.require_all()
    if export is not None:
        write_atomic(export, raw)
        session.emit({"file": str(export), "sha256": Digest.of(raw).hex}, f"{export}: {Digest.of(raw)}")
        return
    if key is not None:
        verdict = signing.sign(files, signing.load_key(key, passphrase_for(session, key, passphrase_file)))
    else:
        one = _one_key(public_key or Path())
        verdict = signing.attach(files, read_bounded(attach or Path(), MAX_SIGNATURE), one)
    for old in {found for path in files for found in path.parent.glob(f"*{SUFFIX}")}:
        session.reporter.note(f"{old}: parity from before a signature fits no volume; `airferry parity` makes it again")
    sidecars = [_sidecar(path, session.reporter) for path in files] if sidecar else []
    document = {"sums": verdict.sums.text, "signers": list(verdict.signers), "sidecars": sidecars}
    lines = [f"SHA256SUMS: {verdict.sums}", *(f"signed by {signer}" for signer in verdict.signers)]
    session.emit(document, "\n".join([*lines, *(f"written {path}" for path in sidecars)]))


def _one_key(path: Path) -> PublicKey:
    found = read_keys([path])
    if len(found) != 1:
        raise UsageError(f"{path}: holds {len(found)} keys", hint="give the one key that made the signature.")
    return found[0]


def _sidecar(path: Path, reporter: Reporter) -> str:
    """Write `PATH.sha256`, as `sha256sum` would; its name."""
    sidecar = path.with_name(f"{path.name}.sha256")
    write_atomic(sidecar, f"{sha256_of(path, reporter)}  {path.name}\n".encode())
    return str(sidecar)

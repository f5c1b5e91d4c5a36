"""The commands around a bundle: build, keygen, sign, verify, inspect, freeze."""

from contextlib import nullcontext
from pathlib import Path

import click

from builder.cli.trust import bundle_argument, key_option, open_trusted, sums_option
from builder.recipe.checksum import sha256_of
from builder.release import sign as signing
from builder.release.freeze import freeze as freeze_bundle
from builder.release.program import build_program
from installer.bundle.reader import Bundle
from installer.bundle.signature import MAX_KEY_FILE, PublicKey, Trust
from installer.bundle.volume import VolumeFile
from installer.errors import UsageError
from installer.files import check_output, read_bounded, write_atomic
from installer.frozen.header import PinnedKey
from installer.oci.digest import Digest
from installer.opening.open_bundle import open_current
from installer.opening.trust import read_keys, trust_in
from installer.opening.volume_discovery import expand
from installer.page import Language
from installer.report import Reporter
from installer.report import size as human
from installer.shell import PROOF_HELP, Session, common, language_option
from installer.verify.describe import description, summary
from installer.verify.par2 import SUFFIX
from installer.verify.verification import verify_by_turns

MAX_SIGNATURE = 16 * 1024

_file = click.Path(path_type=Path, dir_okay=False)
_passphrase_option = click.option(
    "--passphrase-file", type=_file, help="File with the key's passphrase; else it is asked for, on the terminal."
)


@click.command()
@click.argument("name", type=click.Path(path_type=Path))
@_passphrase_option
@click.option("--no-passphrase", is_flag=True, help="Leave the key file unencrypted: for tests.")
@common
def keygen(session: Session, *, name: Path, passphrase_file: Path | None, no_passphrase: bool) -> None:
    """Make a release key: NAME.key (secret), NAME.pub and NAME.minisign.pub (for those who verify).

    \b
      airferry keygen release
    """
    passphrase = b"" if no_passphrase else _passphrase(session, passphrase_file, confirm=True)
    keys = signing.keygen(name, passphrase)
    files = [f"{name}{end}" for end in (".key", ".pub", ".minisign.pub")]
    lines = [*(f"written {path}" for path in files), *(f"{key.family}: {key.fingerprint}" for key in keys)]
    document = {"files": files, "fingerprints": {key.family: key.fingerprint for key in keys}}
    session.emit(document, "\n".join(lines))
    session.reporter.note("next: tell the fingerprint to those who verify, by another way than the bundle's.")


@click.command()
@bundle_argument
@click.option("-k", "--key", type=_file, help="The secret key that `airferry keygen` wrote.")
@_passphrase_option
@click.option("--export", type=_file, help="Write SHA256SUMS to this file, to be signed elsewhere.")
@click.option("--attach", type=_file, help="A signature made elsewhere: DER (openssl, cosign, HSM) or minisign.")
@click.option("--public-key", type=_file, help="The public key of --attach.")
@click.option("--sidecar", is_flag=True, help="Also write BUNDLE.sha256 over the whole file, for `sha256sum -c`.")
@common
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
      airferry sign platform-1.0.tar --key release.key
      airferry sign volumes/ --key release.key                      # all volumes in that folder
      airferry sign platform-1.0.tar --export SHA256SUMS            # sign it elsewhere, then
      airferry sign platform-1.0.tar --attach SHA256SUMS.sig --public-key hsm.pub
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
        verdict = signing.sign(files, signing.load_key(key, _passphrase_for(session, key, passphrase_file)))
    else:
        one = _one_key(public_key or Path())
        verdict = signing.attach(files, read_bounded(attach or Path(), MAX_SIGNATURE), one)
    for old in {found for path in files for found in path.parent.glob(f"*{SUFFIX}")}:
        session.reporter.note(f"{old}: parity from before a signature fits no volume; `airferry parity` makes it again")
    sidecars = [_sidecar(path, session.reporter) for path in files] if sidecar else []
    document = {"sums": verdict.sums.text, "signers": list(verdict.signers), "sidecars": sidecars}
    lines = [f"SHA256SUMS: {verdict.sums}", *(f"signed by {signer}" for signer in verdict.signers)]
    session.emit(document, "\n".join([*lines, *(f"written {path}" for path in sidecars)]))


@click.command()
@bundle_argument
@key_option
@sums_option
@click.option("--sha256", is_flag=True, help="Compare every blob with its SHA-256 as well; takes longer.")
@click.option("--partial", is_flag=True, help="Some of the volumes are enough: each can be verified alone.")
@click.option("--proof", type=_file, help=PROOF_HELP)
@language_option
@common
def verify(
    session: Session,
    *,
    bundle: tuple[Path, ...],
    keys: tuple[Path, ...],
    sums: str,
    sha256: bool,
    partial: bool,
    proof: Path | None,
    language: Language,
) -> None:
    """Check signature, structure and every byte of BUNDLE, as the installer does.

    \b
      airferry verify platform-1.0.tar --key release.pub
      airferry verify /media/disc --partial --key release.pub       # one volume of several
    """
    from installer.verify.verification_report import kept

    with (
        kept(proof, bundle, session.now, session.reporter, language) if proof else nullcontext() as witness,
        open_trusted(bundle, keys, sums, session.now()) as opened,
    ):
        found = verify_by_turns(opened, session.reporter, sha256=sha256, witness=witness)
        document = {**description(opened), **found.document()}
        if session.output == "json":
            session.emit(document, "")
        found.check(opened, partial=partial)
        if session.output != "json":
            session.emit(document, f"{summary(opened)}\n{found.text}")


@click.command()
@bundle_argument
@key_option
@sums_option
@common
def inspect(session: Session, *, bundle: tuple[Path, ...], keys: tuple[Path, ...], sums: str) -> None:
    """Show what BUNDLE holds. Without a key the answer is marked as unverified.

    \b
      airferry inspect platform-1.0.tar --key release.pub
      airferry inspect platform-1.0.tar --output json | jq -r '.images[].image'
    """
    trusted = bool(keys or sums)
    files = expand(bundle)
    trust = trust_in(keys, sums) if trusted else Trust(sums=Digest.of(signing.sums_of(files[0])))
    with Bundle.open([VolumeFile(path) for path in files], trust) as opened:
        head = "" if trusted else "UNVERIFIED: no key was given, anyone may have written this\n"
        session.emit({**description(opened), "authentic": trusted}, head + summary(opened, images=True))


@click.command()
@bundle_argument
@click.option(
    "-k", "--key", "keys", type=_file, multiple=True, required=True, help="Public key to pin; may be repeated."
)
@click.option("-o", "--file", "out", type=_file, required=True, help="The executable file to write.")
@click.option("--beside", is_flag=True, help="Leave the bundle out: it will lie beside the program.")
@common
def freeze(session: Session, *, bundle: tuple[Path, ...], keys: tuple[Path, ...], out: Path, beside: bool) -> None:
    """Make one self-contained executable of the installer and BUNDLE, which trusts exactly the given keys.

    Of several volumes it carries the first; the others stay files of their own.

    \b
      airferry freeze platform-1.0.tar --key release.pub -o platform-1.0.run
      airferry freeze volumes/ --key release.pub -o platform.run --beside
    """
    paths = expand(bundle)
    check_output(out, [*paths, *keys])
    files = [VolumeFile(path) for path in paths]
    with open_current(files, trust_in(keys, ""), session.now()) as opened:
        opened.require_all()
        name = f"{opened.manifest.name}-{opened.manifest.version}"
        first = opened.volumes.file(0).path
    program = build_program(_cache(session), session.reporter)
    pinned = [PinnedKey.of(key.text, key.fingerprint) for key in read_keys(keys)]
    freeze_bundle(program, None if beside else first, out, name=name, keys=pinned, reporter=session.reporter)
    total = out.stat().st_size
    session.emit({"file": str(out), "bytes": total}, f"{out}: {total} bytes ({human(total)})")
    others = [str(path) for path in paths if beside or path != first]
    carry = f"carry it over with {', '.join(others)}" if others else "carry it over"
    session.reporter.note(f"next: {carry}, then `./{out.name} verify` and `./{out.name} --help`.")


def _one_key(path: Path) -> PublicKey:
    found = read_keys([path])
    if len(found) != 1:
        raise UsageError(f"{path}: holds {len(found)} keys", hint="give the one key that made the signature.")
    return found[0]


def _passphrase_for(session: Session, key: Path, file: Path | None) -> bytes:
    """The passphrase of a secret key; none is asked for if its file is not encrypted."""
    if b"ENCRYPTED" not in read_bounded(key, MAX_KEY_FILE):
        return b""
    return _passphrase(session, file, confirm=False)


def _passphrase(session: Session, file: Path | None, *, confirm: bool) -> bytes:
    """From `file` (its first line), else from the terminal. Never from the command line, where others could see it."""
    if file is not None:
        found = read_bounded(file, MAX_KEY_FILE).split(b"\n")[0].rstrip(b"\r")
    else:
        try:
            found = session.ask_secret("passphrase", confirm=confirm).encode()
        except UsageError as exc:
            raise UsageError(exc.message, hint="give it in a file: --passphrase-file.") from exc
    if not found:
        raise UsageError("an empty passphrase", hint="give one, or --no-passphrase for a key that protects nothing.")
    return found


def _cache(session: Session) -> Path:
    """Where programs are kept between calls (XDG Base Directory Specification)."""
    base = session.environment.get("XDG_CACHE_HOME")
    return Path(base or Path(session.environment.get("HOME") or "/root", ".cache"), "airferry", "program")


def _sidecar(path: Path, reporter: Reporter) -> str:
    """Write `PATH.sha256`, as `sha256sum` would; its name."""
    sidecar = path.with_name(f"{path.name}.sha256")
    write_atomic(sidecar, f"{sha256_of(path, reporter)}  {path.name}\n".encode())
    return str(sidecar)


COMMANDS: tuple[click.Command, ...] = (keygen, sign, verify, inspect, freeze)

"""How a request leaves the enclave: as a file to be carried, a line to be typed, a QR code to be photographed."""

import io
from pathlib import Path

from installer.bundle.patch import Request
from installer.files import check_output, write_atomic
from installer.shell import Session


def hand_over(session: Session, request: Request, file: Path | None, *, qr: bool | None) -> None:
    """Write `request` to `file`, if one is given, and show its line of text.

    The QR code of the line follows where there is a terminal, and where `qr` is true; not where it is false.
    Raises UsageError for a file that must not be replaced, StorageError.
    """
    if file is not None:
        check_output(file)
        write_atomic(file, request.encode())
        session.reporter.note(f"written {file}; `airferry patch` answers it. The same to be typed or photographed:")
    session.reporter.note(request.text)
    if qr or (qr is None and session.columns is not None):
        for line in _code(request.text, session.columns or 0):
            session.reporter.note(line)


def _code(text: str, columns: int) -> list[str]:
    """The QR code (ISO/IEC 18004) of `text` in half blocks, for `columns` of a terminal (0: any); else why not."""
    import segno

    try:
        # Capitals and digits need 5.5 bits each, where small letters need 8.
        code = segno.make_qr(text.upper(), error="l")
    except segno.DataOverflowError:
        return ["too long for a QR code: carry the file, or type the line"]
    width = code.symbol_size()[0]
    if 0 < columns < width:
        return [f"its QR code needs a terminal of {width} columns, this has {columns}"]
    drawn = io.StringIO()
    code.terminal(drawn, compact=True)
    return drawn.getvalue().splitlines()

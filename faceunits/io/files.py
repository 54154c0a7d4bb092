"""Files as such: names that can be printed, and writing that leaves no halves behind."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from faceunits.errors import InputError


def printable(path: str | os.PathLike[str]) -> str:
    r"""The name of a file as one line of valid Unicode.

    Bytes that are not UTF-8 and control characters appear escaped, `caf\xe9.jpg`, so that the name
    can go to a terminal, a table or JSON; the file itself must still be opened by its own path.
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def make_folder(path: str | os.PathLike[str], remedy: str = "choose another") -> Path:
    """The folder, with those above it, made if need be.

    Args:
        path: of the folder.
        remedy: the end of the message: what the user can do.

    Raises:
        InputError: it cannot be made.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {printable(path)} ({error.strerror}); {remedy}") from error
    return folder


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path in the folder of `path` that takes its place when the block succeeds.

    An error or Ctrl-C inside the block removes the temporary file and leaves `path` as it was.

    Raises:
        InputError: the folder does not exist or cannot be written to, or `path` is a folder.
    """
    target = Path(path)
    where = printable(target)
    if target.is_dir():
        raise InputError(f"expected the name of a file to write; {where} is a folder; add a file name")
    # Our own name instead of tempfile's: that one is readable by its owner only, and stays so.
    temporary = target.parent / f".{secrets.token_hex(8)}.part"
    try:
        temporary.open("xb").close()
        yield temporary
        os.replace(temporary, target)
    except FileNotFoundError:
        raise InputError(f"cannot write {where}: its folder does not exist; make the folder first") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot write {where} ({reason}); choose another place with -o") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def check_folder(path: str | os.PathLike[str]) -> None:
    """Raise InputError if a file cannot be made where `path` is to be written."""
    folder = Path(path).parent
    if not folder.is_dir():
        raise InputError(f"cannot write {printable(path)}: its folder does not exist; make the folder first")
    if not os.access(folder, os.W_OK):
        raise InputError(f"cannot write {printable(path)}: its folder is write-protected; choose another")

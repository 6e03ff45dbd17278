"""Files with secrets, which only their owner may read."""

import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from streams.core.errors import Misconfigured

MAX_PRIVATE_FILE_BYTES = 1024 * 1024


def write_private(path: Path, text: str, put: Callable[[str, Path], None] = os.replace) -> None:
    """Write a file completely or not at all; a missing folder is made. Raises OSError.

    `put` gives the written file its name; by default in place of a file of that name.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, draft_path = tempfile.mkstemp(dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        put(draft_path, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(draft_path)


def link_if_missing(draft_path: str, path: Path) -> None:
    """For `put` of `write_private`: if several processes write the file, the first complete text stays."""
    with suppress(FileExistsError):
        os.link(draft_path, path)


def read_private(path: Path, remedy: str) -> str | None:
    """The text of a file; None if there is none. The file must belong to this user alone.

    Raises `Misconfigured`; `remedy` says what to do with a file that cannot be used.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(MAX_PRIVATE_FILE_BYTES)
        text = content.decode()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Misconfigured(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}; {remedy}") from None
    if os.name == "posix" and status.st_uid != os.getuid():
        raise Misconfigured(f"{path}: belongs to another user: run this as its owner, or {remedy}")
    if os.name == "posix" and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Misconfigured(f"{path}: others may read its keys: chmod 600 it")
    return text

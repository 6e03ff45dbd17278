"""The local key: `api` makes an operator's key for the commands of its machine, and writes it into a file."""

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hmac import compare_digest
from pathlib import Path

from scorm_webhooks_cli.api_variables import (
    DATA_DIR_VARIABLE,
    DEFAULT_DATA_DIR,
    LOCAL_KEY_FILE,
    LOCAL_KEY_FILE_VARIABLE,
)
from scorm_webhooks_cli.private_file import read_private, write_private
from streams.core.errors import Misconfigured

KEY_PREFIX = "local_"
_REMEDY = "delete it, and start `api` again"


@dataclass(frozen=True, slots=True)
class LocalKey:
    """The address of an `api` on this machine, and its key."""

    url: str
    key: str = field(repr=False)


def local_key_path(environ: Mapping[str, str]) -> Path:
    """The file of the local key, by the settings of `api`."""
    data_dir = environ.get(DATA_DIR_VARIABLE) or DEFAULT_DATA_DIR
    return Path(environ.get(LOCAL_KEY_FILE_VARIABLE) or Path(data_dir) / LOCAL_KEY_FILE)


def make_local_key(url: str) -> LocalKey:
    """A new key for the `api` at this address."""
    return LocalKey(url, KEY_PREFIX + secrets.token_urlsafe(32))


def write_local_key(path: Path, local_key: LocalKey) -> None:
    """Write the file, and replace that of an earlier `api`. Raises OSError."""
    write_private(path, json.dumps({"url": local_key.url, "key": local_key.key}))


def read_local_key(path: Path) -> LocalKey | None:
    """The local key; None without a file. Raises `Misconfigured` for a file that others may read or have written."""
    text = read_private(path, _REMEDY)
    if text is None:
        return None
    try:
        content = json.loads(text)
        return LocalKey(str(content["url"]), str(content["key"]))
    except (ValueError, LookupError, TypeError, RecursionError):
        raise Misconfigured(f"{path}: has no url and key: {_REMEDY}") from None


def is_local_key(path: Path, token: str) -> bool:
    """Whether a token is the key in the file, which all processes of `api` with this file share."""
    if not token.startswith(KEY_PREFIX):
        return False
    with suppress(Misconfigured):
        local_key = read_local_key(path)
        return local_key is not None and compare_digest(local_key.key.encode(), token.encode())
    return False


def remove_local_key(path: Path, local_key: LocalKey) -> None:
    """Remove the file, unless another `api` has written it since."""
    with suppress(Misconfigured, OSError):
        if read_local_key(path) == local_key:
            os.unlink(path)

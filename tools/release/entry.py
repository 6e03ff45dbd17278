"""The entry of a release in releases.toml."""

import hashlib
from pathlib import Path

from release.source import Source

_FROZEN = ("schemas/history/*.avsc", "streams/adapters/sql/migrations/versions/[0-9]*.py")


def frozen(root: Path) -> dict[str, str]:
    """The SHA-256 of each file that never changes once it was released: records and tables of that time exist."""
    files = sorted(path for pattern in _FROZEN for path in root.glob(pattern))
    return {file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def entry(source: Source) -> str:
    """The lines to add, as TOML."""
    lines = ["[[release]]", f'version = "{source.version}"', f"date = {source.time:%Y-%m-%d}"]
    lines += [f'commit = "{source.commit}"', "[release.frozen]"]
    return "\n".join([*lines, *(f'"{name}" = "{value}"' for name, value in frozen(source.root).items())])

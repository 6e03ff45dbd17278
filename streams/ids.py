"""New ids."""

from ulid import ULID


def new_id(prefix: str) -> str:
    """A new id: the prefix, `_` and a ULID. Later ones of this process sort behind it."""
    return f"{prefix}_{ULID()}"

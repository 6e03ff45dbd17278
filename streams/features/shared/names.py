"""Names of accounts and keys."""

from streams.core.errors import FieldError
from streams.core.events.event_data import is_storable
from streams.core.limits import MAX_NAME_CHARACTERS


def name_errors(name: str) -> list[FieldError]:
    """What is wrong with a name."""
    if not name.strip():
        return [FieldError("name", "must not be empty")]
    if len(name) > MAX_NAME_CHARACTERS:
        return [FieldError("name", f"must have at most {MAX_NAME_CHARACTERS} characters")]
    if not is_storable(name):
        return [FieldError("name", "must be valid Unicode without the character NUL")]
    return []

"""Convert rows to values whose fields have the names of the columns."""

from collections.abc import Mapping
from typing import Any, TypeVar

from streams.core.errors import NewerRecord

Value = TypeVar("Value")


def to_value(value_type: type[Value], row: Any, /, **converted_fields: Any) -> Value:
    """A dataclass or named tuple; `converted_fields` are the fields that no column holds in the same form."""
    names: Any = value_type.__match_args__  # type: ignore[attr-defined]
    return value_type(
        **{name: getattr(row, name) for name in names if name not in converted_fields}, **converted_fields
    )


def require_known_fields(column: str, value_type: type[Any], stored: Mapping[str, Any] | None) -> None:
    """Raise `NewerRecord` if a stored object has a field that this release does not know."""
    if unknown_names := sorted((stored or {}).keys() - set(value_type.__match_args__)):
        raise NewerRecord(f"{column}: this release does not know the field {unknown_names[0]!r}")

"""Convert rows to values whose fields have the names of the columns."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, cast

from streams.core.errors import NewerRecord

Value = TypeVar("Value")


def to_value(value_type: type[Value], row: Any, /, **converted_fields: Any) -> Value:
    """A dataclass or named tuple; `converted_fields` are the fields that their columns store in another form."""
    names = _field_names(cast(Any, value_type))
    return value_type(
        **{name: getattr(row, name) for name in names if name not in converted_fields}, **converted_fields
    )


def require_known_fields(column: str, value_type: type[Any], stored: Mapping[str, Any] | None) -> None:
    """Raise `NewerRecord` if a stored object has a field that this release does not know."""
    if unknown_names := sorted((stored or {}).keys() - set(_field_names(cast(Any, value_type)))):
        raise NewerRecord(f"{column}: this release does not know the field {unknown_names[0]!r}")


@cache
def _field_names(value_type: Any) -> Sequence[str]:
    names: Sequence[str] = (
        value_type._fields if not is_dataclass(value_type) else [one.name for one in fields(value_type)]
    )
    return names

"""Make values of rows whose columns have the names of the value's fields."""

from typing import Any, TypeVar

Value = TypeVar("Value")


def to_value(value_type: type[Value], row: Any, /, **converted_fields: Any) -> Value:
    """A dataclass or named tuple; `converted_fields` are those that no column holds as they are."""
    names: Any = value_type.__match_args__  # type: ignore[attr-defined]
    return value_type(
        **{name: getattr(row, name) for name in names if name not in converted_fields}, **converted_fields
    )

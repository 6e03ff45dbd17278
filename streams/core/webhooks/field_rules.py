"""The rules for the fields of a webhook, and their descriptions for people."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """The form of a plain value. Other fields have no rule: they have a type and a parser of their own."""

    TEXT = "text"
    WHOLE_NUMBER = "whole number"
    NUMBER = "number"
    CHOICE = "choice"


@dataclass(frozen=True, slots=True)
class FieldRule:
    """`smallest` and `largest` limit a number, or the characters of a text.

    `description` is for the reference of the API, `label` and `hint` are for the form.
    """

    kind: Kind
    smallest: float = 0
    largest: float = 0
    choices: type[StrEnum] | None = None
    description: str = ""
    example: str = ""
    label: str = ""
    hint: str = ""

    def parse(self, value: Any) -> Any:
        """The value. Raises `ValueError`, which says what would be right."""
        match self.kind:
            case Kind.TEXT if isinstance(value, str) and len(value) <= self.largest and "\0" not in value:
                return value
            case Kind.TEXT:
                raise ValueError(f"must have at most {self.largest:g} characters, none of them NUL")
            case Kind.WHOLE_NUMBER if type(value) is int and self.smallest <= value <= self.largest:
                return value
            case Kind.NUMBER if type(value) in (int, float) and self.smallest <= value <= self.largest:
                return float(value)
            case Kind.CHOICE if self.choices and value in tuple(self.choices):
                return self.choices(value)
            case Kind.CHOICE:
                raise ValueError("must be one of: " + ", ".join(self.choices or ()))
        raise ValueError(f"must be a {self.kind} from {self.smallest:g} to {self.largest:g}")


def rule(**values: Any) -> Mapping[str, FieldRule]:
    """The metadata of a dataclass field that has this rule."""
    return {"rule": FieldRule(**values)}


def rules_of(dataclass_type: Any) -> dict[str, FieldRule]:
    """The rules of the fields of a dataclass, by the names of the fields."""
    return {one.name: one.metadata["rule"] for one in fields(dataclass_type) if "rule" in one.metadata}


def to_camel_case(name: str) -> str:
    """`max_concurrency` → `maxConcurrency`."""
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))

"""Read forms, and build links with a query."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, TypeVar
from urllib.parse import parse_qs, urlencode

from fastapi import Depends, Request

from streams.core.errors import FieldError, Invalid

MAX_FIELDS = 2_000
Choice = TypeVar("Choice", bound=StrEnum)


class Form:
    """The fields of a form. A missing field is an empty text, like a field that is left empty."""

    def __init__(self, fields: Mapping[str, list[str]]) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        return self._fields.get(name, [""])[0].strip()

    def values(self, name: str) -> list[str]:
        """Every value of a field that may be repeated, such as a check box."""
        return self._fields.get(name, [])

    def lines(self, name: str) -> list[str]:
        """The lines of a text field, without empty ones."""
        return [line.strip() for line in self[name].splitlines() if line.strip()]

    def one_of(self, name: str, values: type[Choice]) -> Choice:
        """A value of an enum. Raises `Invalid`."""
        if self[name] not in list(values):
            raise Invalid(FieldError(name, f"is one of {', '.join(values)}"))
        return values(self[name])

    def number(self, name: str, label: str, default: int) -> int:
        """A whole number. Raises `Invalid`."""
        text = self[name]
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise Invalid(FieldError(label, "must be a whole number"))
        return int(text)


async def form_of(request: Request) -> Form:
    """The form that a request sends. Raises `Invalid`."""
    try:
        body = (await request.body()).decode("ascii")
        return Form(parse_qs(body, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except (UnicodeDecodeError, ValueError):
        raise Invalid(FieldError("form", "cannot be read: reload the page and try again")) from None


SentForm = Annotated[Form, Depends(form_of)]


def with_query(path: str, **parameters: object) -> str:
    """A path with the parameters that have a value."""
    query = {name: str(value) for name, value in parameters.items() if value not in (None, "", "/")}
    return f"{path}?{urlencode(query)}" if query else path

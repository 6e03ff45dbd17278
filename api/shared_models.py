"""What all models share."""

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Generic, Self, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

from streams.core.events.event_data import is_unicode
from streams.core.ids import ID_PATTERN
from streams.core.limits import MAX_EMAIL_CHARACTERS, MAX_REQUEST_FIELDS, MAX_TEXT_CHARACTERS, MAX_URL_CHARACTERS
from streams.core.page import Page as StoredPage
from streams.core.times import format_time, parse_time

Row = TypeVar("Row")
Stored = TypeVar("Stored")
_ABSENT = object()


class Model(BaseModel):
    """A model of responses."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True, from_attributes=True
    )

    @classmethod
    def of(cls, *sources: object, **computed_fields: Any) -> Self:
        """Make the model of some objects: each field is computed, or comes from the first object that has it."""
        fields = dict(computed_fields)
        for source in sources:
            for name in cls.model_fields.keys() - fields.keys():
                if (value := getattr(source, name, _ABSENT)) is not _ABSENT:
                    fields[name] = value
        return cls(**fields)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        # Many contain data that only the caller may see.
        return ()


class Input(Model):
    """A model of requests. An unknown field is an error: it may be a typing error."""

    # Strict: `true` and "5" are not numbers. JSON has no enums, so those fields are not strict.
    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _limit_fields(cls, values: Any) -> Any:
        # Pydantic makes an error for each unknown field: a hundred thousand would need too much memory.
        if isinstance(values, dict) and len(values) > MAX_REQUEST_FIELDS:
            raise ValueError(f"must have at most {MAX_REQUEST_FIELDS} fields")
        return values


def _without_defaults(schema: dict[str, Any]) -> None:
    for field in schema.get("properties", {}).values():
        field.pop("default", None)


# The default of every field of `Changes`; `given` omits it.
UNCHANGED: Any = None


class Changes(Input):
    """A model of changes; omitted fields do not change.

    No field has a default in the schema: a generated client would send it, and change what the caller did not name.
    """

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    def given(self) -> dict[str, Any]:
        """The fields that the request names."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class Page(Model, Generic[Row]):
    """A page of a list; `nextCursor` is absent on the last page."""

    data: list[Row]
    next_cursor: str | None = None


def to_response_page(page: StoredPage[Stored], model_of: Callable[[Stored], Row]) -> Page[Row]:
    """The page of a response."""
    return Page(
        data=[model_of(row) for row in page.rows], next_cursor=str(page.next_cursor) if page.next_cursor else None
    )


def _in_utc(text: object) -> datetime:
    # Only RFC 3339: a number would be read as seconds since 1970.
    if (moment := parse_time(text)) is None:
        raise ValueError("must be a time with a zone such as 2026-04-10T14:32:00Z")
    return moment


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain the character NUL")
    if not is_unicode(text):
        raise ValueError("must not contain half of a surrogate pair")
    return text


def at_most(count: int, value: str) -> BeforeValidator:
    """Limit a list or an object before pydantic validates it.

    `Field(max_length=…)` alone makes an error for each wrong item first: a body of 1 MiB took 900 MB.
    """

    def check(raw_value: Any) -> Any:
        if isinstance(raw_value, list | dict) and len(raw_value) > count:
            raise ValueError(f"must have at most {count} {value}")
        return raw_value

    return BeforeValidator(check)


Time = Annotated[
    datetime,
    PlainSerializer(format_time, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
Rounded = Annotated[float, AfterValidator(partial(round, ndigits=1))]
Moment = Annotated[AwareDatetime, BeforeValidator(_in_utc)]
Id = Annotated[str, StringConstraints(pattern=f"^{ID_PATTERN.pattern}$")]
Text = Annotated[str, AfterValidator(_storable)]
Url = Annotated[
    Text,
    Field(
        max_length=MAX_URL_CHARACTERS,
        examples=["https://example.com/webhooks"],
        description="https, without credentials.",
        json_schema_extra={"pattern": "^https?://[!-~]+$"},
    ),
]
Email = Annotated[Text, StringConstraints(max_length=MAX_EMAIL_CHARACTERS)]
# A text to search for.
SearchText = Annotated[Text, StringConstraints(min_length=1, max_length=MAX_TEXT_CHARACTERS)]

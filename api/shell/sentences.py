"""Errors as sentences, for people."""

import re

from streams.core.errors import FieldError, Invalid, ScormWebhooksError
from streams.core.text import escape_controls

# Messages that begin so continue "<field> …"; other messages are whole sentences.
_PREDICATE = re.compile(r"(is|are|must|has|have|cannot|can)\b")


def sentences_of(error: ScormWebhooksError) -> list[str]:
    """The error as sentences, one for each wrong field."""
    if isinstance(error, Invalid):
        return [field_sentence(field_error) for field_error in error.errors]
    return [to_sentence(str(error))]


def field_sentence(error: FieldError, label: str = "") -> str:
    """`Overlap hours must be from 0 to 168.` A form knows its own label of the field."""
    if _PREDICATE.match(error.message):
        return to_sentence(f"{label or _to_words(error.field)} {error.message}")
    return to_sentence(error.message)


def to_sentence(text: str) -> str:
    """The text with a capital letter and a full stop. It may quote a person, so control characters are escaped."""
    safe_text = escape_controls(text)
    return safe_text[:1].upper() + safe_text[1:] + ("" if safe_text.endswith((".", "!", "?")) else ".")


def _to_words(field: str) -> str:
    """`overlapHours` as people write it: `overlap hours`."""
    return re.sub(r"(?<=[a-z])([A-Z])", lambda match: f" {match[1].lower()}", field)

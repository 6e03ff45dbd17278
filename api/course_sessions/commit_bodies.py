"""Parse the body of a commit: its shape decides, because players name wrong content types."""

import hashlib
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, TypeVar

import orjson

from api.course_sessions.elements import Elements, elements_of_fields, elements_of_text, elements_of_value
from streams.core.limits import MAX_EXACT_INTEGER
from streams.features.course_sessions.commit import Completion, PlayerCommit, Score, Success
from streams.features.course_sessions.scorm_time import parse_length, to_seconds

# A Moodle form has some fields for each interaction of the learner.
MAX_FORM_PARTS = 5_000
MAX_HEADER_BYTES = 1024
DIGEST_CHARACTERS = 16
MAX_SEQUENCE = 2**53

_NUMBER = re.compile(r"[+-]?(\d{1,32}(\.\d{0,32})?|\.\d{1,32})([eE][+-]?\d{1,3})?", re.ASCII)
_BOUNDARY = re.compile(r"boundary=(?:\"([^\"]{1,70})\"|([^\s;,\"]{1,70}))", re.IGNORECASE)
_BLANK_LINE = re.compile(rb"\n\r?\n")
_HIGH, _LOW = (rf"\\u[dD][{digits}][0-9a-fA-F]{{2}}" for digits in ("89abAB", "c-fC-F"))
_HALF_CHARACTER = re.compile(rf"{_HIGH}(?!{_LOW})|{_LOW}(?<!{_HIGH}{_LOW})")
_COMMON_FIELDS = ("completionStatus", "successStatus", "totalTimeSeconds", "runtimeData")
_PARTS = ("raw", "min", "max", "scaled")

EnumValue = TypeVar("EnumValue", bound=StrEnum)


class NotScorm(ValueError):
    """The body contains no SCORM data."""


def parse_commit(body: bytes, content_type: str = "") -> PlayerCommit:
    """Parse a commit. Raises `NotScorm`."""
    common_fields: Mapping[str, Any] = {}
    data: Any = None
    elements: Elements | None
    if content_type.lower().startswith("multipart/form-data"):
        elements = elements_of_fields(_parse_form(body, content_type))
    else:
        text = body.decode("utf-8-sig", errors="replace")
        if text.lstrip()[:1] in ("{", "["):
            data = _parse_json(text)
            elements = elements_of_value(data)
            if isinstance(data, dict):
                common_fields = data
                if any(name in data for name in _COMMON_FIELDS):
                    data = data.get("runtimeData")
                    elements = elements_of_value(data) or {}
        else:
            elements = elements_of_text(text.strip())
    if elements is None:
        raise NotScorm("no element of SCORM's data model and no status is in it")
    digest = hashlib.sha256(body).hexdigest()[:DIGEST_CHARACTERS]
    return _to_commit(elements, common_fields, digest, data if isinstance(data, dict) else None)


def _parse_json(text: str) -> Any:
    try:
        return orjson.loads(_replace_half_characters(text))
    except orjson.JSONDecodeError:
        raise NotScorm("it is not JSON") from None


def _replace_half_characters(text: str) -> str:
    r"""JSON without unpaired surrogates, which truncating courses send: no parser accepts them.

    Before that, escaped backslashes are replaced by a character that JSON cannot contain: `\\ud800` is a text.
    """
    escaped_text = text.replace("\\\\", "\0")
    return _HALF_CHARACTER.sub("\N{REPLACEMENT CHARACTER}", escaped_text).replace("\0", "\\\\")


def _parse_form(body: bytes, content_type: str) -> dict[str, str]:
    """The fields of a form (RFC 7578); if several fields have one name, the last one counts.

    Each step reads the body once: an untrusted client can send any body, and it blocks all other requests.
    """
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        raise NotScorm("it is not a form")
    delimiter = b"--" + (boundary[1] or boundary[2]).encode("latin-1", errors="replace")
    parts = (b"\n" + body).split(b"\n" + delimiter, MAX_FORM_PARTS + 2)
    if len(parts) > MAX_FORM_PARTS + 2:
        raise NotScorm(f"the form has more than {MAX_FORM_PARTS} fields")
    return dict(map(_parse_part, parts[1:]))


def _parse_part(part: bytes) -> tuple[str, str]:
    """The name and the value of a part; without a name in its first lines, the name is empty."""
    end = _BLANK_LINE.search(part, 0, MAX_HEADER_BYTES)
    if end is None:
        return "", ""
    return _part_name(part[: end.start()]), part[end.end() :].removesuffix(b"\r").decode(errors="replace")


def _part_name(header: bytes) -> str:
    for line in header.splitlines():
        kind, _, value = line.partition(b":")
        if kind.strip().lower() == b"content-disposition":
            for parameter in value.split(b";"):
                name, _, text = parameter.partition(b"=")
                if name.strip().lower() == b"name":
                    return text.strip().strip(b'"').decode(errors="replace")
    return ""


def _to_commit(
    elements: Elements, common_fields: Mapping[str, Any], digest: str, data: Mapping[str, Any] | None
) -> PlayerCommit:
    scores = common_fields.get("score")
    course_score = scores if isinstance(scores, dict) else {}
    # A player that does not count time sends a total of 0 with its last commit.
    total_time = _parse_length(elements.get("total_time")) or None
    sequence = common_fields.get("commitSequence")
    return PlayerCommit(
        course_completion=_to_enum(Completion, common_fields.get("completionStatus")),
        course_success=_to_enum(Success, common_fields.get("successStatus")),
        lesson_status=_to_lower(elements.get("lesson_status")),
        completion_status=_to_enum(Completion, elements.get("completion_status")),
        success_status=_to_enum(Success, elements.get("success_status")),
        progress_measure=_parse_number(elements.get("progress_measure"), 0, 1),
        completion_threshold=_parse_number(elements.get("completion_threshold"), 0, 1),
        scaled_passing_score=_parse_number(elements.get("scaled_passing_score"), -1, 1),
        score=_parse_score({part: elements.get(f"score.{part}") for part in _PARTS}).merge(_parse_score(course_score)),
        session_time=_parse_length(elements.get("session_time")),
        total_time=_parse_seconds(common_fields.get("totalTimeSeconds")) if total_time is None else total_time,
        mode=_to_lower(elements.get("mode")),
        credit=_to_lower(elements.get("credit")),
        sequence=sequence if type(sequence) is int and 0 <= sequence < MAX_SEQUENCE else None,
        digest=digest,
        data=data,
    )


def _to_lower(text: str | None) -> str | None:
    return text.strip().lower() or None if text else None


def _to_enum(enum_type: type[EnumValue], value: Any) -> EnumValue | None:
    text = _to_lower(value) if isinstance(value, str) else None
    return enum_type(text) if text in tuple(enum_type) else None


def _parse_score(parts: Mapping[str, Any]) -> Score:
    scaled = _parse_number(parts.get("scaled"), -1, 1)
    return Score(
        _parse_number(parts.get("raw")), _parse_number(parts.get("min")), _parse_number(parts.get("max")), scaled
    )


def _parse_number(value: Any, minimum: float = -MAX_EXACT_INTEGER, maximum: float = MAX_EXACT_INTEGER) -> float | None:
    """A finite number within the bounds; None for anything else, which is then ignored."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value).strip()
    if not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if minimum <= number <= maximum else None


def _parse_length(text: str | None) -> Decimal | None:
    return parse_length(text.strip()) if text else None


def _parse_seconds(value: Any) -> Decimal | None:
    """Seconds that a player counted; 0 is ignored."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return to_seconds(Decimal(str(value)[:32])) or None
    except InvalidOperation:
        return None

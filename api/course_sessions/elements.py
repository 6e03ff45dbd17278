"""Find the SCORM elements that matter, whatever the shape of a request's body."""

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote_plus

Elements = Mapping[str, str]

# Our name of each element, and its names in SCORM 1.2 and in SCORM 2004.
_SCORM_12 = {
    "lesson_status": "cmi.core.lesson_status",
    "score.raw": "cmi.core.score.raw",
    "score.min": "cmi.core.score.min",
    "score.max": "cmi.core.score.max",
    "session_time": "cmi.core.session_time",
    "total_time": "cmi.core.total_time",
    "mode": "cmi.core.lesson_mode",
    "credit": "cmi.core.credit",
}
_SCORM_2004 = {
    "completion_status": "cmi.completion_status",
    "success_status": "cmi.success_status",
    "progress_measure": "cmi.progress_measure",
    "completion_threshold": "cmi.completion_threshold",
    "scaled_passing_score": "cmi.scaled_passing_score",
    "score.raw": "cmi.score.raw",
    "score.min": "cmi.score.min",
    "score.max": "cmi.score.max",
    "score.scaled": "cmi.score.scaled",
    "session_time": "cmi.session_time",
    "total_time": "cmi.total_time",
    "mode": "cmi.mode",
    "credit": "cmi.credit",
}
_ELEMENT_BY_CMI_NAME = {theirs: ours for standard in (_SCORM_12, _SCORM_2004) for ours, theirs in standard.items()}
# Valid values are never longer; a longer one is ignored.
MAX_VALUE_CHARACTERS = 128
MAX_ELEMENTS_IN_BODY = 20_000

# Moodle's names have `__` instead of SCORM's dot.
_NAME_PATTERN = "|".join(
    sorted((re.escape(name).replace(r"\.", r"(?:\.|__)") for name in _ELEMENT_BY_CMI_NAME), reverse=True)
)
_PAIR = re.compile(rf"(?:\A|(?<=&))({_NAME_PATTERN})=([^&]{{0,{MAX_VALUE_CHARACTERS}}})(?=&|\Z)")
_ANY_PAIR = re.compile(r"(?:\A|&)(?:cmi|adl)(?:\.|__)[^=&]*=")


def elements_of_text(text: str) -> Elements | None:
    """The elements of `name=value` pairs joined by `&`; None if no name is SCORM's.

    Players do not encode the values, so a learner's text may look like a pair. A player sends each name once: a name
    with two values is ignored, and so are both standards if names of both occur.
    """
    if not _ANY_PAIR.search(text):
        return None
    return _elements_of_pairs((pair[1], unquote_plus(pair[2])) for pair in _PAIR.finditer(text))


def elements_of_value(value: Any) -> Elements | None:
    """The elements of parsed JSON; None if it contains no SCORM element."""
    if isinstance(value, str):
        return elements_of_text(value)
    if isinstance(value, list):
        return _elements_of_list(value)
    return _elements_of_object(value) if isinstance(value, dict) else None


def _elements_of_pairs(pairs: Iterable[tuple[str, str]]) -> Elements:
    values: dict[str, set[str]] = {}
    for name, value in pairs:
        values.setdefault(name.replace("__", "."), set()).add(value)
    single_values = {name: values_of_name.pop() for name, values_of_name in values.items() if len(values_of_name) == 1}
    standards = {name.startswith("cmi.core.") for name in values}
    return {} if len(standards) > 1 else {_ELEMENT_BY_CMI_NAME[name]: value for name, value in single_values.items()}


def elements_of_fields(fields: Mapping[str, str]) -> Elements | None:
    """The elements of a form's fields, which were encoded; None if no name is SCORM's."""
    if not any(name.startswith(("cmi.", "cmi__", "adl.", "adl__")) for name in fields):
        return None
    return _elements_of_flat({name.replace("__", "."): value for name, value in fields.items()})


def _elements_of_list(items: list[Any]) -> Elements | None:
    """`["name=value", …]`, or `[{"name": …, "value": …}, …]`, of which the last one counts."""
    items = items[:MAX_ELEMENTS_IN_BODY]
    if all(isinstance(item, str) for item in items):
        pairs = [item.partition("=")[::2] for item in items]
        return (
            _elements_of_pairs((name, value) for name, value in pairs if name in _ELEMENT_BY_CMI_NAME)
            if _is_scorm(pairs)
            else None
        )
    values_by_name = {
        item["name"]: item.get("value")
        for item in items
        if isinstance(item, dict) and isinstance(item.get("name"), str)
    }
    return _elements_of_flat(values_by_name) if _is_scorm((name, "") for name in values_by_name) else None


def _is_scorm(pairs: Iterable[tuple[str, Any]]) -> bool:
    return any(name.startswith(("cmi.", "adl.")) for name, _ in pairs)


def _elements_of_object(value: Mapping[str, Any]) -> Elements | None:
    """`{"cmi": {…}}`, or `{"cmi.core.lesson_status": …}`, or one within the other."""
    cmi = value.get("cmi")
    if not isinstance(cmi, dict) and not _is_scorm((name, "") for name in value):
        return None
    flat_values = dict(_leaves(cmi)) if isinstance(cmi, dict) else {}
    return _elements_of_flat({**flat_values, **{name: value[name] for name in _ELEMENT_BY_CMI_NAME if name in value}})


def _leaves(cmi: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    # Only SCORM 1.2 has `core`: if it is there, the other names do not count.
    for name in _SCORM_12.values() if isinstance(cmi.get("core"), dict) else _ELEMENT_BY_CMI_NAME:
        node: Any = cmi
        for part in name.split(".")[1:]:
            node = node.get(part) if isinstance(node, dict) else None
        # Below `cmi`, a name may be written in full, with or without `cmi`.
        short_name = name.removeprefix("cmi.")
        yield (
            name,
            next(
                (candidate for candidate in (cmi.get(name), cmi.get(short_name), node) if _text(candidate) is not None),
                None,
            ),
        )


def _elements_of_flat(values: Mapping[str, Any]) -> Elements:
    texts = {name: text for name in _ELEMENT_BY_CMI_NAME if (text := _text(values.get(name))) is not None}
    # Only SCORM 1.2 has `core`: if such names are there, only they count.
    is_12 = any(name.startswith("cmi.core.") for name in texts)
    return {
        _ELEMENT_BY_CMI_NAME[name]: text for name, text in texts.items() if name.startswith("cmi.core.") or not is_12
    }


def _text(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value)
    return text if 0 < len(text) <= MAX_VALUE_CHARACTERS else None

"""The stored state of a player, in the form that the player loads at the next launch."""

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any

import orjson

from streams.core.limits import MAX_PLAYER_STATE_BYTES
from streams.features.course_sessions.scorm_time import format_length, format_timespan

# No SCORM element has a longer name, or more parts in its name.
MAX_NAME_CHARACTERS = 128
MAX_NAME_PARTS = 8
# An element takes at least six bytes of a state. A learner may send a megabyte of anything, while all callers wait.
MAX_ELEMENTS = MAX_PLAYER_STATE_BYTES // 6


class StoreResult(StrEnum):
    """The stored state of a session's player."""

    NOTHING = "nothing"
    STORED = "stored"
    # The newest state is larger than `MAX_PLAYER_STATE_BYTES`: the one before, if any, stays.
    TOO_LARGE = "too large"


def has_state(data: Mapping[str, Any] | None) -> bool:
    """Whether a commit has all of a course's data, and not only some elements."""
    if data is None:
        return False
    cmi = data.get("cmi")
    return "suspend_data" in cmi if isinstance(cmi, Mapping) else "cmi.suspend_data" in data


def to_player_state(data: Mapping[str, Any], total_time: Decimal) -> str | None:
    """The JSON that `loadFromJSON` of scorm-again takes; None if it is too large.

    A new session begins without the previous session's time and exit, but with the total time so far.
    """
    if len(data) > MAX_ELEMENTS:
        return None
    elements = _elements(data)
    cmi = {name: value for name, value in elements.items() if name not in _SESSION_ELEMENTS}
    core = cmi.get("core")
    if isinstance(core, Mapping):
        kept_values = {name: value for name, value in core.items() if name not in _SESSION_ELEMENTS}
        cmi["core"] = {**kept_values, "entry": _entry_value(core), "total_time": format_timespan(total_time)}
    else:
        cmi |= {"entry": _entry_value(elements), "total_time": format_length(total_time)}
    try:
        state = orjson.dumps({"cmi": cmi})
    except orjson.JSONEncodeError:  # it has more levels than a player makes
        return None
    return state.decode() if len(state) <= MAX_PLAYER_STATE_BYTES else None


_SESSION_ELEMENTS = frozenset({"session_time", "exit"})


def _entry_value(elements: Mapping[str, Any]) -> str:
    """The entry mode of the next session (RTE 1.2 §3.4.2; RTE 2004 §4.2.11). A closed tab sends no exit."""
    return "" if elements.get("exit") in ("normal", "logout") else "resume"


def _elements(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The elements below `cmi`, by the first part of their names."""
    cmi = data.get("cmi")
    if isinstance(cmi, Mapping):
        return cmi
    tree: dict[str, Any] = {}
    for name, value in data.items():
        if name.startswith("cmi.") and len(name) <= MAX_NAME_CHARACTERS:
            *parents, leaf = name.split(".")[1:]
            if len(parents) >= MAX_NAME_PARTS:
                continue
            node = tree
            for part in parents:
                if not isinstance(node.get(part), dict):
                    node[part] = {}
                node = node[part]
            node[leaf] = value
    return tree

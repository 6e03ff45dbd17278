"""The body that a webhook gets: the event's body, or the part of it that the webhook's settings choose."""

import json
from collections.abc import Sequence

from streams.core.errors import InvalidRecord
from streams.core.events.event_filter import METADATA_FIELD


def render_body(body: bytes, fields: Sequence[str] | None) -> bytes:
    """The bytes to send for an event's body; without `fields` these are the same bytes.

    `fields` are paths in `data`, such as `sessionId` and `metadata.department`. The rest of `data` is omitted;
    everything outside `data` stays. The same body and fields always give the same bytes. Raises `InvalidRecord` for a
    body that is not an event's.
    """
    if fields is None:
        return body
    try:
        payload = json.loads(body)
        payload["data"] = _select(payload["data"], frozenset(fields))
        return json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        # Without the reason, which may quote data that must not be sent.
        raise InvalidRecord(f"the event's body has no `data` to choose fields of ({type(error).__name__})") from None


def _select(data: dict[str, object], paths: frozenset[str]) -> dict[str, object]:
    selected: dict[str, object] = {}
    for name, value in data.items():
        if name in paths:
            selected[name] = value
        elif name == METADATA_FIELD and isinstance(value, dict):
            pairs = {pair: text for pair, text in value.items() if f"{METADATA_FIELD}.{pair}" in paths}
            if pairs:
                selected[name] = pairs
    return selected

"""Send a test event to a listener of this person, or to one webhook."""

import json
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from scorm_webhooks_cli.client import ApiClient, open_api
from scorm_webhooks_cli.input_file import input_name, read_input
from scorm_webhooks_cli.listen import listener_name
from scorm_webhooks_cli.output import JsonOption, show, without_none
from scorm_webhooks_cli.text import hint
from streams.core.deliveries.delivery import State
from streams.core.errors import FieldError, Invalid, NotFound
from streams.core.events.event_data import EVENT_TYPES
from streams.core.limits import MAX_PAYLOAD_BYTES

# The time that a listener needs to pull, and its receiver to respond.
LISTENER_SECONDS, POLL_SECONDS = 5.0, 0.25
_SUCCESS: Mapping[bool, Mapping[str, Any]] = {
    True: {"successStatus": "passed", "scoreRaw": 92, "scoreScaled": 0.92},
    False: {"successStatus": "failed", "scoreRaw": 34, "scoreScaled": 0.34},
}


def trigger(
    event_type: Annotated[str, typer.Argument(metavar="TYPE", help="Such as session.completed.")],
    webhook: Annotated[str | None, typer.Option(help="The webhook's id. Default: the one of your `listen`.")] = None,
    passed: Annotated[
        bool | None, typer.Option("--passed/--failed", help="The learner's success, and a score that fits.")
    ] = None,
    data_file: Annotated[
        str | None,
        typer.Option("--data", metavar="FILE", help="JSON with fields of `data` of your own; - for standard input."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Send a test event, marked `"test": true`, to your `listen` or to one webhook.

    Example: `scorm-webhooks trigger session.completed --failed`
    """
    if event_type not in EVENT_TYPES:
        raise Invalid(FieldError("TYPE", f"must be one of: {', '.join(EVENT_TYPES)}"))
    data = {**_data_of(event_type, passed), **(_read_data(data_file) if data_file else {})}
    with open_api() as api:
        webhook_id = webhook or _find_listener(api)
        delivery = api.post("webhooks", webhook_id, "test", body=without_none(type=event_type, data=data or None))
        if webhook is None:
            delivery = _wait_for_listener(api, delivery)
    show(delivery, as_json)
    is_for_readers = (delivery["state"], delivery.get("reason")) == ("held", "pull")
    if delivery["state"] != "delivered" and not is_for_readers:
        raise typer.Exit(1)


def _wait_for_listener(api: ApiClient, delivery: dict[str, Any]) -> dict[str, Any]:
    """The delivery once a listener has it. A listener that has crashed never gets it: a hint says so."""
    deadline = time.monotonic() + LISTENER_SECONDS
    while delivery["state"] == State.HELD and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        delivery = dict(api.get("deliveries", delivery["id"]))
    if delivery["state"] == State.HELD:
        hint(f"no listener has accepted it within {LISTENER_SECONDS:g} seconds: does `listen` still run?")
    return delivery


def _data_of(event_type: str, passed: bool | None) -> Mapping[str, Any]:
    if passed is None:
        return {}
    fields = EVENT_TYPES[event_type]
    chosen = {name: value for name, value in _SUCCESS[passed].items() if name in fields}
    if not chosen:
        raise Invalid(FieldError("--passed", f"is for types with a success or a score, and {event_type} has none"))
    return chosen


def _read_data(file: str) -> dict[str, Any]:
    try:
        data = json.loads(read_input(file, MAX_PAYLOAD_BYTES))
    except (ValueError, RecursionError) as error:
        raise Invalid(FieldError(input_name(file), f"is not JSON: {error}")) from None
    if not isinstance(data, dict):
        raise Invalid(FieldError(input_name(file), "must be a JSON object: fields of `data`"))
    return data


def _find_listener(api: ApiClient) -> str:
    """The webhook of this person's `listen`, or of the only one. Raises `NotFound`."""
    temporary = [row for row in api.rows("webhooks") if "expiresAt" in row]
    own = [row for row in temporary if row["description"] == listener_name()]
    candidates = own or temporary
    if not candidates:
        raise NotFound("nobody listens: start `scorm-webhooks listen` in another terminal, or name a --webhook")
    if not own and len(candidates) > 1:
        names = ", ".join(f"{row['id']} ({row['description']})" for row in candidates)
        raise NotFound(f"several people listen, and none of them is you: name a --webhook of {names}")
    # The list has the newest first.
    return str(candidates[0]["id"])
